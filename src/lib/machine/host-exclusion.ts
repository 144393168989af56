/** What an exclusion leaves out, and what it names that is not there. */
import type { MachineEntry } from './machine-entry.ts';
import { parseSshDestination } from './ssh-destination.ts';

/** An item of an exclusion of which no host is there. */
export interface MissingExclusion {
  /** As somebody would write it, without `!`. */
  readonly text: string;
  /**
   * It is a name or range, of which nothing at all is there: perhaps mistyped. Groups and files are names of what need
   * not be meant now, such as hosts that are broken.
   */
  readonly isPerhapsMistyped: boolean;
  /** Where it is written, if not in the call itself. */
  readonly place: string | undefined;
}

/**
 * The host of an exclusion without user and port, in small letters; undefined where it has one of them. Such a name leaves
 * out every ssh destination with that host: who writes `!gpu07` wants nothing to run there, as whatever user.
 */
function bareHostOf(name: string): string | undefined {
  const destination = parseSshDestination(name);
  if (destination?.username !== undefined || destination?.port !== undefined) return undefined;
  return destination?.host.toLowerCase();
}

function destinationHostOf({ config }: MachineEntry): string | undefined {
  return config.source.type === 'destination' ? config.host.toLowerCase() : undefined;
}

/** Names to leave out. */
export class Exclusion {
  readonly #names: ReadonlySet<string>;
  readonly #hosts: ReadonlySet<string>;

  constructor(names: Iterable<string>) {
    this.#names = new Set(names);
    this.#hosts = new Set([...this.#names].flatMap((name) => bareHostOf(name) ?? []));
  }

  /** Whether a machine is to be left out. */
  has(machine: MachineEntry): boolean {
    if (this.#names.has(machine.config.name)) return true;
    const host = destinationHostOf(machine);
    return host !== undefined && this.#hosts.has(host);
  }
}

/** Machines that exclusions are looked for in. */
export class ExcludableHosts {
  readonly #names = new Set<string>();
  readonly #hosts = new Set<string>();

  constructor(machines: Iterable<MachineEntry>) {
    for (const machine of machines) {
      this.#names.add(machine.config.name);
      const host = destinationHostOf(machine);
      if (host !== undefined) this.#hosts.add(host);
    }
  }

  /** Whether excluding one of the names leaves out one of the machines. */
  hasAny(names: Iterable<string>): boolean {
    for (const name of names) {
      if (this.#names.has(name)) return true;
      const host = bareHostOf(name);
      if (host !== undefined && this.#hosts.has(host)) return true;
    }
    return false;
  }

  /** Names of all. */
  get names(): readonly string[] {
    return [...this.#names];
  }
}
