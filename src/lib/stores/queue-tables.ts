/** The queue's tables: what is asked of them and written to them. Transactions are the caller's. */
import type { QueueJobId, QueueState } from '../domain/queue.ts';
import type { QueueDatabase } from './queue-database.ts';
import type { QueueEvent } from './queue-event.ts';
import { COLUMNS, type KeptJob, keptOfRow, type Row, rowOf } from './queue-kept.ts';

/** A counter that never goes back. */
export type Counter = 'nextId' | 'nextSequence';

/** Prepared statements over the tables. */
export class QueueTables {
  readonly #database: QueueDatabase;
  readonly #statements = new Map<string, ReturnType<QueueDatabase['prepare']>>();

  constructor(database: QueueDatabase) {
    this.#database = database;
  }

  #ask(sql: string): ReturnType<QueueDatabase['prepare']> {
    let statement = this.#statements.get(sql);
    if (statement === undefined) {
      statement = this.#database.prepare(sql);
      this.#statements.set(sql, statement);
    }
    return statement;
  }

  putJob(kept: KeptJob): void {
    const marks = COLUMNS.map(() => '?').join(', ');
    const changes = COLUMNS.slice(1).map((column) => `${column} = excluded.${column}`);
    this.#ask(
      `INSERT INTO jobs (${COLUMNS.join(', ')}) VALUES (${marks}) ON CONFLICT (id) DO UPDATE SET ${changes.join(', ')}`,
    ).run(...rowOf(kept));
  }

  removeJob(id: QueueJobId): void {
    this.#ask('DELETE FROM jobs WHERE id = ?').run(id);
  }

  removeAllJobs(): void {
    this.#ask('DELETE FROM jobs').run();
  }

  job(id: QueueJobId): KeptJob | undefined {
    const row = this.#ask('SELECT * FROM jobs WHERE id = ?').get(id) as Row | undefined;
    return row === undefined ? undefined : keptOfRow(row);
  }

  stateOf(id: QueueJobId): QueueState | undefined {
    const row = this.#ask('SELECT state FROM jobs WHERE id = ?').get(id) as { state: QueueState } | undefined;
    return row?.state;
  }

  /** Jobs in these states, by id, from an id on. */
  *jobs(
    states: readonly QueueState[],
    { from = 0, limit = Number.MAX_SAFE_INTEGER } = {},
  ): Generator<KeptJob, void, undefined> {
    const rows = this.#ask(
      'SELECT * FROM jobs WHERE state IN (SELECT value FROM json_each(?)) AND id >= ? ORDER BY id LIMIT ?',
    ).iterate(JSON.stringify(states), from, limit) as Iterable<Row>;
    for (const row of rows) yield keptOfRow(row);
  }

  /** Jobs in these states that ended at that time or before. */
  endedUntil(states: readonly QueueState[], until: number): { id: QueueJobId; state: QueueState }[] {
    return this.#ask(
      'SELECT id, state FROM jobs WHERE state IN (SELECT value FROM json_each(?)) AND ended_at <= ? ORDER BY id',
    ).all(JSON.stringify(states), until) as { id: QueueJobId; state: QueueState }[];
  }

  counts(): { state: QueueState; jobs: number }[] {
    return this.#ask('SELECT state, count(*) AS jobs FROM jobs GROUP BY state').all() as {
      state: QueueState;
      jobs: number;
    }[];
  }

  highestId(): QueueJobId {
    return (this.#ask('SELECT coalesce(max(id), 0) AS id FROM jobs').get() as { id: number }).id;
  }

  counter(name: Counter): number {
    const row = this.#ask('SELECT value FROM counters WHERE name = ?').get(name) as
      | { value: number }
      | undefined;
    return row?.value ?? 1;
  }

  putCounter(name: Counter, value: number): void {
    this.#ask(
      'INSERT INTO counters VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = max(value, excluded.value)',
    ).run(name, value);
  }

  putEvent(event: QueueEvent): void {
    const { sequence, ...data } = event;
    this.#ask('INSERT INTO events VALUES (?, ?)').run(sequence, JSON.stringify(data));
  }

  eventsAfter(sequence: number, limit: number): QueueEvent[] {
    const rows = this.#ask(
      'SELECT sequence, data FROM events WHERE sequence > ? ORDER BY sequence LIMIT ?',
    ).all(sequence, limit) as { sequence: number; data: string }[];
    return rows.map((row) => ({ sequence: row.sequence, ...JSON.parse(row.data) }) as QueueEvent);
  }

  oldestSequence(): number | undefined {
    const row = this.#ask('SELECT min(sequence) AS oldest FROM events').get() as { oldest: number | null };
    return row.oldest ?? undefined;
  }

  removeEventsUntil(sequence: number): void {
    this.#ask('DELETE FROM events WHERE sequence <= ?').run(sequence);
  }
}
