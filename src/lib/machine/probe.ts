/** Reads what the probe script printed (probe-script.ts) into a snapshot of the machine. Pure; trusts nothing. */
import type { GpuSnapshot, MachineSnapshot, OwnUse } from '../domain/machine.ts';
import { cutToWidth, visibleText } from '../util/terminal-text.ts';
import { identityOf } from './identity.ts';
import { machineNumber } from './machine-number.ts';
import { parseCgroups } from './parse-cgroups.ts';
import { parseCpu } from './parse-cpu.ts';
import { killsAtLogout } from './parse-logind.ts';
import { parseMemory } from './parse-memory.ts';
import { type ParsedGpus, parseNvidiaSmi } from './parse-nvidia-smi.ts';
import { parseOwnUse } from './parse-own-use.ts';

export { type ProbeScriptOptions, probeScript } from './probe-script.ts';

const LONGEST_NAME = 255;

/** Programs on a machine that we care about. */
export interface MachineTools {
  /** Programs without which no job can run, that are not there. */
  readonly missing: readonly string[];
  /** Whether its find(1) knows `-cnewer` (busybox's does not). */
  readonly findCnewer: boolean;
}

/** A snapshot with what else the probe saw. */
export interface ProbedMachine extends MachineSnapshot {
  readonly kernel: string;
  /** Name of the user that we are there. */
  readonly user: string;
  readonly tools: MachineTools;
}

/** What the output cannot say itself. */
export interface ParseProbeOptions {
  /** Epoch milliseconds on the controller's clock. */
  readonly takenAt: number;
  /** The one given to `probeScript`. */
  readonly nonce: string;
}

/** The output is not what the probe prints on a machine we can use; the message is a reason, to follow a machine's name. */
export class ProbeError extends Error {
  override readonly name = 'ProbeError';
}

/**
 * Whether everything but the GPUs is there. When the rest does not come, nvidia-smi hangs, and `parseProbe` answers
 * with no GPUs and a warning.
 */
export function hasHostFacts(output: string, nonce: string): boolean {
  return output.includes(`\n@@${nonce} host-end`);
}

/** Whether all of the probe's output is there. */
export function isProbeComplete(output: string, nonce: string): boolean {
  return output.includes(`\n@@${nonce} end\n`);
}

/**
 * Reads the output of the probe; what stands before its first section (login banners) is ignored.
 * @throws ProbeError when sections are missing, or when the machine is not a Linux.
 */
export function parseProbe(output: string, { takenAt, nonce }: ParseProbeOptions): ProbedMachine {
  const sections = splitSections(output, nonce);
  const lines = (name: string) => sections.get(name) ?? [];
  if (!sections.has('host-end')) throw new ProbeError('the answer to the probe is not whole');
  const system = lineOf(lines('os'));
  if (system !== 'Linux') {
    throw new ProbeError(`found the system ${system || 'unknown'}, expected Linux: jobs run on nothing else`);
  }
  const warnings: string[] = [];
  const { quotas, memory: memoryLimits } = parseCgroups(lines('cgroups'));
  const cpu = parseCpu(
    {
      before: lines('cpu-before'),
      after: lines('cpu-after'),
      nproc: lines('nproc'),
      allowed: lines('cpus-allowed'),
    },
    quotas,
  );
  if (cpu === undefined) throw new ProbeError('neither nproc nor /proc/stat tells how many CPUs there are');
  if (!cpu.isMeasured) warnings.push('how busy its CPUs are is not known (/proc/stat); they count as idle');
  const memory = parseMemory(lines('free'), lines('meminfo'));
  if (memory === undefined)
    throw new ProbeError('neither free nor /proc/meminfo tells how much memory is available');
  const { gpus, warnings: gpuWarnings } = gpusOf(sections);
  warnings.push(...gpuWarnings);
  const { ownUse, warnings: ownWarnings } = ownUseOf(sections, gpus);
  warnings.push(...ownWarnings);
  const user = lineOf(lines('user'));
  if (killsAtLogout(lines('logind'), user)) warnings.push(killWarning(user));
  const hostname = lineOf(lines('hostname'));
  const tools = new Set(lines('tools'));
  return {
    takenAt,
    identity: identityOf({
      machineId: lines('machine-id'),
      hostname,
      networkCards: lines('network-cards'),
      namespaces: lines('namespaces'),
      mounts: lines('mounts'),
    }),
    hostname,
    bootId: /^[0-9a-f-]{36}$/.exec(lineOf(lines('boot')))?.[0] ?? '',
    cpuCores: cpu.cores,
    cpuCoresInUse: cpu.coresInUse,
    memoryTotalMiB: Math.floor(Math.min(memory.totalMiB, ...memoryLimits.map(({ limitMiB }) => limitMiB))),
    memoryFreeMiB: Math.floor(Math.min(memory.freeMiB, ...memoryLimits.map(({ freeMiB }) => freeMiB))),
    gpus,
    ...(ownUse === undefined ? {} : { ownUse }),
    warnings,
    kernel: lineOf(lines('kernel')),
    user,
    tools: {
      missing: ['bash', 'setsid', 'tar'].filter((tool) => !tools.has(tool)),
      findCnewer: tools.has('find-cnewer'),
    },
  };
}

function gpusOf(sections: ReadonlyMap<string, readonly string[]>): ParsedGpus {
  const status = sections.has('end') ? lineOf(sections.get('gpus-status') ?? []) : undefined;
  if (status !== undefined) return parseNvidiaSmi(sections.get('gpus') ?? [], status);
  return { gpus: [], warnings: ['nvidia-smi did not answer in time; its GPUs are not used'] };
}

/** Undefined where the probe was not asked for it. */
function ownUseOf(
  sections: ReadonlyMap<string, readonly string[]>,
  gpus: readonly GpuSnapshot[],
): { ownUse?: OwnUse; warnings: readonly string[] } {
  const lines = (name: string) => sections.get(name) ?? [];
  if (!sections.has('own-before')) return { warnings: [] };
  const ownUse = parseOwnUse(
    {
      before: lines('own-before'),
      after: lines('own-after'),
      memory: lines('own-memory'),
      gpuProcesses: lines('gpu-processes'),
    },
    uptimeOf(lines('cpu-after')) - uptimeOf(lines('cpu-before')),
    gpus,
  );
  const status = lineOf(lines('gpu-processes-status'));
  const isGpuUseUnknown = gpus.length > 0 && status !== '0' && lines('own-after').length > 0;
  return {
    ownUse,
    warnings: isGpuUseUnknown
      ? [`what this batch's jobs hold of its GPUs counts as others' (nvidia-smi exited ${status})`]
      : [],
  };
}

/** Seconds; 0 where it is not known. */
function uptimeOf(lines: readonly string[]): number {
  return machineNumber(/^uptime (\S+)$/.exec(lines[0] ?? '')?.[1], 1e10) ?? 0;
}

function killWarning(user: string): string {
  return (
    `its login manager kills what a user leaves running at logout (KillUserProcesses=yes in logind.conf): jobs end ` +
    `when the connection does; ask its administrator for KillExcludeUsers=${user}`
  );
}

function splitSections(output: string, nonce: string): Map<string, readonly string[]> {
  const sections = new Map<string, string[]>();
  const marker = `@@${nonce} `;
  let current: string[] | undefined;
  for (const line of output.split(/\r?\n/)) {
    if (line.startsWith(marker)) {
      current = [];
      sections.set(line.slice(marker.length), current);
    } else if (line !== '') current?.push(line);
  }
  return sections;
}

/** The first line of a section, fit to be shown. */
function lineOf(lines: readonly string[]): string {
  return cutToWidth(visibleText(lines[0]?.trim() ?? ''), LONGEST_NAME);
}
