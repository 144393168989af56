/**
 * Group commit: what changes in one turn of the event loop goes to the disk in one transaction, and nobody is told that it
 * is done before it is there. A commit that fails (disk full) is tried again until it is good: what is in memory is then
 * ahead of the disk, and those who wait go on waiting.
 */

/** What a group commit goes by. */
export interface GroupCommitOptions {
  /** Writes all that has changed; throws when it cannot, and is called again later. */
  readonly commit: () => void;
  /** Called after each good commit, before those who wait for it hear. */
  readonly onCommitted: () => void;
  /** The first failure of a row of them. */
  readonly onProblem: (error: Error) => void;
  /** @default 1000 */
  readonly retryMs?: number;
}

/** Puts off commits to the end of the turn. */
export class GroupCommit {
  readonly #options: GroupCommitOptions;
  #waiting: { readonly resolve: () => void; readonly reject: (error: Error) => void }[] = [];
  #isDue = false;
  #isClosed = false;
  #immediate: NodeJS.Immediate | undefined;
  #timer: NodeJS.Timeout | undefined;
  #trouble: Error | undefined;

  constructor(options: GroupCommitOptions) {
    this.#options = options;
  }

  /** Why the last commit failed; undefined when it was good. */
  get trouble(): Error | undefined {
    return this.#trouble;
  }

  /** Something has changed. */
  touch(): void {
    if (this.#isClosed) throw new Error('Internal error: the queue is closed');
    this.#isDue = true;
    if (this.#timer === undefined) this.#immediate ??= setImmediate(() => this.#attempt());
  }

  /** Settles when all that has changed until now is on the disk; rejects when the queue is closed without that. */
  committed(): Promise<void> {
    if (!this.#isDue) return Promise.resolve();
    return new Promise((resolve, reject) => this.#waiting.push({ resolve, reject }));
  }

  /** Commits now what has changed. @throws when that fails; it is tried again later. */
  flush(): void {
    this.#attempt();
    if (this.#isDue && this.#trouble !== undefined) throw this.#trouble;
  }

  /** Commits for the last time. @throws when that fails. */
  close(): void {
    this.#attempt();
    this.#isClosed = true;
    clearTimeout(this.#timer);
    if (!this.#isDue || this.#trouble === undefined) return;
    for (const { reject } of this.#waiting.splice(0)) reject(this.#trouble);
    throw this.#trouble;
  }

  #attempt(): void {
    clearImmediate(this.#immediate);
    clearTimeout(this.#timer);
    this.#immediate = undefined;
    this.#timer = undefined;
    if (!this.#isDue) return;
    try {
      this.#options.commit();
    } catch (error) {
      const isNew = this.#trouble === undefined;
      this.#trouble = error as Error;
      this.#timer = setTimeout(() => this.#attempt(), this.#options.retryMs ?? 1000);
      if (isNew) this.#options.onProblem(this.#trouble);
      return;
    }
    this.#isDue = false;
    this.#trouble = undefined;
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const { resolve } of waiting) resolve();
    this.#options.onCommitted();
  }
}
