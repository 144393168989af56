/** What clients of the sjq door may cost, and that none of them stops the others. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, expect, test } from 'vitest';
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
  await open({ maxHeldBytes: 100_000 });
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
  expect(await fourth.rest()).toBe('ERROR 2 others are connected: try again later\r\n');
  expect(await third.ask('SRC 2\n#!')).toBe('OK 3');
});

test('while answers are not taken others wait for their turn, and nothing else is held up', async () => {
  await open({ maxAnswerBytes: 4_000_000 });
  const pieces = Array.from({ length: 5 }, () => Buffer.alloc(1_000_000, 'x'));
  queue.longStatus = pieces;
  using deaf = await enter();
  deaf.socket.pause();
  deaf.send('STATUS\n');
  await until(() => queue.statusCount === 1, WAIT);
  using other = await enter();
  other.send('STATUS\n');
  for (let i = 0; i < 20; i++) await expectService();
  expect(queue.statusCount).toBe(1);
  deaf.socket.destroy();
  expect(await other.line()).toBe('OK 5000000');
  expect((await other.bytes(5_000_000)).equals(Buffer.concat(pieces))).toBe(true);
  // Who goes while he waits, or reads only a part, holds up nobody.
  for (let i = 0; i < 6; i++) {
    using gone = await enter();
    gone.send('STATUS\n');
    if (i % 2 === 0) await gone.line();
  }
  expect(await other.ask('STATUS\n')).toBe('OK 5000000');
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

test('too many open files do not end the process', async () => {
  await open(); // for `afterEach`
  const program = fileURLToPath(new URL('sjq-program.ts', import.meta.url));
  const own = join(folder.path, 'few.sock');
  const start = `ulimit -n 60 && exec "$0" --import "$1" "$2" "$3"`;
  const child = spawn('bash', ['-c', start, process.execPath, import.meta.resolve('tsx'), program, own], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  try {
    await Promise.race([once(child.stdout, 'data'), once(child, 'exit')]);
    const clients = await Promise.all(Array.from({ length: 200 }, () => RawClient.connect(own)));
    await until(() => clients.some(({ hasEnded }) => hasEnded), WAIT);
    for (const { socket } of clients) socket.destroy();
    const answer = await until(async () => {
      using client = await RawClient.connect(own);
      return await client.ask('PING\n');
    }, WAIT);
    expect(answer).toBe('OK jobs:0');
    expect(child.exitCode).toBeNull();
  } finally {
    const ended = once(child, 'exit');
    if (child.exitCode === null && child.kill('SIGKILL')) await ended;
  }
}, 60_000);
