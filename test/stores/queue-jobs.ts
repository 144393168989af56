/** For tests of the queue's store: jobs, folders and a clock of their own. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { QueueJobSpec } from '../../src/lib/domain/queue.ts';
import type { QueueClock } from '../../src/lib/stores/queue-base.ts';
import { smallJob } from '../runner/local-runner.ts';

/** A job that asks for next to nothing, unless said otherwise. */
export function smallSpec(name: string, more: Partial<QueueJobSpec> = {}): QueueJobSpec {
  return {
    name,
    command: 'true',
    request: smallJob(name, 'true').request,
    env: {},
    cwd: '/tmp',
    results: '/tmp/job_results',
    copyForwards: [],
    shareForwards: [],
    copyBackwards: [],
    treeParts: [],
    retries: 0,
    oomGrow: 1,
    priority: 0,
    dependsOn: [],
    dependsOnAny: false,
    waitForMachine: false,
    ...more,
  };
}

/** A folder that goes when it is disposed of. */
export function temporaryFolder(): { readonly path: string; [Symbol.dispose](): void } {
  const path = mkdtempSync(join(tmpdir(), 'queue-store-'));
  return { path, [Symbol.dispose]: () => rmSync(path, { recursive: true, force: true }) };
}

/** A clock that goes on when it is told to. */
export class TestClock implements QueueClock {
  #now = 1_000_000;
  #timers: { readonly at: number; readonly callback: () => void }[] = [];

  now(): number {
    return this.#now;
  }

  after(delayMs: number, callback: () => void): () => void {
    const timer = { at: this.#now + delayMs, callback };
    this.#timers.push(timer);
    return () => {
      this.#timers = this.#timers.filter((one) => one !== timer);
    };
  }

  /** So many milliseconds pass, timers among them in order. */
  advance(ms: number): void {
    const until = this.#now + ms;
    for (;;) {
      const next = this.#timers.filter(({ at }) => at <= until).sort((a, b) => a.at - b.at)[0];
      if (next === undefined) break;
      this.#timers = this.#timers.filter((one) => one !== next);
      this.#now = Math.max(this.#now, next.at);
      next.callback();
    }
    this.#now = until;
  }
}
