/** The queue in a process of its own, whose standard streams are pipes and files. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';

const QUEUE = new URL('../../src/cli/write-queue.ts', import.meta.url).href;
const DEADLINE_MS = 30_000;

/** What a program with `queue` writes: to a shell's pipes, or to the file given for both streams. */
async function written(program: string, line = '"$@"', file?: number): Promise<{ out: string; err: string }> {
  const text = `import { WriteQueue } from ${JSON.stringify(QUEUE)};\nconst queue = new WriteQueue();\n${program}\nawait queue.written();\nprocess.exit(0);`;
  const words = [process.execPath, '--import', 'tsx', '--input-type=module', '-e', text];
  const child = spawn('bash', ['-c', line, 'bash', ...words], {
    stdio: ['ignore', file ?? 'pipe', file ?? 'pipe'],
    timeout: DEADLINE_MS,
  });
  const chunks = { out: [] as Buffer[], err: [] as Buffer[] };
  child.stdout?.on('data', (chunk: Buffer) => chunks.out.push(chunk));
  child.stderr?.on('data', (chunk: Buffer) => chunks.err.push(chunk));
  await once(child, 'close');
  return { out: Buffer.concat(chunks.out).toString(), err: Buffer.concat(chunks.err).toString() };
}

const LINES = `for (let i = 0; i < 2000; i++) {
  queue.stdout.write('out ' + i + 'x'.repeat(i) + '\\n');
  queue.stderr.write(Buffer.from('err ' + i + '\\n'));
}`;
const EXPECTED = Array.from({ length: 2000 }, (_, i) => `out ${i}${'x'.repeat(i)}\nerr ${i}\n`).join('');

test('two streams that are one pipe keep the order of their pieces', async () => {
  const { out } = await written(LINES, '"$@" 2>&1 | { sleep 0.5; cat; }');
  expect(out === EXPECTED).toBe(true);
});

test('two streams that are one file keep it too', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'write-queue-'));
  const path = join(folder, 'both');
  const file = openSync(path, 'a');
  try {
    await written(LINES, '"$@"', file);
    expect(readFileSync(path, 'utf8') === EXPECTED).toBe(true);
  } finally {
    closeSync(file);
    rmSync(folder, { recursive: true });
  }
});

test('a line in pieces is finished before the other stream goes on, and its rest at the end is no obstacle', async () => {
  const pieces = `queue.stdout.write('a '); queue.stderr.write('err\\n'); queue.stdout.write('line\\n'); queue.stdout.write('rest');
    queue.stderr.write('last\\n');`;
  expect((await written(pieces, '"$@" 2>&1')).out).toBe('a line\nerr\nrestlast\n');
});

test('errors are written while nobody reads standard output', async () => {
  const program = `queue.stdout.write('x'.repeat(1_000_000)); queue.stderr.write('said\\n');`;
  const { out, err } = await written(
    program,
    'exec 4>&1; { "$@" 2>&1 >&3 | head -n 1 >&4; } 3> >(sleep 1; wc -c >&4)',
  );
  expect(err).toBe('');
  expect(out).toBe('said\n1000000\n');
});

test('says when it is full and when it is low again, and until then nobody is ready', async () => {
  const program = `const told = [];
    queue.onFull = () => told.push('full');
    queue.onLow = () => told.push('low');
    for (let round = 0; round < 2; round++) {
      for (let i = 0; i < 5; i++) queue.stdout.write(Buffer.alloc(1024 * 1024));
      told.push('written');
      await queue.stdout.ready();
      told.push('ready');
      await queue.written();
    }
    queue.stderr.write(told.join(' '));`;
  const { err } = await written(program, '"$@" | { sleep 0.5; cat >/dev/null; }');
  expect(err.replaceAll('low ready', 'ready').replaceAll('ready low', 'ready')).toBe(
    'full written ready full written ready',
  );
});

test.each([
  ['"$@" >/dev/full', 'standard output ENOSPC false'],
  ['"$@" | true', 'standard output EPIPE true'],
])('a failure is told once, and what follows is dropped: %s', async (line, expected) => {
  const program = `queue.onFailure = ({ stream, error, isReaderGone }) =>
      queue.stderr.write([stream, error.code, isReaderGone].join(' ') + '\\n');
    await new Promise((resolve) => setTimeout(resolve, 300));
    for (let i = 0; i < 5; i++) queue.stdout.write(Buffer.alloc(3_000_000));
    await queue.stdout.ready();`;
  expect((await written(program, line)).err).toBe(`${expected}\n`);
});
