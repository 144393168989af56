/** The queue service: what 100,000 waiting jobs cost, and how fast jobs go through it. */
import type { Figure } from './figure.ts';
import type { Bench } from './project.ts';
import { queueThroughputBench } from './queue-throughput.ts';
import { waitingBench } from './queue-waiting.ts';

/** Measures all of it. */
export async function queueBench(bench: Bench): Promise<readonly Figure[]> {
  return [...(await waitingBench(bench)), ...(await queueThroughputBench(bench))];
}
