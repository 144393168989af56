/** The queue's file: which journal it gets, and which files are refused. */
import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import Database from 'libsql';
import { expect, test } from 'vitest';
import { PROBE_FILE, QUEUE_FILE } from '../../src/lib/stores/queue-database.ts';
import { QueueStore } from '../../src/lib/stores/queue-store.ts';
import { smallSpec, temporaryFolder } from './queue-jobs.ts';

test('WAL where it works; the throw-away database goes', async () => {
  using folder = temporaryFolder();
  const store = await QueueStore.open(folder.path);
  expect(store.journal).toBe('wal');
  await store.add([smallSpec('a')]);
  expect(readdirSync(folder.path).sort()).toEqual([QUEUE_FILE, `${QUEUE_FILE}-shm`, `${QUEUE_FILE}-wal`]);
  store.close();
});

test('where WAL says that it is on and fails at the first write, a rollback journal is used', async () => {
  using folder = temporaryFolder();
  // As on a network file system, the memory that WAL shares cannot be had: a folder is in its place.
  mkdirSync(join(folder.path, `${PROBE_FILE}-shm`));
  mkdirSync(join(folder.path, `${QUEUE_FILE}-shm`));
  let store = await QueueStore.open(folder.path);
  expect(store.journal).toBe('delete');
  expect(await store.add([smallSpec('a')])).toEqual([1]);
  store.close();
  store = await QueueStore.open(folder.path);
  expect(store.list().map(({ spec }) => spec.name)).toEqual(['a']);
  store.close();
});

test('a file of a newer version is refused and left as it is', async () => {
  using folder = temporaryFolder();
  const path = join(folder.path, QUEUE_FILE);
  (await QueueStore.open(folder.path)).close();
  const database = new Database(path);
  database.exec('PRAGMA user_version=7');
  database.close();
  const before = readFileSync(path);
  await expect(QueueStore.open(folder.path)).rejects.toThrow(
    /queue\.sqlite: a newer version of this program has written it \(its schema is 7, 3 is known here\)/,
  );
  expect(readFileSync(path).equals(before)).toBe(true);
});

test('a foreign file, a damaged one and a folder that is not there are told apart', async () => {
  using folder = temporaryFolder();
  const path = join(folder.path, QUEUE_FILE);
  writeFileSync(path, 'this is no database'.repeat(400));
  await expect(QueueStore.open(folder.path)).rejects.toThrow('this is no database of a queue');
  using other = temporaryFolder();
  const store = await QueueStore.open(other.path);
  await store.add(Array.from({ length: 500 }, (_, n) => smallSpec(`j${n}`)));
  store.close();
  const bytes = readFileSync(join(other.path, QUEUE_FILE));
  bytes.fill(0xff, 8192, 60_000);
  writeFileSync(join(other.path, QUEUE_FILE), bytes);
  await expect(QueueStore.open(other.path)).rejects.toThrow('the file is damaged');
  await expect(QueueStore.open(join(other.path, 'none'))).rejects.toThrow('cannot be opened');
});

test('while the disk takes no writes nobody hears of success, and afterwards nothing is missing', async () => {
  using folder = temporaryFolder();
  const problems: Error[] = [];
  const store = await QueueStore.open(folder.path, { onProblem: (error) => problems.push(error) });
  await store.add([smallSpec('a')]);
  // Another program holds the file for longer than is waited for, as a full disk would.
  const other = new Database(join(folder.path, QUEUE_FILE));
  other.exec('CREATE TRIGGER full BEFORE INSERT ON jobs BEGIN SELECT raise(ABORT, "disk full"); END');
  let isDone = false;
  const adding = store.add([smallSpec('b')]).then((ids) => {
    isDone = true;
    return ids;
  });
  await new Promise((resolve) => setTimeout(resolve, 100));
  expect([isDone, problems.map(({ message }) => message)]).toEqual([false, ['disk full']]);
  await expect(store.add([smallSpec('c')])).rejects.toThrow('the queue cannot be written: disk full');
  other.exec('DROP TRIGGER full');
  other.close();
  expect(await adding).toEqual([2]);
  store.close();
  const again = await QueueStore.open(folder.path);
  expect(again.list().map(({ id }) => id)).toEqual([1, 2]);
  again.close();
});

test('what is forgotten is given back: the file and its journal get small again', async () => {
  using folder = temporaryFolder();
  const size = (end: string) => statSync(join(folder.path, QUEUE_FILE + end)).size;
  const store = await QueueStore.open(folder.path, { keptEvents: 10 });
  const command = `true ${'x'.repeat(2000)}`;
  await store.add(Array.from({ length: 3000 }, (_, n) => smallSpec(`j${n}`, { command })));
  await store.kill([1], 'x');
  await store.add([smallSpec('child', { dependsOn: [1] })]);
  expect(store.get(3001)?.state).toBe('abort');
  await store.kill(store.ids(['queued']), 'x');
  expect(await store.clean(0, ['killed'])).toHaveLength(2999);
  expect([size('') < 500_000, size('-wal')]).toEqual([true, 0]);
  store.close();
});

test('a file of the first version is taken over, with what its jobs depend on', async () => {
  using folder = temporaryFolder();
  let store = await QueueStore.open(folder.path);
  await store.add([smallSpec('a'), smallSpec('b', { dependsOn: [1] })]);
  await store.kill([1], 'x');
  store.close();
  const database = new Database(join(folder.path, QUEUE_FILE));
  database.exec(
    'DROP TABLE needs; DROP INDEX jobs_by_state; CREATE INDEX jobs_by_state ON jobs (state, ended_at); PRAGMA user_version=1',
  );
  database.close();
  store = await QueueStore.open(folder.path);
  expect(store.list().map(({ state }) => state)).toEqual(['killed', 'abort']);
  expect(await store.clean(0, ['killed'])).toEqual([]);
  expect(await store.clean(0)).toEqual([1, 2]);
  store.close();
});
