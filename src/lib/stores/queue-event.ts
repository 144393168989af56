/** What happens in a queue, as records that are kept and sent. */
import type { JobOutcome } from '../domain/job.ts';
import type { MachineName } from '../domain/machine.ts';
import type { QueueJobId, QueueState } from '../domain/queue.ts';

/** Something that happened, without its number and time. */
export type QueueChange =
  | {
      readonly type: 'queue:added';
      readonly job: QueueJobId;
      readonly name: string;
      readonly state: QueueState;
    }
  /** Also when it goes on to the same state with another attempt, or its machine becomes known. */
  | {
      readonly type: 'queue:state';
      readonly job: QueueJobId;
      readonly from: QueueState;
      readonly state: QueueState;
      readonly attempt: number;
      readonly machine?: MachineName;
      readonly outcome?: JobOutcome;
      readonly reason?: string;
    }
  /** Somebody wants the attempt that runs to end. */
  | {
      readonly type: 'queue:ending';
      readonly job: QueueJobId;
      readonly wanted: string;
      readonly reason: string;
    }
  | { readonly type: 'queue:held'; readonly job: QueueJobId; readonly isHeld: boolean }
  | {
      readonly type: 'queue:priority';
      readonly job: QueueJobId;
      readonly from: number;
      readonly priority: number;
    }
  /** It is remembered no more. */
  | { readonly type: 'queue:removed'; readonly job: QueueJobId }
  /** The whole state was replaced. */
  | { readonly type: 'queue:imported'; readonly jobs: number }
  /** What happens on the machines, told by others, kept in the same row. */
  | { readonly type: 'told'; readonly event: unknown };

/** An event with its place in the row of all. `at`: epoch milliseconds. */
export type QueueEvent = { readonly sequence: number; readonly at: number } & QueueChange;
