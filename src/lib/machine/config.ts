/**
 * What we know about a machine before the first contact: what its entry in a machine file says, or what an ssh
 * destination on the command line says. Reading machine files is in machine-file.ts, so that using these types
 * loads neither yaml nor zod.
 */
import { inspect } from 'node:util';
import { type MachineName, machineName } from '../domain/machine.ts';

/** A password or passphrase: only `reveal()` gives it away; printing, inspecting and JSON show `***`. */
export class Secret {
  readonly #text: string;

  constructor(text: string) {
    this.#text = text;
  }

  /** The secret itself, for the ssh library alone. */
  reveal(): string {
    return this.#text;
  }

  toString(): string {
    return '***';
  }

  toJSON(): string {
    return '***';
  }

  [inspect.custom](): string {
    return '***';
  }
}

/** What to do about a host key: add an unknown one and refuse a changed one; refuse both; check nothing. */
export type HostKeyChecking = 'accept-new' | 'strict' | 'no';

/** Where an entry comes from. */
export type MachineSource =
  | {
      readonly type: 'file';
      /** Absolute path of the machine file. */
      readonly path: string;
      /** Line of the entry, from 1. */
      readonly line: number;
    }
  | {
      readonly type: 'destination';
      /** As the user wrote it. */
      readonly destination: string;
      /** Machine files that were looked for first, in order, and are not there. */
      readonly searched: readonly string[];
    }
  | { readonly type: 'builtin' };

/** One machine as the user describes it. What is absent may be filled in from `ssh -G`, or has the default named. */
export interface MachineConfig {
  readonly name: MachineName;
  /** An address, a host name, or an alias of the user's ssh configuration. */
  readonly host: string;
  /** Absent: what `ssh -G` says, else 22. */
  readonly port?: number;
  /** Absent: what `ssh -G` says, else the user's own name here. */
  readonly username?: string;
  /** Absolute path of a private key that was there when the file was read. Absent: what `ssh -G` says. */
  readonly sshKeyPath?: string;
  /** `[user@]host[:port]`, several with commas, or `none`. Absent: what `ssh -G` says. */
  readonly proxyJump?: string;
  /** Absent: what `ssh -G` says about StrictHostKeyChecking, else `accept-new`. */
  readonly hostKeyChecking?: HostKeyChecking;
  readonly password?: Secret;
  /** Opens the private key. */
  readonly passphrase?: Secret;
  /** Shell text run before each job's command. */
  readonly setup?: string;
  /** Variables that every job gets. */
  readonly env: Readonly<Record<string, string>>;
  /** Most jobs of ours at once. Absent: as many as fit. */
  readonly maxJobs?: number;
  /** Indexes, as nvidia-smi counts, of the GPUs we may use, ascending. Absent: all. */
  readonly gpus?: readonly number[];
  /** Where our files go on the machine: absolute, or beginning with `~/`. Absent: `~/.cache/ssh-scheduler`. */
  readonly remoteDir?: string;
  /** What source trees may take up on the machine before unused ones are removed. Absent: 20 GiB. */
  readonly cacheLimitMiB?: number;
  /** Least time between two starts. */
  readonly startSpacingMs: number;
  readonly source: MachineSource;
}

/** The time between two starts on a machine whose entry does not say. */
export const DEFAULT_START_SPACING_MS = 5;

/** The built-in machine `local`: this one, reached without ssh. */
export function localMachine(): MachineConfig {
  return {
    name: machineName('local'),
    host: 'localhost',
    env: {},
    startSpacingMs: DEFAULT_START_SPACING_MS,
    source: { type: 'builtin' },
  };
}
