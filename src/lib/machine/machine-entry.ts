/** Machines as found, before anything is known of them but what was written. */
import { UsageError } from '../domain/errors.ts';
import { machineName } from '../domain/machine.ts';
import { cutToWidth, visibleText } from '../util/terminal-text.ts';
import { DEFAULT_START_SPACING_MS, localMachine, type MachineConfig } from './config.ts';
import { parseSshDestination } from './ssh-destination.ts';

/** A machine and the way to it. */
export interface MachineEntry {
  readonly kind: 'local' | 'ssh';
  readonly config: MachineConfig;
}

/**
 * The machine that a name means where no machine file has it: `local` or an ssh destination. `searched` are the paths
 * where a machine file was looked for.
 * @throws UsageError for what is neither.
 */
export function machineWithoutFile(name: string, searched: readonly string[]): MachineEntry {
  if (name === 'local') return { kind: 'local', config: localMachine() };
  const destination = parseSshDestination(name);
  if (destination === undefined) {
    const shown = cutToWidth(visibleText(name.slice(0, 200)), 80);
    if (/\S\s+\S/.test(name)) {
      throw new UsageError(`found the machine "${shown}", expected commas between hosts, as in gpu01,gpu02`);
    }
    throw new UsageError(
      `found the machine "${shown}", expected a machine file (ending in .yaml or with a slash), \`local\` or [user@]host[:port]`,
    );
  }
  const config: MachineConfig = {
    ...destination,
    name: machineName(name),
    env: {},
    startSpacingMs: DEFAULT_START_SPACING_MS,
    source: { type: 'destination', destination: name, searched },
  };
  return { kind: 'ssh', config };
}

/** @throws UsageError for two machines of one name, with the place of each. */
export function refuseSameNames(machines: readonly MachineEntry[]): void {
  const byName = new Map<string, MachineConfig>();
  for (const { config } of machines) {
    const other = byName.get(config.name);
    if (other !== undefined) {
      const places = `${placeOf(other)} and ${placeOf(config)}`;
      throw new UsageError(
        `found two machines named "${config.name}": ${places}; expected a name of its own for each (\`name:\` in a machine file gives one)`,
      );
    }
    byName.set(config.name, config);
  }
}

function placeOf({ source }: MachineConfig): string {
  switch (source.type) {
    case 'file':
      return `${source.path}:${source.line}`;
    case 'destination':
      return `--machines ${visibleText(source.destination)}`;
    case 'builtin':
      return 'the built-in machine';
  }
}
