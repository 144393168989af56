/**
 * Jobs a second, as whole commands: 1,000 `true` jobs by execute_batch, 200 by GNU parallel, on the same 4 hosts with 4
 * at a time on each, in turn. Both keep every job's output; what they wrote is counted after each round.
 */
import { readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Figure } from './figure.ts';
import type { Bench } from './project.ts';
import { interleaved, secondsOf } from './timing.ts';

const HOSTS = 4;
const AT_A_TIME = 4;
const JOBS = 1000;
const PARALLEL_JOBS = 200;
const ROUNDS = 3;

/** The `execute-batch.js` of another build, to be measured in the same rounds. */
const former = process.env.BENCH_FORMER;

/** Runs both, and parallel once more over connections that ssh keeps open, which its users can set up. */
export async function throughputBench(bench: Bench): Promise<readonly Figure[]> {
  const machineFiles = await bench.machineFiles(HOSTS, AT_A_TIME);
  const kept = await keptConnections(bench);
  try {
    const { medians, rounds } = await interleaved(ROUNDS, [
      () => ourJobsPerSecond(bench, machineFiles),
      () => parallelJobsPerSecond(bench, bench.hosts.sshConfigPath),
      () => parallelJobsPerSecond(bench, kept.configPath),
      ...(former === undefined ? [] : [() => ourJobsPerSecond(bench, machineFiles, former)]),
    ]);
    const [ours = Number.NaN, parallel = Number.NaN, overKept = Number.NaN, before = Number.NaN] = medians;
    const jobs = JOBS.toLocaleString('en');
    const what = `${jobs} \`true\` jobs, ${HOSTS} hosts, ${AT_A_TIME} at a time each (${rounds} rounds)`;
    const name = `parallel -S ${AT_A_TIME}/host, ${PARALLEL_JOBS} jobs`;
    return [
      {
        what,
        ours: perSecond(ours),
        peer: { name, value: perSecond(parallel) },
        ratio: ours / parallel,
        goal: { type: 'at least', value: 10, aim: 20 },
      },
      {
        what,
        ours: perSecond(ours),
        peer: { name: `${name}, ControlMaster`, value: perSecond(overKept) },
        ratio: ours / overKept,
      },
      ...(former === undefined
        ? []
        : [
            {
              what,
              ours: perSecond(ours),
              peer: { name: 'the former version', value: perSecond(before) },
              ratio: ours / before,
              goal: { type: 'at least', value: 0.9 },
            } as const,
          ]),
    ];
  } finally {
    await kept.close();
  }
}

function perSecond(figure: number): string {
  return `${figure.toFixed(figure < 100 ? 1 : 0)} jobs/s`;
}

async function ourJobsPerSecond(
  bench: Bench,
  machineFiles: readonly string[],
  entry?: string,
): Promise<number> {
  const project = await bench.project(Array.from({ length: JOBS }, () => 'true'));
  const seconds = await secondsOf(bench.batchCommand(project, machineFiles, entry));
  const results = (await readdir(join(project, 'job_results'))).filter((name) => !name.startsWith('.'));
  for (const suffix of ['.out', '.err', '.json']) {
    expectCount(`results ending in ${suffix}`, results.filter((name) => name.endsWith(suffix)).length, JOBS);
  }
  expectCount('result files and folders', results.length, 4 * JOBS);
  return JOBS / seconds;
}

async function parallelJobsPerSecond(bench: Bench, sshConfig: string): Promise<number> {
  const project = await bench.project(Array.from({ length: PARALLEL_JOBS }, () => 'true'));
  const logins = bench.names(HOSTS).map((name) => `${AT_A_TIME}/${name}\n`);
  await writeFile(join(project, 'logins'), logins.join(''));
  // --plain: no options of the user's own. A file per job under its number, as all lines are the same.
  const keep = ['--results', 'results/{#}', '--joblog', 'joblog'];
  const args = ['--plain', '--will-cite', '--sshloginfile', 'logins', '--ssh', `ssh -F ${sshConfig}`];
  const seconds = await secondsOf({
    program: 'parallel',
    args: [...args, ...keep, '-a', 'jobs.sh'],
    cwd: project,
    env: { ...process.env, PARALLEL_HOME: project },
  });
  const results = await readdir(join(project, 'results'));
  expectCount('outputs of GNU parallel', results.filter((name) => /^\d+$/.test(name)).length, PARALLEL_JOBS);
  return PARALLEL_JOBS / seconds;
}

function expectCount(what: string, found: number, expected: number): void {
  if (found !== expected) throw new Error(`found ${found} ${what}, expected ${expected}`);
}

/** The hosts' ssh configuration with a connection to each host that stays open, and is open already. */
async function keptConnections(
  bench: Bench,
): Promise<{ readonly configPath: string; close(): Promise<void> }> {
  const configPath = join(bench.folder, 'kept_config');
  const control = `ControlPath ${join(bench.folder, '%n')}`;
  await writeFile(configPath, `Include ${bench.hosts.sshConfigPath}\nMatch all\n  ${control}\n`);
  const ssh = (...args: string[]) => secondsOf({ program: 'ssh', args: ['-F', configPath, ...args] });
  const names = bench.names(HOSTS);
  for (const name of names) await ssh('-o', 'ControlMaster=yes', '-o', 'ControlPersist=120', '-fN', name);
  return {
    configPath,
    async close() {
      for (const name of names) await ssh('-q', '-O', 'exit', name).catch(() => {}); // it may be gone already
    },
  };
}
