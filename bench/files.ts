/**
 * Files there and back, beside tar and rsync over ssh. Both sides begin with nothing open and end with the files in
 * place; where a figure is about something else, its text says so. Our clock starts when our code is loaded (the start
 * of a process is in `latency`), theirs with the process, some milliseconds earlier.
 */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { BatchRun } from '../src/lib/batch/batch-run.ts';
import { isSuccess, type JobOutcome } from '../src/lib/domain/job.ts';
import { DEFAULT_REQUEST } from '../src/lib/domain/request-defaults.ts';
import { findMachines } from '../src/lib/machine/find-machines.ts';
import { until } from '../test/rig/until.ts';
import { FarLink } from './far-link.ts';
import type { Figure } from './figure.ts';
import type { Bench } from './project.ts';
import { interleaved, median } from './timing.ts';
import { type End, makeFiles, Transfers } from './transfers.ts';

const ROUNDS = 5;
const MB = 1e6;
const FIRST = { small: 500, largeBytes: 50 * MB };
const MANY = { small: 10_000, smallBytes: 1024 };
const FAR_SMALL = { small: 900 };
const FAR_LARGE = { small: 0, largeBytes: 128 * MB };
const RESULTS = 1000;
const BATCH_JOBS = 100;
const BATCH_TREE = { small: 0, largeBytes: 50 * MB };
/** Half a round trip. */
const DELAY_MS = 10;
/** Hashes of younger files are not remembered; and a bit. */
const OLD_ENOUGH_MS = 2500;

/** The folders that are sent. */
interface Sources {
  readonly first: string;
  readonly many: string;
  readonly farSmall: string;
  readonly farLarge: string;
}

/** All of it, on the bench's first host. */
export async function filesBench(bench: Bench): Promise<readonly Figure[]> {
  const [host] = bench.hosts.hosts;
  if (host === undefined) throw new Error('Internal error: a bench without hosts');
  const transfers = new Transfers(bench);
  const sources = await makeSources(bench, transfers);
  const near = { host, name: host.name, sshConfig: bench.hosts.sshConfigPath };
  const figures = [
    await firstSend(transfers, near, sources.first),
    ...(await secondSends(transfers, near, sources.many)),
    await back(transfers, near),
    await oneBatch(bench, near),
  ];
  await using link = await FarLink.open(host, DELAY_MS);
  const far = await overLink(bench, near, link, 'far');
  return [...figures, ...(await farSends(transfers, far, sources))];
}

async function makeSources(bench: Bench, transfers: Transfers): Promise<Sources> {
  const make = (name: string, spec: Parameters<typeof makeFiles>[1]) =>
    makeFiles(join(bench.folder, name), spec);
  const sources = {
    first: await make('first', FIRST),
    many: await make('many', MANY),
    farSmall: await make('far-small', FAR_SMALL),
    farLarge: await make('far-large', FAR_LARGE),
  };
  const madeAt = performance.now();
  await until(() => performance.now() - madeAt > OLD_ENOUGH_MS);
  for (const folder of Object.values(sources)) await transfers.warm(folder);
  return sources;
}

async function firstSend(transfers: Transfers, end: End, from: string): Promise<Figure> {
  const files = FIRST.small + 1;
  const { medians } = await interleaved(ROUNDS, [
    async () => {
      const store = transfers.fresh(end);
      const { seconds } = await transfers.send(end, from, store, { files });
      await transfers.removeThere(end, store);
      return seconds;
    },
    async () => {
      const to = transfers.fresh(end);
      const seconds = await transfers.tarThere(end, from, to);
      await transfers.removeThere(end, to, files);
      return seconds;
    },
  ]);
  const [ours = Number.NaN, tar = Number.NaN] = medians;
  return {
    what: `first send: ${FIRST.small} files of 4 KB and one of ${FIRST.largeBytes / MB} MB`,
    ours: milliseconds(ours),
    peer: { name: 'tar | ssh host tar', value: milliseconds(tar) },
    ratio: ours / tar,
    goal: { type: 'at most', value: 1.2 },
  };
}

/** Of the same 10,000 files: all there; then, each round, one other file changed. */
async function secondSends(transfers: Transfers, end: End, from: string): Promise<Figure[]> {
  const store = transfers.fresh(end);
  const to = transfers.fresh(end);
  await transfers.send(end, from, store, { files: MANY.small });
  await transfers.on(end, `mkdir -p ${to}`);
  await transfers.rsync(end, from, to);
  let changed = 0;
  const beyond: number[] = [];
  const changedBytes = MANY.smallBytes;
  let sent = 0;
  const { medians } = await interleaved(ROUNDS, [
    async () => (await transfers.send(end, from, store, { files: 0 })).seconds,
    async () => await transfers.rsync(end, from, to),
    async () => {
      // Both are to send this: rsync looks at size and time.
      const file = join(from, `folder-${changed}`, `file-${100 * changed}.dat`);
      await writeFile(file, Buffer.alloc(changedBytes, `changed ${++changed}`));
      const { seconds, sentBytes, listingBytes } = await transfers.send(end, from, store, { files: 1 });
      beyond.push(sentBytes / (changedBytes + listingBytes));
      sent = sentBytes;
      return seconds;
    },
    async () => await transfers.rsync(end, from, to),
  ]);
  const copy = transfers.fresh(end);
  const copySeconds = await transfers.copyThere(end, to, copy);
  for (const folder of [store, to]) await transfers.removeThere(end, folder);
  await transfers.removeThere(end, copy, MANY.small);
  const [ours = Number.NaN, rsync = Number.NaN, oursChanged = Number.NaN, rsyncChanged = Number.NaN] =
    medians;
  const files = MANY.small.toLocaleString('en');
  const peer = (seconds: number) => ({ name: 'rsync -a', value: milliseconds(seconds) });
  return [
    {
      what: `second send: ${files} unchanged files`,
      ours: milliseconds(ours),
      peer: peer(rsync),
      ratio: ours / rsync,
      goal: { type: 'at most', value: 1 },
    },
    {
      what: `one of ${files} files changed`,
      ours: milliseconds(oursChanged),
      peer: peer(rsyncChanged),
      ratio: oursChanged / rsyncChanged,
    },
    {
      what: 'one changed: bytes on the connection',
      ours: kilobytes(sent),
      peer: { name: 'the file and the listing', value: kilobytes(sent / median(beyond)) },
      ratio: median(beyond),
      goal: { type: 'at most', value: 1.05 },
    },
    {
      what: `a job's copy of ${files} files there (cp -a)`,
      ours: milliseconds(copySeconds),
      ratio: copySeconds,
    },
  ];
}

async function back(transfers: Transfers, end: End): Promise<Figure> {
  const attempt = await transfers.makeAttempt(end, RESULTS);
  const { medians } = await interleaved(ROUNDS, [
    async () => (await transfers.fetch(end, attempt, RESULTS)).seconds,
    async () => await transfers.tarHere(end, `${attempt}/work`, RESULTS),
  ]);
  await transfers.removeThere(end, attempt);
  const [ours = Number.NaN, tar = Number.NaN] = medians;
  return {
    what: `back: ${RESULTS.toLocaleString('en')} result files of 4 KB`,
    ours: milliseconds(ours),
    peer: { name: 'ssh host tar | tar', value: milliseconds(tar) },
    ratio: ours / tar,
    goal: { type: 'at most', value: 1.5 },
  };
}

/** A batch as a program runs one, over a link that counts. */
async function oneBatch(bench: Bench, end: End): Promise<Figure> {
  await using link = await FarLink.open(end.host, 0);
  const { sshConfig } = await overLink(bench, end, link, 'counted');
  const project = await bench.project(Array.from({ length: BATCH_JOBS }, () => 'test -s large.dat'));
  await makeFiles(project, BATCH_TREE);
  // A few at a time: what a hundred copies at once do to a disk is another question.
  const machine = join(bench.folder, 'counted.yaml');
  await writeFile(machine, 'name: counted\nhost: counted\nmax_jobs: 4\n', { mode: 0o600 });
  await using run = await BatchRun.open({
    file: join(project, 'jobs.sh'),
    cwd: project,
    results: join(project, 'job_results'),
    machines: await findMachines([machine]),
    defaults: {
      request: { ...DEFAULT_REQUEST, gpus: 0, memoryMiB: 1, cpuCores: 0.001 },
      copyForwards: 'working-directory',
      shareForwards: [],
      copyBackwards: 'changed',
    },
    tuning: { ssh: { configFile: sshConfig, env: { ...process.env, SSH_AUTH_SOCK: '' } } },
  });
  let problem: JobOutcome | undefined;
  run.events.on('job:ended', ({ outcome }) => {
    if (!isSuccess(outcome)) problem ??= outcome;
  });
  await run.connect();
  const { good } = await run.run();
  if (good !== BATCH_JOBS)
    throw new Error(`${good} of ${BATCH_JOBS} jobs ended well; one: ${JSON.stringify(problem)}`);
  const { upBytes } = await link.traffic();
  return {
    what: `${BATCH_JOBS} jobs on one host: bytes sent`,
    ours: megabytes(upBytes),
    peer: { name: 'the tree', value: megabytes(BATCH_TREE.largeBytes) },
    ratio: upBytes / BATCH_TREE.largeBytes,
    goal: { type: 'at most', value: 1.05 },
  };
}

async function farSends(transfers: Transfers, end: End, sources: Sources): Promise<Figure[]> {
  const files = FAR_SMALL.small;
  const large = FAR_LARGE.largeBytes / MB;
  const { medians } = await interleaved(ROUNDS, [
    async () => {
      const store = transfers.fresh(end);
      const { seconds } = await transfers.send(end, sources.farSmall, store, { files });
      await transfers.removeThere(end, store);
      return seconds;
    },
    async () => {
      const to = transfers.fresh(end);
      const seconds = await transfers.tarThere(end, sources.farSmall, to);
      await transfers.removeThere(end, to, files);
      return seconds;
    },
    async () => {
      const store = transfers.fresh(end);
      const clock = 'sending';
      const { seconds } = await transfers.send(end, sources.farLarge, store, { files: 1, clock });
      await transfers.removeThere(end, store);
      return large / seconds;
    },
    async () => large / (await transfers.catThere(end, join(sources.farLarge, 'large.dat'))),
  ]);
  const [small = Number.NaN, tar = Number.NaN, rate = Number.NaN, channel = Number.NaN] = medians;
  const link = `round trip ${2 * DELAY_MS} ms`;
  const perSecond = (value: number) => `${Math.round(value)} MB/s`;
  return [
    {
      what: `${link}: ${files} files of 4 KB`,
      ours: milliseconds(small),
      peer: { name: 'tar | ssh host tar', value: milliseconds(tar) },
      ratio: small / tar,
      goal: { type: 'at most', value: 2 },
    },
    {
      what: `${link}: a file of ${large} MB, connected before`,
      ours: perSecond(rate),
      peer: { name: "ssh host 'cat >/dev/null', connected before", value: perSecond(channel) },
      ratio: rate,
      goal: { type: 'at least', value: 150, unit: 'MB/s' },
    },
  ];
}

/** A way to the same host over a link, with a name of its own. */
async function overLink(bench: Bench, { host }: End, link: FarLink, name: string): Promise<End> {
  const knownHosts = join(bench.folder, `${name}_known_hosts`);
  await writeFile(knownHosts, `${name} ${host.knownHostsLine.split(' ').slice(1).join(' ')}\n`);
  const sshConfig = join(bench.folder, `${name}_config`);
  const lines = ['HostName 127.0.0.1', `Port ${link.port}`, `HostKeyAlias ${name}`, `User ${host.user}`];
  lines.push(`IdentityFile ${host.keyPath}`, 'IdentitiesOnly yes', 'BatchMode yes');
  lines.push('StrictHostKeyChecking yes', `UserKnownHostsFile ${knownHosts}`, 'GlobalKnownHostsFile none');
  await writeFile(sshConfig, `Host ${name}\n${lines.map((line) => `  ${line}\n`).join('')}`);
  return { host, name, sshConfig };
}

function milliseconds(seconds: number): string {
  return `${Math.round(seconds * 1000)} ms`;
}

function megabytes(bytes: number): string {
  return `${(bytes / MB).toFixed(1)} MB`;
}

function kilobytes(bytes: number): string {
  return `${Math.round(bytes / 1000)} KB`;
}
