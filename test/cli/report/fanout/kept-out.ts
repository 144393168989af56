/** Standard streams whose writes a test can look at, and results as machines give them. */
import type { ByteOut } from '../../../../src/cli/report/fanout/byte-out.ts';
import { machineName } from '../../../../src/lib/domain/machine.ts';
import type { HostOutcome, HostResult } from '../../../../src/lib/fanout/host-result.ts';

/** Keeps what is written. */
export class KeptOut implements ByteOut {
  readonly writes: (string | Uint8Array)[] = [];
  readonly isTTY: boolean;

  constructor(isTTY = false) {
    this.isTTY = isTTY;
  }

  write(data: string | Uint8Array): boolean {
    this.writes.push(data);
    return true;
  }

  get bytes(): Buffer {
    return Buffer.concat(this.writes.map((data) => Buffer.from(data as string)));
  }

  get text(): string {
    return this.bytes.toString();
  }
}

/** Both streams, with all that was written in order in `said`. */
export function keptOuts(isTTY = false): { out: KeptOut; err: KeptOut; said: string[] } {
  const outs = { out: new KeptOut(isTTY), err: new KeptOut(isTTY), said: [] as string[] };
  for (const name of ['out', 'err'] as const) {
    const keep = outs[name].write.bind(outs[name]);
    outs[name].write = (data) => {
      outs.said.push(`${name} ${Buffer.from(data as string).toString()}`);
      return keep(data);
    };
  }
  return outs;
}

export function hostResult(name: string, outcome: HostOutcome = { type: 'exited', exitCode: 0 }): HostResult {
  const isStarted = !['unreachable', 'not-started'].includes(outcome.type);
  return {
    machine: machineName(name),
    outcome,
    ...(isStarted ? { startedAt: Date.UTC(2026, 0, 31, 12) } : {}),
    endedAt: Date.UTC(2026, 0, 31, 12) + 1500,
    printedBytes: { out: 0, err: 0 },
    stdout: Buffer.alloc(0),
    stderr: Buffer.alloc(0),
    fetchedFiles: 0,
  };
}
