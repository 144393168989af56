/** Reads free(1) and /proc/meminfo. */
import { machineNumber } from './machine-number.ts';

const KIB_PER_MIB = 1024;
const MOST_KIB = 2 ** 50;

/** Main memory of a machine. */
export interface ParsedMemory {
  readonly totalMiB: number;
  /** What new programs can have without swapping. */
  readonly freeMiB: number;
}

/**
 * Reads `free -k` of procps 3 and 4 or busybox, and, where it is missing or has no `available` column, the lines of
 * /proc/meminfo; undefined when neither tells.
 *
 *                    total        used        free      shared  buff/cache   available
 *     Mem:        24731700      494128    24111876        8872      382420    24237572
 */
export function parseMemory(free: readonly string[], meminfo: readonly string[]): ParsedMemory | undefined {
  const facts = readMeminfo(meminfo);
  const table = readFree(free);
  const total = table.get('total') ?? facts.get('MemTotal');
  const available =
    table.get('available') ?? facts.get('MemAvailable') ?? estimate(facts) ?? table.get('free');
  if (total === undefined || total === 0 || available === undefined) return undefined;
  return {
    totalMiB: Math.floor(total / KIB_PER_MIB),
    freeMiB: Math.floor(Math.min(available, total) / KIB_PER_MIB),
  };
}

/** Kernels before 3.14 do not say what is available: free memory and what holds copies of files, without tmpfs. */
function estimate(facts: ReadonlyMap<string, number>): number | undefined {
  const free = facts.get('MemFree');
  if (free === undefined) return undefined;
  const cached = (facts.get('Cached') ?? 0) - (facts.get('Shmem') ?? 0);
  return free + (facts.get('Buffers') ?? 0) + Math.max(0, cached) + (facts.get('SReclaimable') ?? 0);
}

/** The cells of the `Mem:` row by the heading above them. */
function readFree(lines: readonly string[]): Map<string, number> {
  const header =
    lines
      .find((line) => /\btotal\b/.test(line))
      ?.trim()
      .split(/\s+/) ?? [];
  const row =
    lines
      .find((line) => /^\s*Mem:/.test(line))
      ?.trim()
      .split(/\s+/)
      .slice(1) ?? [];
  const cells = header.map((name, at) => [name, machineNumber(row[at], MOST_KIB)] as const);
  return new Map(cells.flatMap(([name, value]) => (value === undefined ? [] : [[name, value]])));
}

function readMeminfo(lines: readonly string[]): Map<string, number> {
  const facts = new Map<string, number>();
  for (const line of lines) {
    const [, name, text] = /^(\w+):\s+(\d+) kB$/.exec(line.trim()) ?? [];
    const value = machineNumber(text, MOST_KIB);
    if (name !== undefined && value !== undefined) facts.set(name, value);
  }
  return facts;
}
