/** Overviews for tests of the view. */
import type { Overview, OverviewJob, OverviewMachine } from '../../../src/lib/domain/overview.ts';
import type { QueueState } from '../../../src/lib/domain/queue.ts';

/** 14:05:09, wherever the test runs. */
export const NOW = new Date(2024, 10, 14, 14, 5, 9).getTime();
const MINUTE_MS = 60_000;

const NO_JOBS: Readonly<Record<QueueState, number>> = {
  queued: 0,
  holding: 0,
  'user-hold': 0,
  running: 0,
  success: 0,
  fail: 0,
  killed: 0,
  abort: 0,
  error: 0,
};

/** Lists of jobs and machines as an overview; counts follow from the lists. */
export function overviewOf(
  lists: {
    readonly running?: readonly OverviewJob[];
    readonly waiting?: readonly OverviewJob[];
    readonly ended?: readonly OverviewJob[];
  },
  machines: readonly OverviewMachine[] = [],
  at = NOW,
): Overview {
  const { running = [], waiting = [], ended = [] } = lists;
  const counts: Record<QueueState, number> = { ...NO_JOBS };
  for (const { state } of [...running, ...waiting, ...ended]) counts[state]++;
  const list = (jobs: readonly OverviewJob[]) => ({ jobs, count: jobs.length });
  return { at, counts, machines, running: list(running), waiting: list(waiting), ended: list(ended) };
}

/** A job with a number. */
export function job(id: number, state: QueueState, more: Partial<OverviewJob> = {}): OverviewJob {
  return { id: String(id), name: `train_${id}`, command: `python train.py ${id}`, state, ...more };
}

/** Two machines, and jobs in each list, as they are at `now`: epoch milliseconds. */
export function sampleOverview(now = NOW): Overview {
  return overviewOf(
    {
      running: [
        job(17, 'running', {
          machine: 'gpubox',
          gpus: [0, 1],
          startedAt: now - 62 * MINUTE_MS,
          lastLine: 'epoch 4/10 loss 0.31',
        }),
        job(18, 'running', { machine: 'cpubox', startedAt: now - 5000 }),
      ],
      waiting: [
        job(19, 'queued', { reason: 'no machine has 2 GPUs free' }),
        job(20, 'user-hold', { reason: 'held' }),
        job(21, 'holding', { reason: 'waits for job 17' }),
      ],
      ended: [
        job(16, 'fail', { endedAt: now - MINUTE_MS, outcome: { type: 'exited', exitCode: 3 } }),
        job(15, 'success', { endedAt: now - 2 * MINUTE_MS, outcome: { type: 'exited', exitCode: 0 } }),
      ],
    },
    [
      {
        name: 'gpubox',
        state: 'ready',
        jobs: 1,
        measuredAt: now,
        cpuCores: { total: 8, used: 3.1, taken: 6 },
        memoryMiB: { total: 63_488, used: 12_288, taken: 20_000 },
        gpus: [0, 1].map((index) => ({
          index,
          name: 'NVIDIA A100',
          memoryMiB: { total: 24_576, used: 8192, taken: 16_384 },
          utilization: { total: 1, used: 0.85, taken: 1 },
        })),
      },
      {
        name: 'cpubox',
        state: 'draining',
        reason: 'asked for',
        jobs: 1,
        cpuCores: { total: 128, used: 127.6, taken: 4 },
        memoryMiB: { total: 900, used: 300, taken: 0 },
      },
      { name: 'attic', state: 'away', reason: 'no answer for 30s', jobs: 2 },
    ],
    now,
  );
}
