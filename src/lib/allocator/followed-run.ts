/** An attempt that a pool follows: on a machine that has joined, or on one that is still expected. */
import type { Attempt, Job, JobOutcome } from '../domain/job.ts';
import type { MachineName } from '../domain/machine.ts';
import type { RunningAttempt } from '../domain/ports.ts';
import { jobFolder } from '../runner/job-folder.ts';
import type { JobRun } from '../runner/job-run.ts';
import type { AttemptPlace } from '../runner/supervisor.ts';

/** What was asked of a run, in the order in which it counts. */
type Wish = (run: JobRun) => void;

/** Says of an attempt what its machine's runner says, once there is one. */
export class FollowedRun implements RunningAttempt {
  readonly ended: Promise<JobOutcome>;
  /** Settles when the processes are gone, as far as anybody can tell. */
  readonly freed: Promise<void>;
  #run: JobRun | undefined;
  #isAttached = false;
  #isGivenUp = false;
  /** What was asked for before there was a run. */
  readonly #wishes: Wish[] = [];
  #settle: (outcome: JobOutcome | Promise<JobOutcome>) => void = () => {};
  #free: (freed?: Promise<void>) => void = () => {};

  constructor(
    readonly job: Job,
    readonly attempt: Attempt,
    readonly machine: MachineName,
  ) {
    this.ended = new Promise((resolve) => {
      this.#settle = resolve;
    });
    this.freed = new Promise((resolve) => {
      this.#free = (freed) => resolve(freed);
    });
  }

  /** The machine's runner has the attempt, or will not take it. */
  attach(starting: Promise<JobRun>): void {
    this.#isAttached = true;
    this.#settle(
      starting
        .then((run) => run.ended)
        .catch((error: unknown) => ({ type: 'transfer-failed', reason: (error as Error).message })),
    );
    this.#free(
      starting
        .then((run) => {
          this.#run = run;
          for (const wish of this.#wishes.splice(0)) wish(run);
          return run.freed;
        })
        .catch(() => {}), // `ended` tells
    );
  }

  /** Whether a machine's runner has it, and can tell what becomes of it. */
  get isAttached(): boolean {
    return this.#isAttached;
  }

  /** Its machine stayed away, and nobody waits for it any more. */
  get isGivenUp(): boolean {
    return this.#isGivenUp;
  }

  /** Where it is on its machine. */
  get place(): AttemptPlace {
    return { folder: jobFolder(this.job.id), number: this.attempt.number };
  }

  cancel(reason: string): void {
    this.#wish((run) => run.cancel(reason));
  }

  expire(timeoutMs: number): void {
    this.#wish((run) => run.expire(timeoutMs));
  }

  abandon(reason: string): void {
    this.#wish((run) => run.abandon(reason));
  }

  /** It turned out that its machine never began it. */
  neverStarted(reason: string): void {
    this.#settle({ type: 'lost', reason, neverStarted: true });
    this.#free();
  }

  /** Its machine has stayed away for too long: it settles as lost. */
  giveUp(reason: string): void {
    this.#isGivenUp = true;
    if (this.#isAttached) {
      this.#wish((run) => run.giveUp(reason));
    } else {
      this.#settle({ type: 'lost', reason });
      this.#free();
    }
  }

  #wish(wish: Wish): void {
    if (this.#run === undefined) this.#wishes.push(wish);
    else wish(this.#run);
  }
}
