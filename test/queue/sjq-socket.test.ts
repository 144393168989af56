/** Where the sjq door listens, and who may come in. */
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import fs, {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import { createServer } from 'node:net';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { UsageError } from '../../src/lib/domain/errors.ts';
import { MAX_SOCKET_PATH_BYTES } from '../../src/lib/queue/door-place.ts';
import { SjqServer } from '../../src/lib/queue/sjq/sjq-server.ts';
import { scratch } from './programs.ts';
import { KeptQueue, RawClient } from './sjq-rig.ts';

let folder: Awaited<ReturnType<typeof scratch>>;
let path: string;
const notes: string[] = [];
beforeEach(async () => {
  folder = await scratch();
  path = join(folder.path, '.sjq.sock');
  notes.length = 0;
});
afterEach(() => folder[Symbol.asyncDispose]());

const open = (socketPath = path, group?: string) =>
  SjqServer.open({
    socketPath,
    queue: new KeptQueue(),
    lastWordsMs: 200,
    onNote: (note) => notes.push(note),
    ...(group === undefined ? {} : { group }),
  });

async function expectService(socketPath = path): Promise<void> {
  using client = await RawClient.connect(socketPath);
  expect(await client.ask('PING\r\n')).toBe('OK jobs:0');
}

/** A socket that nobody listens at. */
function leaveDead(): void {
  const code = `require('net').createServer().listen(${JSON.stringify(path)}, () => process.kill(process.pid, 'SIGKILL'))`;
  expect(() => execFileSync(process.execPath, ['-e', code])).toThrow();
  expect(lstatSync(path).isSocket()).toBe(true);
}

test('only its owner gets in, and nothing stays beside it', async () => {
  chmodSync(folder.path, 0o755);
  const mask = process.umask(0);
  try {
    await using server = await open();
    expect(lstatSync(path).mode & 0o7777).toBe(0o600);
    expect(readdirSync(folder.path)).toEqual(['.sjq.sock']);
    await expectService();
    expect(server.connectionCount).toBeLessThanOrEqual(1);
  } finally {
    process.umask(mask);
  }
  expect(readdirSync(folder.path)).toEqual([]);
});

test('nobody gets in between the making of the socket and its closing to others', async () => {
  // What others see of it at the two steps: it is open to all while its folder is closed, and closed when it gets its name.
  const seen: unknown[] = [];
  const modeOf = (place: string) => lstatSync(place).mode & 0o777;
  const { chmodSync: chmod, linkSync: link } = fs;
  fs.chmodSync = (place, mode) => {
    seen.push({ folder: modeOf(dirname(String(place))), isNamed: existsSync(path) });
    chmod(place, mode);
  };
  fs.linkSync = (from, to) => {
    seen.push({ socket: modeOf(String(from)), name: to });
    link(from, to);
  };
  syncBuiltinESMExports();
  const mask = process.umask(0);
  try {
    await using _server = await open();
    expect(seen).toEqual([
      { folder: 0o700, isNamed: false },
      { socket: 0o600, name: path },
    ]);
  } finally {
    process.umask(mask);
    Object.assign(fs, { chmodSync: chmod, linkSync: link });
    syncBuiltinESMExports();
  }
});

test('a group gets in when it is named, and the owner is told what that means', async () => {
  const group = String(process.getegid?.());
  await using server = await open(path, group);
  expect(lstatSync(path).mode & 0o7777).toBe(0o660);
  expect(lstatSync(path).gid).toBe(Number(group));
  expect(notes[0]).toBe(
    `Everybody in the group '${group}' can run anything as you, through ${server.socketPath}.`,
  );
  await expect(open(join(folder.path, 'b'), 'no-such-group')).rejects.toThrow("no group 'no-such-group'");
});

test('the socket of a server that died is taken over', async () => {
  leaveDead();
  await using _server = await open();
  await expectService();
});

test('a server that answers keeps its socket, whoever it is', async () => {
  await using _first = await open();
  await expect(open()).rejects.toThrow(new UsageError(`another server answers at ${path} (sjq.socket)`));
  await expectService();
  const other = createServer().listen(join(folder.path, 'other'));
  await once(other, 'listening');
  await expect(open(join(folder.path, 'other'))).rejects.toThrow('another server answers');
  expect(readdirSync(folder.path).sort()).toEqual(['.sjq.sock', 'other']);
  other.close();
});

test('of several that open at once, one has the socket', async () => {
  leaveDead();
  const tries = await Promise.allSettled(Array.from({ length: 8 }, () => open()));
  const opened = tries.flatMap((one) => (one.status === 'fulfilled' ? [one.value] : []));
  expect(opened).toHaveLength(1);
  await expectService();
  for (const server of opened) await server.close();
  expect(readdirSync(folder.path)).toEqual([]);
});

test('what is no socket is never removed', async () => {
  writeFileSync(path, 'mine');
  await expect(open()).rejects.toThrow(
    `sjq.socket: cannot open a socket at ${path}: what is there is no socket`,
  );
  expect(readFileSync(path, 'utf8')).toBe('mine');
  const link = join(folder.path, 'link');
  symlinkSync(path, link);
  await expect(open(link)).rejects.toThrow('no socket');
  mkdirSync(join(folder.path, 'folder'));
  await expect(open(join(folder.path, 'folder'))).rejects.toThrow('no socket');
});

test('a path that cannot be used is refused in one line', async () => {
  await expect(open(join(folder.path, 'missing', 's'))).rejects.toThrow(/^sjq\.socket: .*ENOENT/);
  await expect(open(join(folder.path, 'a\0b'))).rejects.toThrow('sjq.socket: ');
  const room = MAX_SOCKET_PATH_BYTES - folder.path.length - 1;
  const longest = join(folder.path, 'x'.repeat(room));
  await expect(open(`${longest}x`)).rejects.toThrow(
    `the path has ${MAX_SOCKET_PATH_BYTES + 1} bytes, its folder ${folder.path.length}; expected at most`,
  );
  await using _server = await open(longest);
  await expectService(longest);
  // The socket is made in a folder of its own, which needs room too.
  const deep = join(folder.path, 'd'.repeat(room - 11));
  mkdirSync(deep);
  {
    await using _deep = await open(join(deep, 'x'.repeat(9)));
    await expectService(join(deep, 'x'.repeat(9)));
  }
  const deeper = `${deep}de`;
  mkdirSync(deeper);
  await expect(open(join(deeper, 's'))).rejects.toThrow('for the folder');
});

test('at the end only the own socket is removed', async () => {
  const first = await open();
  renameSync(path, join(folder.path, 'away'));
  await using _second = await open();
  await first.close();
  await expectService();
  expect(readdirSync(folder.path).sort()).toEqual(['.sjq.sock', 'away']);
});
