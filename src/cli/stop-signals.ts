/**
 * What signals mean to a running batch. Ctrl-C once: start nothing more, wait for what runs. Twice: end what runs, with
 * all its processes. SIGTERM and SIGHUP (a closed terminal): leave at once, jobs run on.
 */
import type { BatchRun, StrandedJob } from '../lib/batch/batch-run.ts';
import { onInterrupt } from './interrupts.ts';

/** What the signals decided. */
export interface StopSignals {
  /** Settles when the batch is to be left as it is. */
  readonly left: Promise<'left'>;
  /** Whether it is. */
  readonly isLeft: boolean;
  /** The exit code that a signal asks for. */
  readonly exitCode: number | undefined;
}

const CODE_AFTER_SIGNAL = { SIGINT: 130, SIGTERM: 143, SIGHUP: 129 } as const;

/**
 * Listens from now on until the process ends. `comeBack` is the command that goes on with the batch. What has to be seen at
 * once is said with the same in a few words, for where there is little room.
 */
export function onStopSignals(
  batch: BatchRun,
  say: (message: string, short?: string) => void,
  comeBack: string,
): StopSignals {
  const sayComeBack = () => say(`to go on with the batch, run in this folder: ${comeBack}`);
  const signals: { left: Promise<'left'>; isLeft: boolean; exitCode: number | undefined } = {
    isLeft: false,
    left: new Promise((resolve) => {
      const leave = (signal: 'SIGTERM' | 'SIGHUP') => {
        say(`${signal}: leaving; ${runningText(batch)} on where they are`);
        signals.isLeft = true;
        sayComeBack();
        signals.exitCode = CODE_AFTER_SIGNAL[signal];
        batch.stop();
        resolve('left');
      };
      process.on('SIGTERM', () => leave('SIGTERM'));
      process.on('SIGHUP', () => leave('SIGHUP'));
    }),
    exitCode: undefined,
  };
  onInterrupt((count) => {
    if (count === 1) {
      batch.stop();
      say(
        `Ctrl-C: starting nothing more and waiting for ${jobsText(batch)}. ` +
          `Ctrl-C again ends them; kill -TERM ${process.pid} leaves them running`,
        `Ctrl-C: nothing more starts, ${onText(batch)}`,
      );
      sayComeBack();
    } else if (count === 2) {
      signals.exitCode = CODE_AFTER_SIGNAL.SIGINT;
      const ending = `Ctrl-C twice: ending ${jobsText(batch)}`;
      say(ending, ending);
      void batch.cancelAll('ended by Ctrl-C').then(
        (stranded) => {
          for (const one of stranded) say(strandedText(one));
        },
        (error: unknown) =>
          say(`what runs on machines out of reach could not be noted: ${(error as Error).message}`),
      );
    } else {
      say('Ctrl-C three times: leaving at once; what is being ended may take a moment more');
      sayComeBack();
      process.exit(CODE_AFTER_SIGNAL.SIGINT);
    }
  });
  return signals;
}

function jobsText(batch: BatchRun): string {
  const count = batch.runningCount;
  return count === 1 ? 'the 1 running job' : `the ${count} running jobs`;
}

function onText(batch: BatchRun): string {
  const count = batch.runningCount;
  return count === 1 ? '1 job runs on; Ctrl-C again ends it' : `${count} jobs run on; Ctrl-C again ends them`;
}

function runningText(batch: BatchRun): string {
  return `${jobsText(batch)} ${batch.runningCount === 1 ? 'runs' : 'run'}`;
}

/** What is said of a job whose machine could not hear that it is to end. */
export function strandedText({ machine, job }: StrandedJob): string {
  return `${machine} cannot be reached: ${job} may run on there, and is ended when this batch next reaches it`;
}
