#!/usr/bin/env node
/** execute_to: one command on many machines at once. */
import { SchedulerError } from '../lib/domain/errors.ts';
import type { FanoutRun } from '../lib/fanout/execute-to.ts';
import { executeTo } from '../lib/fanout/execute-to.ts';
import type { HostResult, HostState } from '../lib/fanout/host-result.ts';
import { InputSpool } from '../lib/fanout/input-spool.ts';
import { type FoundMachines, findMachines } from '../lib/machine/find-machines.ts';
import { visibleText } from '../lib/util/terminal-text.ts';
import { TOOL_VERSION } from '../lib/util/tool-version.ts';
import { OWN_FAILURE } from './exit-codes.ts';
import { onInterrupt } from './interrupts.ts';
import { outliveTerminal } from './lost-terminal.ts';
import { type FanoutTerminal, fanoutTerminal } from './report/fanout/fanout-footer.ts';
import { FanoutReport } from './report/fanout/fanout-report.ts';
import { exitCodeOfHosts, fanoutSummary } from './report/fanout/fanout-summary.ts';
import { hostsWithin } from './report/fanout/hosts-text.ts';
import { checkSshConfig } from './ssh-config-file.ts';
import { parseToArguments, type ToHosts } from './to-arguments.ts';
import { WriteQueue } from './write-queue.ts';

const CODE_AFTER_SIGPIPE = 141;
const CODE_AFTER_SIGNAL = { SIGINT: 130, SIGTERM: 143, SIGHUP: 129 } as const;
const HOSTS_LENGTH = 400;
/** How long what was said before a signal may take to be written. */
const LAST_WORDS_MS = 500;

/** Why it is left before its time: the first reason counts, and counts more than what became of the machines. */
let earlyExitCode: number | undefined;

async function main(argv: readonly string[], outs: WriteQueue): Promise<number> {
  outliveTerminal();
  let footer: FanoutTerminal | undefined;
  let run: FanoutRun | undefined;
  const tell = (message: string) => (footer ?? outs).stderr.write(`execute_to: ${message}\n`);
  const leave = (code: number, reason: string) => {
    earlyExitCode ??= code;
    run?.cancel(reason);
  };
  outs.onFailure = ({ stream, error, isReaderGone }) => {
    if (isReaderGone) return leave(CODE_AFTER_SIGPIPE, 'nobody reads its output any more');
    tell(`cannot write ${stream}: ${error.message}`);
    leave(OWN_FAILURE, 'its output cannot be written');
  };
  outs.onFull = () => run?.pauseOutput();
  outs.onLow = () => run?.resumeOutput();

  const call = parseToArguments(argv);
  if ('help' in call) return print(call.help, outs);
  if ('version' in call) return print(`${TOOL_VERSION}\n`, outs);
  if ('list' in call) return await list(call, outs);
  checkSshConfig(call.sshConfig);
  const { machines, warnings } = await findHosts(call);
  using terminal = fanoutTerminal(outs);
  footer = terminal;
  for (const warning of warnings) tell(warning);

  using report = await FanoutReport.open({
    output: call.output,
    machines: machines.map(({ config }) => config.name),
    verbose: call.verbose,
    stdout: terminal.stdout,
    stderr: terminal.stderr,
    onProblem: (error) => {
      tell(error.message);
      leave(OWN_FAILURE, 'its output cannot be kept');
    },
  });
  const input = call.forwardStdin ? InputSpool.forStdin(0, { isForOne: machines.length === 1 }) : undefined;
  run = executeTo(machines, call.command, {
    fanout: call.fanout,
    connectTimeoutMs: call.connectTimeoutMs,
    failFast: call.failFast,
    keepBytes: 0,
    ...(call.timeoutMs !== undefined && { timeoutMs: call.timeoutMs }),
    ...(call.batches !== undefined && { batches: call.batches }),
    ...(input !== undefined && { input }),
    ...(call.copyForwards !== undefined && { copyForwards: call.copyForwards }),
    ...(call.copyBackwards !== undefined && { copyBackwards: call.copyBackwards }),
    ...(call.jobName !== undefined && { jobName: call.jobName }),
    ...(call.sshConfig !== undefined && { ssh: { configFile: call.sshConfig } }),
  });
  if (earlyExitCode !== undefined) run.cancel('its output cannot be written');
  run.events.subscribe((event) => {
    terminal.report(event);
    report.report(event);
  });
  onSignals(run, tell, (code) => leave(code, 'ended by Ctrl-C'), outs, terminal.close);
  try {
    const results = await run.results;
    terminal.close();
    await report.finish(results);
    return exitCodeOfHosts(results, { largest: call.largestExitCode });
  } finally {
    input?.close();
  }
}

async function findHosts({ hosts, machineFiles, exclude }: ToHosts): Promise<FoundMachines> {
  // The command may be one that must not reach what was to be left out.
  const options = { exclude, missingExclusion: 'refuse' } as const;
  if (machineFiles.length === 0) return await findMachines([hosts ?? ''], options);
  return await findMachines(machineFiles, { ...options, ...(hosts !== undefined && { only: [hosts] }) });
}

/** Who is meant, and nothing else. */
async function list(call: ToHosts, outs: WriteQueue): Promise<number> {
  const { machines, warnings } = await findHosts(call);
  for (const warning of warnings) outs.stderr.write(`execute_to: ${warning}\n`);
  return print(machines.map(({ config }) => `${visibleText(config.name)}\n`).join(''), outs);
}

/** Ctrl-C once: say what runs where. Twice: end it everywhere. SIGTERM, SIGHUP: leave it as it is. */
function onSignals(
  run: FanoutRun,
  tell: (message: string) => void,
  end: (code: number) => void,
  outs: WriteQueue,
  closeFooter: () => void,
): void {
  const exit = (code: number) => {
    closeFooter();
    process.exit(code);
  };
  let hasBegun = false;
  run.events.on('fanout:started', () => {
    hasBegun = true;
  });
  const ended: HostResult[] = [];
  run.events.on('host:ended', ({ result }) => ended.push(result));
  onInterrupt((count) => {
    if (count === 1) {
      for (const line of hasBegun ? stateLines(run) : ['Ctrl-C: looking at the files to send']) tell(line);
      for (const line of fanoutSummary(ended, { counts: false })) tell(line);
      tell('Ctrl-C again ends it everywhere');
    } else if (!hasBegun) {
      exit(CODE_AFTER_SIGNAL.SIGINT); // hashing of large files waits for nobody
    } else if (count === 2) {
      tell('Ctrl-C twice: ending it everywhere');
      end(CODE_AFTER_SIGNAL.SIGINT);
    } else {
      tell('Ctrl-C three times: leaving at once; what is being ended may take a moment more');
      exit(CODE_AFTER_SIGNAL.SIGINT);
    }
  });
  for (const signal of ['SIGTERM', 'SIGHUP'] as const) {
    process.on(signal, () => {
      const hosts = run.running.filter(({ state }) => state === 'running').map(({ machine }) => machine);
      const where =
        hosts.length === 0 ? '' : `; it runs on where it is, on ${hostsWithin(hosts, HOSTS_LENGTH)}`;
      tell(`${signal}: leaving${where}`);
      // The reader may have stalled.
      setTimeout(() => exit(CODE_AFTER_SIGNAL[signal]), LAST_WORDS_MS);
      void outs.written().then(() => exit(CODE_AFTER_SIGNAL[signal]));
    });
  }
}

const STATE_WORDS: Readonly<Record<HostState, string>> = {
  connecting: 'connecting to',
  sending: 'sending files to',
  running: 'running on',
  fetching: 'bringing files home from',
  ending: 'ending on',
};

/** What the machines do, those that do the same on one line. */
function stateLines(run: FanoutRun): string[] {
  const { running } = run;
  if (running.length === 0) return ['Ctrl-C: nothing runs'];
  return Object.entries(STATE_WORDS).flatMap(([state, words]) => {
    const hosts = running.filter((one) => one.state === state).map(({ machine }) => machine);
    return hosts.length === 0 ? [] : [`Ctrl-C: ${words} ${hostsWithin(hosts, HOSTS_LENGTH)}`];
  });
}

function print(text: string, outs: WriteQueue): number {
  outs.stdout.write(text);
  return 0;
}

/** An error that is not meant for users shows where it came from. */
function failureText(error: unknown): string {
  return error instanceof SchedulerError ? error.message : String((error as Error).stack);
}

const outs = new WriteQueue();
const exitCode = await main(process.argv.slice(2), outs).catch((error: unknown) => {
  outs.stderr.write(`execute_to: ${failureText(error)}\n`);
  return OWN_FAILURE;
});
// All that was said comes first, and whether that could be written counts.
await outs.written();
process.exit(earlyExitCode ?? exitCode);
