/** A service as its verbs see it. */
import type { MachinePool } from '../allocator/machine-pool.ts';
import type { QueueJobId, QueueJobSpec } from '../domain/queue.ts';
import type { KeptParts } from '../files/kept-parts.ts';
import type { QueueStore } from '../stores/queue-store.ts';
import type { ExplainOptions } from './explain.ts';
import type { JobOutputs } from './job-output.ts';
import type { QueueMachines } from './queue-machines.ts';
import type { InfoAnswer, QueueOrder, StopAnswer, StopRequest } from './requests.ts';
import type { ScriptStore } from './script-store.ts';

/** What the verbs are made of. */
export interface ServiceParts {
  readonly store: QueueStore;
  readonly machines: QueueMachines;
  readonly scripts: ScriptStore;
  readonly parts: KeptParts;
  readonly pool: MachinePool;
  readonly order: QueueOrder;
  /** The machine that is kept free for a job that was passed over for too long. */
  readonly keptFree: ExplainOptions['keptFree'];
  /** Whether it is about to end, and starts nothing more. */
  readonly isEnding: boolean;
  /** Why a job has to wait whatever is free, as a sentence; undefined when it has not. */
  barOf(spec: QueueJobSpec): string | undefined;
  /** Why results cannot be kept in this folder now; undefined when they can. */
  troubleIn(results: string): string | undefined;
  info(): InfoAnswer;
  /** Files with what a job printed. */
  outputsOf(spec: QueueJobSpec, id: QueueJobId): JobOutputs;
  /** Ends attempts that the store wants to end, once it has said so on the disk. */
  endRunning(ids: readonly QueueJobId[], reason: string): Promise<void>;
  /** Removes source trees and scripts that no job needs. Returns the bytes that were freed. */
  removeUnused(): Promise<number>;
  /** The state was replaced: goes on with what that calls running. */
  takeUpImported(): Promise<void>;
  /**
   * Ends the service; `answered` is waited for before the door closes.
   * @throws UsageError when it was to stop only when idle, and is not
   */
  stop(request: StopRequest, answered?: Promise<void>): Promise<StopAnswer>;
}
