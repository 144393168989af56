/** The fault test's short form, and that its plan repeats and its account of attempts finds what is wrong. */
import { expect, test } from 'vitest';
import { attemptFindings, type LedgerEntry } from './ledger.ts';
import { planOf, SHORT } from './plan.ts';
import { seededRun } from './seeded-run.ts';

const DONE_WITHIN_MS = 120_000;

test('the same seed gives the same plan, another seed another', () => {
  const kinds = ['cut', 'kill', 'power-off', 'interrupt'] as const;
  expect(planOf(7, SHORT, kinds)).toEqual(planOf(7, SHORT, kinds));
  expect(planOf(8, SHORT, kinds)).not.toEqual(planOf(7, SHORT, kinds));
  expect(new Set(planOf(7, SHORT, kinds).faults.map(({ kind }) => kind))).toEqual(new Set(kinds));
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

test('a batch under seeded faults: one result for each job, each attempt once, nothing left behind', {
  timeout: 300_000,
}, async () => {
  // Another one each time; `FAULTS_SEED=N npx vitest run test/faults` repeats one.
  const seed = Number(process.env.FAULTS_SEED ?? Math.floor(Math.random() * 1_000_000));
  console.log(`fault test: seed ${seed}`);
  const { findings, figures } = await seededRun({
    seed,
    size: SHORT,
    doneWithinMs: DONE_WITHIN_MS,
    say: () => {},
  });
  if (findings.length > 0) throw new Error([`seed ${seed}`, figures, ...findings].join('\n'));
});
