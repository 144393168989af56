/** The default of `execute_to`: what the machines print, line by line as it comes, each line as `host: line` or bare. */
import type { MachineName } from '../../../lib/domain/machine.ts';
import { visibleText } from '../../../lib/util/terminal-text.ts';
import type { ByteOuts } from './byte-out.ts';
import { LineWriter } from './line-writer.ts';

/** Never mixes two lines. What a machine prints to stderr goes to stderr. */
export class HostLines {
  readonly #outs: ByteOuts;
  readonly #names: boolean;
  readonly #writers = new Map<MachineName, { readonly out: LineWriter; readonly err: LineWriter }>();

  /** @param options `names`: whether lines have the machine's name before them. */
  constructor(outs: ByteOuts, options: { readonly names: boolean } = { names: true }) {
    this.#outs = outs;
    this.#names = options.names;
  }

  /** Takes bytes as they come, split anywhere. */
  write(machine: MachineName, stream: 'out' | 'err', chunk: Buffer): void {
    let writers = this.#writers.get(machine);
    if (writers === undefined) {
      const prefix = this.#names ? `${visibleText(machine)}: ` : '';
      writers = { out: new LineWriter(this.#outs.out, prefix), err: new LineWriter(this.#outs.err, prefix) };
      this.#writers.set(machine, writers);
    }
    writers[stream].write(chunk);
  }

  /** Prints last lines that have no newline. */
  end(machine: MachineName): void {
    const writers = this.#writers.get(machine);
    this.#writers.delete(machine);
    writers?.out.end();
    writers?.err.end();
  }
}
