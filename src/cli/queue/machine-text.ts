/** Machines of the queue service, for people and for programs. */
import type { QueueJobId } from '../../lib/domain/queue.ts';
import type { ConfigureAnswer, MachineRow } from '../../lib/queue/requests.ts';
import { formatMiB } from '../../lib/util/size.ts';
import { visibleText } from '../../lib/util/terminal-text.ts';
import { listText } from './job-text.ts';
import { tableLines } from './table.ts';

/** The machines with what is free on them and what runs there. */
export function machineLines(machines: readonly MachineRow[]): string[] {
  const header = [
    'MACHINE',
    'STATE',
    'CORES FREE',
    'MEMORY FREE',
    'GPU MEMORY FREE',
    'RUNNING',
    'AT MOST',
    'WHY',
  ];
  return tableLines(
    machines.map((machine) => [
      visibleText(machine.name),
      machine.state,
      coresText(machine),
      memoryText(machine),
      gpusText(machine),
      runningText(machine),
      mostText(machine),
      visibleText(machine.reason ?? ''),
    ]),
    header,
  );
}

/** The machines with their jobs: what `status` tells. */
export function statusLines(machines: readonly MachineRow[]): string[] {
  return tableLines(
    machines.map((machine) => [
      visibleText(machine.name),
      machine.state,
      runningText(machine),
      mostText(machine),
      waitingText(machine),
      visibleText(machine.reason ?? ''),
    ]),
    ['MACHINE', 'STATE', 'RUNNING', 'AT MOST', 'WAITING FOR IT', 'WHY'],
  );
}

/** A machine's state as simple-job-submit tells it; `jobs_queued` is text there, too. */
export function statusRecord({ running, runningHere, maxJobs, waiting }: MachineRow): string {
  return JSON.stringify({
    status: 'OK',
    jobs_running: running.length + runningHere.length,
    max_jobs_running: maxJobs,
    code: 0,
    jobs_queued: JSON.stringify(waiting),
  });
}

/** Says of a machine that was removed what it could not be told of. */
export function givenUpText(ids: readonly QueueJobId[]): string {
  const jobs = ids.length === 1 ? '1 job' : `${ids.length} jobs`;
  return `${jobs} may still run there, since it could not be reached: ${ids.join(' ')}`;
}

/** The answer to `configure`, as simple-job-submit gives it. */
export function configureRecord({ oldMaxJobs, newMaxJobs }: ConfigureAnswer): string {
  return JSON.stringify({
    status: 'OK',
    old_max_jobs_running: oldMaxJobs,
    code: 0,
    new_max_jobs_running: newMaxJobs,
    message: 'configuration successful',
  });
}

function runningText({ running, runningHere }: MachineRow): string {
  const ids = [...running, ...runningHere].sort((a, b) => a - b);
  return ids.length === 0 ? '0' : `${ids.length} (${listText(ids)})`;
}

/** No more of them are told. */
const MOST_WAITING_TOLD = 1000;

/** How many wait for this machine and no other; --json tells which. */
function waitingText({ waiting }: MachineRow): string {
  if (waiting.length === 0) return '';
  return waiting.length < MOST_WAITING_TOLD ? String(waiting.length) : `${waiting.length} or more`;
}

function mostText({ maxJobs }: MachineRow): string {
  return maxJobs === null ? '' : String(maxJobs);
}

function coresText({ capacity, free }: MachineRow): string {
  if (capacity === undefined || free === undefined) return '';
  return `${decimal(Math.max(0, free.cpuCores - free.cpuCoresInUse))} of ${decimal(capacity.cpuCores)}`;
}

function memoryText({ capacity, free }: MachineRow): string {
  if (capacity === undefined || free === undefined) return '';
  return `${formatMiB(free.memoryFreeMiB)} of ${formatMiB(capacity.memoryMiB)}`;
}

/** `0: 8.0 GiB, 25 % idle; 1: 23.6 GiB`. */
function gpusText({ free }: MachineRow): string {
  return (free?.gpus ?? [])
    .map(({ index, memoryFreeMiB, utilizationInUse }) => {
      const idle = utilizationInUse > 0 ? `, ${Math.round((1 - utilizationInUse) * 100)} % idle` : '';
      return `${index}: ${formatMiB(memoryFreeMiB)}${idle}`;
    })
    .join('; ');
}

function decimal(number: number): string {
  return String(Math.round(number * 10) / 10);
}
