/** Reads how many CPUs a login may use and how busy they are, from two looks at the kernel's counters. */
import { machineNumber } from './machine-number.ts';
import type { CpuQuota } from './parse-cgroups.ts';

const MOST_CORES = 1_000_000;
const HIGHEST_CPU = 1_000_000;

/** What the probe printed about CPUs, by section. */
export interface CpuLines {
  readonly before: readonly string[];
  readonly after: readonly string[];
  readonly nproc: readonly string[];
  readonly allowed: readonly string[];
}

/** The CPUs of a machine. */
export interface ParsedCpu {
  readonly cores: number;
  readonly coresInUse: number;
  /** Whether the counters told how busy the CPUs are; when not, `coresInUse` is 0. */
  readonly isMeasured: boolean;
}

interface Sample {
  readonly uptime: number | undefined;
  /** Ticks by CPU number; `all` for the sum of all. */
  readonly cpus: ReadonlyMap<string, { readonly busy: number; readonly total: number }>;
  /** Seconds of CPU time that a control group has used, by kind and path. */
  readonly use: ReadonlyMap<string, number>;
}

/**
 * Cores usable and in use. What is free is the least of: the idle share of the CPUs that we may run on, and what each
 * quota of a control group leaves; in use is all the rest. Undefined when not even the number of CPUs is known.
 */
export function parseCpu(lines: CpuLines, quotas: readonly CpuQuota[]): ParsedCpu | undefined {
  const before = readSample(lines.before);
  const after = readSample(lines.after);
  const online = [...after.cpus.keys()].filter((cpu) => cpu !== 'all');
  const allowed = new Set(readCpuList(lines.allowed[0]?.replace(/^Cpus_allowed_list:\s*/, '') ?? ''));
  // Containers may show renumbered CPUs (lxcfs): none of the allowed ones is listed then, and all that are count.
  const ours = online.filter((cpu) => allowed.has(Number(cpu)));
  const counted = ours.length > 0 ? ours : online;
  const hardware = machineNumber(lines.nproc[0]?.trim(), MOST_CORES) || counted.length;
  if (hardware === 0) return undefined;

  const busyShare = busyShareOf(before, after, counted);
  const seconds = (after.uptime ?? 0) - (before.uptime ?? 0);
  let cores = hardware;
  let free = hardware * (1 - (busyShare ?? 0));
  for (const { cores: quota, path, kind } of quotas) {
    const key = useKey(kind, path);
    const used = (after.use.get(key) ?? 0) - (before.use.get(key) ?? 0);
    const usedCores = seconds > 0 ? Math.max(0, used) / seconds : 0;
    cores = Math.min(cores, quota);
    free = Math.min(free, Math.max(0, quota - usedCores));
  }
  return {
    cores: rounded(cores),
    coresInUse: rounded(Math.max(0, cores - free)),
    isMeasured: busyShare !== undefined,
  };
}

function rounded(cores: number): number {
  return Math.round(cores * 1000) / 1000;
}

/** Version 1 counts CPU time in a hierarchy of its own, with the same paths. */
function useKey(kind: string, path: string): string {
  return `${kind === 'v2' ? 'v2' : 'v1'} ${path}`;
}

function busyShareOf(before: Sample, after: Sample, counted: readonly string[]): number | undefined {
  let busy = 0;
  let total = 0;
  for (const cpu of counted.length > 0 ? counted : ['all']) {
    const from = before.cpus.get(cpu);
    const to = after.cpus.get(cpu);
    if (from === undefined || to === undefined) continue;
    // Single counters may step back a little (proc(5) says so of iowait).
    const passed = Math.max(0, to.total - from.total);
    total += passed;
    busy += Math.min(passed, Math.max(0, to.busy - from.busy));
  }
  return total > 0 ? busy / total : undefined;
}

function readSample(lines: readonly string[]): Sample {
  const cpus = new Map<string, { busy: number; total: number }>();
  const use = new Map<string, number>();
  let uptime: number | undefined;
  for (const line of lines) {
    const words = line.trim().split(/ +/);
    const [, cpu] = /^cpu(\d*)$/.exec(words[0] ?? '') ?? [];
    if (cpu !== undefined) {
      const ticks = readTicks(words.slice(1));
      if (ticks !== undefined) cpus.set(cpu === '' ? 'all' : cpu, ticks);
    } else if (words[0] === 'uptime') uptime = machineNumber(words[1], 1e10);
    else if (words[0] === 'use') {
      const [, text, kind, path] = /^use (?:usage_usec )?(\d+) (v2|cpuacct) ?(.*)$/.exec(line) ?? [];
      const used = machineNumber(text, 2 ** 63);
      if (used === undefined || kind === undefined) continue;
      use.set(useKey(kind, path ?? ''), used / (kind === 'v2' ? 1e6 : 1e9)); // microseconds, nanoseconds
    }
  }
  return { uptime, cpus, use };
}

/**
 * Ticks of `cpu0 user nice system idle iowait irq softirq steal guest guest_nice` (proc(5)). guest and guest_nice are in
 * user and nice already. Stolen time is busy: the hypervisor gave it to others, so we cannot have it.
 */
function readTicks(words: readonly string[]): { busy: number; total: number } | undefined {
  const ticks = words.slice(0, 8).map((word) => machineNumber(word, Number.MAX_SAFE_INTEGER));
  const total = ticks.reduce<number>((sum, value) => sum + (value ?? 0), 0);
  const idle = ticks[3];
  return idle === undefined ? undefined : { busy: total - idle - (ticks[4] ?? 0), total };
}

/** CPU numbers of a list such as `0-3,8,10-11`. */
function readCpuList(text: string): number[] {
  const numbers: number[] = [];
  for (const part of text.trim().split(',')) {
    const [, first, last = first] = /^(\d+)(?:-(\d+))?$/.exec(part) ?? [];
    const from = machineNumber(first, HIGHEST_CPU);
    const to = machineNumber(last, HIGHEST_CPU);
    if (from === undefined || to === undefined) return [];
    for (let cpu = from; cpu <= to && numbers.length < 65_536; cpu++) numbers.push(cpu);
  }
  return numbers;
}
