/** How long machines have been away, in time that counts. */
import type { MachineName } from '../domain/machine.ts';

/** What an absence clock goes by. */
export interface AbsenceOptions {
  /** The machines to watch, as they are at each look. */
  readonly machines: () => readonly MachineName[];
  readonly isUp: (machine: MachineName) => boolean;
  /** So long, and `onLost` is told, once per absence. */
  readonly lostAfterMs: number;
  readonly onLost: (machine: MachineName, awayMs: number) => void;
  /** @default performance.now: wall clocks jump */
  readonly now?: () => number;
}

const LOOKS_PER_LIMIT = 10;
const SHORTEST_LOOK_MS = 20;
const LONGEST_LOOK_MS = 1000;

/**
 * Watches until the returned function is called. Only time counts in which this computer was awake (a look that comes
 * late counts no more than two that come in time) and another machine answered: else it is our network that is away.
 */
export function watchAbsences(options: AbsenceOptions): () => void {
  const { machines, isUp, lostAfterMs, onLost, now = () => performance.now() } = options;
  const lookMs = Math.min(LONGEST_LOOK_MS, Math.max(SHORTEST_LOOK_MS, lostAfterMs / LOOKS_PER_LIMIT));
  const awayMs = new Map<MachineName, number>();
  const told = new Set<MachineName>();
  let last = now();
  const timer = setInterval(() => {
    const elapsed = Math.min(now() - last, 2 * lookMs);
    last = now();
    const watched = machines();
    const up = watched.filter(isUp);
    for (const machine of up) {
      awayMs.delete(machine);
      told.delete(machine);
    }
    if (up.length === 0) return;
    for (const machine of watched) {
      if (up.includes(machine) || told.has(machine)) continue;
      const total = (awayMs.get(machine) ?? 0) + elapsed;
      awayMs.set(machine, total);
      if (total < lostAfterMs) continue;
      told.add(machine);
      onLost(machine, total);
    }
  }, lookMs);
  timer.unref();
  return () => clearInterval(timer);
}
