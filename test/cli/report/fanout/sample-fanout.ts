/** Events of one command on many machines, for the reporters' tests. */
import { type MachineName, machineName } from '../../../../src/lib/domain/machine.ts';
import type { FanoutEvent, HostOutcome, HostState } from '../../../../src/lib/fanout/host-result.ts';

export const START = 1_700_000_000_000;

/** `gpu01`, `gpu02` ... */
export function hosts(count: number): MachineName[] {
  return Array.from({ length: count }, (_, index) => machineName(`gpu${String(index + 1).padStart(2, '0')}`));
}

export function started(machines: readonly MachineName[], at = START): FanoutEvent {
  return { type: 'fanout:started', at, machines };
}

export function state(machine: string, state: HostState, at = START): FanoutEvent {
  return { type: 'host:state', at, machine: machineName(machine), state };
}

const EXITED_0: HostOutcome = { type: 'exited', exitCode: 0 };

export function ended(machine: string, more: { at?: number; outcome?: HostOutcome } = {}): FanoutEvent {
  const { at = START, outcome = EXITED_0 } = more;
  const none = Buffer.alloc(0);
  const result = {
    machine: machineName(machine),
    outcome,
    endedAt: at,
    printedBytes: { out: 0, err: 0 },
    stdout: none,
    stderr: none,
    fetchedFiles: 0,
  };
  return { type: 'host:ended', at, result };
}
