/** The two forms of the fault run differ in this alone. */
import type { CheckedJob } from './check.ts';
import type { LedgerEntry } from './ledger.ts';
import type { FaultKind } from './plan.ts';
import type { World, WorldOptions } from './world.ts';

/** What has the jobs: a batch that is run again, or the queue service. */
export interface Form extends Pick<WorldOptions, 'command' | 'args' | 'doneCode'> {
  /** What befalls it. */
  readonly kinds: readonly FaultKind[];
  /** Runs all of it under the faults, to the end. */
  run(world: World): Promise<FormResult>;
}

/** What a form says when all is over. */
export interface FormResult {
  /** What must not be, a line each. */
  readonly findings: readonly string[];
  /** The jobs that there were, and what else is wrong with them by the ledgers. */
  check(entries: readonly LedgerEntry[]): {
    readonly findings: readonly string[];
    readonly jobs: readonly CheckedJob[];
  };
  /** More figures, after a comma each. */
  readonly figures?: string;
}
