/** Reads what the processes of our own jobs use, from what the probe printed about them. */
import type { GpuSnapshot, OwnUse } from '../domain/machine.ts';
import { machineNumber } from './machine-number.ts';
import { parseGpuProcesses } from './parse-nvidia-smi.ts';

// The kernel counts for programs in hundredths of a second on every machine that Linux runs on today (USER_HZ).
const TICKS_PER_SECOND = 100;
const KIB_PER_MIB = 1024;
const MOST_KIB = 2 ** 50;
const MOST_MIB = 2 ** 40;
const MOST_CORES = 1_000_000;

/** What the probe printed, by section. */
export interface OwnUseLines {
  /** Lines of `pid utime stime start`, in ticks. */
  readonly before: readonly string[];
  readonly after: readonly string[];
  /** Lines of /proc/PID/smaps_rollup or /proc/PID/status, each behind its file's name. */
  readonly memory: readonly string[];
  /** Rows of `nvidia-smi --query-compute-apps=gpu_uuid,pid,used_memory`. */
  readonly gpuProcesses: readonly string[];
}

interface ProcessTicks {
  readonly start: number;
  readonly used: number;
}

/**
 * What our own processes use. Those that were there at both looks at them count; what comes or goes between the two
 * counts as others' for this once. `seconds` is the time between the two.
 */
export function parseOwnUse(lines: OwnUseLines, seconds: number, gpus: readonly GpuSnapshot[]): OwnUse {
  const before = readTicks(lines.before);
  const own = new Set<number>();
  let ticks = 0;
  for (const [pid, { start, used }] of readTicks(lines.after)) {
    const earlier = before.get(pid);
    if (earlier?.start !== start) continue;
    own.add(pid);
    ticks += Math.max(0, used - earlier.used);
  }
  const cores = seconds > 0 ? ticks / TICKS_PER_SECOND / seconds : 0;
  return {
    cpuCores: Math.round(Math.min(cores, MOST_CORES) * 1000) / 1000,
    memoryMiB: memoryOf(lines.memory, own),
    gpus: gpusOf(lines.gpuProcesses, own, gpus),
  };
}

function readTicks(lines: readonly string[]): Map<number, ProcessTicks> {
  const processes = new Map<number, ProcessTicks>();
  for (const line of lines) {
    const numbers = line.split(' ').map((word) => machineNumber(word, Number.MAX_SAFE_INTEGER));
    const [pid, user, system, start] = numbers;
    if (pid === undefined || user === undefined || system === undefined || start === undefined) continue;
    processes.set(pid, { start, used: user + system });
  }
  return processes;
}

/** Whole MiB that would be free without those processes: their memory without copies of files, which are free anyway. */
function memoryOf(lines: readonly string[], own: ReadonlySet<number>): number {
  let shares = 0;
  const resident = new Map<number, { all: number; kinds: number | undefined }>();
  for (const line of lines) {
    const [, pidText, name, text] =
      /\/(\d+)\/\w+:(Pss_Anon|Pss_Shmem|VmRSS|RssAnon|RssShmem):\s+(\d+) kB$/.exec(line.trim()) ?? [];
    const pid = Number(pidText);
    const kib = machineNumber(text, MOST_KIB);
    if (kib === undefined || !own.has(pid)) continue;
    if (name?.startsWith('Pss_')) shares += kib;
    else {
      // Kernels before 4.5 tell no kinds.
      const known = resident.get(pid) ?? { all: 0, kinds: undefined };
      const isAll = name === 'VmRSS';
      resident.set(pid, isAll ? { ...known, all: kib } : { ...known, kinds: (known.kinds ?? 0) + kib });
    }
  }
  let sum = shares;
  for (const { all, kinds } of resident.values()) sum += kinds ?? all;
  return Math.floor(Math.min(sum / KIB_PER_MIB, MOST_MIB));
}

function gpusOf(
  lines: readonly string[],
  own: ReadonlySet<number>,
  gpus: readonly GpuSnapshot[],
): OwnUse['gpus'] {
  const processes = parseGpuProcesses(lines);
  return gpus.flatMap(({ index, uuid, memoryTotalMiB }) => {
    const there = processes.filter(({ gpuUuid }) => gpuUuid === uuid);
    const ours = there.filter(({ pid }) => pid !== undefined && own.has(pid));
    if (ours.length === 0) return [];
    const memoryMiB = ours.reduce((sum, process) => sum + process.memoryMiB, 0);
    return [{ index, memoryMiB: Math.min(memoryMiB, memoryTotalMiB), isAlone: ours.length === there.length }];
  });
}
