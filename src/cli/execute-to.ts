#!/usr/bin/env node
/** execute_to: one command on many machines at once. */
import { TOOL_VERSION } from '../lib/batch/tool-version.ts';
import type { FanoutRun } from '../lib/fanout/execute-to.ts';
import { executeTo } from '../lib/fanout/execute-to.ts';
import type { HostState } from '../lib/fanout/host-result.ts';
import { InputSpool } from '../lib/fanout/input-spool.ts';
import { type FoundMachines, findMachines } from '../lib/machine/find-machines.ts';
import { failWith, OWN_FAILURE } from './exit-codes.ts';
import { outliveTerminal } from './lost-terminal.ts';
import { fanoutTerminal } from './report/fanout/fanout-footer.ts';
import { FanoutReport } from './report/fanout/fanout-report.ts';
import { exitCodeOfHosts } from './report/fanout/fanout-summary.ts';
import { hostsWithin } from './report/fanout/hosts-text.ts';
import { parseToArguments, type ToArguments } from './to-arguments.ts';

const CODE_AFTER_SIGPIPE = 141;
const CODE_AFTER_SIGNAL = { SIGINT: 130, SIGTERM: 143, SIGHUP: 129 } as const;
const HOSTS_LENGTH = 400;

async function main(argv: readonly string[]): Promise<number> {
  outliveTerminal();
  const call = parseToArguments(argv);
  if ('help' in call) return print(call.help);
  if ('version' in call) return print(`${TOOL_VERSION}\n`);
  const { machines, warnings } = await findHosts(call);
  using terminal = fanoutTerminal({ stdout: process.stdout, stderr: process.stderr });
  const tell = (message: string) => terminal.stderr.write(`execute_to: ${message}\n`);
  for (const warning of warnings) tell(warning);

  let exitCode: number | undefined;
  const leave = (code: number, reason: string) => {
    exitCode ??= code;
    run.cancel(reason);
  };
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
  const input = call.forwardStdin ? InputSpool.forStdin() : undefined;
  const run = executeTo(machines, call.command, {
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
  run.events.subscribe((event) => {
    terminal.report(event);
    report.report(event);
  });
  process.stdout.on('error', () => leave(CODE_AFTER_SIGPIPE, 'nobody reads its output any more'));
  onSignals(run, tell, (code) => leave(code, 'ended by Ctrl-C'), terminal.close);
  try {
    const results = await run.results;
    terminal.close();
    await report.finish(results);
    return exitCode ?? exitCodeOfHosts(results, { largest: call.largestExitCode });
  } finally {
    input?.close();
  }
}

async function findHosts(call: ToArguments): Promise<FoundMachines> {
  const { hosts, machineFiles, exclude } = call;
  if (machineFiles.length === 0) return await findMachines([hosts ?? ''], { exclude });
  return await findMachines(machineFiles, { exclude, ...(hosts !== undefined && { only: [hosts] }) });
}

/** Ctrl-C once: say what runs where. Twice: end it everywhere. SIGTERM, SIGHUP: leave it as it is. */
function onSignals(
  run: FanoutRun,
  tell: (message: string) => void,
  end: (code: number) => void,
  closeFooter: () => void,
): void {
  const exit = (code: number) => {
    closeFooter();
    process.exit(code);
  };
  let interrupts = 0;
  process.on('SIGINT', () => {
    interrupts += 1;
    if (interrupts === 1) {
      for (const line of stateLines(run)) tell(line);
      tell('Ctrl-C again ends it everywhere');
    } else if (interrupts === 2) {
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
      exit(CODE_AFTER_SIGNAL[signal]);
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

function print(text: string): number {
  process.stdout.write(text);
  return 0;
}

main(process.argv.slice(2)).then(
  // Behind all that is written before: a pipe may still have to take it.
  (code) => process.stdout.write('', () => process.exit(code)),
  (error: unknown) => failWith('execute_to', error),
);
