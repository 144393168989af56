/** What `job_results/<job>.json` says: how a result came about, for people and for programs. */
import type { JobEnded } from '../domain/events.ts';
import type { Job } from '../domain/job.ts';
import type { Allocation } from '../domain/resources.ts';
import type { RunDetails } from './job-run-context.ts';
import type { AttemptManifest } from './result-files.ts';

/** Raise it when a field changes its meaning or goes away. */
export const MANIFEST_SCHEMA_VERSION = 1;

/** What is the same for all jobs of a batch. */
export interface BatchFacts {
  /** Random, and unique for each run of a batch. */
  readonly id: string;
  readonly toolVersion: string;
  /** The project's state when the batch started; absent outside of a git work tree. */
  readonly git?: { readonly commit: string; readonly isDirty: boolean } | undefined;
}

/** Composes a manifest. Times are ISO 8601 in UTC, durations seconds. */
export function manifestOf(
  job: Job,
  allocation: Allocation,
  ended: JobEnded,
  details: RunDetails,
  batch: BatchFacts,
): AttemptManifest {
  const { outcome, startedAt, durationMs } = ended;
  const { memoryMiB, cpuCores, gpus, gpuMemoryMiB, gpuUtilization, reserveGpu, reserveMachine } = job.request;
  const manifest = {
    schema: MANIFEST_SCHEMA_VERSION,
    name: job.name,
    command: job.command,
    line: job.line,
    batch: batch.id,
    attempt: ended.attempt,
    machine: ended.machine,
    gpus: job.request.gpus > 0 ? allocation.gpus : [],
    request: {
      memory_mib: memoryMiB,
      cpu_cores: cpuCores,
      gpus,
      gpu_memory_mib: gpuMemoryMiB,
      gpu_utilization: gpuUtilization,
      reserve_gpu: reserveGpu,
      reserve_machine: reserveMachine,
    },
    outcome: outcome.type,
    exit_code: 'exitCode' in outcome ? (outcome.exitCode ?? null) : null,
    ...('reason' in outcome ? { reason: outcome.reason } : {}),
    ...(outcome.type === 'out-of-memory' ? { memory: outcome.memory } : {}),
    ...(outcome.type === 'timed-out' ? { timeout_s: outcome.timeoutMs / 1000 } : {}),
    started_at: startedAt === undefined ? null : new Date(startedAt).toISOString(),
    ended_at: startedAt === undefined ? null : new Date(startedAt + durationMs).toISOString(),
    duration_s: durationMs / 1000,
    out_bytes: details.outBytes,
    err_bytes: details.errBytes,
    ...(details.isOutCut ? { out_cut: true } : {}),
    ...(details.isErrCut ? { err_cut: true } : {}),
    sent_bytes: ended.sentBytes,
    returned_bytes: ended.returnedBytes,
    returned_files: details.files,
    left_behind: ended.leftBehind,
    source_tree: details.tree === '' ? null : details.tree,
    deleted: details.deleted,
    warnings: details.warnings,
    git: batch.git === undefined ? null : { commit: batch.git.commit, dirty: batch.git.isDirty },
    tool_version: batch.toolVersion,
  };
  return manifest;
}
