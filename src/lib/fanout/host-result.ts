/** What one command did on one machine of many, and what is told while it runs: plain data. */
import type { MachineName } from '../domain/machine.ts';

/** How the command ended on one machine. */
export type HostOutcome =
  | { readonly type: 'exited'; readonly exitCode: number }
  /** Ended by a signal that was not ours; the name is without `SIG`. */
  | { readonly type: 'signalled'; readonly signal: string }
  /** It ran longer than it may, and was ended with all that it started. */
  | { readonly type: 'timed-out'; readonly limitMs: number; readonly left: Left }
  /** It was never started there: no connection, no login, a wrong host key, no shell. */
  | { readonly type: 'unreachable'; readonly reason: Reason }
  /** The connection went while it ran; it may run on. */
  | { readonly type: 'lost'; readonly reason: Reason }
  /** Files could not be brought there (`send`: it was not started) or home (`fetch`: it had ended with `exitCode`). */
  | {
      readonly type: 'transfer-failed';
      readonly stage: 'send' | 'fetch';
      readonly reason: Reason;
      /** How the command itself had ended. */
      readonly exitCode?: number;
    }
  /** Ended by us before it was done. */
  | { readonly type: 'cancelled'; readonly reason: string; readonly left: Left }
  /** Not begun: another machine failed before (`--fail-fast`, `--batches`), or all was called off. */
  | { readonly type: 'not-started'; readonly reason: string };

/** What may still run after an end that was asked for. */
export type Left =
  | 'nothing'
  /** So many processes could not be ended. */
  | { readonly processes: number }
  /** Nobody could ask the machine; why. */
  | { readonly unknown: string };

/** Why something failed. */
export interface Reason {
  /** The same words for all machines that fail alike, without their names: `connection refused`. */
  readonly brief: string;
  /** One line that names the machine's address, keys, files, and what to do. */
  readonly full: string;
}

/** What became of one machine. */
export interface HostResult {
  readonly machine: MachineName;
  readonly outcome: HostOutcome;
  /** When the command itself began there, epoch milliseconds. Absent when it did not. */
  readonly startedAt?: number;
  /** When all was over there, results and all. */
  readonly endedAt: number;
  /** All that it printed, in bytes. */
  readonly printedBytes: { readonly out: number; readonly err: number };
  /** What it printed, up to `keepBytes` of each stream; the rest is not kept. */
  readonly stdout: Buffer;
  readonly stderr: Buffer;
  /** Files that came home with `copyBackwards`. */
  readonly fetchedFiles: number;
}

/** What a machine is doing. */
export type HostState = 'connecting' | 'sending' | 'running' | 'fetching' | 'ending';

/** All that happens. `host:output` alone is not JSON-safe; its bytes are not kept by the library after the call. */
export type FanoutEvent =
  | { readonly type: 'fanout:started'; readonly at: number; readonly machines: readonly MachineName[] }
  | {
      readonly type: 'host:state';
      readonly at: number;
      readonly machine: MachineName;
      readonly state: HostState;
    }
  | {
      readonly type: 'host:output';
      readonly machine: MachineName;
      readonly stream: 'out' | 'err';
      /** Split anywhere, also inside a line or a character. */
      readonly chunk: Buffer;
    }
  /** Something a person should know; one line. */
  | { readonly type: 'host:warned'; readonly machine: MachineName; readonly message: string }
  /** A key was added to known_hosts, or accepted although it differs; one line. */
  | { readonly type: 'host:new-key'; readonly machine: MachineName; readonly message: string }
  | { readonly type: 'host:ended'; readonly at: number; readonly result: HostResult }
  /** About the files that go there; one line. */
  | { readonly type: 'fanout:warned'; readonly message: string }
  | { readonly type: 'fanout:ended'; readonly at: number };

/** Whether all went well there. */
export function isGood({ outcome }: HostResult): boolean {
  return outcome.type === 'exited' && outcome.exitCode === 0;
}
