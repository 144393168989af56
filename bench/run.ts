/**
 * `npm run bench`: all benches in one run, each beside what it is measured against, with the goals. Takes about seven
 * minutes; `npm run bench -- throughput latency` runs only those. Nothing is written, and a goal that is missed is said
 * and fails nothing: times on a shared machine are no test.
 */
import { availableParallelism, loadavg } from 'node:os';
import { adoptBench } from './adopt.ts';
import { combineBench } from './combine.ts';
import { fanoutBench } from './fanout.ts';
import { type Figure, tableOf } from './figure.ts';
import { filesBench } from './files.ts';
import { latencyBench } from './latency.ts';
import { type PlacementFigure, placementBench } from './placement.ts';
import { Bench } from './project.ts';
import { queueBench } from './queue.ts';
import { throughputBench } from './throughput.ts';
import { waitingMemoryBench } from './waiting-memory.ts';

const HOSTS = 4;

const benches: Readonly<Record<string, (bench: Bench) => Promise<readonly Figure[]>>> = {
  throughput: throughputBench,
  latency: latencyBench,
  fanout: fanoutBench,
  adopt: adoptBench,
  memory: waitingMemoryBench,
  files: filesBench,
  combine: combineBench,
  queue: queueBench,
  placement: async () => (await placementBench()).map(placementFigure),
};

function placementFigure(figure: PlacementFigure): Figure {
  const { machines, kinds, jobs, placementsPerSecond, goalPerSecond } = figure;
  const number = (value: number) => value.toLocaleString('en');
  return {
    what: `${number(jobs)} jobs placed on ${number(machines)} machines of 8 GPUs, ${kinds} ${kinds === 1 ? 'kind' : 'kinds'}`,
    ours: `${number(placementsPerSecond)}/s`,
    ratio: placementsPerSecond,
    goal: { type: 'at least', value: goalPerSecond, unit: '/s' },
  };
}

async function main(wanted: readonly string[]): Promise<void> {
  const unknown = wanted.find((name) => !(name in benches));
  if (unknown !== undefined) {
    throw new Error(`no bench '${unknown}': there are ${Object.keys(benches).join(', ')}`);
  }
  const cores = availableParallelism();
  const load = loadavg()[0] ?? 0;
  const busy = load > cores / 2 ? '; others use them, so ratios are coarse' : '';
  console.log(`${cores} cores (load ${load.toFixed(1)} before${busy}), Node ${process.version}`);
  const began = performance.now();
  const figures: Figure[] = [];
  {
    await using bench = await Bench.open(HOSTS);
    console.log(`${HOSTS} test hosts (${bench.hosts.capabilities.mode})\n`);
    for (const [name, run] of Object.entries(benches)) {
      if (wanted.length > 0 && !wanted.includes(name)) continue;
      process.stderr.write(`${name} ...\n`);
      try {
        figures.push(...(await run(bench)));
      } catch (error) {
        // The others are worth having all the same.
        console.error(`${name} failed: ${(error as Error).message}`);
        process.exitCode = 1;
      }
    }
  }
  console.log(tableOf(figures));
  console.log(`\n${Math.round((performance.now() - began) / 1000)} s`);
}

await main(process.argv.slice(2));
