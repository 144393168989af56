/** Reads the rows of `nvidia-smi --query-gpu=...` and of `nvidia-smi --query-compute-apps=...`, both csv without a header. */
import type { GpuSnapshot } from '../domain/machine.ts';
import { cutToWidth, visibleText } from '../util/terminal-text.ts';
import { machineNumber } from './machine-number.ts';

const HIGHEST_INDEX = 1023;
const MOST_MIB = 2 ** 30;
const HIGHEST_PID = 2 ** 22; // proc(5), pid_max
const SHOWN_COLUMNS = 100;
// Old drivers print MB and mean MiB.
const MIB_PER_UNIT: Readonly<Record<string, number>> = {
  B: 1 / 1024 / 1024,
  KiB: 1 / 1024,
  KB: 1 / 1024,
  MiB: 1,
  MB: 1,
  GiB: 1024,
  GB: 1024,
};

/** The GPUs of a machine. */
export interface ParsedGpus {
  /** In the order of their indexes. */
  readonly gpus: readonly GpuSnapshot[];
  /** One line each. */
  readonly warnings: readonly string[];
}

/**
 * Reads rows of index, uuid, name, memory.total, memory.free, utilization.gpu and, of drivers that know it, mig.mode.current:
 *
 *     0, GPU-5cf9a3ea-..., NVIDIA H200, 143771 MiB, 143156 MiB, 0 %, Disabled
 *     1, GPU-0a1b2c3d-..., NVIDIA GB10, [N/A], [N/A], [N/A], Disabled
 *
 * `status` is the exit status of nvidia-smi, or `none` where there is no such program. Rows that can be read count
 * whatever the status is: nvidia-smi prints the healthy GPUs of a machine that lost one.
 */
export function parseNvidiaSmi(lines: readonly string[], status: string): ParsedGpus {
  if (status === 'none') return { gpus: [], warnings: [] };
  const gpus = new Map<number, GpuSnapshot>();
  const rest: string[] = [];
  for (const line of lines) {
    if (line.trim() === '') continue;
    const gpu = readRow(line);
    if (gpu === undefined || gpus.has(gpu.index)) rest.push(line);
    else gpus.set(gpu.index, gpu);
  }
  const warning = describeFailure(status, rest, gpus.size);
  return {
    gpus: [...gpus.values()].sort((a, b) => a.index - b.index),
    warnings: warning === undefined ? [] : [warning],
  };
}

/** One process on one GPU. */
export interface GpuProcess {
  readonly gpuUuid: string;
  /** Absent when the driver does not say. */
  readonly pid?: number;
  /** 0 where the driver does not say. */
  readonly memoryMiB: number;
}

/**
 * Reads rows of gpu_uuid, pid and used_memory; what is no such row, as `No running processes found`, is no process:
 *
 *     GPU-5cf9a3ea-..., 4711, 1234
 *     GPU-5cf9a3ea-..., 4712, [N/A]
 */
export function parseGpuProcesses(lines: readonly string[]): readonly GpuProcess[] {
  return lines.flatMap((line) => {
    const [gpuUuid = '', pidText = '', memoryText, ...more] = line.split(',').map((cell) => cell.trim());
    if (!/^GPU-[\w-]{1,80}$/.test(gpuUuid) || more.length > 0) return [];
    const pid = /^\d+$/.test(pidText) ? machineNumber(pidText, HIGHEST_PID) : undefined;
    return [{ gpuUuid, ...(pid === undefined ? {} : { pid }), memoryMiB: readMiB(memoryText) ?? 0 }];
  });
}

function readRow(line: string): GpuSnapshot | undefined {
  const cells = line.split(',').map((cell) => cell.trim());
  const indexText = cells[0] ?? '';
  const index = /^\d+$/.test(indexText) ? machineNumber(indexText, HIGHEST_INDEX) : undefined;
  const uuid = cells[1];
  if (index === undefined || uuid === undefined || !/^[\w-]{1,80}$/.test(uuid) || cells.length < 6)
    return undefined;
  const hasMig = cells.length >= 7;
  const [totalText, freeText, utilizationText = '', migText] = cells.slice(hasMig ? -4 : -3);
  if (!/^\d+ *%$/.test(utilizationText) && !isUnknown(utilizationText)) return undefined;
  const total = readMiB(totalText);
  const free = readMiB(freeText);
  const mig = migText === 'Enabled';
  const unplaceable = mig
    ? 'MIG is on: the GPU as a whole takes no jobs'
    : total === undefined || free === undefined
      ? 'memory not reported'
      : undefined;
  const gpu = {
    index,
    uuid,
    name: cutToWidth(visibleText(cells.slice(2, hasMig ? -4 : -3).join(', ')), SHOWN_COLUMNS),
    memoryTotalMiB: total ?? 0,
    memoryFreeMiB: Math.min(free ?? 0, total ?? 0),
    utilization: (machineNumber(utilizationText.replace(/ *%$/, ''), 100) ?? 0) / 100,
    mig,
  };
  return unplaceable === undefined ? gpu : { ...gpu, unplaceable };
}

/** `[N/A]`, `[Not Supported]`, `[Unknown Error]`, `[Insufficient Permissions]`, also without the brackets. */
function isUnknown(cell: string): boolean {
  return /^\[.*\]$/.test(cell) || /^(N\/A|Not Supported|Unknown Error|Insufficient Permissions)$/i.test(cell);
}

function readMiB(cell: string | undefined): number | undefined {
  const [amount, unit = 'MiB'] = cell?.split(/ +/) ?? [];
  const value = machineNumber(amount, Number.MAX_SAFE_INTEGER);
  const perUnit = MIB_PER_UNIT[unit];
  if (value === undefined || perUnit === undefined) return undefined;
  const memoryMiB = Math.floor(value * perUnit);
  return memoryMiB <= MOST_MIB ? memoryMiB : undefined;
}

function describeFailure(status: string, lines: readonly string[], gpus: number): string | undefined {
  const said = lines.map((line) => line.trim()).join(' ');
  const quoted = said === '' ? '' : `: ${cutToWidth(visibleText(said), SHOWN_COLUMNS)}`;
  const left = gpus === 0 ? 'its GPUs are not used' : `only the ${gpus} GPUs that it lists are used`;
  // What timeout(1) exits with when it had to kill, as coreutils and busybox do it.
  if (['124', '137', '143'].includes(status)) return `nvidia-smi did not answer in time; ${left}`;
  if (status === '9') return `the NVIDIA driver does not run (nvidia-smi exited 9)${quoted}; ${left}`;
  if (status !== '0') return `nvidia-smi exited ${visibleText(status).slice(0, 10)}${quoted}; ${left}`;
  return lines.length === 0 ? undefined : `nvidia-smi printed what cannot be read${quoted}; ${left}`;
}
