/**
 * Files beyond what 32 bits and tar's octal sizes can count, there and back byte for byte, with little memory. Needs
 * 10 GB of disk for a while, and two minutes or more.
 */
import { createHash, randomBytes } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdir, mkdtemp, open, rm, stat, statfs } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { fetchFiles } from '../../src/lib/files/fetch.ts';
import { sendParts } from '../../src/lib/files/send.ts';
import { SourceTrees } from '../../src/lib/files/source-trees.ts';
import { type TarEntry, TarReader } from '../../src/lib/files/tar-reader.ts';
import { writeArchive } from '../../src/lib/files/tar-writer.ts';
import { RequestShell } from '../../src/lib/remote/remote-shell.ts';
import { connectSsh } from '../../src/lib/remote/ssh-host.ts';
import { entry } from '../remote/run-over.ts';
import { type TestHost, TestHosts } from '../rig/test-hosts.ts';

const GIB = 1024 ** 3;
const BEYOND_32_BITS = 4 * GIB + 100 * 1024 * 1024 + 3;
const BEYOND_OCTAL = 8 * GIB + 5;
const DISK_NEEDED = 10e9;
/** What a transfer may add to the process's memory at its peak: ssh's windows, pieces, garbage not yet collected. */
const MEMORY_BOUND_MIB = 256;

let folder: string;
let hosts: TestHosts;
let host: TestHost;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'large-'));
  const { bavail, bsize } = await statfs(folder);
  if (bavail * bsize < DISK_NEEDED)
    throw new Error(`${tmpdir()} has ${Math.round((bavail * bsize) / 1e9)} GB free; 10 are needed`);
  hosts = await TestHosts.start([{ name: 'store' }]);
  host = hosts.get('store');
});
afterAll(async () => {
  await hosts?.close();
  await rm(folder, { recursive: true, force: true });
});

/** A file with holes that takes no disk; what is beside them is random, also across 2^31, 2^32 and 2^33. */
async function makeSparse(path: string, size: number): Promise<void> {
  const file = await open(path, 'w');
  try {
    await file.truncate(size);
    for (const around of [0, 2 * GIB, 4 * GIB, 8 * GIB, size]) {
      const from = Math.max(0, around - 500_000);
      if (from < size) await file.write(randomBytes(Math.min(1_000_000, size - from)), 0, undefined, from);
    }
  } finally {
    await file.close();
  }
}

async function digestOf(path: string): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(path, { highWaterMark: 1024 * 1024 }))
    hash.update(chunk as Buffer); // a stream without encoding
  return hash.digest('hex');
}

async function onHost(line: string): Promise<string> {
  const { exitCode, stdout, stderr } = await host.exec(line);
  if (exitCode !== 0) throw new Error(`${line}: ${stderr}`);
  return stdout;
}

/** Runs a transfer and returns by how much it raised the most memory that this process ever had. */
async function memoryMiBOf(transfer: () => Promise<void>): Promise<number> {
  const before = process.memoryUsage.rss() / 1024 ** 2;
  await transfer();
  return process.resourceUsage().maxRSS / 1024 - before; // maxRSS is in KiB
}

test('a file of more than 4 GiB goes to a host and comes back byte for byte, in little memory', async () => {
  const project = join(folder, 'project');
  const home = join(folder, 'home');
  await Promise.all([project, home].map((path) => mkdir(path)));
  await makeSparse(join(project, 'huge.dat'), BEYOND_32_BITS);
  const digest = await digestOf(join(project, 'huge.dat'));

  const trees = new SourceTrees({ cwd: project, cacheFolder: join(folder, 'hashes') });
  const { parts } = await trees.of({ copyForwards: 'working-directory', shareForwards: [] });
  const [part] = parts;
  expect(part?.entries).toEqual([
    { path: 'huge.dat', kind: 'file', mode: 0o644, size: BEYOND_32_BITS, digest },
  ]);

  const ssh = { configFile: hosts.sshConfigPath, env: { ...process.env, SSH_AUTH_SOCK: '' } };
  await using connection = await connectSsh(entry('store'), ssh);
  await using shell = await RequestShell.open(connection);
  const base = `${host.homeOnHost}/large`;
  await onHost(`mkdir -p ${base}/trees ${base}/leases ${base}/attempt`);
  const store = {
    kind: 'trees',
    folder: `${base}/trees`,
    leases: `${base}/leases`,
    leaseSuffix: 'large.1',
  } as const;
  const sending = await memoryMiBOf(async () => {
    await sendParts(connection, shell, store, parts);
  });
  expect(await onHost(`sha256sum <${base}/trees/${part?.id}/huge.dat`)).toContain(digest);
  expect(sending).toBeLessThan(MEMORY_BOUND_MIB);

  // Another name, so that it is a result and no source.
  await onHost(`cd ${base}/attempt && mv ../trees/${part?.id} work && mv work/huge.dat work/result.dat &&
    printf './result.dat\\0' >changed`);
  const fetching = await memoryMiBOf(async () => {
    const request = { attemptFolder: `${base}/attempt`, paths: 'changed', into: home } as const;
    const { files, bytes } = await fetchFiles(connection.name, shell, request);
    expect(files).toBe(1);
    expect(bytes).toBeGreaterThan(BEYOND_32_BITS);
  });
  expect((await stat(join(home, 'result.dat'))).size).toBe(BEYOND_32_BITS);
  expect(await digestOf(join(home, 'result.dat'))).toBe(digest);
  expect(fetching).toBeLessThan(MEMORY_BOUND_MIB);
});

test('a file of more than 8 GiB keeps its size and its bytes in an archive of ours', async () => {
  const path = 'huge.dat';
  await makeSparse(join(folder, path), BEYOND_OCTAL);
  const digest = await digestOf(join(folder, path));
  const hash = createHash('sha256');
  const entries: TarEntry[] = [];
  const reader = new TarReader({
    entry: (one) => entries.push(one),
    content: (piece) => hash.update(piece),
    entryEnd: () => {},
  });
  const file = { path, kind: 'file', mode: 0o644, size: BEYOND_OCTAL, digest } as const;
  for await (const piece of writeArchive(folder, [file])) reader.push(piece);
  reader.end();
  expect(entries).toMatchObject([{ path, kind: 'file', size: BEYOND_OCTAL }]);
  expect(hash.digest('hex')).toBe(digest);
});
