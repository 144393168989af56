/** Keeps the same command running: when it has ended before all is done, it is started again. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const QUICK_TIMES = fileURLToPath(new URL('quick-times.js', import.meta.url));
/** Between an end that no fault explains and the next start. */
const PAUSE_MS = 300;

/** What is run, and where what it prints goes: `RUN.out` (events, as JSON) and `RUN.err` in `logs`. */
export interface ControllerOptions {
  readonly command: string;
  readonly args: readonly string[];
  readonly cwd: string;
  readonly env: NodeJS.ProcessEnv;
  readonly logs: string;
  /** Which exit code says that all is done; absent for a service, which serves until `letEnd`. */
  readonly doneCode?: number;
}

/** How one run of the command ended. */
export interface ControllerEnd {
  readonly exitCode: number | null;
  readonly signal: NodeJS.Signals | null;
}

/** The command, again and again. */
export class Controller {
  readonly #options: ControllerOptions;
  readonly #ends: ControllerEnd[] = [];
  #child: ChildProcess | undefined;
  #wasInterrupted = false;
  #pauseMs = PAUSE_MS;
  #isOver = false;

  constructor(options: ControllerOptions) {
    this.#options = options;
  }

  /** How the runs so far ended. */
  get ends(): readonly ControllerEnd[] {
    return this.#ends;
  }

  /** Runs the command until it says that all is done; or until it ends after `letEnd`, or `stop`. */
  async runUntilDone(): Promise<boolean> {
    while (!this.#isOver) {
      this.#pauseMs = PAUSE_MS;
      const { exitCode } = await this.runOnce();
      if (exitCode === this.#options.doneCode) return true;
      if (!this.#isOver) await new Promise((resolve) => setTimeout(resolve, this.#pauseMs));
    }
    return false;
  }

  /** Runs the command to its end. */
  async runOnce(): Promise<ControllerEnd> {
    const { command, args, cwd, env, logs } = this.#options;
    const name = String(this.#ends.length + 1).padStart(3, '0');
    const out = openSync(join(logs, `${name}.out`), 'w');
    const err = openSync(join(logs, `${name}.err`), 'w');
    try {
      this.#wasInterrupted = false;
      this.#child = spawn(process.execPath, ['--import', QUICK_TIMES, command, ...args], {
        cwd,
        env,
        stdio: ['ignore', out, err],
      });
    } finally {
      closeSync(out);
      closeSync(err);
    }
    // The two arguments of 'exit'.
    const [exitCode, signal] = (await once(this.#child, 'exit')) as [number | null, NodeJS.Signals | null];
    this.#child = undefined;
    const end = { exitCode, signal };
    this.#ends.push(end);
    return end;
  }

  /**
   * Sends the run of now a signal; the next begins `awayMs` after its end. Returns whether there was one to send it to.
   * A run gets one Ctrl-C only, since a second would end its jobs.
   */
  signal(signal: 'SIGKILL' | 'SIGINT' | 'SIGHUP' | 'SIGTERM', awayMs: number): boolean {
    if (this.#child === undefined || (signal === 'SIGINT' && this.#wasInterrupted)) return false;
    if (signal === 'SIGINT') this.#wasInterrupted = true;
    this.#pauseMs = Math.max(this.#pauseMs, awayMs);
    return this.#child.kill(signal);
  }

  /** Whatever ends it the next time, it is not started again. */
  letEnd(): void {
    this.#isOver = true;
  }

  /** Ends it for good. */
  stop(): void {
    this.#isOver = true;
    this.#child?.kill('SIGKILL');
  }
}
