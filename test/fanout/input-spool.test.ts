import { type ChildProcess, spawn } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import {
  closeSync,
  createReadStream,
  mkdtempSync,
  openSync,
  readdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import type { Readable } from 'node:stream';
import { buffer, text } from 'node:stream/consumers';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { InputSpool } from '../../src/lib/fanout/input-spool.ts';
import { shellQuote } from '../../src/lib/util/shell-quote.ts';
import { until } from '../rig/until.ts';

const LENGTH = 20 * 1024 * 1024;
const MIB = 1024 * 1024;
const DEADLINE_MS = 60_000;
const tsx = resolve('node_modules/tsx/dist/esm/index.mjs');
const PROGRAM = [process.execPath, '--import', tsx, resolve('test/fanout/input-spool-program.ts')]
  .map(shellQuote)
  .join(' ');

let folder = '';
let temporary = '';
let children: ChildProcess[] = [];
const TMPDIR = process.env.TMPDIR;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'input-spool-'));
  temporary = mkdtempSync(join(folder, 'tmp-'));
  process.env.TMPDIR = temporary;
});
afterEach(() => {
  if (TMPDIR === undefined) delete process.env.TMPDIR;
  else process.env.TMPDIR = TMPDIR;
  for (const child of children) child.kill('SIGKILL');
  children = [];
  rmSync(folder, { recursive: true });
});

/** A process that writes all this and ends. */
function writerOf(path: string): Readable {
  const child = spawn('cat', [path], { stdio: ['ignore', 'pipe', 'ignore'] });
  children.push(child);
  return child.stdout;
}

function randomFile(): { path: string; hash: string } {
  const bytes = randomBytes(LENGTH);
  const path = join(folder, 'input');
  writeFileSync(path, bytes);
  return { path, hash: hashOf(bytes) };
}

const hashOf = (bytes: Buffer) => createHash('sha256').update(bytes).digest('hex');

/** Reads to the end; `pauseEvery` bytes it lets others go first. */
async function hashRead(reader: Readable, pauseEvery = Number.POSITIVE_INFINITY): Promise<string> {
  const hash = createHash('sha256');
  let sincePause = 0;
  for await (const piece of reader as AsyncIterable<Buffer>) {
    hash.update(piece);
    sincePause += piece.length;
    if (sincePause < pauseEvery) continue;
    sincePause = 0;
    await new Promise((done) => setTimeout(done, 1));
  }
  return hash.digest('hex');
}

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;
/** Memory of buffers that are still in use. */
function heldBytes(): number {
  collectGarbage();
  return process.memoryUsage().arrayBuffers;
}

/** What a shell line prints. */
async function shell(line: string): Promise<string> {
  const child = spawn('sh', ['-c', line], { stdio: ['ignore', 'pipe', 'inherit'] });
  children.push(child);
  return (await text(child.stdout)).trim();
}

describe('a stream', () => {
  test('three readers of different speed and a late one get all of it, and memory stays bounded', async () => {
    const { path, hash } = randomFile();
    const before = heldBytes();
    using spool = new InputSpool(writerOf(path));
    const [stalled, slow, fast] = [spool.open(), spool.open(), spool.open()];
    const slowHash = hashRead(slow, 256 * 1024);
    expect(await hashRead(fast)).toBe(hash);
    // All of it has come, and the stalled reader has read nothing yet. The collector gives buffers back a little later.
    await until(() => heldBytes() - before < 8 * MIB, { describe: () => heldBytes() - before });
    expect(await slowHash).toBe(hash);
    expect(await hashRead(stalled)).toBe(hash);
    expect(await hashRead(spool.open())).toBe(hash);
    expect(readdirSync(temporary)).toEqual([]);
  }, 120_000);

  test('pieces of any size come through, also where memory ends', async () => {
    const child = spawn(
      'sh',
      ['-c', 'head -c 1048575 /dev/zero; sleep 0.1; printf abc; sleep 0.1; printf d'],
      {
        stdio: ['ignore', 'pipe', 'ignore'],
      },
    );
    children.push(child);
    using spool = new InputSpool(child.stdout);
    const first = await buffer(spool.open());
    expect([first.length, first.subarray(-5).toString()]).toEqual([MIB + 3, '\0abcd']);
    expect(hashOf(await buffer(spool.open()))).toBe(hashOf(first));
  });

  test('a reader that stops early holds nobody up', async () => {
    const { path, hash } = randomFile();
    using spool = new InputSpool(writerOf(path));
    const [leaving, staying] = [spool.open(), spool.open()];
    leaving.once('data', () => leaving.destroy());
    expect(await hashRead(staying)).toBe(hash);
    expect(leaving.destroyed).toBe(true);
  });

  test('nothing is read beyond what readers take', async () => {
    const { path } = randomFile();
    const source = createReadStream(path);
    using spool = new InputSpool(source);
    expect(source.bytesRead).toBe(0);
    const reader = spool.open();
    await once(reader, 'readable'); // and nobody reads on
    const [first, ...more] = [source.bytesRead, await settled(() => source.bytesRead)];
    expect(first).toBeGreaterThan(0);
    for (const bytes of more) expect(bytes).toBeLessThan(MIB);
  });

  test('an empty input ends for everybody', async () => {
    using spool = new InputSpool(writerOf('/dev/null'));
    expect(await Promise.all([text(spool.open()), text(spool.open())])).toEqual(['', '']);
    expect(await text(spool.open())).toBe('');
  });

  test('an error reaches every reader, behind what came before it', async () => {
    const { path } = randomFile();
    const source = writerOf(path);
    using spool = new InputSpool(source);
    const early = spool.open();
    await once(early, 'readable');
    source.destroy(new Error('the cable is out'));
    const late = spool.open();
    for (const reader of [early, late]) {
      await expect(buffer(reader)).rejects.toThrow('standard input cannot be read: the cable is out');
    }
  });

  test('no place for what is kept is an error that names the place', async () => {
    const { path } = randomFile();
    process.env.TMPDIR = join(folder, 'missing');
    using spool = new InputSpool(writerOf(path));
    await expect(buffer(spool.open())).rejects.toThrow(
      new RegExp(`^standard input cannot be kept for all machines in ${folder}/missing: ENOENT`),
    );
  });

  test('close ends all readers', async () => {
    const child = spawn('sleep', ['1000'], { stdio: ['ignore', 'pipe', 'ignore'] });
    children.push(child);
    const spool = new InputSpool(child.stdout);
    const reader = spool.open();
    reader.resume();
    spool.close();
    await until(() => reader.destroyed && child.stdout.destroyed);
    expect(() => spool.open()).toThrow('closed');
  });
});

describe('a regular file', () => {
  test('is read in place by everybody, from the offset given', async () => {
    const { path, hash } = randomFile();
    const fd = openSync(path, 'r');
    try {
      const whole = InputSpool.forStdin(fd);
      if (whole === undefined) throw new Error('not forwarded');
      expect(await Promise.all([hashRead(whole.open(), MIB), hashRead(whole.open())])).toEqual([hash, hash]);
      const end = await buffer(new InputSpool({ fd, start: LENGTH - 10 }).open());
      expect(end.length).toBe(10);
      whole.close();
      expect(readdirSync(temporary)).toEqual([]);
    } finally {
      closeSync(fd); // still ours
    }
  });

  test('a folder cannot be read, and that is said', async () => {
    const fd = openSync(folder, 'r');
    try {
      await expect(text(new InputSpool({ fd, start: 0 }).open())).rejects.toThrow('cannot be read: EISDIR');
    } finally {
      closeSync(fd);
    }
  });
});

describe('our standard input', () => {
  test('is forwarded when it is a pipe, a file or a socket, and when not, not', async () => {
    const file = join(folder, 'file');
    writeFileSync(file, 'x');
    expect(await shell(`${PROGRAM} kind < /dev/null`)).toBe('not forwarded');
    expect(await shell(`${PROGRAM} kind <&-`)).toBe('not forwarded');
    expect(await shell(`true | ${PROGRAM} kind`)).toBe('forwarded');
    expect(await shell(`${PROGRAM} kind < ${file}`)).toBe('forwarded');
    const onTerminal =
      process.platform === 'linux'
        ? `script -qec ${shellQuote(`${PROGRAM} kind`)} /dev/null`
        : `script -q /dev/null sh -c ${shellQuote(`${PROGRAM} kind`)}`;
    expect(await shell(onTerminal)).toBe('not forwarded');
    // Node gives its children socket pairs.
    const child = spawn('sh', ['-c', `${PROGRAM} read 2`], { stdio: ['pipe', 'pipe', 'inherit'] });
    children.push(child);
    child.stdin.end('by socket');
    expect(await text(child.stdout)).toBe('by socket\nby socket\n');
  }, 120_000);

  test('goes on where another program stopped reading', async () => {
    const file = join(folder, 'lines');
    writeFileSync(file, 'one\ntwo\nthree\n');
    expect(await shell(`{ read first; ${PROGRAM} read 2; } < ${file}`)).toBe('two\nthree\n\ntwo\nthree');
    expect(await shell(`cat ${file} | { read first; ${PROGRAM} read 2; }`)).toBe('two\nthree\n\ntwo\nthree');
  }, 120_000);

  test('is left to others when nobody reads it', async () => {
    expect(await shell(`echo hello | { ${PROGRAM} open; cat; }`)).toBe('hello');
  }, 120_000);

  test('that never ends does not keep the process once all readers have left', async () => {
    for (const way of ['leave', 'open']) {
      const child = spawn('sh', ['-c', `exec ${PROGRAM} ${way}`], { stdio: ['pipe', 'pipe', 'inherit'] });
      children.push(child);
      child.stdin.write('first');
      const said = text(child.stdout);
      await until(() => child.exitCode !== null, { deadlineMs: DEADLINE_MS, describe: `the end of ${way}` });
      expect([child.exitCode, (await said).trim()]).toEqual([0, way === 'leave' ? 'first' : '']);
    }
  }, 120_000);

  test('that never ends, by a pipe of a shell', async () => {
    // The writer ends only when somebody tells it to.
    const go = join(folder, 'go');
    const line = `{ echo first; while [ ! -e ${go} ]; do sleep 0.05; done; } | { ${PROGRAM} leave; touch ${go}; }`;
    expect(await shell(line)).toBe('first');
  }, 120_000);
});

/** The value once it has stayed the same for some turns. */
async function settled(value: () => number): Promise<number> {
  let [last, turns] = [value(), 0];
  await until(() => {
    turns = value() === last ? turns + 1 : 0;
    last = value();
    return turns > 20;
  });
  return last;
}
