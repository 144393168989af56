/** The fault test's short forms, and that its plans repeat and its accounts find what is wrong. */
import { expect, test } from 'vitest';
import { attemptFindings, type LedgerEntry } from './ledger.ts';
import { planOf, QUEUE_KINDS, SHORT, SHORTEST } from './plan.ts';
import { checkQueue, type QueueFacts } from './queue-check.ts';
import { queueStepsOf } from './queue-plan.ts';
import { type SeededRunOptions, seededRun } from './seeded-run.ts';

const DONE_WITHIN_MS = 120_000;

test('the same seed gives the same plan, another seed another', () => {
  const kinds = ['cut', 'kill', 'power-off', 'interrupt'] as const;
  expect(planOf(7, SHORT, kinds)).toEqual(planOf(7, SHORT, kinds));
  expect(planOf(8, SHORT, kinds)).not.toEqual(planOf(7, SHORT, kinds));
  expect(new Set(planOf(7, SHORT, kinds).faults.map(({ kind }) => kind))).toEqual(new Set(kinds));
});

test('what is asked of a queue repeats as well, and depends on earlier jobs alone', () => {
  const steps = queueStepsOf(planOf(7, SHORT, QUEUE_KINDS));
  expect(queueStepsOf(planOf(7, SHORT, QUEUE_KINDS))).toEqual(steps);
  const submits = steps.flatMap((step) => (step.kind === 'submit' ? [step] : []));
  expect(submits.flatMap(({ jobs }) => jobs)).toHaveLength(SHORT.jobs);
  for (const [index, { dependsOn }] of submits.entries())
    for (const { submit } of dependsOn) expect(submit).toBeLessThan(index);
  expect(new Set(steps.map(({ kind }) => kind))).toEqual(new Set(['submit', 'kill', 'hold', 'release']));
});

test("the account of a queue: what was acknowledged is there, and its word is the ledgers'", () => {
  const planned = { sleepMs: 0, lines: 1 };
  const submit = (count: number) => ({
    ...{ kind: 'submit', atMs: 0, jobs: Array.from({ length: count }, () => planned), way: 'door' },
    ...{ isArray: false, dependsOn: [], dependsOnAny: false, hold: false },
  });
  const row = (id: number, state: string, more: object = {}, dependsOn: readonly number[] = []) => ({
    ...{ id, state, attempt: state === 'abort' ? 0 : 1, endedAt: 1000 * id },
    spec: { name: `s${id}_${id}`, dependsOn, dependsOnAny: false },
    ...more,
  });
  const ran = (id: number, startedAt: number, exitCode = 0): LedgerEntry => ({
    ...{ job: `s${id}_${id}`, attempt: 1, machine: 'a', host: 'a', startedAt },
    end: { exitCode, at: startedAt + 100 },
  });
  const change = (kind: string, id: number, at: number, message = '') => ({
    ...{ kind, id, askedAt: at },
    answer: { at, isDone: true, message },
  });
  const found = (facts: object) => {
    const { rows, ...more } = facts as { readonly rows: readonly { readonly id: number }[] };
    const tries = rows.map(({ id }) => ({ name: `s${id}`, submit: submit(1), dependsOn: [], ids: [id] }));
    return checkQueue({
      entries: [],
      tries,
      changes: [],
      rerun: new Set(),
      rows,
      ...more,
    } as unknown as QueueFacts).findings;
  };
  const good = { rows: [row(1, 'success')], entries: [ran(1, 500)] };
  expect(found(good)).toEqual([]);
  // It was acknowledged and is not there; half of a submit is; nobody has submitted it.
  const tries = (count: number, ids?: readonly number[]) => [
    { name: 's1', submit: submit(count), dependsOn: [], ids },
  ];
  expect(found({ rows: [], tries: tries(1, [1]) })).toEqual([expect.stringContaining('there are none')]);
  expect(found({ ...good, tries: tries(2) })).toEqual([expect.stringContaining('not acknowledged')]);
  expect(found({ ...good, tries: [] })).toContainEqual(expect.stringContaining('nobody submitted s1'));
  // Its state is not what the ledger says.
  expect(found({ rows: [row(1, 'success')] })).toHaveLength(1);
  expect(found({ rows: [row(1, 'success')], entries: [ran(1, 500, 75)] })).toHaveLength(1);
  expect(found({ rows: [row(1, 'queued')] })).toHaveLength(1);
  expect(found({ rows: [row(1, 'fail')], entries: [ran(1, 500, 75)] })).toHaveLength(1);
  expect(found({ rows: [row(1, 'success')], entries: [ran(1, 950)] })).toHaveLength(1); // it went on
  expect(found({ rows: [row(1, 'killed')] })).toEqual([expect.stringContaining('nobody killed it')]);
  expect(found({ rows: [row(1, 'killed')], changes: [change('kill', 1, 10)] })).toEqual([]);
  const early = change('kill', 1, 10, 'killed before it began');
  expect(found({ ...good, changes: [early] })).toHaveLength(1);
  // It began while it was held, and otherwise not.
  expect(found({ ...good, changes: [change('hold', 1, 400), change('release', 1, 600)] })).toHaveLength(1);
  expect(found({ ...good, changes: [change('hold', 1, 300), change('release', 1, 400)] })).toEqual([]);
  // It began before its parent had ended, or though that had no good end.
  const child = row(2, 'success', {}, [1]);
  expect(found({ rows: [row(1, 'success'), child], entries: [ran(1, 500), ran(2, 1500)] })).toEqual([]);
  expect(found({ rows: [row(1, 'success'), child], entries: [ran(1, 500), ran(2, 900)] })).toHaveLength(1);
  const killed = { rows: [row(1, 'killed'), child], changes: [change('kill', 1, 10)] };
  expect(found({ ...killed, entries: [ran(2, 1500)] })).toHaveLength(1);
  const aborted = { ...killed, rows: [row(1, 'killed'), row(2, 'abort', {}, [1])] };
  expect(found(aborted)).toEqual([]);
  expect(found({ ...aborted, entries: [ran(2, 1500)] })).not.toEqual([]);
});

test('the account of attempts: each once, and another only for a failure or a proven loss', () => {
  const attempt = (number: number, startedAt: number, end?: LedgerEntry['end'], host = 'a'): LedgerEntry => ({
    ...{ job: 'j', attempt: number, machine: host, host, startedAt },
    ...(end === undefined ? {} : { end }),
  });
  const none = { powerOffs: [], fullDisks: [] };
  const good = { exitCode: 0, at: 150 };
  const outage = (unended: readonly string[], host = 'a') => ({
    powerOffs: [{ host, fromAt: 200, toAt: 210, unended: new Set(unended) }],
    fullDisks: [],
  });
  const again = [attempt(1, 100, good), attempt(2, 300)];
  expect(attemptFindings('j', [attempt(1, 100, good)], none)).toEqual([]);
  expect(attemptFindings('j', [attempt(1, 100, good), attempt(1, 300, good, 'b')], none)).toEqual([
    expect.stringContaining('attempt 1 started twice'),
  ]);
  expect(attemptFindings('j', again, none)).toEqual([expect.stringContaining('attempt 2 has no reason')]);
  expect(attemptFindings('j', [attempt(1, 100, { exitCode: 75, at: 150 }), attempt(2, 300)], none)).toEqual(
    [],
  );
  // It was under way when its host lost power; it had ended then; another host did.
  expect(attemptFindings('j', again, outage(['j/1']))).toEqual([]);
  expect(attemptFindings('j', again, outage([]))).toHaveLength(1);
  expect(attemptFindings('j', again, outage(['j/1'], 'b'))).toHaveLength(1);
  // The power went after the second had begun.
  expect(attemptFindings('j', [attempt(1, 100), attempt(2, 190)], outage(['j/1']))).toHaveLength(1);
  expect(attemptFindings('j', [{ ...attempt(1, 100), machine: 'b' }], none)).toHaveLength(1);
});

const FORMS: readonly (readonly [NonNullable<SeededRunOptions['form']>, string])[] = [
  ['batch', 'a batch under seeded faults: one result for each job, each attempt once, nothing left behind'],
  ['queue', 'a queue service under seeded faults: what it acknowledged is done, once, and as it says'],
];

for (const [form, name] of FORMS) {
  test(name, { timeout: 400_000 }, async () => {
    // Another one each time; `FAULTS_SEED=N npx vitest run test/faults` repeats one.
    const seed = Number(process.env.FAULTS_SEED ?? Math.floor(Math.random() * 1_000_000));
    console.log(`fault test, ${form}: seed ${seed}`);
    const { findings, figures } = await seededRun({
      ...{ form, seed, size: SHORTEST, doneWithinMs: DONE_WITHIN_MS },
      say: () => {},
    });
    if (findings.length > 0) throw new Error([`seed ${seed}`, figures, ...findings].join('\n'));
  });
}
