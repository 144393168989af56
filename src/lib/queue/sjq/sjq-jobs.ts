/** The jobs of the queue as the sjq door has them: submitted, killed, released, told of. */
import type { QueueJob, QueueJobId, QueueState } from '../../domain/queue.ts';
import { visibleText } from '../../util/terminal-text.ts';
import { MAX_IN_PLACE_SCRIPT_BYTES } from '../script-store.ts';
import type { ServiceParts } from '../service-parts.ts';
import type { SjqOptions } from './sjq-options.ts';
import type { SjqOption, SjqQueue } from './sjq-queue.ts';
import { readSubmit } from './sjq-submit.ts';

/** As the protocol calls the states, in its order. */
const LETTERS: Readonly<Record<QueueState, string>> = {
  running: 'R',
  queued: 'Q',
  holding: 'H',
  success: 'S',
  fail: 'F',
  abort: 'A',
  killed: 'K',
  'user-hold': 'U',
  error: 'E',
};

const PAGE = 1000;

/** What the jobs are made of. */
export interface SjqJobsOptions {
  readonly service: Pick<ServiceParts, 'store' | 'scripts' | 'endRunning' | 'isEnding' | 'barOf'>;
  readonly options: SjqOptions;
  /** Where jobs run that say no CWD. Absolute. */
  readonly home: string;
  readonly onShutdown: () => void;
}

/** The queue behind the sjq door. */
export class SjqJobs implements SjqQueue {
  readonly #options: SjqJobsOptions;
  /** What all jobs were last told as, and the event up to which that is true. */
  #told: { readonly event: number; readonly pieces: Promise<readonly Buffer[]> } | undefined;

  constructor(options: SjqJobsOptions) {
    this.#options = options;
  }

  stats(): string {
    const counts = this.#options.service.store.counts();
    return Object.entries(LETTERS)
      .map(([state, letter]) => `${letter}:${counts[state as QueueState]}`)
      .join(' ');
  }

  async submit(
    lines: readonly SjqOption[],
    script: Buffer,
  ): Promise<{ readonly id: number } | { readonly reasons: readonly string[] }> {
    const { service, options, home } = this.#options;
    const { store, scripts } = service;
    try {
      const isKnown = (id: QueueJobId) => store.get(id) !== undefined;
      const read = await readSubmit(lines, script, { options, home, isKnown });
      if ('reasons' in read) return read;
      const scriptId = await scripts.keep(script, MAX_IN_PLACE_SCRIPT_BYTES);
      if (service.isEnding) return { reasons: ['the service is about to end: nothing was submitted'] };
      const id = store.nextId;
      const spec = read.spec(id, scriptId);
      const bar = service.barOf(spec);
      if (bar !== undefined) return { reasons: [bar] };
      await store.add([spec], { hold: read.hold });
      return { id };
    } catch (error) {
      return { reasons: [visibleText((error as Error).message)] };
    }
  }

  async kill(id: number): Promise<void> {
    const { store, endRunning } = this.#bound;
    const reason = 'killed through the sjq door';
    const [answer] = await store.kill([id], reason);
    if (answer?.isDone === true && answer.state === 'running') await endRunning([id], reason);
  }

  async release(id: number): Promise<void> {
    await this.#options.service.store.release([id]);
  }

  async status(id?: number): Promise<readonly Buffer[]> {
    const { store } = this.#options.service;
    if (id !== undefined) {
      const job = store.get(id);
      return job === undefined ? [] : [Buffer.from(lineOf(job))];
    }
    const event = store.lastEvent;
    // Pipelines ask again and again; as long as nothing happens, all have one answer.
    if (this.#told?.event !== event) {
      const pieces = this.#all();
      this.#told = { event, pieces };
      pieces.catch(() => {
        this.#told = undefined;
      });
    }
    return await this.#told.pieces;
  }

  shutdown(): void {
    this.#options.onShutdown();
  }

  get #bound() {
    const { service } = this.#options;
    return {
      store: service.store,
      endRunning: (ids: readonly QueueJobId[], reason: string) => service.endRunning(ids, reason),
    };
  }

  /** In pieces, between which others have their turn; each job is in one of them. */
  async #all(): Promise<readonly Buffer[]> {
    const { store } = this.#options.service;
    const pieces: Buffer[] = [];
    for (let from = 1; ; ) {
      const jobs = store.list({ from, limit: PAGE });
      const last = jobs.at(-1);
      if (last === undefined) return pieces;
      pieces.push(Buffer.from(jobs.map(lineOf).join('')));
      from = last.id + 1;
      await new Promise((done) => setImmediate(done));
    }
  }
}

function lineOf({ id, spec, state }: QueueJob): string {
  // Names of other jobs may have whatever a file's name can have.
  const title = visibleText(spec.inPlace?.title ?? spec.name);
  return `${id}\t${title}\t${LETTERS[state]}\t${spec.dependsOn.join(':')}\r\n`;
}
