/** What 100,000 waiting jobs cost: to submit them, to submit one more, to start with them, to look at them. */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { DEFAULT_REQUEST } from '../src/lib/domain/request-defaults.ts';
import type { SubmitAnswer, SubmitRequest } from '../src/lib/queue/requests.ts';
import type { Figure } from './figure.ts';
import type { Bench } from './project.ts';
import { BenchService, folderIn, SMALL_JOBS } from './queue-service.ts';
import { taskSpoolerSecondsPerAdd } from './queue-task-spooler.ts';
import { interleaved, median, secondsOf } from './timing.ts';

const MANY = 100_000;
const FEW = 100;
const SPOOLED = 300;
const SUBMIT_ROUNDS = 3;
const DOOR_ROUNDS = 300;
const COMMAND_ROUNDS = 15;
const START_ROUNDS = 3;
const OVERVIEW_ROUNDS = 60;
/** Published for 2,500 jobs, added 500 at a time, in github.com/Nukesor/pueue issue 573: milliseconds for the first and the last. */
const PUEUE_MS = [4.5, 24] as const;

const ONE_COMMAND = 'python train.py --seed 1000001';

/** Starts services of its own that have `local` and may give it nothing; `bench` gives the folder. */
export async function waitingBench({ folder }: Pick<Bench, 'folder'>): Promise<readonly Figure[]> {
  const root = await folderIn(folder, 'queue');
  const { figures, dataFolder } = await submitMany(root);
  await using few = await drained(join(root, 'few'));
  await submitFile(few, await commandFile(root, FEW), FEW);
  figures.push(...(await startWithMany(dataFolder)));
  await using many = await BenchService.start({ dataFolder });
  await expectQueued(many, MANY);
  figures.push(
    ...(await submitOne(root, few, many)),
    await watchOnce(few, many),
    ...(await look(root, many)),
  );
  return figures;
}

/** All from one command file, beside task-spooler; the data folder of the last round stays. */
async function submitMany(
  root: string,
): Promise<{ readonly figures: Figure[]; readonly dataFolder: string }> {
  const file = await commandFile(root, MANY);
  let round = 0;
  const place = () => join(root, `many${round}`);
  const ours = async () => {
    await using service = await drained(place());
    return await submitFile(service, file, MANY);
  };
  const spooler = async () => {
    const seconds = await taskSpoolerSecondsPerAdd(root, SPOOLED);
    round++;
    return seconds;
  };
  const { medians, rounds } = await interleaved(SUBMIT_ROUNDS, [ours, spooler]);
  const [seconds = Number.NaN, spooled = Number.NaN] = medians;
  const each = seconds / MANY;
  const [pueue, slowest] = PUEUE_MS;
  const what = 'the same, per job';
  return {
    dataFolder: join(root, `many${rounds - 1}`),
    figures: [
      {
        what: `job_queue submit --command-file, ${MANY.toLocaleString('en')} jobs, on the disk (${rounds} rounds)`,
        ...absolute(seconds, 's', 5),
      },
      {
        ...{ what, ours: milliseconds(each, 3) },
        peer: { name: `tsp, ${SPOOLED} one by one, in memory`, value: milliseconds(spooled, 1) },
        ratio: each / spooled,
      },
      {
        ...{ what, ours: milliseconds(each, 3) },
        peer: { name: 'pueue add, published, not measured here', value: `${pueue} to ${slowest} ms` },
        ratio: (each * 1000) / pueue,
      },
    ],
  };
}

/** From the start of the process until the door answers `info`. */
async function startWithMany(dataFolder: string): Promise<Figure[]> {
  const times: number[] = [];
  for (let round = 0; round < START_ROUNDS; round++) {
    await using service = await BenchService.start({ dataFolder });
    times.push(service.startSeconds);
  }
  const what = `job_queue start with ${MANY.toLocaleString('en')} jobs on the disk, until the door answers`;
  return [{ what, ...absolute(median(times), 's', 3) }];
}

/** One more job, to a service with few and to one with many, in turn; each is taken back afterwards. */
async function submitOne(root: string, few: BenchService, many: BenchService): Promise<Figure[]> {
  const cwd = await folderIn(root, 'empty');
  const atDoor = (memoryMiB: number) =>
    [few, many].map((service) => () => oneThroughDoor(service, cwd, memoryMiB));
  const whole = [few, many].map((service) => () => oneByCommand(service, cwd));
  await interleaved(10, atDoor(1)); // code that ran often is faster: not what this is about
  // The scheduler has looked at one of the same kind, or has to get at it behind all others.
  const alike = await interleaved(DOOR_ROUNDS, atDoor(1));
  const other = await interleaved(DOOR_ROUNDS, atDoor(2));
  const command = await interleaved(COMMAND_ROUNDS, whole);
  const waiting = `${MANY.toLocaleString('en')} waiting`;
  return [
    beside(`one more job through an open door, ${waiting}`, alike.medians),
    beside(`one that asks for something else, ${waiting}`, other.medians),
    beside(`job_queue submit of one more job, ${waiting}`, command.medians),
  ];
}

/** What the live view asks for once or twice a second. Another limit each time: equal questions share an answer. */
async function watchOnce(few: BenchService, many: BenchService): Promise<Figure> {
  let asked = 0;
  const ask =
    ({ door }: BenchService) =>
    async () => {
      const limit = 20 + ((asked++ >> 1) % 30);
      const began = performance.now();
      await door.call('overview', { limit });
      return (performance.now() - began) / 1000;
    };
  const { medians } = await interleaved(OVERVIEW_ROUNDS, [ask(few), ask(many)]);
  return beside(`an overview for job_queue watch, ${MANY.toLocaleString('en')} waiting`, medians);
}

async function oneThroughDoor({ door }: BenchService, cwd: string, memoryMiB: number): Promise<number> {
  // With 1 MiB the very same as SMALL_JOBS ask for.
  const resources = { ...DEFAULT_REQUEST, cpuCores: 0.001, memoryMiB, gpus: 0 };
  const request: SubmitRequest = { jobs: [{ command: ONE_COMMAND }], request: resources, cwd };
  const began = performance.now();
  const { firstId } = (await door.call('submit', request)) as SubmitAnswer; // our own service's answer
  const seconds = (performance.now() - began) / 1000;
  await door.call('kill', { ids: [firstId] });
  return seconds;
}

async function oneByCommand(service: BenchService, cwd: string): Promise<number> {
  const before = (await service.info()).counts.queued;
  const seconds = await secondsOf(service.command(cwd, 'submit', ...SMALL_JOBS, '--command', ONE_COMMAND));
  await expectQueued(service, before + 1);
  return seconds;
}

function beside(what: string, [few = Number.NaN, many = Number.NaN]: readonly number[]): Figure {
  return {
    ...{ what, ours: milliseconds(many, 2) },
    peer: { name: `${FEW} waiting`, value: milliseconds(few, 2) },
    ratio: many / few,
    goal: { type: 'at most', value: 1.5 },
  };
}

/** Whole commands; how long a node that does nothing takes tells how much of it is the machine's. */
async function look(root: string, many: BenchService): Promise<Figure[]> {
  const { medians } = await interleaved(COMMAND_ROUNDS, [
    () => secondsOf(many.command(root, 'status')),
    () => secondsOf(many.command(root, 'list', '--state', 'running')),
    () => secondsOf({ program: process.execPath, args: ['-e', '0'] }),
  ]);
  const [status = Number.NaN, list = Number.NaN, node = Number.NaN] = medians;
  const then = `${MANY.toLocaleString('en')} waiting`;
  const peer = { name: 'node -e 0', value: milliseconds(node, 0) };
  return [
    { what: `job_queue status, ${then}`, ...absolute(status, 's', 0.2), peer },
    {
      ...{ what: `job_queue list --state running, ${then}`, ours: milliseconds(list, 0), peer },
      ratio: list / node,
    },
  ];
}

/** A service whose machine is given nothing: what is submitted waits. */
async function drained(dataFolder: string): Promise<BenchService> {
  const service = await BenchService.start({ dataFolder });
  await service.ready(1);
  await service.drain();
  return service;
}

/** Seconds of the whole command. The file is alone in its folder, which the jobs have as their source tree. */
async function submitFile(service: BenchService, folder: string, jobs: number): Promise<number> {
  const command = service.command(folder, 'submit', ...SMALL_JOBS, '--quiet', '--command-file', 'jobs.sh');
  const seconds = await secondsOf(command);
  await expectQueued(service, jobs);
  return seconds;
}

/** A folder with nothing but a file of so many commands, all different. */
async function commandFile(root: string, jobs: number): Promise<string> {
  const folder = join(root, `commands${jobs}`);
  await mkdir(folder);
  const lines = Array.from({ length: jobs }, (_, i) => `python train.py --seed ${i} --out results/${i}\n`);
  await writeFile(join(folder, 'jobs.sh'), lines.join(''));
  return folder;
}

async function expectQueued(service: BenchService, jobs: number): Promise<void> {
  const { counts } = await service.info();
  if (counts.queued !== jobs) throw new Error(`found ${JSON.stringify(counts)}, expected ${jobs} queued`);
}

function absolute(seconds: number, unit: 's', goal: number): Pick<Figure, 'ours' | 'ratio' | 'goal'> {
  return {
    ours: `${seconds.toFixed(2)} ${unit}`,
    ratio: seconds,
    goal: { type: 'at most', value: goal, unit },
  };
}

function milliseconds(seconds: number, digits: number): string {
  return `${(seconds * 1000).toFixed(digits)} ms`;
}
