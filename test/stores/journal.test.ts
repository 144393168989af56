import { appendFileSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { jobId } from '../../src/lib/domain/job.ts';
import { machineName } from '../../src/lib/domain/machine.ts';
import { historyOf, Journal, readJournal } from '../../src/lib/stores/journal.ts';
import { scratch } from '../remote/run-over.ts';

const job = jobId('a.sh.1');
const line = { id: job, command: 'run it' };
const one = machineName('one');
const two = machineName('two');
const on = (machine: typeof one) => ({ machine, machineKey: `key-of-${machine}`, runs: '/runs' });

test('tells where the attempt is that nobody has seen the end of', async () => {
  await using folder = await scratch();
  const path = join(folder.path, 'journal');
  const journal = new Journal(path);
  expect(journal.histories.size).toBe(0);
  journal.given(line, 1, on(one));
  journal.again({ job, number: 1 }, 'lost');
  journal.given(line, 2, on(two));
  journal.close();
  journal.flush();
  expect(readJournal(path).get(job)).toEqual({
    commandHash: expect.any(String),
    highest: 2,
    overUpTo: 0,
    failed: [],
    open: { number: 2, machine: 'two', machineKey: 'key-of-two', runs: '/runs', hasBegun: false },
    losses: 1,
    failures: 0,
    avoid: [],
    grown: {},
  });
});

test('what a job has used up counts until it is over, and its numbers are never used again', async () => {
  await using folder = await scratch();
  const path = join(folder.path, 'journal');
  const journal = new Journal(path);
  journal.given(line, 1, on(one));
  journal.again({ job, number: 1 }, 'failed', one, { memoryMiB: 200 });
  journal.given(line, 2, on(two));
  journal.again({ job, number: 2 }, 'fault', two);
  journal.flush();
  expect(readJournal(path).get(job)).toEqual({
    commandHash: expect.any(String),
    highest: 2,
    overUpTo: 0,
    failed: [1, 2],
    losses: 0,
    failures: 1,
    avoid: ['one', 'two'],
    grown: { memoryMiB: 200 },
  });
  journal.given(line, 3, on(one));
  journal.over({ job, number: 3 });
  journal.flush();
  expect(readJournal(path).get(job)).toEqual({
    commandHash: expect.any(String),
    highest: 3,
    overUpTo: 3,
    failed: [],
    losses: 0,
    failures: 0,
    avoid: [],
    grown: {},
  });
  journal.close();
});

test('an attempt that was given up ends no other', async () => {
  await using folder = await scratch();
  const path = join(folder.path, 'journal');
  const journal = new Journal(path);
  journal.given(line, 1, on(one));
  journal.given(line, 2, on(two));
  journal.again({ job, number: 1 }, 'lost');
  journal.flush();
  expect(readJournal(path).get(job)?.open?.number).toBe(2);
  journal.close();
});

test('a line that a crash cut off is no line, and the next one is whole', async () => {
  await using folder = await scratch();
  const path = join(folder.path, 'journal');
  const first = new Journal(path);
  first.given(line, 1, on(one));
  first.close();
  appendFileSync(path, '{"type":"over","job":"a.sh');
  const second = new Journal(path);
  expect(second.histories.get(job)?.open?.number).toBe(1);
  second.again({ job, number: 1 }, 'lost');
  second.close();
  second.over({ job, number: 1 }); // closed: the batch was left
  expect(readJournal(path).get(job)).toMatchObject({ losses: 1 });
  expect(readJournal(path).get(job)?.open).toBeUndefined();
  expect(readFileSync(path, 'utf8')).not.toContain('"over","number"');
});

test('a line with another command begins anew, with a number of its own', async () => {
  await using folder = await scratch();
  const path = join(folder.path, 'journal');
  const journal = new Journal(path);
  journal.given(line, 1, on(one));
  journal.again({ job, number: 1 }, 'lost');
  journal.given(line, 2, on(one));
  const changed = { id: job, command: 'run it otherwise' };
  expect(historyOf(journal.histories, line)).toMatchObject({ highest: 2, losses: 1, open: { number: 2 } });
  expect(historyOf(journal.histories, changed)).toMatchObject({ highest: 2, losses: 0 });
  expect(historyOf(journal.histories, changed)?.open).toBeUndefined();
  journal.given(changed, 3, on(two));
  expect(historyOf(readJournal(path), changed)).toMatchObject({ highest: 3, losses: 0, open: { number: 3 } });
  journal.close();
});

test('a command that was heard to begin is known as such', async () => {
  await using folder = await scratch();
  const journal = new Journal(join(folder.path, 'journal'));
  journal.given(line, 1, on(one));
  journal.begun({ job, number: 7 }); // not the one that counts
  expect(journal.histories.get(job)?.open?.hasBegun).toBe(false);
  journal.begun({ job, number: 1 });
  journal.flush();
  expect(readJournal(join(folder.path, 'journal')).get(job)?.open?.hasBegun).toBe(true);
  journal.close();
});
