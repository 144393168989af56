/** `npm run test:faults -- [--queue] [--seed N] [--seeds K] [--short] [--kinds cut,kill] [--command FILE]`: seeded runs, one after the other. */
import { parseArgs } from 'node:util';
import { LONG, QUEUE_KINDS, SHORT } from './plan.ts';
import { seededRun } from './seeded-run.ts';

const DONE_WITHIN_MS = 240_000;

const { values } = parseArgs({
  options: {
    seed: { type: 'string', default: String(Math.floor(Math.random() * 1_000_000)) },
    seeds: { type: 'string', default: '1' },
    short: { type: 'boolean', default: false },
    queue: { type: 'boolean', default: false },
    kinds: { type: 'string', default: QUEUE_KINDS.join(',') },
    command: { type: 'string' },
  },
});
const [first, count] = [values.seed, values.seeds].map(Number);
const kinds = QUEUE_KINDS.filter((kind) => values.kinds.split(',').includes(kind));
if (
  !Number.isSafeInteger(first) ||
  !Number.isSafeInteger(count) ||
  first === undefined ||
  count === undefined
)
  throw new Error('--seed and --seeds are whole numbers');

let bad = 0;
let close = async () => {};
for (const signal of ['SIGINT', 'SIGTERM'] as const)
  process.once(signal, () => void close().finally(() => process.exit(130)));
for (let seed = first; seed < first + count; seed += 1) {
  console.log(`seed ${seed}`);
  const { findings, figures } = await seededRun({
    seed,
    form: values.queue ? 'queue' : 'batch',
    size: values.short ? SHORT : LONG,
    doneWithinMs: DONE_WITHIN_MS,
    kinds,
    ...(values.command === undefined ? {} : { command: values.command }),
    onOpen: (closeFleet) => {
      close = closeFleet;
    },
    say: (line) => console.log(`  ${line}`),
  });
  console.log(`${findings.length === 0 ? 'good' : 'BAD '} ${figures}`);
  for (const finding of findings) console.log(`  ${finding}`);
  if (findings.length > 0) bad += 1;
}
console.log(`${count - bad} of ${count} seeds good`);
process.exitCode = bad === 0 ? 0 : 1;
