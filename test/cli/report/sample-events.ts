/** Events for the reporters' tests: each maker gives a whole event, of which a test changes what it is about. */

import type { TextOut } from '../../../src/cli/report/text-out.ts';
import type {
  BatchEnded,
  BatchStarted,
  JobEnded,
  JobNeverFits,
  JobSkipped,
  JobStarted,
  JobWarned,
  MachineQueried,
} from '../../../src/lib/domain/events.ts';
import { jobId } from '../../../src/lib/domain/job.ts';
import { machineName } from '../../../src/lib/domain/machine.ts';
import type { ResourceRequest } from '../../../src/lib/domain/resources.ts';

export const START = 1_700_000_000_000;

export const REQUEST: ResourceRequest = {
  memoryMiB: 2000,
  cpuCores: 1,
  gpus: 1,
  gpuMemoryMiB: 1000,
  gpuUtilization: 0.75,
  reserveGpu: true,
  reserveMachine: false,
};

/** The job of one line of `train.sh`. */
export function ofJob(line: number): { job: JobStarted['job']; name: string; line: number; at: number } {
  return { job: jobId(`train.sh.${line}`), name: `train.sh.${line}`, line, at: START };
}

export function batchStarted(change: Partial<BatchStarted> = {}): BatchStarted {
  return { type: 'batch:started', at: START, batch: 'b1', file: 'train.sh', jobs: 4, skipped: 0, ...change };
}

export function batchEnded(change: Partial<BatchEnded> = {}): BatchEnded {
  const counts = { done: 4, failed: 0, skipped: 0, notRun: 0, durationMs: 12_345 };
  return { type: 'batch:ended', at: START + 12_345, batch: 'b1', ...counts, ...change };
}

export function machineQueried(name: string, change: Partial<MachineQueried> = {}): MachineQueried {
  return {
    type: 'machine:queried',
    at: START,
    machine: machineName(name),
    jobsAtOnce: 2,
    gpuChoices: [0, 1],
    snapshot: {
      takenAt: START,
      identity: name,
      hostname: name,
      bootId: '',
      cpuCores: 24,
      cpuCoresInUse: 2.976,
      memoryTotalMiB: 64_000,
      memoryFreeMiB: 30_607,
      gpus: [],
      warnings: [],
    },
    ...change,
  };
}

export function jobStarted(line: number, change: Partial<JobStarted> = {}): JobStarted {
  return {
    type: 'job:started',
    ...ofJob(line),
    command: `python train.py ${line}`,
    machine: machineName('gpubox'),
    attempt: 1,
    startedAt: START,
    gpus: [],
    request: REQUEST,
    ...change,
  };
}

export function jobEnded(line: number, change: Partial<JobEnded> = {}): JobEnded {
  return {
    type: 'job:ended',
    ...ofJob(line),
    command: `python train.py ${line}`,
    machine: machineName('gpubox'),
    attempt: 1,
    outcome: { type: 'exited', exitCode: 0 },
    startedAt: START,
    durationMs: 1200,
    sentBytes: 0,
    returnedBytes: 0,
    leftBehind: 0,
    willRetry: false,
    ...change,
  };
}

export function jobSkipped(line: number, reason: JobSkipped['reason']): JobSkipped {
  return { type: 'job:skipped', ...ofJob(line), reason, isGood: reason === 'finished-result' };
}

export function jobWarned(line: number, message: string): JobWarned {
  return { type: 'job:warned', ...ofJob(line), message };
}

export function jobNeverFits(line: number, machines: readonly string[]): JobNeverFits {
  return {
    type: 'job:never-fits',
    ...ofJob(line),
    command: 'true',
    request: { ...REQUEST, gpuMemoryMiB: 8000 },
    shortfalls: machines.map((name) => ({
      machine: machineName(name),
      shortfalls: [
        {
          resource: 'gpuMemoryMiB',
          requested: 8000,
          available: 3000,
          message: 'GPU 1 has 3000 MiB free, 8000 MiB was requested',
        },
      ],
    })),
  };
}

/** Keeps what is written. */
export class Written implements TextOut {
  text = '';
  write(text: string): void {
    this.text += text;
  }
}
