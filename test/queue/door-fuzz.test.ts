/** Whatever comes in at the door, the service goes on, and its memory stays bounded. */
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { DoorClient } from '../../src/lib/queue/door-client.ts';
import { LineSplitter } from '../../src/lib/queue/door-protocol.ts';
import { until } from '../rig/until.ts';
import { type Service, scratch, startService } from './programs.ts';

const INPUTS = 20_000;
const SEED = Number(process.env.FUZZ_SEED ?? 20_260_101);
/** What a service needs by itself is about 20. */
const MEMORY_LIMIT_MIB = 100;

let folder: Awaited<ReturnType<typeof scratch>>;
let service: Service;
let path: string;
beforeAll(async () => {
  folder = await scratch();
  path = join(folder.path, 'queue');
  service = await startService(path);
});
afterAll(async () => {
  await service.kill();
  await folder[Symbol.asyncDispose]();
});

/** Whole numbers below a limit, the same for the same seed. */
function numbers(seed: number): (below: number) => number {
  let state = seed >>> 0;
  return (below) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

const WORDS = ['"id"', ':', '1', '{', '}', '[', ']', ',', '"verb"', '"echo"', '"count"', '"long"', '"args"'];
WORDS.push(
  'null',
  '-0',
  '1e999',
  '"\\ud800"',
  '"__proto__"',
  '"cancel"',
  'true',
  '"took"',
  '"window"',
  '\n',
  '\r',
  '',
);

/** One input: bytes, broken requests, requests that are nearly right, deep ones, halves. */
function input(below: (limit: number) => number): Buffer {
  const some = (list: readonly string[]) => list[below(list.length)] ?? '';
  const id = some(['1', '2', '-1', '1.5', '"1"', 'null', '9007199254740993', '[]', `${below(200)}`]);
  const verb = some(['echo', 'count', 'long', 'memory', '__proto__', 'constructor', '', 'no\\u0000']);
  switch (below(9)) {
    case 0:
      return Buffer.from(Array.from({ length: below(200) }, () => below(256)));
    case 1:
      return Buffer.from(Array.from({ length: below(30) }, () => some(WORDS)).join(''));
    case 2:
      return Buffer.from(`{"id":${id},"verb":"${verb}","args":${'['.repeat(below(3000))}\n`);
    case 3:
      return Buffer.from(`{"id":${id},"verb":"echo","args":${'['.repeat(9000)}${']'.repeat(9000)}}\n`);
    case 4:
      return Buffer.from(`{"id":${id},"verb":"${verb}","window":${below(4) - 1}}\n`);
    case 5:
      return Buffer.from(
        `{"id":${id},"${some(['cancel', 'took', 'verb'])}":${some(['true', '7', '{}', '1e308'])}}\n`,
      );
    case 6:
      return Buffer.concat([
        Buffer.from('{"id":3,"verb":"echo","args":"'),
        Buffer.from([0xc3, 0x28, 0xff]),
        Buffer.from('"}\n'),
      ]);
    case 7:
      return Buffer.from('\n'.repeat(below(2000)));
    default:
      return Buffer.from(`{"id":${id},"verb":"${verb}","args":{"__proto__":{"x":1}}}`.slice(0, below(70)));
  }
}

async function enter(): Promise<Socket> {
  const [, socketPath = ''] = /(\/\S*)$/.exec(service.said) ?? [];
  const socket = connect(socketPath).on('error', () => undefined);
  await once(socket, 'connect');
  return socket;
}

async function expectHealth(): Promise<void> {
  await using client = await DoorClient.connect(path);
  expect(await client.call('echo', 'well')).toBe('well');
  // What is not needed any more goes little by little.
  const memory = async () => Number(await client.call('memory'));
  await until(async () => (await memory()) < MEMORY_LIMIT_MIB, { deadlineMs: 20_000, describe: memory });
  expect(service.child.exitCode).toBeNull();
}

test(`${INPUTS} inputs that make no sense (FUZZ_SEED ${SEED})`, async () => {
  const below = numbers(SEED);
  for (let done = 0; done < INPUTS; ) {
    const socket = await enter();
    if (below(3) > 0) socket.resume(); // others never read what they are told
    for (let left = 1 + below(100); left > 0 && done < INPUTS && !socket.destroyed; left--, done++) {
      socket.write(input(below));
      if (below(4) === 0) await turn();
    }
    if (below(2) === 0) socket.end();
    await turn();
    socket.destroy();
    if (below(50) === 0) await expectHealth();
  }
  await expectHealth();
}, 240_000);

test('lines without end, whole or byte by byte, are cut off', async () => {
  const sockets = await Promise.all(Array.from({ length: 8 }, enter));
  const mebibyte = Buffer.alloc(1024 * 1024, 'x');
  await Promise.all(
    sockets.map(async (socket) => {
      socket.resume();
      const closed = new Promise((resolve) => socket.on('close', resolve));
      for (let i = 0; i < 64 && !socket.destroyed; i++)
        if (!socket.write(mebibyte))
          await Promise.race([new Promise((resolve) => socket.once('drain', resolve)), closed]);
      await closed;
    }),
  );
  await expectHealth();

  const lines = new LineSplitter(1000);
  for (let i = 0; i < 1000; i++) expect([...lines.push(Buffer.from('x'))]).toEqual([]);
  expect(lines.heldBytes).toBeLessThanOrEqual(1024);
  expect([...lines.push(Buffer.from('\nab\nc'))].map((line) => line.length)).toEqual([1000, 2]);
  expect(() => [...lines.push(Buffer.from('x'.repeat(1000)))]).toThrow('longer than 1000 bytes');
}, 120_000);
