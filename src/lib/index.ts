/**
 * The public names of ssh-scheduler, grouped. Importing this file is cheap: what is slow to load (ssh, YAML, tar) is
 * loaded by the calls that need it.
 */

// Jobs, requests and machines: plain data, and the defaults.

export { type Attempt, isSuccess, type Job, type JobId, type JobOutcome, jobId } from './domain/job.ts';
export {
  type GpuSnapshot,
  type MachineName,
  type MachineSnapshot,
  machineName,
} from './domain/machine.ts';
export { DEFAULT_REQUEST } from './domain/request-defaults.ts';
export {
  type Allocation,
  type AvailableGpu,
  type AvailableResources,
  type ResourceRequest,
  requestKey,
  type Shortfall,
} from './domain/resources.ts';

// Errors: what a caller may want to handle; each message is meant to be shown as it is.

export {
  InsufficientResourcesError,
  MachineConfigError,
  RemoteError,
  SchedulerError,
  UsageError,
} from './domain/errors.ts';

// Events: everything that happens, as JSON-safe records, and the stream that carries them.

export * from './domain/events.ts';
export { EventStream } from './util/event-stream.ts';

// Batches: the jobs of one file on many machines (`BatchRun`), or one command on one machine (`runRemote`).

export {
  type Batch,
  type BatchLine,
  type JobDefaults,
  type ReadBatchOptions,
  readBatch,
  readBatchFile,
} from './batch/batch-file.ts';
export {
  type BatchOptions,
  BatchRun,
  type BatchSummary,
  type PlannedStart,
  type StrandedJob,
} from './batch/batch-run.ts';
export {
  type BatchStatus,
  type BatchStatusOptions,
  batchStatus,
  type JobState,
  type JobStatus,
} from './batch/batch-status.ts';
export { type LineNote, lineNoteText } from './batch/line-checks.ts';
export {
  endOrphans,
  listOrphans,
  type Orphan,
  type OrphanList,
  type OrphanOptions,
} from './batch/orphans.ts';
export { type RemoteRunOptions, runRemote } from './batch/remote-run.ts';
export type { HaltRule, JobTimeout, SurvivalOptions } from './batch/survival-options.ts';
export type { RetryReason } from './domain/retry-reason.ts';
export type { SkippedJob } from './stores/result-folder.ts';

// One command on many machines.

export { type ExecuteToOptions, executeTo, FanoutRun } from './fanout/execute-to.ts';
export {
  type FanoutEvent,
  type HostOutcome,
  type HostResult,
  type HostState,
  isGood,
  type Left,
  type Reason,
} from './fanout/host-result.ts';
export { InputSpool } from './fanout/input-spool.ts';
export { expandRange, foldNames } from './machine/host-range.ts';

// Machine files: names, files and ssh destinations become machines; no machine is asked anything.

export {
  type HostKeyChecking,
  localMachine,
  type MachineConfig,
  type MachineSource,
  Secret,
} from './machine/config.ts';
export {
  type FindMachinesOptions,
  type FoundMachines,
  findMachines,
  type MachineEntry,
} from './machine/find-machines.ts';

// Remote hosts: connect to a machine, run programs there, ask what it has free.

export { type ConnectOptions, connectMachine } from './remote/connect.ts';
export { type QueryOptions, queryMachine } from './remote/query.ts';
export type { Channel, ChannelEnd, RemoteHost } from './remote/remote-host.ts';
export type { SshOptions } from './remote/ssh-host.ts';

// Resources: what one machine has and which jobs hold it, and the pool that places jobs on many machines.

export { MachinePool, type PoolListener, type PoolMachine } from './allocator/machine-pool.ts';
export { availableOn, type OpenPoolOptions, openPool } from './allocator/open-pool.ts';
export {
  type Placement,
  VirtualResources,
  type VirtualResourcesOptions,
} from './allocator/virtual-resources.ts';

// The runner: starts jobs on one machine, spaced in time, over a link that outlives connections.

export type { SourceTree } from './files/source-part.ts';
export { SourceTrees } from './files/source-trees.ts';
export type { JobRun } from './runner/job-run.ts';
export { type LinkOptions, MachineLink } from './runner/machine-link.ts';
export { MachineRunner, type RunnerOptions } from './runner/machine-runner.ts';
export type { BatchFacts } from './runner/manifest.ts';

// The queue service, and the way to its door; what is asked there is in `requests`.

export type { QueueJob, QueueJobId, QueueJobSpec, QueueState } from './domain/queue.ts';
export { DoorClient } from './queue/door-client.ts';
export { connectDoor } from './queue/door-remote.ts';
export type * from './queue/requests.ts';
export { QueueService, type ServiceOptions } from './queue/service.ts';

// Folders become one.

export type { CaseSensitivity } from './folders/case-probe.ts';
export {
  type CombineOptions,
  type CombineProgress,
  type CombineResult,
  combineFolders,
} from './folders/combine.ts';
export type { CombineCounts, Conflict, LeftOut, OnConflict, Renamed } from './folders/plan.ts';

// The engine and its two ports, for another store or another backend.

export type {
  ExecutionBackend,
  FoundAttempt,
  JobStore,
  Refusal,
  Reservation,
  RunningAttempt,
} from './domain/ports.ts';
export { Engine, type EngineOptions } from './engine/engine.ts';
export { MemoryStore } from './stores/memory.ts';
export type { RetryPolicy } from './stores/retry-policy.ts';
