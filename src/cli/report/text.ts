/**
 * What a person reads while a batch runs. The lines that scripts know (`machine limits:`, `started:`, `still running:`,
 * `finished:`, `failed:`, `WARNING:`) go to stdout, all else to stderr after the program's name.
 */
import { assertNever } from '../../lib/domain/errors.ts';
import type {
  BatchResumed,
  JobEnded,
  JobNeverFits,
  JobSkipped,
  JobStarted,
  MachineQueried,
  SchedulerEvent,
  TreeSending,
  TreeSent,
} from '../../lib/domain/events.ts';
import { isSuccess } from '../../lib/domain/job.ts';
import type { MachineName } from '../../lib/domain/machine.ts';
import { durationText } from '../../lib/util/duration-text.ts';
import { formatBytes } from '../../lib/util/size.ts';
import { visibleText } from '../../lib/util/terminal-text.ts';
import { momentText } from './moment-text.ts';
import { outcomeText } from './outcome-text.ts';
import { summaryReport } from './summary.ts';
import { type TextOut, writeNote } from './text-out.ts';

/** Options of `textReport`. */
export interface TextReportOptions {
  readonly stdout: TextOut;
  readonly stderr: TextOut;
  /** Also what each machine has, where each job runs, and trees that were there already. @default false */
  readonly verbose?: boolean;
  /** The results folder as the user wrote it, for the summary. @default 'job_results' */
  readonly results?: string;
}

/** From so many new bytes on, a tree after a machine's first is worth a line. */
const WORTH_A_LINE_BYTES = 1024 * 1024;

/** Turns events into lines, one whole line per write, with the summary at the end. */
export function textReport(options: TextReportOptions): (event: SchedulerEvent) => void {
  const { stdout, stderr, verbose = false, results = 'job_results' } = options;
  const queried: MachineQueried[] = [];
  const saidAtQuery = new Set<string>();
  const haveTrees = new Set<MachineName>();
  let isRunning = false;
  const triedAgain = new Set<MachineName>();
  const summary = summaryReport({ stderr, results });
  const line = (text: string): unknown => stdout.write(`${text}\n`);
  const note = (text: string): void => writeNote(stderr, text);

  return (event) => {
    summary(event);
    switch (event.type) {
      case 'machine:queried':
        queried.push(event);
        for (const warning of event.snapshot.warnings) {
          const text = machineWarningText(event.machine, warning);
          saidAtQuery.add(text);
          note(text);
        }
        if (verbose) note(snapshotText(event));
        return;
      case 'batch:started':
        isRunning = true;
        if (queried.length === 0) return; // all lines have their results: no machine was asked
        line(`machine limits:  ${limitsText(queried)}`);
        line(`machine gpu choices: ${gpuChoicesText(queried)}`);
        return;
      case 'batch:resumed': {
        const text = resumedText(event, [...triedAgain]);
        if (text !== undefined) note(text);
        return;
      }
      case 'job:skipped':
        line(skippedText(event));
        return;
      case 'job:started':
        if (event.hasEnded) return; // its end follows
        line(event.isAdopted ? stillRunningText(event) : startedText(event));
        if (verbose) note(placeText(event));
        return;
      case 'job:ended':
        line(endedText(event));
        return;
      case 'job:warned':
        note(`warning: line ${event.line} (${visibleText(event.name)}): ${visibleText(event.message)}`);
        return;
      case 'job:never-fits':
        if (isRunning) note(neverFitsText(event)); // before that, the error that refuses the batch says it
        return;
      case 'machine:warned': {
        const text = machineWarningText(event.machine, event.message);
        if (!saidAtQuery.has(text)) note(text); // a snapshot's warning may also come as an event of its own
        return;
      }
      case 'machine:unreachable':
        if (event.isTriedAgain) triedAgain.add(event.machine);
        note(
          `${visibleText(event.machine)} is left out: ${visibleText(event.reason)}${event.isTriedAgain ? ' (tried again until the batch ends)' : ''}`,
        );
        return;
      case 'machine:quarantined':
        note(
          `${visibleText(event.machine)} gets no more jobs, since they fail there at once: ${visibleText(event.reason)} (--keep-going-on-bad-machines turns this off)`,
        );
        return;
      case 'machine:given-up':
        note(
          `${visibleText(event.machine)} has been away for ${durationText(event.awayMs)}: ${event.jobs === 1 ? 'its 1 job runs' : `its ${event.jobs} jobs run`} again elsewhere`,
        );
        return;
      case 'machine:away':
        note(
          `${visibleText(event.machine)}: connection lost, its jobs may run on: ${visibleText(event.reason)}`,
        );
        return;
      case 'machine:back':
        triedAgain.delete(event.machine);
        note(`${visibleText(event.machine)}: connected again`);
        return;
      case 'gpu:still-held':
        note(
          `${visibleText(event.machine)}: GPU ${event.gpu} still holds ${Math.round(event.heldMiB)} MiB ${durationText(event.waitedMs)} after its job ended`,
        );
        return;
      case 'tree:sending':
        note(sendingText(event));
        return;
      case 'tree:sent': {
        // A thousand lines that send one small file each must not say so a thousand times.
        const isFirst = !haveTrees.has(event.machine);
        if (event.sentBytes > 0) haveTrees.add(event.machine);
        if (verbose || (event.sentBytes > 0 && (isFirst || event.newBytes >= WORTH_A_LINE_BYTES)))
          note(treeText(event));
        return;
      }
      case 'batch:ended':
        return; // the summary's
      default:
        assertNever(event);
    }
  };
}

/** `{'gpubox': 2, 'other': 1}`, as Python prints a dict: programs read this line. */
function limitsText(machines: readonly MachineQueried[]): string {
  return `{${machines.map((m) => `${pythonText(m.machine)}: ${m.jobsAtOnce}`).join(', ')}}`;
}

/** `[[0, 1], []]`: a list per machine, in the order of the limits. */
function gpuChoicesText(machines: readonly MachineQueried[]): string {
  return `[${machines.map((m) => `[${m.gpuChoices.join(', ')}]`).join(', ')}]`;
}

/** Text as Python's repr() quotes it. */
function pythonText(text: string): string {
  const visible = visibleText(text.replaceAll('\\', '\\\\'));
  if (!visible.includes("'")) return `'${visible}'`;
  return visible.includes('"') ? `'${visible.replaceAll("'", "\\'")}'` : `"${visible}"`;
}

function machineWarningText(machine: string, message: string): string {
  return `warning: ${visibleText(machine)}: ${visibleText(message)}`;
}

function skippedText({ line, name, reason }: JobSkipped): string {
  const warning = `WARNING: job results already exists for line ${line}, skipping evaluation: delete if you wish to rerun`;
  return reason === 'finished-result'
    ? warning
    : `${warning} (${visibleText(name)} has no manifest: it may not be whole)`;
}

function startedText({ name, command, cudaVisibleDevices }: JobStarted): string {
  const gpus =
    cudaVisibleDevices === undefined
      ? ''
      : `export CUDA_VISIBLE_DEVICES=${visibleText(cudaVisibleDevices)} && `;
  return `started: ${visibleText(name)};  ${gpus}${visibleText(command)}`;
}

function stillRunningText({ name, command, machine, startedAt, at }: JobStarted): string {
  return `still running: ${visibleText(name)}; ${visibleText(command)} (${visibleText(machine)}, since ${momentText(startedAt, at)})`;
}

const MACHINES_NAMED = 3;

/** What is gone on with; undefined when there is nothing but new jobs. */
function neverFitsText({ name, line, shortfalls }: JobNeverFits): string {
  const reasons = shortfalls.map(
    (one) => `${one.machine}: ${one.shortfalls.map(({ message }) => message).join('; ')}`,
  );
  return `line ${line} (${visibleText(name)}) can never run on the machines that are left: ${visibleText(reasons.join(' | '))}`;
}

function resumedText(
  { running, ended, awaited, fresh, orphaned }: BatchResumed,
  outOfReach: readonly MachineName[],
): string | undefined {
  if (running + ended + awaited + orphaned === 0) return undefined;
  const where =
    outOfReach.length === 0 || outOfReach.length > MACHINES_NAMED
      ? 'machines that cannot be reached'
      : `${outOfReach.map(visibleText).join(', ')} which cannot be reached`;
  const parts = [
    { count: running, one: 'still runs', many: 'still run' },
    { count: ended, one: 'has ended meanwhile', many: 'have ended meanwhile' },
    { count: awaited, one: `waits for ${where}`, many: `wait for ${where}` },
    { count: fresh, one: 'is left to start', many: 'are left to start' },
    { count: orphaned, one: 'orphaned (see --orphans)', many: 'orphaned (see --orphans)' },
  ].filter(({ count }) => count > 0);
  return parts
    .map(({ count, one, many }, i) => {
      const jobs = i > 0 ? '' : count === 1 ? ' job' : ' jobs';
      return `${count}${jobs} ${count === 1 ? one : many}`;
    })
    .join(', ');
}

function endedText({ name, command, outcome, machine, durationMs, leftBehind, willRetry }: JobEnded): string {
  const facts = [outcomeText(outcome), visibleText(machine), durationText(durationMs)];
  if (leftBehind > 0) facts.push(`${leftBehind} left-behind process${leftBehind === 1 ? '' : 'es'} ended`);
  if (willRetry) facts.push('is tried again');
  const verdict = isSuccess(outcome) ? 'finished' : 'failed';
  return `${verdict}: ${visibleText(name)}; ${visibleText(command)} (${facts.join(', ')})`;
}

function placeText({ name, machine, gpus, attempt, request }: JobStarted): string {
  const parts = [`${request.cpuCores} core${request.cpuCores === 1 ? '' : 's'}`, `${request.memoryMiB} MiB`];
  if (gpus.length > 0) parts.unshift(`GPU ${gpus.join(' ')}`);
  if (attempt > 1) parts.push(`attempt ${attempt}`);
  return `${visibleText(name)} runs on ${visibleText(machine)} (${parts.join(', ')})`;
}

function snapshotText({ machine, snapshot, jobsAtOnce }: MachineQueried): string {
  const { cpuCores, cpuCoresInUse, memoryFreeMiB, memoryTotalMiB, gpus } = snapshot;
  const gpuTexts = gpus.map((gpu) =>
    gpu.unplaceable === undefined
      ? `GPU ${gpu.index} ${Math.floor(gpu.memoryFreeMiB)} of ${Math.floor(gpu.memoryTotalMiB)} MiB free, ${Math.round(gpu.utilization * 100)} % busy`
      : `GPU ${gpu.index} cannot be used: ${visibleText(gpu.unplaceable)}`,
  );
  const parts = [
    `${cpuCoresInUse.toFixed(1)} of ${cpuCores} cores busy`,
    `${Math.floor(memoryFreeMiB)} of ${Math.floor(memoryTotalMiB)} MiB free`,
    ...gpuTexts,
    `${jobsAtOnce} job${jobsAtOnce === 1 ? '' : 's'} at once`,
  ];
  return `${visibleText(machine)}: ${parts.join('; ')}`;
}

function sendingText({ machine, newFiles, newBytes, largest }: TreeSending): string {
  const folders = largest.map(({ path, bytes }) => `${visibleText(path)} (${formatBytes(bytes)})`);
  return `${visibleText(machine)}: sending ${filesText(newFiles, newBytes)}, most of it in ${folders.join(', ')}`;
}

function treeText({ machine, files, bytes, sentBytes, newFiles, newBytes }: TreeSent): string {
  const tree = `${visibleText(machine)}: source tree of ${filesText(files, bytes)}`;
  if (sentBytes === 0) return `${tree} was there already`;
  const had = bytes - newBytes;
  const rest = had > 0 ? `, ${formatBytes(had)} were there` : '';
  return `${tree} is there: ${filesText(newFiles, newBytes)} sent${rest}`;
}

function filesText(files: number, bytes: number): string {
  return `${files} file${files === 1 ? '' : 's'} (${formatBytes(bytes)})`;
}
