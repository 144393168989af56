import { existsSync, mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { publishedOutcome } from '../../src/lib/runner/published-result.ts';
import { ResultFiles } from '../../src/lib/runner/result-files.ts';
import { setAsideEarlier } from '../../src/lib/stores/result-folder.ts';

let folder = '';
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'published-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const JOB = { name: 'job_7', hasFolder: true };
const OURS = { batch: 'queue-1', attempt: 2 };
const manifest = { ...OURS, outcome: 'exited', exit_code: 3 };

/** As a runner leaves it. */
function publish(what: typeof manifest, how: 'publish' | 'publishBeside'): void {
  const files = new ResultFiles(folder, JOB.name);
  files.openOutputs();
  files[how](what, 'empty');
}

test('a whole result tells how its very attempt ended, and no other', () => {
  expect(publishedOutcome(folder, JOB, OURS)).toBeUndefined();
  publish(manifest, 'publish');
  expect(publishedOutcome(folder, JOB, OURS)).toEqual({ type: 'exited', exitCode: 3 });
  expect(publishedOutcome(folder, JOB, { ...OURS, attempt: 1 })).toBeUndefined();
  expect(publishedOutcome(folder, JOB, { ...OURS, batch: 'queue-2' })).toBeUndefined();
});

test('a result beside, for another attempt follows, tells it as well; one whose files are still to come does not', () => {
  publish(manifest, 'publishBeside');
  expect(publishedOutcome(folder, JOB, OURS)).toEqual({ type: 'exited', exitCode: 3 });
  mkdirSync(join(folder, '.partial', JOB.name), { recursive: true });
  expect(publishedOutcome(folder, JOB, OURS)).toBeUndefined();
});

test('a result that lacks its last rename alone gets it; a manifest that is cut off is none', () => {
  publish(manifest, 'publish');
  const [whole, partial] = [join(folder, 'job_7.json'), join(folder, '.partial', 'job_7.json')];
  renameSync(whole, partial);
  expect(publishedOutcome(folder, JOB, { ...OURS, attempt: 1 })).toBeUndefined();
  expect(existsSync(whole)).toBe(false);
  expect(publishedOutcome(folder, JOB, OURS)).toEqual({ type: 'exited', exitCode: 3 });
  expect(existsSync(whole)).toBe(true);
  writeFileSync(whole, '{"batch":"queue-1"');
  expect(publishedOutcome(folder, JOB, OURS)).toBeUndefined();
});

test.each([
  [
    { outcome: 'timed-out', timeout_s: 1.5 },
    { type: 'timed-out', timeoutMs: 1500 },
  ],
  [
    { outcome: 'cancelled', reason: 'enough' },
    { type: 'cancelled', reason: 'enough' },
  ],
  [
    { outcome: 'out-of-memory', reason: 'gone', memory: 'gpu', exit_code: 1 },
    { type: 'out-of-memory', reason: 'gone', memory: 'gpu', exitCode: 1 },
  ],
  [{ outcome: 'exited', exit_code: 'x' }, undefined],
  [{ outcome: 'strange' }, undefined],
])('%o', (facts, outcome) => {
  writeFileSync(join(folder, 'job_7.json'), JSON.stringify({ ...OURS, ...facts }));
  expect(publishedOutcome(folder, JOB, OURS)).toEqual(outcome);
});

test('what an earlier attempt left is moved aside, also when that was interrupted; nothing is overwritten', async () => {
  await setAsideEarlier(folder, JOB.name);
  publish(manifest, 'publish');
  await setAsideEarlier(folder, JOB.name);
  for (const ending of ['', '.json', '.out', '.err']) {
    expect(existsSync(join(folder, `job_7.attempt-1${ending}`))).toBe(true);
    expect(existsSync(join(folder, `job_7${ending}`))).toBe(false);
  }
  publish(manifest, 'publish');
  renameSync(join(folder, 'job_7.json'), join(folder, 'job_7.attempt-2.json')); // as a crash leaves it
  await setAsideEarlier(folder, JOB.name);
  expect(existsSync(join(folder, 'job_7.attempt-2'))).toBe(true);
  expect(existsSync(join(folder, 'job_7'))).toBe(false);
});
