/** The queue as the sjq door sees it. */

/** A line of a SUBMIT: its word in capital letters, and what stands behind it; empty for none. */
export interface SjqOption {
  readonly word: string;
  readonly value: string;
}

/** What the door asks for. */
export interface SjqQueue {
  /** How many jobs there are in each state, one line. */
  stats(): string;
  /** Resolves to the job's id when it is on the disk, or to all that is wrong with it, one line each. Never rejects. */
  submit(
    options: readonly SjqOption[],
    script: Buffer,
  ): Promise<{ readonly id: number } | { readonly reasons: readonly string[] }>;
  /** Without effect on a job that is not known, or has ended. @throws Error when the queue cannot be written */
  kill(id: number): Promise<void>;
  release(id: number): Promise<void>;
  /** A line for each job, ending in CRLF; all jobs without an id. Empty for one that is not known. The pieces are not changed later. */
  status(id?: number): Promise<readonly Buffer[]>;
  /** The service is to end. The client has its answer already. */
  shutdown(): void;
}
