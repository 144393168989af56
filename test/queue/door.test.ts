import { once } from 'node:events';
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { connect, createServer } from 'node:net';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { UsageError } from '../../src/lib/domain/errors.ts';
import { DoorClient } from '../../src/lib/queue/door-client.ts';
import type { Verb } from '../../src/lib/queue/door-connection.ts';
import { MAX_SOCKET_PATH_BYTES } from '../../src/lib/queue/door-place.ts';
import type { DoorError } from '../../src/lib/queue/door-protocol.ts';
import { DoorServer, type DoorServerOptions } from '../../src/lib/queue/door-server.ts';
import { until } from '../rig/until.ts';
import { scratch, startService } from './programs.ts';

const SLOW = { deadlineMs: 20_000 };

let folder: Awaited<ReturnType<typeof scratch>>;
let path: string;
let made = 0;
let hasEnded = false;
let seen: unknown[] = [];
beforeEach(async () => {
  folder = await scratch();
  path = join(folder.path, 'queue');
  mkdirSync(path);
  [made, hasEnded, seen] = [0, false, []];
});
afterEach(() => folder[Symbol.asyncDispose]());

const PIECE = 'x'.repeat(10_000);
const verbs: { readonly [verb: string]: Verb } = {
  echo: async (args) => args,
  nothing: async () => undefined,
  huge: async () => 'x'.repeat(9_000_000),
  circle: async () => {
    const circle: { self?: unknown } = {};
    circle.self = circle;
    return circle;
  },
  badly: () => {
    throw new UsageError('there is no job 7');
  },
  wrongly: async () => {
    throw Object.create(null);
  },
  wait: (_args, { signal }) =>
    new Promise((_, reject) => {
      made++;
      signal.addEventListener('abort', () => {
        hasEnded = true;
        seen.push((signal.reason as DoorError).code);
        reject(signal.reason);
      });
    }),
  async *count(args) {
    for (let i = 0; i < Number(args); i++) yield i;
  },
  async *pieces() {
    try {
      for (;;) {
        made++;
        yield PIECE;
      }
    } finally {
      hasEnded = true;
    }
  },
  async *breaks() {
    yield 1;
    throw new UsageError('no more');
  },
};
const serve = (more: Partial<DoorServerOptions> = {}) =>
  DoorServer.open({ dataFolder: path, verbs, ...more });
const modeOf = (of: string) => statSync(of).mode & 0o777;

/** A raw connection: what it is told, line by line. */
async function raw(socketPath: string) {
  const socket = connect(socketPath);
  const said: string[] = [];
  let text = '';
  socket.on('error', () => undefined);
  socket.on('data', (chunk) => {
    const lines = (text + String(chunk)).split('\n');
    text = lines.pop() ?? '';
    said.push(...lines);
  });
  await once(socket, 'connect');
  await until(() => said.length > 0, SLOW);
  return { socket, said };
}

async function collect(stream: AsyncIterable<unknown>): Promise<unknown[]> {
  const items: unknown[] = [];
  for await (const item of stream) items.push(item);
  return items;
}

/** Waits until nothing more is made, and says how much was. */
async function standstill(): Promise<number> {
  let last = -1;
  let same = 0;
  return await until(() => {
    same = made === last ? same + 1 : 0;
    last = made;
    return same > 30 && made;
  }, SLOW);
}

test('answers, streams and errors come back, many side by side', async () => {
  await using _door = await serve();
  await using client = await DoorClient.connect(path);
  expect(await client.call('echo', { a: ['ä', null, 1.5] })).toEqual({ a: ['ä', null, 1.5] });
  expect(await client.call('echo')).toBeNull();
  expect(await client.call('nothing')).toBeNull();
  const wanted = Array.from({ length: 500 }, (_, i) => i);
  expect(await Promise.all(wanted.map((i) => client.call('echo', i)))).toEqual(wanted);
  expect(await collect(client.stream('count', 5000))).toHaveLength(5000);
  expect(await collect(client.stream('echo', 'one'))).toEqual(['one']);
  await expect(client.call('badly')).rejects.toThrow(new UsageError('there is no job 7'));
  await expect(client.call('toString')).rejects.toThrow("the service knows no 'toString'");
  await expect(client.call('circle')).rejects.toMatchObject({ code: 'internal' });
  await expect(client.call('wrongly')).rejects.toMatchObject({ code: 'internal' });
  await expect(client.call('huge')).rejects.toMatchObject({ code: 'too-long' });
  await expect(client.call('echo', 'x'.repeat(9_000_000))).rejects.toMatchObject({ code: 'too-long' });
  await expect(client.call('count', 3)).rejects.toThrow('answers with a stream');
  const items: unknown[] = [];
  await expect(async () => {
    for await (const item of client.stream('breaks')) items.push(item);
  }).rejects.toThrow('no more');
  expect(items).toEqual([1]);
  expect(await client.call('echo', 'x'.repeat(8_000_000))).toHaveLength(8_000_000);
});

test('what cannot be understood is told, and what is too long ends the connection', async () => {
  await using door = await serve();
  const { socket, said } = await raw(door.socketPath);
  expect(said).toEqual(['{"door":1,"requests":64}']);
  const lines = ['garbage', '\xff\xfe', '[1]', '{"verb":"echo"}', '{"id":1.5,"verb":"echo"}', '{"id":1}'];
  lines.push('{"id":1,"verb":"__proto__"}', '{"id":1,"verb":"count","window":-1}', '\n', '{"id":9,"took":5}');
  socket.write(Buffer.from(`${lines.join('\n')}\n{"id":2,"verb":"echo","ar`, 'latin1'));
  socket.write('gs":7}\n');
  await until(() => said.includes('{"id":2,"ok":7}'), SLOW);
  const codes = said.slice(1, -1).map((line) => JSON.parse(line) as { id: unknown; error: { code: string } });
  expect(codes.map(({ id, error }) => [id, error.code])).toEqual([
    ...Array.from({ length: 5 }, () => [null, 'bad-request']),
    [1, 'bad-request'],
    [1, 'unknown-verb'],
    [1, 'bad-request'],
  ]);
  socket.write('x'.repeat(8 * 1024 * 1024 + 1));
  await once(socket, 'close');
  expect(said.at(-1)).toContain('"id":null,"error":{"message":"a line is longer than 8388608 bytes"');
});

test('a stream without a reader is held back, by its window and by the socket, and other requests go on', async () => {
  await using door = await serve();
  await using client = await DoorClient.connect(path);
  const stream = client.stream('pieces')[Symbol.asyncIterator]();
  await stream.next();
  expect(await standstill()).toBeLessThan(150); // 1 MiB in pieces of 10 kB
  expect(await client.call('echo', 'meanwhile')).toBe('meanwhile');
  for (let i = 0; i < 500; i++) expect(await stream.next()).toEqual({ done: false, value: PIECE });
  expect(made).toBeGreaterThanOrEqual(501);
  expect(hasEnded).toBe(false);
  await stream.return?.(undefined);
  await until(() => hasEnded, SLOW);

  made = 0;
  const { socket, said } = await raw(door.socketPath);
  socket.pause();
  socket.write('{"id":1,"verb":"pieces"}\n');
  expect(await standstill()).toBeLessThan(500); // what the system's buffers hold
  socket.resume();
  await until(() => said.length > 2000, SLOW);
  socket.destroy();
});

test('who never reads answers is not asked for more', async () => {
  await using door = await serve();
  const { socket } = await raw(door.socketPath);
  socket.pause();
  const request = `{"id":ID,"verb":"echo","args":"${PIECE}"}\n`;
  let sent = 0;
  const send = () => {
    while (sent < 20_000 && socket.write(request.replace('ID', `${sent}`))) sent++;
  };
  socket.on('drain', send);
  send();
  let last = -1;
  let same = 0;
  await until(() => {
    same = sent === last ? same + 1 : 0;
    last = sent;
    return same > 30;
  }, SLOW);
  expect(sent).toBeLessThan(1000);
  await using client = await DoorClient.connect(path);
  expect(await client.call('echo', 1)).toBe(1);
  socket.destroy();
});

test('a client that goes, or wants no answer any more, ends its requests', async () => {
  await using door = await serve();
  const client = await DoorClient.connect(path);
  const abort = new AbortController();
  const waiting = client.call('wait', undefined, { signal: abort.signal });
  await until(() => made === 1, SLOW);
  abort.abort(new Error('Ctrl-C'));
  await expect(waiting).rejects.toThrow('Ctrl-C');
  await until(() => hasEnded, SLOW);
  hasEnded = false;
  const other = client.call('wait');
  await until(() => made === 2, SLOW);
  client.close();
  await expect(other).rejects.toThrow('the connection was closed here');
  await until(() => hasEnded, SLOW);
  expect(seen).toEqual(['cancelled', 'gone']);
  await until(() => door.connectionCount === 0, SLOW);
});

test('requests of one connection are bounded, and a client waits for its turn', async () => {
  await using door = await serve({ maxRequests: 2 });
  await using client = await DoorClient.connect(path);
  const abort = new AbortController();
  const ends = [1, 2].map(() =>
    client.call('wait', undefined, { signal: abort.signal }).catch(() => 'aborted'),
  );
  await until(() => made === 2, SLOW);
  const third = client.call('echo', 3);
  expect(await Promise.race([third, new Promise((resolve) => setTimeout(resolve, 50, 'waits'))])).toBe(
    'waits',
  );
  abort.abort();
  expect(await Promise.all([...ends, third])).toEqual(['aborted', 'aborted', 3]);
  const { socket, said } = await raw(door.socketPath);
  socket.write([1, 2, 3].map((id) => `{"id":${id},"verb":"wait"}\n`).join(''));
  await until(() => said.some((line) => line.startsWith('{"id":3,"error":') && line.includes('busy')), SLOW);
  socket.destroy();
});

test('1,000 idle connections lock nobody out, and those that wait for answers stay', async () => {
  await using door = await serve({ maxConnections: 50 });
  await using busy = await DoorClient.connect(path);
  const answer = busy.call('wait').catch(String);
  await until(() => made === 1, SLOW);
  const idle = [];
  for (let i = 0; i < 1000; i++) {
    const socket = connect(door.socketPath).on('error', () => undefined);
    await once(socket, 'connect');
    socket.resume();
    idle.push(socket);
  }
  await using client = await DoorClient.connect(path);
  expect(await client.call('echo', 1)).toBe(1);
  await until(() => door.connectionCount <= 50, SLOW);
  expect(hasEnded).toBe(false);
  for (const socket of idle) socket.destroy();
  busy.close();
  expect(await answer).toContain('closed here');
});

test('a full house of requests under way says so', async () => {
  await using _door = await serve({ maxConnections: 1 });
  await using busy = await DoorClient.connect(path);
  busy.call('wait').catch(() => undefined);
  await until(() => made === 1, SLOW);
  await using second = await DoorClient.connect(path);
  await expect(second.call('echo')).rejects.toMatchObject({ code: 'busy' });
});

test('half lines of many connections hold bounded memory together', async () => {
  await using door = await serve({ maxHeldBytes: 10_000_000 });
  const sockets = await Promise.all(Array.from({ length: 5 }, () => raw(door.socketPath)));
  for (const { socket } of sockets) socket.write('x'.repeat(4_000_000));
  const told = () => sockets.filter(({ said }) => said.some((line) => line.includes('"busy"'))).length;
  await until(() => told() >= 3, SLOW);
  await using client = await DoorClient.connect(path);
  expect(await client.call('echo', 1)).toBe(1);
  for (const { socket } of sockets) socket.destroy();
});

test('closing tells who waits, leaves nothing behind, and a stop gets its answer', async () => {
  let door: DoorServer | undefined;
  const stop: Verb = async (_args, { answered }) => {
    void answered.then(() => door?.close());
    return 'stopped';
  };
  door = await serve({ verbs: { ...verbs, stop } });
  await using client = await DoorClient.connect(path);
  await using other = await DoorClient.connect(path);
  const waiting = other.call('wait');
  waiting.catch(() => undefined);
  await until(() => made === 1, SLOW);
  expect(await client.call('stop')).toBe('stopped');
  await expect(waiting).rejects.toMatchObject({ code: 'closing', message: 'the service stops' });
  await door.close();
  expect(readdirSync(join(path, 'door'))).toEqual([]);
  await expect(DoorClient.connect(path)).rejects.toThrow(
    `no service runs on ${path}: start one with job_queue start`,
  );
});

test('socket and folder are the owner alone, or of the group that was named', async () => {
  {
    await using door = await serve();
    expect(door.socketPath).toBe(join(path, 'door', 'socket'));
    expect([modeOf(path), modeOf(dirname(door.socketPath)), modeOf(door.socketPath)]).toEqual([
      0o700, 0o700, 0o600,
    ]);
    expect(door.notes).toEqual([]);
  }
  const gid = process.getgid?.() ?? 0;
  {
    chmodSync(folder.path, 0o700);
    await using door = await serve({ group: `${gid}` });
    const door_ = dirname(door.socketPath);
    expect([modeOf(path), modeOf(door_), modeOf(door.socketPath)]).toEqual([0o710, 0o750, 0o660]);
    expect([path, door_, door.socketPath].map((of) => statSync(of).gid)).toEqual([gid, gid, gid]);
    expect(door.notes[0]).toContain('can run anything as you');
    expect(door.notes[1]).toContain(`cannot get through ${folder.path}`);
    expect(await (await DoorClient.connect(path)).call('echo', 1)).toBe(1);
  }
  await expect(serve({ group: 'no-such-group' })).rejects.toThrow("there is no group 'no-such-group' here");
  await using door = await serve();
  expect([modeOf(path), modeOf(dirname(door.socketPath)), modeOf(door.socketPath)]).toEqual([
    0o700, 0o700, 0o600,
  ]);
});

test('a path that is too long is put elsewhere and named', async () => {
  path = join(
    folder.path,
    'd'.repeat(MAX_SOCKET_PATH_BYTES - folder.path.length - '//door/socket'.length + 1),
  );
  mkdirSync(path);
  const runtime = join(folder.path, 'run');
  mkdirSync(runtime, { mode: 0o700 });
  const before = process.env.XDG_RUNTIME_DIR;
  process.env.XDG_RUNTIME_DIR = runtime;
  try {
    const door = await serve();
    expect(dirname(dirname(door.socketPath))).toBe(runtime);
    expect(readFileSync(join(path, 'door', 'where'), 'utf8')).toBe(`${door.socketPath}\n`);
    expect(modeOf(dirname(door.socketPath))).toBe(0o700);
    await using client = await DoorClient.connect(path);
    expect(await client.call('echo', 1)).toBe(1);
    await expect(serve()).rejects.toThrow('a service already answers on');
    await door.close();
    expect(readdirSync(runtime)).toEqual([]);

    chmodSync(runtime, 0o755); // no runtime directory as it has to be
    const other = await serve();
    expect(other.socketPath.startsWith(runtime)).toBe(false);
    expect(modeOf(dirname(other.socketPath))).toBe(0o700);
    expect(await (await DoorClient.connect(path)).call('echo', 2)).toBe(2);
    await other.close();
    expect(existsSync(dirname(other.socketPath))).toBe(false);
  } finally {
    if (before === undefined) delete process.env.XDG_RUNTIME_DIR;
    else process.env.XDG_RUNTIME_DIR = before;
  }
  path = join(folder.path, 'exactly');
  path = join(folder.path, 'e'.repeat(MAX_SOCKET_PATH_BYTES - folder.path.length - '//door/socket'.length));
  mkdirSync(path);
  await using door = await serve();
  expect(Buffer.byteLength(door.socketPath)).toBe(MAX_SOCKET_PATH_BYTES);
  expect(await (await DoorClient.connect(path)).call('echo', 3)).toBe(3);
});

test('the socket of a killed service is taken over, that of a live one is not', async () => {
  const service = await startService(path);
  expect(service.said).toContain('ready');
  await expect(serve()).rejects.toThrow(`a service already answers on ${path}: job_queue stop ends it`);
  await using client = await DoorClient.connect(path);
  await service.kill();
  await expect(client.call('echo')).rejects.toMatchObject({ code: 'gone' });
  await expect(DoorClient.connect(path)).rejects.toMatchObject({
    code: 'no-service',
    message: `no service runs on ${path}: start one with job_queue start (the one before it died and left its socket)`,
  });
  await using _door = await serve();
  expect(await (await DoorClient.connect(path)).call('echo', 1)).toBe(1);
});

test('a folder whose service runs on another host says which', async () => {
  writeFileSync(join(path, 'lock'), JSON.stringify({ host: 'lab7', pid: 12, processStart: '1' }));
  const message = `the service on ${path} runs on lab7 (process 12): job_queue --host lab7 reaches it`;
  await expect(DoorClient.connect(path)).rejects.toThrow(message);
});

test('a client connects to nothing that is not its owner alone', async () => {
  await using door = await serve();
  chmodSync(join(path, 'door'), 0o777);
  await expect(DoorClient.connect(path)).rejects.toThrow('others than its owner may write there');
  await expect(DoorClient.connect(door.socketPath)).rejects.toMatchObject({ code: 'refused' });
  chmodSync(join(path, 'door'), 0o700);
  expect(await (await DoorClient.connect(door.socketPath)).call('echo', 1)).toBe(1);
  if (process.getuid?.() !== 0) return; // giving files away needs root
  chownSync(door.socketPath, 12345, 12345);
  await expect(DoorClient.connect(path)).rejects.toThrow(
    'it belongs to the user with the id 12345, not to 0',
  );
  chownSync(join(path, 'door'), 12345, 12345);
  await expect(DoorClient.connect(path)).rejects.toThrow(`the door at ${join(path, 'door')}: it belongs to`);
});

test('what is no service, or one of another version, is told', async () => {
  mkdirSync(join(path, 'door'), { mode: 0o700 });
  let greeting = '{"door":2,"requests":64}\n';
  const server = createServer((socket) => void socket.on('error', () => undefined).write(greeting));
  server.listen(join(path, 'door', 'socket'));
  await once(server, 'listening');
  try {
    await expect(DoorClient.connect(path)).rejects.toThrow(
      /speaks version 2 of its language, this program version 1/,
    );
    for (greeting of ['HTTP/1.1 200 OK\n', '{"door":1,"requests":0}\n', '{}\n', 'x'.repeat(9_000_000)])
      await expect(DoorClient.connect(path)).rejects.toMatchObject({ code: 'version' });
    greeting = ' ';
    await expect(DoorClient.connect(path, { timeoutMs: 50 })).rejects.toThrow('no answer within 0.05 s');
  } finally {
    server.close();
  }
});
