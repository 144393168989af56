/** A service in this process, or in one of its own that outlives this one. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, fstatSync, openSync, readFileSync, writeSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { SchedulerError, UsageError } from '../../lib/domain/errors.ts';
import { serviceOf } from '../../lib/queue/data-folder.ts';
import { lastLogFolder } from '../../lib/queue/remembered-start.ts';
import type { InfoAnswer } from '../../lib/queue/requests.ts';
import { makeFolder } from '../../lib/util/make-folder.ts';
import { visibleText } from '../../lib/util/terminal-text.ts';
import { onInterrupt } from '../interrupts.ts';
import { answer } from './door.ts';
import { serviceText } from './event-text.ts';
import { alsoTo, notePid, stamped } from './sjq-start.ts';
import { inForeground, type StartArguments, startWords } from './start-arguments.ts';
import type { Surroundings } from './subcommand.ts';

const CODE_AFTER_SIGINT = 130;

/** Serves until somebody stops it. Ctrl-C, SIGTERM and SIGHUP leave jobs running; a second Ctrl-C leaves at once. */
export async function serve(options: StartArguments, { warn }: Pick<Surroundings, 'warn'>): Promise<number> {
  const say = alsoTo(options.sjq?.logFile, timed(logOr(warn)));
  let stop: ((why: string) => void) | undefined;
  let isStopWanted = false;
  const wantStop = (why: string) => {
    isStopWanted = true;
    stop?.(why);
  };
  onInterrupt((count) => {
    if (count > 1) process.exit(CODE_AFTER_SIGINT);
    wantStop('Ctrl-C');
  });
  for (const signal of ['SIGTERM', 'SIGHUP'] as const) process.on(signal, () => wantStop(signal));

  const { QueueService } = await import('../../lib/queue/service.ts');
  // What happens on machines is told behind what the start itself has to say.
  const early: string[] = [];
  let isServing = false;
  const service = await QueueService.open({
    ...options,
    onNote: (line) => say(visibleText(line)),
    onEvent: (event) => {
      const text = serviceText(event);
      if (text === undefined) return;
      if (isServing) say(text);
      else early.push(text);
    },
    tuning: { ssh: { onNewHostKey: say } },
  });
  stop = (why) => {
    say(`${why}: stopping; jobs that run go on, and the next start takes them over`);
    service.stop({ how: 'leave' }).catch((error: Error) => say(`it goes on: ${visibleText(error.message)}`));
  };
  const forgetPid = options.sjq === undefined ? undefined : notePid(options.sjq.pidFile, say);
  say(`serving ${visibleText(service.dataFolder)} (process ${process.pid})`); // looked for in the log by `startNotes`
  isServing = true;
  for (const text of early) say(text);
  if (isStopWanted) stop('a signal at the start');
  const { running, waiting } = await service.stopped;
  forgetPid?.();
  say(`stopped: ${running} running, ${waiting} waiting`);
  return 0;
}

/** A log file is written line by line: one that cannot be written (its disk is full) is no reason not to try the next. */
function logOr(warn: (message: string) => void): (message: string) => void {
  if (!fstatSync(process.stderr.fd).isFile()) return warn;
  return (message) => {
    try {
      writeSync(process.stderr.fd, `job_queue: ${message.split('\n').map(visibleText).join('\n')}\n`);
    } catch {
      // There is nowhere to say so.
    }
  };
}

/** A log without times tells little. A terminal shows what happens when it does. */
function timed(warn: (message: string) => void): (message: string) => void {
  if (process.stderr.isTTY) return warn;
  return (message) => warn(stamped(message));
}

const ANSWER_LIMIT_MS = 120_000;
const ERROR_LINES = 10;
/** From the first answer until it has said in its log that it serves. */
const LOG_LIMIT_MS = 15_000;

/**
 * Starts the same program as a service in a session of its own, and returns when it serves. What it said until then is said
 * here as well: who starts it should know.
 * @throws SchedulerError with its last words when it ends before that
 */
export async function startDaemon(
  args: StartArguments,
  { print, warn }: Pick<Surroundings, 'print' | 'warn'>,
): Promise<number> {
  const { dataFolder, logFolder = lastLogFolder(dataFolder) } = args;
  const other = serviceOf(dataFolder);
  if (other !== undefined && other.host === hostname())
    throw new UsageError(
      `a service already runs on ${dataFolder}: process ${other.pid} on ${other.host} (job_queue stop ends it)`,
    );
  makeFolder(logFolder, 0o700);
  const log = join(logFolder, 'service.log');
  const fd = openSync(log, 'a', 0o600);
  const begin = fstatSync(fd).size;
  const program = [
    ...process.execArgv,
    process.argv[1] ?? '',
    'start',
    ...startWords(args),
    ...inForeground(args),
  ];
  const child = spawn(process.execPath, program, { detached: true, stdio: ['ignore', fd, fd] });
  closeSync(fd);
  let ended: string | undefined;
  child.on('exit', (code, signal) => {
    ended = signal === null ? `exit code ${code}` : signal;
  });
  await once(child, 'spawn');
  const deadline = Date.now() + ANSWER_LIMIT_MS;
  let answersSince: number | undefined;
  let notes: readonly string[] | undefined;
  for (;;) {
    // Its door is open some time before its start is over.
    if (await answers(dataFolder, child.pid)) {
      answersSince ??= Date.now();
      notes = startNotes(log, begin, child.pid);
      if (notes === undefined && Date.now() - answersSince > LOG_LIMIT_MS)
        notes = [`it serves, but its log cannot be written: ${log}`];
    }
    if (notes !== undefined) break;
    if (ended !== undefined) throw new SchedulerError(lastWords(log, begin, ended));
    if (Date.now() > deadline)
      throw new SchedulerError(
        `the service (process ${child.pid}) has not begun to serve within ${ANSWER_LIMIT_MS / 1000} s; it was left running, and says what it does in ${log}`,
      );
    await sleep(50);
  }
  child.unref();
  for (const note of notes) warn(note);
  print(`serving as process ${child.pid}`);
  print(`data: ${visibleText(dataFolder)}`);
  print(`log:  ${visibleText(log)}`);
  return 0;
}

async function answers(dataFolder: string, pid: number | undefined): Promise<boolean> {
  const { DoorClient } = await import('../../lib/queue/door-client.ts');
  try {
    await using client = await DoorClient.connect(dataFolder);
    return answer<InfoAnswer>(await client.call('info', {}), { pid: 'number' }, 'info').pid === pid;
  } catch {
    return false; // its door is not open yet
  }
}

/** What it said before it served, as it was said; undefined while it does not serve. */
function startNotes(log: string, begin: number, pid: number | undefined): readonly string[] | undefined {
  const said = wordsIn(log, begin)
    .split(/^job_queue: (?:\d{4}-\d\d-\d\d \d\d:\d\d:\d\d )?/m)
    .map((text) => text.trimEnd())
    .filter((text) => text !== '');
  const serving = said.findIndex((text) => text.startsWith('serving ') && text.endsWith(` (process ${pid})`));
  return serving < 0 ? undefined : said.slice(0, serving);
}

function wordsIn(log: string, begin: number): string {
  return readFileSync(log).subarray(begin).toString();
}

/** What it wrote, without the name that stands before each of our own lines. */
function lastWords(log: string, begin: number, ended: string): string {
  const lines = wordsIn(log, begin).trimEnd().split('\n').slice(-ERROR_LINES);
  const text = lines.map((line) => visibleText(line.replace(/^job_queue: /, ''))).join('\n');
  return text === '' ? `the service ended at once (${ended}); see ${log}` : text;
}
