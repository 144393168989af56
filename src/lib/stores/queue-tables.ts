/** The queue's tables: what is asked of them and written to them. Transactions are the caller's. */
import { FINAL_STATES, type QueueJobId, type QueueState } from '../domain/queue.ts';
import type { QueueDatabase } from './queue-database.ts';
import type { QueueEvent } from './queue-event.ts';
import { COLUMNS, type KeptJob, keptOfRow, type Row, rowOf } from './queue-kept.ts';

/** A counter that never goes back. */
export type Counter = 'nextId' | 'nextSequence';

/** Made once: building it for each of 100,000 jobs takes as long as writing a third of them. */
const PUT_JOB = `INSERT INTO jobs (${COLUMNS.join(', ')}) VALUES (${COLUMNS.map(() => '?').join(', ')})
  ON CONFLICT (id) DO UPDATE SET ${COLUMNS.slice(1)
    .map((column) => `${column} = excluded.${column}`)
    .join(', ')}`;

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
    this.#ask(PUT_JOB).run(...rowOf(kept));
  }

  /** Once for each job: which others it needs a good end of. */
  putNeeds({ id, spec }: KeptJob): void {
    if (spec.dependsOnAny) return;
    for (const parent of spec.dependsOn)
      this.#ask('INSERT OR IGNORE INTO needs VALUES (?, ?)').run(id, parent);
  }

  /** Jobs that need a good end of this one, so many at most. */
  neededBy(parent: QueueJobId, limit: number): QueueJobId[] {
    // Not by `iterate`: one that is left before its end keeps the journal from getting shorter.
    const rows = this.#ask('SELECT child FROM needs WHERE parent = ? LIMIT ?').all(parent, limit);
    return (rows as { child: number }[]).map(({ child }) => child);
  }

  removeJob(id: QueueJobId): void {
    this.#ask('DELETE FROM jobs WHERE id = ?').run(id);
    this.#ask('DELETE FROM needs WHERE child = ?').run(id);
  }

  removeAllJobs(): void {
    this.#ask('DELETE FROM jobs').run();
    this.#ask('DELETE FROM needs').run();
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
    const rows = this.#inStates('*', states, { from, limit }) as Iterable<Row>;
    for (const row of rows) yield keptOfRow(row);
  }

  /** The ids of those, without a look at all else that is kept of them. */
  *ids(
    states: readonly QueueState[],
    { from = 0, limit = Number.MAX_SAFE_INTEGER } = {},
  ): Generator<QueueJobId, void, undefined> {
    const rows = this.#inStates('id', states, { from, limit }) as Iterable<{ id: number }>;
    for (const { id } of rows) yield id;
  }

  #inStates(
    columns: '*' | 'id',
    states: readonly QueueState[],
    { from, limit }: { readonly from: number; readonly limit: number },
  ): Iterable<unknown> {
    if (states.length === 0) return [];
    // Each state's rows come by id from the index, and are merged: nothing is sorted, however many there are.
    const one = `SELECT ${columns} FROM jobs WHERE state = ? AND id >= ?`;
    const sql = `${states.map(() => one).join(' UNION ALL ')} ORDER BY id LIMIT ?`;
    return this.#ask(sql).iterate(...states.flatMap((state) => [state, from]), limit);
  }

  /** The jobs that were the last to end, those first. */
  lastEnded(limit: number): KeptJob[] {
    // One that runs again may have the time of an end: it is in none of these states. Their index would have all sorted.
    const rows = this.#ask(
      'SELECT * FROM jobs WHERE ended_at IS NOT NULL AND +state IN (SELECT value FROM json_each(?)) ORDER BY ended_at DESC, id DESC LIMIT ?',
    ).all(JSON.stringify(FINAL_STATES), limit);
    return (rows as Row[]).map(keptOfRow);
  }

  /** Jobs in these states that ended at `until` or before, from below an id downwards. */
  endedUntil(
    states: readonly QueueState[],
    until: number,
    { below, limit }: { readonly below: QueueJobId; readonly limit: number },
  ): { id: QueueJobId; state: QueueState }[] {
    // By id, and not by the index, which would have all of them sorted for each piece.
    return this.#ask(
      'SELECT id, state FROM jobs WHERE +state IN (SELECT value FROM json_each(?)) AND ended_at <= ? AND id < ? ORDER BY id DESC LIMIT ?',
    ).all(JSON.stringify(states), until, below, limit) as { id: QueueJobId; state: QueueState }[];
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
