/** The live footer of one command on many machines: how far it is, and which machines take long. */
import type { MachineName } from '../../../lib/domain/machine.ts';
import { type FanoutEvent, type HostState, isGood } from '../../../lib/fanout/host-result.ts';
import { durationText } from '../../../lib/util/duration-text.ts';
import { cutToWidth, textWidth, visibleText } from '../../../lib/util/terminal-text.ts';
import { canDrawFooter, type FooterStreams, type LineOut, LiveFooter } from '../live-footer.ts';

const SLOWEST_LINES = 2;
/** What stays free for the lines that scroll above. */
const ROWS_KEPT_FREE = 4;
const INDENT = '  ';
/** The states in the order in which a machine goes through them, the most telling one first. */
const STATES: readonly HostState[] = ['running', 'connecting', 'sending', 'fetching', 'ending'];

/** Options of `fanoutTerminal`. */
export interface FanoutTerminalOptions extends FooterStreams {
  /** @default process.env */
  readonly environment?: NodeJS.ProcessEnv;
}

/** Takes the events, and gives the two streams through which all that is written meanwhile has to go, in whole lines. */
export interface FanoutTerminal extends Disposable {
  /** Takes every event, before the reporters that write lines about it. */
  report(event: FanoutEvent): void;
  readonly stdout: LineOut;
  readonly stderr: LineOut;
  /** Takes the footer off the screen; call it on every way out. */
  close(): void;
}

/**
 * The footer, where `canDrawFooter` says that it can be drawn, from `fanout:started` to `fanout:ended`. Elsewhere the
 * streams are those given, and no escape code is written.
 */
export function fanoutTerminal(options: FanoutTerminalOptions): FanoutTerminal {
  const { stdout, stderr, environment } = options;
  if (!canDrawFooter(options, environment)) {
    return { report: () => {}, stdout, stderr, close: () => {}, [Symbol.dispose]: () => {} };
  }
  const progress = new FanoutProgress();
  const footer = new LiveFooter({
    ...options,
    prefix: 'execute_to: ',
    lines: (now, columns, rows) => fanoutFooterLines(progress, now, columns, rows),
  });
  return {
    report: (event) => {
      progress.report(event);
      if (event.type === 'fanout:started') footer.start();
      if (event.type === 'fanout:ended') footer.close();
    },
    stdout: footer.stdout,
    stderr: footer.stderr,
    close: () => footer.close(),
    [Symbol.dispose]: () => footer.close(),
  };
}

/** A machine at work. */
interface BusyHost {
  readonly machine: MachineName;
  readonly state: HostState;
  /** Epoch milliseconds. */
  readonly since: number;
}

/** How far it is, kept up to date from the events. */
export class FanoutProgress {
  #startedAt: number | undefined;
  #total = 0;
  #done = 0;
  #failed = 0;
  #notStarted = 0;
  readonly #busy = new Map<MachineName, BusyHost>();

  /** Takes every event. */
  report(event: FanoutEvent): void {
    switch (event.type) {
      case 'fanout:started':
        this.#startedAt = event.at;
        this.#total = event.machines.length;
        return;
      case 'host:state': {
        const { machine, state, at } = event;
        // Deleted first, so that the map's order stays the order of `since`.
        if (this.#busy.get(machine)?.state === state) return;
        this.#busy.delete(machine);
        this.#busy.set(machine, { machine, state, since: at });
        return;
      }
      case 'host:ended':
        this.#busy.delete(event.result.machine);
        this.#done++;
        if (event.result.outcome.type === 'not-started') this.#notStarted++;
        else if (!isGood(event.result)) this.#failed++;
        return;
      default:
    }
  }

  /** Epoch milliseconds of the start; undefined before it. */
  get startedAt(): number | undefined {
    return this.#startedAt;
  }

  /** Machines: all, those where it is over (among them those that failed or were not begun), and those at work by state. */
  counts(): {
    readonly total: number;
    readonly done: number;
    readonly failed: number;
    readonly notStarted: number;
    readonly busy: Readonly<Record<HostState, number>>;
  } {
    const busy: Record<HostState, number> = { connecting: 0, sending: 0, running: 0, fetching: 0, ending: 0 };
    for (const { state } of this.#busy.values()) busy[state]++;
    return {
      total: this.#total,
      done: this.#done,
      failed: this.#failed,
      notStarted: this.#notStarted,
      busy,
    };
  }

  /** The machines at work, the one that has been longest in its state first. */
  slowest(): Iterable<BusyHost> {
    return this.#busy.values();
  }
}

/**
 * ```
 * 40/64 done, 2 failed, 20 running, 4 connecting; 1m05s
 *   gpu07 running 42s, gpu11 running 40s, gpu13 running 31s
 *   gpu32 connecting 4s
 * ```
 * No line is wider than `columns`, and there are never so many that nothing can scroll in `rows`.
 */
export function fanoutFooterLines(
  progress: FanoutProgress,
  now: number,
  columns: number,
  rows: number,
): string[] {
  const most = Math.max(0, Math.min(SLOWEST_LINES, rows - 1 - ROWS_KEPT_FREE));
  const lines = [countsLine(progress, now), ...slowestLines(progress, now, columns, most)];
  return lines.map((line) => cutToWidth(line, columns));
}

function countsLine(progress: FanoutProgress, now: number): string {
  const { total, done, failed, notStarted, busy } = progress.counts();
  const parts = [`${done}/${total} done`, `${failed} failed`];
  if (notStarted > 0) parts.push(`${notStarted} not started`);
  for (const state of STATES) {
    if (busy[state] > 0 || state === 'running') parts.push(`${busy[state]} ${state}`);
  }
  return `${parts.join(', ')}; ${durationText(now - (progress.startedAt ?? now), 0)}`;
}

/** As many as fit into so many lines. */
function slowestLines(progress: FanoutProgress, now: number, columns: number, most: number): string[] {
  const lines: string[] = [];
  let line = '';
  for (const { machine, state, since } of progress.slowest()) {
    const host = `${visibleText(machine)} ${state} ${durationText(now - since, 0)}`;
    const longer = line === '' ? INDENT + host : `${line}, ${host}`;
    if (line === '' || textWidth(longer) <= columns) {
      line = longer;
      continue;
    }
    if (lines.push(line) >= most) return lines.slice(0, most);
    line = INDENT + host;
  }
  if (line !== '') lines.push(line);
  return lines.slice(0, most);
}
