/** A real terminal for tests: a tmux server of its own with one shell in it. */
import { execFile } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { until } from '../../rig/until.ts';

const run = promisify(execFile);
const DEADLINE_MS = 30_000;

/** One window. */
export class Tmux implements AsyncDisposable {
  readonly #folder: string;

  private constructor(folder: string) {
    this.#folder = folder;
  }

  /** A window of this size whose shell waits for a command, with job control. */
  static async open(columns: number, rows: number): Promise<Tmux> {
    const tmux = new Tmux(await mkdtemp(join(tmpdir(), 'tmux-')));
    const size = ['-x', String(columns), '-y', String(rows)];
    await tmux.ask('-f', '/dev/null', 'new-session', '-d', ...size, "ENV= PS1='prompt> ' exec sh -i");
    await tmux.shows('prompt>');
    return tmux;
  }

  /** What a tmux command says. */
  async ask(...args: string[]): Promise<string> {
    // Its socket lies in the test's own folder, so that no other server is meant.
    const env = { ...process.env, TMUX: '', TMUX_TMPDIR: this.#folder };
    return (await run('tmux', ['-u', ...args], { env })).stdout;
  }

  /** Presses keys by tmux's names for them. */
  async press(...keys: string[]): Promise<void> {
    for (const key of keys) await this.ask('send-keys', key);
  }

  /** Types a command line. */
  async type(line: string): Promise<void> {
    await this.ask('send-keys', '-l', line);
    await this.press('Enter');
  }

  /** The lines on the screen, without blanks at their ends. */
  async screen(): Promise<string[]> {
    return (await this.ask('capture-pane', '-p')).split('\n').map((line) => line.trimEnd());
  }

  /** Resolves to the screen once this stands on it. */
  async shows(text: string | RegExp): Promise<string[]> {
    const isThere = async () => {
      const lines = await this.screen();
      const all = lines.join('\n');
      return (typeof text === 'string' ? all.includes(text) : text.test(all)) && lines;
    };
    const seen = async () => `${text} on the screen:\n${(await this.screen()).join('\n')}`;
    return await until(isThere, { deadlineMs: DEADLINE_MS, intervalMs: 50, describe: seen });
  }

  /** One of tmux's variables. */
  async variable(name: string): Promise<string> {
    return (await this.ask('display-message', '-p', `#{${name}}`)).trim();
  }

  /** The settings of the terminal: echo, line mode and all others. */
  async settings(): Promise<string> {
    const tty = await this.variable('pane_tty');
    return (await run('sh', ['-c', 'stty -a < "$1"', 'sh', tty])).stdout;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.ask('kill-server').catch(() => {});
    await rm(this.#folder, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 });
  }
}
