/**
 * The queue's SQLite file: opening it, its schema, and transactions.
 *
 * It is journalled by WAL where a throw-away database in the same folder proves that WAL works, and by a rollback journal
 * elsewhere: on network file systems WAL may say that it is on and fail at the first write. Either way a commit is on the
 * disk when it returns (synchronous=FULL).
 */
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import type Libsql from 'libsql';
import { SchedulerError } from '../domain/errors.ts';

/** The name of the file in the data folder. */
export const QUEUE_FILE = 'queue.sqlite';
/** The throw-away database that tells whether WAL works. */
export const PROBE_FILE = 'queue-probe.sqlite';
/** Raised with every change of the schema; `UPGRADES` then gets one more step. */
export const SCHEMA_VERSION = 3;

/** How another program that holds the file is waited for. */
const BUSY_TIMEOUT_MS = 10_000;
/** SQLite's number for it: free pages stay in the file until they are asked back. */
const INCREMENTAL = 2;

/** What leads from each version to the next; the first from an empty file. */
const UPGRADES: readonly string[] = [
  `CREATE TABLE jobs (
     id INTEGER PRIMARY KEY,
     state TEXT NOT NULL,
     is_held INTEGER NOT NULL,
     priority INTEGER NOT NULL,
     submitted_at INTEGER NOT NULL,
     started_at INTEGER,
     ended_at INTEGER,
     machine TEXT,
     machine_key TEXT,
     attempt INTEGER NOT NULL,
     losses INTEGER NOT NULL,
     failures INTEGER NOT NULL,
     wanted TEXT,
     more TEXT NOT NULL,
     spec TEXT NOT NULL
   );
   CREATE INDEX jobs_by_state ON jobs (state, ended_at);
   CREATE TABLE events (sequence INTEGER PRIMARY KEY, data TEXT NOT NULL);
   CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL);`,
  // Rows of one state by id; and which jobs need a good end of which others.
  `DROP INDEX jobs_by_state;
   CREATE INDEX jobs_by_state ON jobs (state);
   CREATE TABLE needs (child INTEGER, parent INTEGER, PRIMARY KEY (child, parent)) WITHOUT ROWID;
   CREATE INDEX needs_by_parent ON needs (parent);
   INSERT OR IGNORE INTO needs
     SELECT jobs.id, parent.value FROM jobs, json_each(jobs.spec, '$.dependsOn') AS parent
     WHERE NOT json_extract(jobs.spec, '$.dependsOnAny');`,
  // The last ones to end.
  `CREATE INDEX IF NOT EXISTS jobs_by_end ON jobs (ended_at) WHERE ended_at IS NOT NULL;`,
];

/** A value of a column. */
export type Value = string | number | null;

/** What a prepared statement can be asked. Rows are objects by column. */
export interface Statement {
  run(...values: Value[]): void;
  get(...values: Value[]): unknown;
  all(...values: Value[]): unknown[];
  iterate(...values: Value[]): Iterable<unknown>;
}

/** An open file of a queue. */
export class QueueDatabase {
  /** Which journal it has. */
  readonly journal: 'wal' | 'delete';
  readonly #database: Libsql.Database;

  constructor(database: Libsql.Database, journal: 'wal' | 'delete') {
    this.#database = database;
    this.journal = journal;
  }

  prepare(sql: string): Statement {
    return this.#database.prepare(sql) as unknown as Statement; // the binding's own type knows no rows
  }

  /** Does it in one transaction, which is on the disk when this returns. All of it or nothing. */
  transaction(work: () => void): void {
    this.#database.exec('BEGIN IMMEDIATE');
    try {
      work();
      this.#database.exec('COMMIT');
    } catch (error) {
      try {
        this.#database.exec('ROLLBACK');
      } catch {
        // SQLite has rolled back by itself, as it does when the disk is full.
      }
      throw error;
    }
  }

  /**
   * Gives at most so many free pages back to the file system. False when there are no more. Not within a transaction.
   */
  shrink(pages: number): boolean {
    this.#database.prepare(`PRAGMA incremental_vacuum(${pages})`).all();
    const { freelist_count: free } = this.#database.prepare('PRAGMA freelist_count').get() as {
      freelist_count: number;
    };
    // A file that an earlier version has made gives none.
    if (free > 0 && this.#givesBack()) return true;
    this.#checkpoint();
    return false;
  }

  #givesBack(): boolean {
    const row = this.#database.prepare('PRAGMA auto_vacuum').get() as { auto_vacuum: number };
    return row.auto_vacuum === INCREMENTAL;
  }

  /** Brings the journal's content into the file, and the journal to nothing. */
  #checkpoint(): void {
    if (this.journal === 'wal') this.#database.prepare('PRAGMA wal_checkpoint(TRUNCATE)').all();
  }

  close(): void {
    try {
      // Else all may stay in the journal, and a copy of the file alone would lack it.
      this.#checkpoint();
    } catch {
      // Then it stays there, and the next one to open the file reads it.
    }
    this.#database.close();
  }
}

/**
 * Opens the queue's file in this folder, which has to be there, and makes it where there is none. Only one process may
 * have it open.
 * @throws SchedulerError when it is no queue's file, is damaged, cannot be opened, or a newer version has written it.
 */
export async function openQueueDatabase(folder: string): Promise<QueueDatabase> {
  const { default: Database } = await import('libsql');
  const path = join(folder, QUEUE_FILE);
  let database: Libsql.Database | undefined;
  try {
    const journal = provesWal(Database, folder) ? 'wal' : 'delete';
    database = new Database(path, { timeout: BUSY_TIMEOUT_MS });
    // The version is looked at first: a newer file is left as it is.
    const version = readVersion(database);
    if (version > SCHEMA_VERSION) {
      throw new SchedulerError(
        `${path}: a newer version of this program has written it (its schema is ${version}, ${SCHEMA_VERSION} is known here); update, or use another data folder`,
      );
    }
    // Only a file without any page takes this, and a journal's mode is on one.
    if (version === 0) database.exec(`PRAGMA auto_vacuum=${INCREMENTAL}`);
    setJournal(database, journal);
    database.exec('PRAGMA synchronous=FULL');
    const opened = new QueueDatabase(database, journal);
    upgrade(opened, database, version);
    checkWhole(path, database);
    return opened;
  } catch (error) {
    database?.close();
    if (error instanceof SchedulerError) throw error;
    throw new SchedulerError(`${path}: ${openFailure(error as Error & { code?: string })}`, { cause: error });
  }
}

/** Whether WAL works in a folder: it has to say so, take a write, and show it to a second connection. */
function provesWal(Database: typeof Libsql, folder: string): boolean {
  const path = join(folder, PROBE_FILE);
  const removeProbe = () => {
    for (const end of ['', '-wal', '-shm', '-journal']) rmSync(path + end, { force: true });
  };
  const open: Libsql.Database[] = [];
  try {
    removeProbe();
    const [writer, reader] = [new Database(path), new Database(path)];
    open.push(writer, reader);
    if (setJournal(writer, 'wal') !== 'wal') return false;
    writer.exec('CREATE TABLE probe (value INTEGER); INSERT INTO probe VALUES (1)');
    return reader.prepare('SELECT value FROM probe').get() !== undefined;
  } catch {
    return false;
  } finally {
    for (const database of open) database.close();
    try {
      removeProbe();
    } catch {
      // What stands in its place is not ours.
    }
  }
}

function setJournal(database: Libsql.Database, journal: 'wal' | 'delete'): string {
  const row = database.prepare(`PRAGMA journal_mode=${journal}`).get() as { journal_mode: string };
  return row.journal_mode;
}

function readVersion(database: Libsql.Database): number {
  return (database.prepare('PRAGMA user_version').get() as { user_version: number }).user_version;
}

function upgrade(opened: QueueDatabase, database: Libsql.Database, from: number): void {
  if (from === SCHEMA_VERSION) return;
  opened.transaction(() => {
    for (const step of UPGRADES.slice(from)) database.exec(step);
    database.exec(`PRAGMA user_version=${SCHEMA_VERSION}`);
  });
}

/** Damage is to be told of now, and not when a job is looked for. */
function checkWhole(path: string, database: Libsql.Database): void {
  const [first] = database.prepare('PRAGMA quick_check(1)').all() as { quick_check: string }[];
  if (first?.quick_check === 'ok') return;
  throw new SchedulerError(
    `${path}: the file is damaged (${first?.quick_check ?? 'no answer'}); put a copy of it back, or start with an empty data folder`,
  );
}

function openFailure(error: Error & { code?: string }): string {
  if (error.code === 'SQLITE_NOTADB')
    return 'this is no database of a queue; move it away, or use another data folder';
  if (error.code?.startsWith('SQLITE_CORRUPT') === true)
    return `the file is damaged (${error.message}); put a copy of it back, or start with an empty data folder`;
  if (error.code?.startsWith('SQLITE_BUSY') === true) return 'another program holds it';
  return `cannot be opened: ${error.message}`;
}
