/**
 * What an ended command's exit code, its standard error and the kernel's counters prove about why it failed. Memory that
 * ran out and faults of the machine are claimed on evidence alone: without it an exit stays an exit.
 */
import type { JobOutcome } from '../domain/job.ts';

/** What is known of a command that ended by itself. */
export interface ExitFacts {
  readonly exitCode: number;
  readonly durationMs: number;
  /** The end of its standard error. */
  readonly errorTail: Buffer;
  /** The kernel killed processes for want of memory meanwhile: in the job's own cgroup, or anywhere on the machine. */
  readonly oomKills?: 'in job' | 'on machine';
  /** Whether it was given GPUs: only then is a GPU that does not work a fault of the machine. */
  readonly hasGpus: boolean;
}

/** How much of standard error is worth keeping for these questions. */
export const ERROR_TAIL_BYTES = 16 * 1024;

const LAST_LINE_LIMIT = 300;
const REASON_LINE_LIMIT = 200;
/** A machine that lacks something fails its jobs at once; what comes later is more likely the job's own doing. */
const AT_ONCE_MS = 10_000;
/** The reason of a failure stands at the end; before it the program may have told of troubles that it got over. */
const LINES_OF_THE_END = 10;

/** The outcome of a command that ended by itself. */
export function exitOutcome(facts: ExitFacts): JobOutcome {
  const { exitCode } = facts;
  if (exitCode === 0) return { type: 'exited', exitCode };
  const outOfMemory = memoryThatRanOut(facts);
  if (outOfMemory !== undefined) return { type: 'out-of-memory', ...outOfMemory, exitCode };
  const machineFault = faultOfMachine(facts);
  return { type: 'exited', exitCode, ...(machineFault === undefined ? {} : { machineFault }) };
}

/** The last line of standard error that is not blank, without terminal colours and at most 300 characters long. */
export function lastErrorLine(errorTail: Buffer): string | undefined {
  const line = linesOf(errorTail).at(-1);
  return line === undefined ? undefined : firstCharacters(line, LAST_LINE_LIMIT);
}

/**
 * The messages of CUDA, HIP and what stands on them, each in the form in which a program prints it: `Error: CUDA out of
 * memory`, but not a hint that says "if CUDA runs out of memory".
 */
const GPU_OUT_OF_MEMORY: readonly RegExp[] = [
  // PyTorch; of several processes each line begins with `[rank0]: `.
  /\b(?:CUDA|HIP|XPU) out of memory\. Tried to allocate\b/,
  /^(?:\[[^\]]*\]:? ?)?(?:[\w.]*(?:Error|Exception): )?(?:CUDA|HIP) out of memory(?:[.:!,]|$)/,
  /\btorch(?:\.cuda)?\.OutOfMemoryError: /,
  /\bcupy\.cuda\.memory\.OutOfMemoryError: /,
  /\b(?:CUDA|HIP) error(?: \d+)?(?: at \S+)?: out of memory\b/i,
  /\bcuda runtime error \(2\) ?: out of memory\b/i,
  // The names of the error in CUDA's runtime, CUDA's driver and HIP.
  /\bcudaErrorMemoryAllocation\b/,
  /\bCUDA_ERROR_OUT_OF_MEMORY\b/,
  /\bhipErrorOutOfMemory\b/,
  // JAX and XLA; gRPC has a RESOURCE_EXHAUSTED of its own, for quotas.
  /\bRESOURCE_EXHAUSTED: .*\bout of memory\b/i,
  // TensorFlow, which says the same of main memory.
  /\bOOM when allocating tensor\b(?!.*\bdevice:CPU\b)/,
];

/** Exit codes that tell of SIGKILL: a shell's, ksh's, and Python's for `sys.exit(-9)`. */
const KILLED = new Set([128 + 9, 256 + 9, 256 - 9, 9]);

function memoryThatRanOut({
  exitCode,
  errorTail,
  oomKills,
}: ExitFacts): { readonly memory: 'main' | 'gpu'; readonly reason: string } | undefined {
  const said = linesOf(errorTail).find((line) => GPU_OUT_OF_MEMORY.some((pattern) => pattern.test(line)));
  if (said !== undefined)
    return { memory: 'gpu', reason: `its standard error says: ${firstCharacters(said, REASON_LINE_LIMIT)}` };
  if (oomKills === undefined || !KILLED.has(exitCode)) return undefined;
  const where =
    oomKills === 'in job'
      ? 'the kernel killed processes of this job for want of memory'
      : 'the kernel killed processes on its machine for want of memory meanwhile';
  return { memory: 'main', reason: `it was killed (exit ${exitCode}), and ${where}` };
}

/** What a machine lacks, by the messages that tell. */
interface Fault {
  readonly fault: string;
  readonly pattern: RegExp;
  /** Only a job that was given GPUs may expect them to work. */
  readonly isOfGpu?: true;
}

// Behind a colon or `[Errno 28]`, as the C library's texts are printed; not in the middle of a sentence.
const DISK_FAULTS: readonly Fault[] = [
  { fault: 'no space left on a disk', pattern: /(?:^|[:\]] )no space left on device\b/i },
  { fault: 'its disk quota is exceeded', pattern: /(?:^|[:\]] )disk quota exceeded\b/i },
  { fault: 'a file system is read-only', pattern: /(?:^|[:\]] )read-only file system\b/i },
];

const FAULTS: readonly Fault[] = [
  ...DISK_FAULTS,
  {
    fault: 'no usable temporary folder',
    pattern:
      /\bNo usable temporary directory (?:name )?found\b|cannot create temp file for here-document|^mktemp: failed to create \w+ via template \W*\/(?:var\/)?tmp\//,
  },
  { fault: 'its CUDA driver is too old', pattern: /\bdriver version is insufficient\b/, isOfGpu: true },
  { fault: 'no working CUDA device', pattern: /\bno CUDA-capable device\b/, isOfGpu: true },
  {
    fault: 'its NVIDIA driver and library do not match',
    pattern: /\bDriver\/library version mismatch\b/,
    isOfGpu: true,
  },
  {
    fault: 'a GPU does not answer',
    pattern: /\bunable to determine the device handle\b|\bCUDA(?: error:)? unknown error\b/i,
    isOfGpu: true,
  },
  {
    fault: 'its NVIDIA driver does not work',
    pattern:
      /\b(?:Failed to|Can't|Cannot) initialize NVML\b|\bNVMLError_(?:DriverNotLoaded|LibRmVersionMismatch|GpuIsLost|Unknown)\b|couldn't communicate with the NVIDIA driver/i,
    isOfGpu: true,
  },
];

/** How the supervisor's own start of a command fails: no command of the job's has run then. */
const NO_SHELL =
  /^setsid: failed to execute bash\b|\bexec: (?:setsid|perl|bash): (?:not found|cannot execute)/;

function faultOfMachine({ exitCode, durationMs, errorTail, hasGpus }: ExitFacts): string | undefined {
  if (durationMs > AT_ONCE_MS) return undefined;
  const end = linesOf(errorTail).slice(-LINES_OF_THE_END);
  if ((exitCode === 126 || exitCode === 127) && end.some((line) => NO_SHELL.test(line)))
    return 'bash cannot be run';
  const known = FAULTS.filter(({ isOfGpu }) => hasGpus || isOfGpu !== true);
  return known.find(({ pattern }) => end.some((line) => pattern.test(line)))?.fault;
}

/** What the machine lacks when an attempt could not even be started there, by the reason that was told. */
export function faultOfFailedStart(reason: string): string | undefined {
  const isOfDisk = DISK_FAULTS.find(({ pattern }) => pattern.test(reason));
  if (isOfDisk !== undefined) return isOfDisk.fault;
  return /^cannot (?:make|write|copy|list)\b/.test(reason)
    ? firstCharacters(reason, REASON_LINE_LIMIT)
    : undefined;
}

/** The lines that are not blank, without colours. A progress bar's carriage return ends a line, too. */
function linesOf(tail: Buffer): string[] {
  return tail
    .toString('utf8')
    .split(/[\r\n]+/)
    .map((line) => line.replace(/\p{Cc}\[[\d;?]*[A-Za-z]/gu, '').trim())
    .filter((line) => line !== '');
}

function firstCharacters(text: string, count: number): string {
  return text.length <= count ? text : [...text].slice(0, count).join('');
}
