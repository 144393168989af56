/** Machines that are to go: each goes when nothing of ours runs there any more. */
import { UsageError } from '../domain/errors.ts';
import type { MachineName } from '../domain/machine.ts';

/** What departures go by. */
export interface DepartureOptions {
  /** Whether the machine is in the list. */
  readonly isThere: (machine: MachineName) => boolean;
  /** Whether the list has it leave. */
  readonly isLeaving: (machine: MachineName) => boolean;
  readonly isIdle: (machine: MachineName) => boolean;
  /** Gives up what runs there, where it cannot be reached. */
  readonly giveUp: (machine: MachineName) => void;
  /** Lets go of the machine, which is idle. */
  readonly drop: (machine: MachineName) => Promise<void>;
  /** How often is looked. @default 250 */
  readonly lookMs?: number;
}

const LOOK_MS = 250;

/** The departures of a service's machines. */
export class MachineDepartures {
  readonly #options: DepartureOptions;
  readonly #departing = new Map<MachineName, Promise<void>>();
  readonly #killed = new Set<MachineName>();
  readonly #tried = new Set<MachineName>();
  #isClosed = false;

  constructor(options: DepartureOptions) {
    this.#options = options;
  }

  /**
   * A machine goes as soon as it is idle; settles when it has gone. `isKilled`: what runs there is given up when it cannot
   * be reached.
   * @throws UsageError when it was added again, or the service ends before
   */
  depart(machine: MachineName, { isKilled = false } = {}): Promise<void> {
    if (isKilled) this.#killed.add(machine);
    const underWay = this.#departing.get(machine);
    if (underWay !== undefined) return underWay;
    const gone = this.#untilGone(machine, () => {
      if (!this.#options.isLeaving(machine)) throw new UsageError(`${machine} was added again, and stays`);
      if (this.#killed.has(machine)) this.#options.giveUp(machine);
    }).finally(() => {
      this.#departing.delete(machine);
      this.#killed.delete(machine);
    });
    gone.catch(() => {}); // whoever waits hears
    this.#departing.set(machine, gone);
    return gone;
  }

  /**
   * A machine goes if it is idle. It gets no new jobs meanwhile: `onChange` hears when that begins and ends. Settles when it
   * has gone; rejects with what `refuse` throws.
   */
  async ifIdle(machine: MachineName, { onChange, refuse }: { onChange: () => void; refuse: () => void }) {
    this.#tried.add(machine);
    onChange();
    try {
      await this.#untilGone(machine, refuse);
    } finally {
      this.#tried.delete(machine);
      onChange();
    }
  }

  /** Whether a machine is kept from new jobs, to see whether it is idle. */
  isTried(machine: MachineName): boolean {
    return this.#tried.has(machine);
  }

  /** Looks no more; those that were to go stay until the next start. */
  close(): void {
    this.#isClosed = true;
  }

  async #untilGone(machine: MachineName, look: () => void): Promise<void> {
    const { isThere, isIdle, drop, lookMs = LOOK_MS } = this.#options;
    while (isThere(machine)) {
      if (this.#isClosed)
        throw new UsageError(`the service ends before ${machine} could go: at its next start it goes on`);
      look();
      if (isIdle(machine)) return await drop(machine);
      await new Promise((resolve) => setTimeout(resolve, lookMs).unref());
    }
  }
}

/** Settles as the promise does, or rejects when the signal aborts. */
export async function unlessAborted<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return await promise;
  signal.throwIfAborted();
  return await new Promise((resolve, reject) => {
    const abort = () => reject(signal.reason as Error);
    signal.addEventListener('abort', abort, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', abort));
  });
}
