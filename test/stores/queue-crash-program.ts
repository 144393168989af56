/**
 * For the crash test: works on a queue until it is killed, and prints what it was told is done, one line each:
 * `added ID`, `claimed ID ATTEMPT`, `ended ID STATE`.
 */
import { writeSync } from 'node:fs';
import { jobId } from '../../src/lib/domain/job.ts';
import { QueueStore } from '../../src/lib/stores/queue-store.ts';
import { smallSpec } from './queue-jobs.ts';

const store = await QueueStore.open(process.argv[2] ?? '');
const say = (line: string) => writeSync(1, `${line}\n`);
say('open');
for (let round = 0; ; round++) {
  const adding = [1, 2, 3].map((n) => store.add([smallSpec(`${round}-${n}`), smallSpec(`${round}-${n}b`)]));
  for (const ids of await Promise.all(adding)) for (const id of ids) say(`added ${id}`);
  let taken = 0;
  for (const { id } of store.pending()) {
    if (++taken > 4) break;
    const attempt = await store.claim(jobId(id));
    if (attempt === undefined) continue;
    say(`claimed ${id} ${attempt.number}`);
    if (taken === 4) continue;
    await store.finish(attempt, { type: 'exited', exitCode: taken === 1 ? 1 : 0 });
    say(`ended ${id} ${taken === 1 ? 'fail' : 'success'}`);
  }
}
