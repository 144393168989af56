/** How a job ended, in the words that people read. */
import { assertNever } from '../../lib/domain/errors.ts';
import type { JobOutcome } from '../../lib/domain/job.ts';
import { durationText } from '../../lib/util/duration-text.ts';
import { visibleText } from '../../lib/util/terminal-text.ts';

// signal(7) on x86 and ARM, from 1. The machines run Linux, so the controller's own numbers (macOS) do not count.
const LINUX_SIGNALS = (
  'HUP INT QUIT ILL TRAP ABRT BUS FPE KILL USR1 SEGV USR2 PIPE ALRM TERM STKFLT ' +
  'CHLD CONT STOP TSTP TTIN TTOU URG XCPU XFSZ VTALRM PROF WINCH IO PWR SYS'
).split(' ');
const FIRST_REALTIME_SIGNAL = 34;
const LAST_SIGNAL = 64;

/**
 * An exit code with what it may stand for: `exited 3`, `exited 137 (SIGKILL)`. Codes 129 to 192 are what a shell gives
 * for a command that a signal ended, and also what a command may give by itself: the two cannot be told apart.
 */
export function exitCodeText(exitCode: number): string {
  const signal = exitCode - 128;
  return signal >= 1 && signal <= LAST_SIGNAL
    ? `exited ${exitCode} (${signalName(signal)})`
    : `exited ${exitCode}`;
}

function signalName(signal: number): string {
  const name = LINUX_SIGNALS[signal - 1];
  if (name !== undefined) return `SIG${name}`;
  if (signal < FIRST_REALTIME_SIGNAL) return `signal ${signal}`;
  return signal === FIRST_REALTIME_SIGNAL ? 'SIGRTMIN' : `SIGRTMIN+${signal - FIRST_REALTIME_SIGNAL}`;
}

/** An outcome on one line, with the reason as the machine gave it made harmless. */
export function outcomeText(outcome: JobOutcome): string {
  switch (outcome.type) {
    case 'exited':
      return exitCodeText(outcome.exitCode) + faultText(outcome.machineFault);
    case 'timed-out':
      return `timed out after ${durationText(outcome.timeoutMs)}`;
    case 'out-of-memory':
      return `out of ${outcome.memory === 'gpu' ? 'GPU' : 'main'} memory: ${visibleText(outcome.reason)}`;
    case 'lost':
      return `lost: ${visibleText(outcome.reason)}`;
    case 'transfer-failed': {
      const after = outcome.exitCode === undefined ? '' : `${exitCodeText(outcome.exitCode)}, but `;
      const what = outcome.stage === 'start' ? 'could not be started' : 'files not transferred';
      return `${after}${what}: ${visibleText(outcome.reason)}${faultText(outcome.machineFault)}`;
    }
    case 'cancelled':
      return `cancelled: ${visibleText(outcome.reason)}`;
    case 'never-fits':
      return `never fits: ${visibleText(outcome.reason)}`;
    default:
      return assertNever(outcome);
  }
}

/** What the machine seems to lack, where a failure looks like its fault. */
function faultText(machineFault: string | undefined): string {
  return machineFault === undefined ? '' : ` (its machine's fault, it seems: ${visibleText(machineFault)})`;
}
