/** What clients of the sjq door may cost, and that none of them stops the others. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { clientsThatFit } from '../../src/lib/queue/sjq/sjq-descriptors.ts';
import { SjqServer, type SjqServerOptions } from '../../src/lib/queue/sjq/sjq-server.ts';
import { until } from '../rig/until.ts';
import { scratch } from './programs.ts';
import { KeptQueue, RawClient, WAIT } from './sjq-rig.ts';

let folder: Awaited<ReturnType<typeof scratch>>;
let queue: KeptQueue;
let path: string;
let server: SjqServer;
beforeEach(async () => {
  folder = await scratch();
  path = join(folder.path, '.sjq.sock');
  queue = new KeptQueue();
});
afterEach(async () => {
  await server.close();
  await folder[Symbol.asyncDispose]();
});

async function open(options: Partial<SjqServerOptions> = {}): Promise<void> {
  server = await SjqServer.open({ socketPath: path, queue, lastWordsMs: 10_000, ...options });
}

const HOUR_MS = 3_600_000;
const enter = () => RawClient.connect(path);

async function expectService(): Promise<void> {
  using client = await enter();
  expect(await client.ask('PING\r\n')).toMatch(/^OK jobs:\d+$/);
}

test('a line without end is cut off, as a command and as an option', async () => {
  await open({ maxLineBytes: 1000 });
  for (const start of ['', 'SUBMIT\r\nENV ']) {
    using client = await enter();
    client.send(start + 'x'.repeat(300_000));
    expect(await client.rest()).toBe('ERROR a line is longer than 1000 bytes\r\n');
  }
  using client = await enter();
  expect(await client.ask(`${'x'.repeat(1000)}\n`)).toContain('ERROR unknown command');
});

test('too many option lines, or too long ones together, refuse the SUBMIT when it is complete', async () => {
  await open({ maxOptions: 3, maxOptionsBytes: 100 });
  using client = await enter();
  expect(await client.ask(`SUBMIT\n${'HOLD\n'.repeat(3)}SRC 2\n#!`)).toBe('OK 1');
  expect(await client.ask(`SUBMIT\n${'HOLD\n'.repeat(5000)}SRC 6\nEXIT\r\n`)).toBe(
    'ERROR more than 3 option lines; more than 100 bytes of option lines',
  );
  const long = `NAME ${'x'.repeat(60)}\n`;
  expect(await client.ask(`SUBMIT\n${long}SRC 2\n#!`)).toBe('OK 2');
  expect(await client.ask(`SUBMIT\n${long}${long}SRC 6\nEXIT\r\n`)).toBe(
    'ERROR more than 100 bytes of option lines',
  );
  expect(queue.submitCount).toBe(2);
});

test('what is not complete holds so much together, then the one that has stood still for longest goes', async () => {
  await open({ maxHeldBytes: 100_000, leastBytes: 1000, sendGraceMs: 100 });
  using first = await enter();
  first.send(`SUBMIT\nSRC 50000\n${'#'.repeat(40_000)}`);
  await until(() => heldBytes() > 40_000, WAIT);
  using second = await enter();
  second.send(`SUBMIT\nSRC 30000\n#!${'x'.repeat(20_000)}`);
  await until(() => heldBytes() > 60_000, WAIT);
  using third = await enter();
  third.send('x'.repeat(50_000));
  expect(await first.rest()).toBe(
    'ERROR too much is being sent to the server at once, and this came to a stand: try again\r\n',
  );
  expect(await second.ask('x'.repeat(9_998))).toBe('OK 1');
  expect(await third.ask('\n')).toContain('ERROR unknown command');
  await until(() => heldBytes() === 0, WAIT);
});

/** Looked at from inside: a client cannot know when its bytes have come. */
function heldBytes(): number {
  return server.heldBytes;
}

test('100 clients submit at once more than may be held, and all are served', async () => {
  queue = new KeptQueue(1, 5);
  await open({ sendGraceMs: HOUR_MS, leastMs: HOUR_MS });
  const script = Buffer.concat([Buffer.from('#!/bin/sh\n'), Buffer.alloc(2_000_000, '#')]);
  const bytes = Buffer.concat([Buffer.from(`SUBMIT\nSRC ${script.length}\n`), script]);
  let mostHeld = 0;
  const watch = setInterval(() => {
    mostHeld = Math.max(mostHeld, server.heldBytes);
  }, 1);
  const clients = await Promise.all(Array.from({ length: 100 }, enter));
  // All have begun before one is complete.
  for (const client of clients) client.send(bytes.subarray(0, 1_000_000));
  await until(() => mostHeld > 60 * 1024 * 1024, WAIT);
  const answers = await Promise.all(clients.map((client) => client.ask(bytes.subarray(1_000_000))));
  clearInterval(watch);
  for (const { socket } of clients) socket.destroy();
  expect(new Set(answers)).toEqual(new Set(Array.from({ length: 100 }, (_, i) => `OK ${i + 1}`)));
  expect(mostHeld).toBeLessThan(96 * 1024 * 1024);
  expect(heldBytes()).toBe(0);
}, 60_000);

test('a SUBMIT that waits to be read is not let go, however long that is', async () => {
  await open({ maxHeldBytes: 100_000, leastBytes: 1000, stallMs: 1500, sendGraceMs: 1500, leastMs: HOUR_MS });
  using first = await enter();
  first.send(`SUBMIT\nSRC 90000\n#!${'x'.repeat(80_000)}`);
  await until(() => heldBytes() > 80_000, WAIT);
  using second = await enter();
  second.send(`SUBMIT\nSRC 300000\n#!${'x'.repeat(299_990)}`);
  await until(() => heldBytes() > 100_000, WAIT);
  let sent = 80_002;
  for (; sent < 80_050; sent++) {
    first.send('x');
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(heldBytes()).toBeLessThan(200_000);
  }
  expect(await first.ask('x'.repeat(90_000 - sent))).toBe('OK 1');
  expect(await second.ask('x'.repeat(8))).toBe('OK 2');
}, 30_000);

test('one who sends just enough holds up the others for a while, and not for ever', async () => {
  await open({ maxHeldBytes: 100_000, leastBytes: 100, sendGraceMs: HOUR_MS, leastMs: 600 });
  using slow = await enter();
  slow.send(`SUBMIT\nSRC 1000000\n#!${'x'.repeat(99_000)}`);
  await until(() => heldBytes() > 99_000, WAIT);
  const dripping = setInterval(() => slow.send('x'.repeat(100)), 40);
  try {
    using honest = await enter();
    expect(await honest.ask(`SUBMIT\nSRC 900000\n#!${'x'.repeat(899_998)}`)).toBe('OK 1');
    expect(await slow.rest()).toMatch(/^ERROR too much is being sent/);
  } finally {
    clearInterval(dripping);
  }
}, 30_000);

test('a SUBMIT that comes in drops is let go when others wait', async () => {
  await open({ maxHeldBytes: 100_000, leastBytes: 1000, sendGraceMs: HOUR_MS, leastMs: 300 });
  using first = await enter();
  first.send(`SUBMIT\nSRC 95000\n#!${'x'.repeat(80_000)}`);
  await until(() => heldBytes() > 80_000, WAIT);
  const drip = setInterval(() => first.send('x'), 20);
  await new Promise((resolve) => setTimeout(resolve, 600));
  expect(server.unfinishedCount).toBe(1);
  using second = await enter();
  expect(await second.ask(`SUBMIT\nSRC 300000\n#!${'x'.repeat(299_998)}`)).toBe('OK 1');
  clearInterval(drip);
  expect(await first.rest()).toContain('ERROR too much is being sent');
});

test('half SUBMITs that fill all there is go, and the next is served', async () => {
  await open({ maxHeldBytes: 1_000_000, leastBytes: 1000, sendGraceMs: 100 });
  const half = await Promise.all(Array.from({ length: 40 }, enter));
  for (const client of half) client.send(`SUBMIT\nSRC 500000\n#!${'x'.repeat(60_000)}`);
  await until(() => heldBytes() > 1_000_000, WAIT);
  for (let id = 1; id <= 10; id++) {
    using client = await enter();
    expect(await client.ask(`SUBMIT\nSRC 300000\n#!${'x'.repeat(299_998)}`)).toBe(`OK ${id}`);
  }
  await expectService();
  for (const { socket } of half) socket.destroy();
});

test('a SUBMIT that does not go on is let go; a client between two requests is not', async () => {
  await open({ stallMs: 100 });
  using idle = await enter();
  expect(await idle.ask('PING\r\n')).toBe('OK jobs:0');
  for (const start of ['SUBMIT\n', 'SUBMIT\nNAME x', 'SUBMIT\nSRC 9\n#!', 'SUBMIT\nSRC 9999999\n#!']) {
    using client = await enter();
    expect(await client.ask(start)).toBe('ERROR nothing more of the SUBMIT came for 0.1 s');
    expect(await client.rest()).toBe('');
  }
  expect(await idle.ask('PING\r\n')).toBe('OK jobs:0');
});

test('1,000 idle connections, and one that works', async () => {
  await open();
  const clients: RawClient[] = [];
  // The system lets only some hundreds wait at the door at once.
  while (clients.length < 1000) {
    clients.push(...(await Promise.all(Array.from({ length: 100 }, enter))));
    await until(() => server.connectionCount === clients.length, WAIT);
  }
  using worker = await enter();
  await until(() => server.connectionCount === 1001, WAIT);
  for (let id = 1; id <= 50; id++) expect(await worker.ask('SUBMIT\nSRC 2\n#!')).toBe(`OK ${id}`);
  for (const client of clients.slice(0, 20)) expect(await client.ask('PING\n')).toBe('OK jobs:50');
  for (const { socket } of clients) socket.destroy();
  await until(() => server.connectionCount === 1, WAIT);
}, 60_000);

test('one connection too many: the one that is idle for longest goes; when none is, the new one', async () => {
  await open({ maxConnections: 2 });
  using first = await enter();
  expect(await first.ask('PING\n')).toBe('OK jobs:0');
  using second = await enter();
  expect(await second.ask('PING\n')).toBe('OK jobs:0');
  expect(await first.ask('PING\n')).toBe('OK jobs:0');
  using third = await enter();
  expect(await second.rest()).toBe('ERROR too many are connected, and this one asked for nothing\r\n');
  first.send('SUBMIT\n');
  third.send('SUBMIT\n');
  expect(await third.ask('SRC 2\n#!')).toBe('OK 1');
  third.send('SUBMIT\n');
  expect(await first.ask('SRC 2\n#!SUBMIT\n')).toBe('OK 2');
  await until(() => server.unfinishedCount === 2, WAIT);
  using fourth = await enter();
  expect(await third.rest()).toBe('ERROR too many are connected, and this one did not go on\r\n');
  expect(await first.ask('SRC 2\n#!')).toBe('OK 3');
  let go: () => void = () => undefined;
  queue.gate = new Promise((resolve) => {
    go = resolve;
  });
  for (const { socket } of [first, fourth]) socket.write('SUBMIT\nSRC 2\n#!');
  await until(() => queue.submitCount === 5, WAIT);
  using fifth = await enter();
  expect(await fifth.rest()).toBe('ERROR 2 others are connected: try again later\r\n');
  go();
  expect((await first.line()) + (await fourth.line())).toMatch(/^OK [45]OK [45]$/);
});

test('the door is not shut by those who take no answers', async () => {
  await open({ maxConnections: 2, takeGraceMs: 100, stallMs: HOUR_MS });
  queue.longStatus = [Buffer.alloc(5_000_000, 'x')];
  const deaf = [await enter(), await enter()];
  for (const { socket } of deaf) socket.pause().write('STATUS\n');
  await until(() => queue.statusCount > 0, WAIT);
  const answer = await until(async () => {
    using client = await enter();
    return await client.ask('PING\n').then((line) => line.startsWith('OK') && line);
  }, WAIT);
  expect(answer).toBe('OK jobs:0');
  for (const { socket } of deaf) socket.destroy();
});

test('who takes no answer, or takes it in drops, holds up no other', async () => {
  await open({ maxAnswerBytes: 4_000_000, stallMs: HOUR_MS, takeGraceMs: HOUR_MS, leastMs: HOUR_MS });
  queue.longStatus = Array.from({ length: 5 }, () => Buffer.alloc(1_000_000, 'x'));
  queue.isChanging = true;
  using deaf = await enter();
  deaf.socket.pause();
  deaf.send('STATUS\n');
  await until(() => queue.statusCount === 1, WAIT);
  using others = await enter();
  others.send('STATUS\n');
  using another = await enter();
  another.send('STATUS\n');
  await until(() => queue.statusCount > 1, WAIT);
  // One job's line does not wait.
  using client = await enter();
  for (let i = 0; i < 20; i++) expect(await client.ask('STATUS 7\n')).toBe('OK 0');
  for (let i = 0; i < 20; i++) await expectService();
  deaf.socket.destroy();
  for (const one of [others, another]) {
    expect(await one.line()).toBe('OK 5000000');
    expect((await one.bytes(5_000_000)).equals(Buffer.concat(queue.longStatus))).toBe(true);
  }
  // Who goes while he waits, or reads only a part, holds up nobody.
  for (let i = 0; i < 6; i++) {
    using gone = await enter();
    gone.send('STATUS\n');
    if (i % 2 === 0) await gone.line();
  }
  expect(await client.ask('STATUS\n')).toBe('OK 5000000');
});

test('an answer that many have counts once', async () => {
  await open({ maxAnswerBytes: 4_000_000, stallMs: HOUR_MS, takeGraceMs: HOUR_MS, leastMs: HOUR_MS });
  queue.longStatus = [Buffer.alloc(3_000_000, 'x')];
  const deaf = await Promise.all(Array.from({ length: 60 }, enter));
  for (const { socket } of deaf) socket.pause().write('STATUS\n');
  await until(() => server.unfinishedCount === deaf.length, WAIT);
  using client = await enter();
  expect(await client.ask('STATUS\n')).toBe('OK 3000000');
  await client.bytes(3_000_000);
  for (const { socket } of deaf) socket.destroy();
});

test('all who wait for an answer have the same, and none that is older than the question', async () => {
  await open();
  let go: () => void = () => undefined;
  const gate = new Promise<void>((resolve) => {
    go = resolve;
  });
  let made = 0;
  queue.status = async () => {
    const lines = [Buffer.from(`${++made}\tjob\tQ\t\r\n`)];
    await gate;
    return lines;
  };
  using first = await enter();
  first.send('STATUS\n');
  await until(() => made === 1, WAIT);
  const others = await Promise.all(Array.from({ length: 10 }, enter));
  for (const other of others) other.send('STATUS\n');
  await until(() => server.unfinishedCount === 11, WAIT);
  go();
  expect([await first.line(), await first.line()]).toEqual(['OK 10', '1\tjob\tQ\t']);
  for (const other of others) {
    expect([await other.line(), await other.line()]).toEqual(['OK 10', '2\tjob\tQ\t']);
    other.socket.destroy();
  }
  expect(made).toBe(2);
});

test('a STATUS that fails is told to all who asked, and the next is another', async () => {
  await open();
  queue.trouble = new Error('the disk is gone');
  using client = await enter();
  using other = await enter();
  other.send('STATUS\n');
  expect(await client.ask('STATUS\nSTATUS 1\n')).toBe('ERROR the disk is gone');
  expect([await client.line(), await other.line()]).toEqual([
    'ERROR the disk is gone',
    'ERROR the disk is gone',
  ]);
  queue.trouble = undefined;
  expect(await client.ask('STATUS\n')).toBe('OK 0');
});

for (const [how, options, dripMs] of [
  ['nothing', { takeGraceMs: 100 }, undefined],
  ['drops', { leastMs: 300, leastBytes: 20_000_000, takeGraceMs: HOUR_MS }, 10],
] as const)
  test(`who takes ${how} of his answer is let go when others wait, and only then`, async () => {
    await open({ maxAnswerBytes: 4_000_000, stallMs: HOUR_MS, ...options });
    queue.longStatus = [Buffer.alloc(100_000_000, 'x')];
    queue.isChanging = true;
    using slow = await enter();
    slow.socket.pause();
    slow.send('STATUS\n');
    if (dripMs !== undefined) slow.socket.on('data', () => slow.socket.pause());
    const drip = dripMs && setInterval(() => slow.socket.resume(), dripMs);
    await until(() => queue.statusCount === 1, WAIT);
    for (let i = 0; i < 40; i++) {
      await new Promise((resolve) => setTimeout(resolve, 10));
      await expectService();
    }
    expect(server.connectionCount).toBeGreaterThan(0);
    expect(server.unfinishedCount).toBe(1);
    queue.longStatus = [Buffer.alloc(5_000_000, 'y')];
    using other = await enter();
    expect(await other.ask('STATUS\n')).toBe('OK 5000000');
    await other.bytes(5_000_000);
    clearInterval(drip);
    await until(() => server.connectionCount === 1, WAIT);
  });

test('who does not take his answer is let go', async () => {
  await open({ stallMs: 100 });
  queue.longStatus = [Buffer.alloc(5_000_000, 'x')];
  using deaf = await enter();
  deaf.socket.pause();
  deaf.send('STATUS\n');
  await until(() => queue.statusCount === 1 && server.connectionCount === 0, WAIT);
  await expectService();
});

test('who takes his answer slowly gets all of it', async () => {
  await open();
  queue.longStatus = Array.from({ length: 30_000 }, (_, i) => Buffer.from(`${i}\tjob\tQ\t\r\n`));
  queue.longStatus = [...queue.longStatus, Buffer.alloc(3_000_000, 'y')];
  using client = await enter();
  client.socket.pause();
  const whole = Buffer.concat(queue.longStatus);
  client.socket.end('STATUS\nPING\nEXIT\n');
  await until(() => queue.statusCount === 1, WAIT);
  client.socket.resume();
  expect(await client.rest()).toBe(`OK ${whole.length}\r\n${whole}OK jobs:0\r\nOK BYE\r\n`);
});

test('a submit that the queue has goes on without its client', async () => {
  await open();
  let go: () => void = () => undefined;
  queue.gate = new Promise((resolve) => {
    go = resolve;
  });
  const client = await enter();
  client.send('SUBMIT\nSRC 2\n#!');
  await until(() => queue.submitCount === 1, WAIT);
  client.socket.destroy();
  await expectService();
  go();
  await until(() => queue.jobs.size === 1 && server.connectionCount === 0 && heldBytes() === 0, WAIT);
});

test('nothing more is read of a client whose request is under way', async () => {
  await open();
  let go: () => void = () => undefined;
  queue.gate = new Promise((resolve) => {
    go = resolve;
  });
  using client = await enter();
  const pings = 1_000_000;
  client.send(`SUBMIT\nSRC 2\n#!${'PING\n'.repeat(pings)}`);
  await until(() => queue.submitCount === 1, WAIT);
  using other = await enter();
  for (let i = 0; i < 100; i++) expect(await other.ask('PING\n')).toBe('OK jobs:0');
  expect(client.socket.writableLength).toBeGreaterThan(4_000_000);
  expect(server.heldBytes).toBeLessThan(300_000);
  client.socket.destroy();
  go();
  await until(() => server.connectionCount === 1, WAIT);
});

test('at the end of the server requests under way are answered, and all are let go', async () => {
  await open();
  let go: () => void = () => undefined;
  queue.gate = new Promise((resolve) => {
    go = resolve;
  });
  using waiting = await enter();
  waiting.send('SUBMIT\nSRC 2\n#!PING\n');
  await until(() => queue.submitCount === 1, WAIT);
  using half = await enter();
  half.send('SUBMIT\nHOLD\n');
  await until(() => server.unfinishedCount === 2, WAIT);
  using idle = await enter();
  expect(await idle.ask('PING\n')).toBe('OK jobs:0');
  const closed = server.close();
  expect(await half.rest()).toBe('ERROR the server stops\r\n');
  expect(await idle.rest()).toBe('');
  go();
  expect(await waiting.rest()).toBe('OK 1\r\n');
  for (const { socket } of [half, idle, waiting]) socket.destroy();
  await closed;
  await server.close();
});

interface Program {
  readonly child: ChildProcess;
  readonly path: string;
}

/** A door in a process that may open so many files. */
async function withProgram(
  files: number,
  args: readonly string[],
  use: (program: Program) => Promise<void>,
): Promise<void> {
  await open(); // for `afterEach`
  const program = fileURLToPath(new URL('sjq-program.ts', import.meta.url));
  const own = join(folder.path, 'few.sock');
  const start = `ulimit -n ${files} && exec "$0" --import "$@"`;
  const command = [process.execPath, import.meta.resolve('tsx'), program, own, ...args];
  const child = spawn('bash', ['-c', start, ...command], { stdio: ['ignore', 'pipe', 'inherit', 'ipc'] });
  try {
    if (child.stdout !== null) await Promise.race([once(child.stdout, 'data'), once(child, 'exit')]);
    await use({ child, path: own });
    expect(child.exitCode).toBeNull();
  } finally {
    const ended = once(child, 'exit');
    if (child.exitCode === null && child.kill('SIGKILL')) await ended;
  }
}

async function expectAnswer(path: string): Promise<void> {
  const answer = await until(async () => {
    using client = await RawClient.connect(path);
    return await client.ask('PING\n');
  }, WAIT);
  expect(answer).toBe('OK jobs:0');
}

test('too many open files do not end the process', async () => {
  await withProgram(60, ['2048'], async ({ path: own }) => {
    const clients = await Promise.all(Array.from({ length: 200 }, () => RawClient.connect(own)));
    await until(() => clients.some(({ hasEnded }) => hasEnded), WAIT);
    for (const { socket } of clients) socket.destroy();
    await expectAnswer(own);
  });
}, 60_000);

test('clients leave file descriptors for the jobs', async () => {
  await withProgram(300, [], async ({ child, path: own }) => {
    const clients: RawClient[] = [];
    for (let i = 0; i < 350; i++) {
      const client = await RawClient.connect(own);
      client.send('SUBMIT\n');
      clients.push(client);
    }
    await expectAnswer(own);
    const answer = once(child, 'message');
    child.send('job');
    expect(await answer).toContain(0);
    const here = clients.filter(({ hasEnded }) => !hasEnded);
    expect(here.length).toBeLessThanOrEqual(300 - 256);
    for (const { socket } of clients) socket.destroy();
  });
}, 60_000);

test('how many clients fit', () => {
  const limits = (soft: string) =>
    `Limit                     Soft Limit           Hard Limit           Units\nMax processes  5 5 processes\nMax open files            ${soft}                 524288               files\n`;
  expect(clientsThatFit(limits('1024'))).toBe(768);
  expect(clientsThatFit(limits('524288'))).toBe(2048);
  expect(clientsThatFit(limits('unlimited'))).toBe(2048);
  expect(clientsThatFit(limits('100'))).toBe(16);
  expect(clientsThatFit('')).toBe(768);
  expect(clientsThatFit()).toBeGreaterThanOrEqual(16);
});
