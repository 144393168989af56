/** Whatever comes in at the sjq door, the server goes on, its memory stays bounded, and it answers in whole lines. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { until } from '../rig/until.ts';
import { scratch } from './programs.ts';
import { input, numbers } from './sjq-inputs.ts';
import { RawClient, WAIT } from './sjq-rig.ts';

const INPUTS = 100_000;
const SEED = Number(process.env.FUZZ_SEED ?? 20_260_101);
/** What the program needs by itself is about 15. */
const MEMORY_LIMIT_MIB = 60;
/** Numbers of jobs begin here; every STATUS is shorter. */
const FIRST_ID = 1_000_000;

let folder: Awaited<ReturnType<typeof scratch>>;
let child: ChildProcess;
let path: string;
let said = '';
beforeAll(async () => {
  folder = await scratch();
  path = join(folder.path, 'sjq.sock');
  const program = fileURLToPath(new URL('sjq-program.ts', import.meta.url));
  child = spawn(process.execPath, ['--expose-gc', '--import', import.meta.resolve('tsx'), program, path], {
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
  });
  for (const stream of [child.stdout, child.stderr])
    stream?.on('data', (text: Buffer) => {
      said += String(text);
    });
  await until(() => said.includes('open\n') || child.exitCode !== null, WAIT);
});
afterAll(async () => {
  const ended = once(child, 'exit');
  if (child.exitCode === null && child.kill('SIGKILL')) await ended;
  await folder[Symbol.asyncDispose]();
});

/** What makes no sense in all that the server said; a last line may be cut. */
function nonsenseIn(answers: Buffer): string | undefined {
  for (let at = 0; ; ) {
    const end = answers.indexOf('\r\n', at);
    if (end < 0) return undefined;
    const line = answers.toString('utf8', at, end);
    if (!/^(?:OK(?: jobs:\d+| BYE| \d+)?|ERROR \P{Cc}+)$/u.test(line)) return JSON.stringify(line);
    at = end + 2;
    const [, length] = /^OK (\d+)$/.exec(line) ?? [];
    if (length === undefined || Number(length) >= FIRST_ID) continue;
    const status = answers.toString('utf8', at, at + Number(length));
    if (answers.length >= at + Number(length) && !/^(?:[^\t]*\t[^\t]*\t[QUK]\t[^\t]*\r\n)*$/u.test(status))
      return JSON.stringify(status);
    at += Number(length);
  }
}

async function expectHealth(): Promise<void> {
  using client = await RawClient.connect(path);
  expect(await client.ask('PING\r\n')).toMatch(/^OK jobs:\d+$/);
  // What is not needed any more goes little by little.
  const memory = async () => {
    const answer = once(child, 'message');
    child.send('memory');
    return Number((await answer)[0]);
  };
  await until(async () => (await memory()) < MEMORY_LIMIT_MIB, { ...WAIT, describe: memory });
  expect([child.exitCode, child.signalCode, said]).toEqual([null, null, 'open\n']);
}

async function enter(): Promise<{ socket: Socket; chunks: Buffer[]; hasEnded: () => boolean }> {
  const socket = connect(path).on('error', () => undefined);
  const chunks: Buffer[] = [];
  await once(socket, 'connect');
  return { socket, chunks, hasEnded: () => socket.readableEnded || socket.destroyed };
}

test(`${INPUTS} inputs that make no sense (FUZZ_SEED ${SEED})`, async () => {
  const below = numbers(SEED);
  let lines = 0;
  for (let done = 0, round = 0; done < INPUTS; round++) {
    const { socket, chunks, hasEnded } = await enter();
    // Others never read what they are told.
    if (below(5) > 0) socket.on('data', (chunk: Buffer) => chunks.push(chunk));
    for (let left = 1 + below(600); left > 0 && done < INPUTS && !hasEnded(); left--, done++) {
      socket.write(input(below));
      if (below(3) === 0) await turn();
    }
    if (below(2) === 0) {
      socket.end();
      if (socket.listenerCount('data') > 0) await until(() => socket.destroyed, WAIT);
    }
    await turn();
    socket.destroy();
    const answers = Buffer.concat(chunks);
    for (const byte of answers) if (byte === 0x0a) lines++;
    expect(nonsenseIn(answers)).toBeUndefined();
    if (round % 50 === 0) await expectHealth();
  }
  await expectHealth();
  // Most connections are still served when they end.
  expect(lines).toBeGreaterThan(INPUTS / 10);
}, 240_000);
