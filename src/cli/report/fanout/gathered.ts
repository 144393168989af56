/** What many machines print, kept until they have ended, and the machines sorted by what they answer. */
import type { MachineName } from '../../../lib/domain/machine.ts';
import type { HostOutcome, HostResult } from '../../../lib/fanout/host-result.ts';
import { compareNames } from '../../../lib/machine/host-range.ts';
import { Spool, type SpoolOptions, type SpoolText } from './spool.ts';

/** All that one machine printed. */
export interface Answer {
  readonly stdout: SpoolText;
  readonly stderr: SpoolText;
}

/** Machines whose output and outcome are the same. */
export interface AnswerGroup extends Answer {
  /** In natural order. */
  readonly machines: readonly MachineName[];
  /** How it ended, as the first machine tells it. */
  readonly outcome: HostOutcome;
}

/** Keeps output in bounded memory. */
export class Gathered implements Disposable {
  readonly #spool: Spool;
  readonly #answers = new Map<MachineName, Answer>();
  readonly #results = new Map<MachineName, HostResult>();

  constructor(options: SpoolOptions = {}) {
    this.#spool = new Spool(options);
  }

  /** Takes bytes as they come. @throws SchedulerError when memory is full and the disk does not take them. */
  write(machine: MachineName, stream: 'out' | 'err', chunk: Buffer): void {
    const { stdout, stderr } = this.answer(machine);
    (stream === 'out' ? stdout : stderr).append(chunk);
  }

  /** All is over on one machine; it has a group from now on. */
  end(result: HostResult): void {
    const { stdout, stderr } = this.answer(result.machine);
    stdout.finish();
    stderr.finish();
    this.#results.set(result.machine, result);
  }

  /** What a machine printed so far. */
  answer(machine: MachineName): Answer {
    let answer = this.#answers.get(machine);
    if (answer === undefined) {
      answer = { stdout: this.#spool.text(), stderr: this.#spool.text() };
      this.#answers.set(machine, answer);
    }
    return answer;
  }

  /** Drops a machine with all that it printed: what it took up is used for others. */
  forget(machine: MachineName): void {
    const answer = this.#answers.get(machine);
    this.#answers.delete(machine);
    this.#results.delete(machine);
    answer?.stdout.forget();
    answer?.stderr.forget();
  }

  /** The machines that have ended, by what they answer: the largest group first, then the one with the first machine. */
  groups(): AnswerGroup[] {
    const groups = new Map<string, Answer & { machines: MachineName[]; outcome: HostOutcome }>();
    const inOrder = [...this.#results.values()].sort((a, b) => compareNames(a.machine, b.machine));
    for (const { machine, outcome } of inOrder) {
      const { stdout, stderr } = this.answer(machine);
      const key = JSON.stringify([outcomeKey(outcome), stdout.digest, stderr.digest]);
      const group = groups.get(key);
      if (group === undefined) groups.set(key, { machines: [machine], outcome, stdout, stderr });
      else group.machines.push(machine);
    }
    // The sort is stable, so among equals the group of the first machine stays first.
    return [...groups.values()].sort((a, b) => b.machines.length - a.machines.length);
  }

  /** Drops all output. */
  close(): void {
    this.#spool.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** The kind of an end with its exit code or signal. Reasons differ in words where the same happened. */
function outcomeKey(outcome: HostOutcome): readonly unknown[] {
  if (outcome.type === 'signalled') return [outcome.type, outcome.signal];
  return [outcome.type, 'exitCode' in outcome ? outcome.exitCode : undefined];
}
