/**
 * Reads the limits of the control groups around a login, version 1 and 2 (cgroups(7)). A limit of a parent holds for
 * its children, so all levels count.
 */
import { machineNumber } from './machine-number.ts';

const BYTES_PER_MIB = 1024 * 1024;
// Version 1 writes the largest multiple of a page for "no limit".
const NO_LIMIT_BYTES = 2 ** 60;
const MOST_CORES = 1_000_000;

/** One level of one hierarchy. */
interface Cgroup {
  /** `v2`, or the controller of version 1. */
  readonly kind: string;
  readonly path: string;
  readonly values: ReadonlyMap<string, string>;
}

/** What one level allows of the CPUs. */
export interface CpuQuota {
  readonly cores: number;
  /** The level, as the CPU use of the same level is marked. */
  readonly path: string;
  readonly kind: string;
}

/** What one level allows of main memory, MiB. */
export interface MemoryLimit {
  readonly limitMiB: number;
  /** The limit minus what is in use; page cache that the kernel can take back at once is not in use. */
  readonly freeMiB: number;
}

/**
 * Reads the section `cgroups`:
 *
 *     group v2 /user.slice
 *     cpu.max 150000 100000
 *     memory.max 8589934592
 *     memory.current 1073741824
 *     inactive_file 536870912
 */
export function parseCgroups(lines: readonly string[]): { quotas: CpuQuota[]; memory: MemoryLimit[] } {
  const groups: (Cgroup & { readonly values: Map<string, string> })[] = [];
  for (const line of lines) {
    const [, word = '', rest = ''] = /^(\S+) (.*)$/.exec(line) ?? [];
    if (word === 'group') {
      const [, kind = '', path = ''] = /^(\S+) ?(.*)$/.exec(rest) ?? [];
      groups.push({ kind, path, values: new Map() });
    } else if (word !== '') groups.at(-1)?.values.set(word, rest);
  }
  return { quotas: groups.flatMap(quotaOf), memory: groups.flatMap(memoryOf) };
}

function quotaOf({ kind, path, values }: Cgroup): CpuQuota[] {
  const [quotaText, periodText] =
    kind === 'v2'
      ? (values.get('cpu.max') ?? '').split(' ')
      : [values.get('cpu.cfs_quota_us'), values.get('cpu.cfs_period_us')];
  const quota = machineNumber(quotaText, Number.MAX_SAFE_INTEGER); // `max` and -1 are no limit
  const period = machineNumber(periodText, Number.MAX_SAFE_INTEGER);
  if (quota === undefined || period === undefined || quota === 0 || period === 0) return [];
  const cores = quota / period;
  return cores <= MOST_CORES ? [{ cores, path, kind }] : [];
}

function memoryOf({ kind, values }: Cgroup): MemoryLimit[] {
  const bytes = (name: string) => machineNumber(values.get(name), 2 ** 63);
  const limits =
    kind === 'v2' ? [bytes('memory.max'), bytes('memory.high')] : [bytes('memory.limit_in_bytes')];
  const limit = Math.min(...limits.map((value) => value ?? Number.POSITIVE_INFINITY));
  if (limit >= NO_LIMIT_BYTES) return [];
  const used = bytes(kind === 'v2' ? 'memory.current' : 'memory.usage_in_bytes') ?? 0;
  // The sum that the kernel makes for MemAvailable, whose place this takes. Version 1 counts children under `total_`.
  const cache =
    (bytes('total_inactive_file') ?? bytes('inactive_file') ?? 0) +
    (bytes('total_active_file') ?? bytes('active_file') ?? 0) +
    (bytes('slab_reclaimable') ?? 0);
  const free = limit - Math.max(0, used - cache);
  return [{ limitMiB: limit / BYTES_PER_MIB, freeMiB: Math.max(0, free) / BYTES_PER_MIB }];
}
