#!/usr/bin/env node
/** execute_remote: one command on one machine, as if it ran here. */
import { writeSync } from 'node:fs';
import { parseJobCommand } from '../lib/batch/job-command.ts';
import { runRemote } from '../lib/batch/remote-run.ts';
import { UsageError } from '../lib/domain/errors.ts';
import { findMachines } from '../lib/machine/find-machines.ts';
import { TOOL_VERSION } from '../lib/util/tool-version.ts';
import { failWith, OWN_FAILURE } from './exit-codes.ts';
import { onInterrupt } from './interrupts.ts';
import { outliveTerminal } from './lost-terminal.ts';
import { checkSshConfig } from './ssh-config-file.ts';

const HELP = `execute_remote --machine M [options] 'command'

Runs a command on one machine. What it prints passes through as it comes; the exit code is the command's.

  --machine M             a machine file, \`local\`, or an ssh destination (user@host:port, an alias);
                          or a list of these that leaves one, as in lab.yaml,!atlas
  --copy-forwards P...    paths to send; the command runs in a folder that holds them and nothing else
  --share-forwards P...   large inputs: sent once per machine, linked into the folder instead of copied
  --copy-backwards P...   paths to bring back to job_results/NAME/, wildcards allowed; needs --job-name
                          [with --job-name: all that the command created or changed]
  --job-name NAME         keep results: job_results/NAME/, NAME.out, NAME.err, NAME.json
  --verbose               tell what happens besides
  --ssh-config FILE       another ssh configuration file, as ssh -F
  --                      ends a list: execute_remote --copy-forwards a b -- 'command'
  --help, --version

Without --copy-forwards, --share-forwards, --copy-backwards and --job-name nothing is sent and nothing is kept.
Exit code: the command's; 255 when the machine cannot be used or the call is wrong; 130 after Ctrl-C.
`;

async function main(argv: readonly string[]): Promise<number> {
  outliveTerminal();
  const [first] = argv;
  if (first === '--help' || first === '-h') return print(HELP);
  if (first === '--version') return print(`${TOOL_VERSION}\n`);
  const { rest, sshConfig } = takeSshConfig(argv);
  const call = parseJobCommand(rest, { context: 'cli' });
  if (call.machine === undefined) {
    throw new UsageError("no machine is named: expected execute_remote --machine M 'command'");
  }
  const tell = (message: string) => process.stderr.write(`execute_remote: ${message}\n`);
  const machines = await findMachines([call.machine]);
  for (const warning of machines.warnings) tell(warning);
  const ending = new AbortController();
  onInterrupt(() => {
    if (ending.signal.aborted) {
      tell('Ctrl-C: leaving at once; what is being ended may take a moment more');
      process.exit(130);
    }
    tell('Ctrl-C: ending the command');
    ending.abort(new Error('ended by Ctrl-C'));
  });
  for (const [signal, code] of [
    ['SIGTERM', 143],
    ['SIGHUP', 129],
  ] as const) {
    process.on(signal, () => {
      tell(`${signal}: leaving; the command runs on where it is`);
      process.exit(code);
    });
  }
  let isReaderGone = false;
  const outcome = await runRemote({
    machines,
    command: call.command,
    jobName: call.jobName,
    copyForwards: call.copyForwards,
    shareForwards: call.shareForwards,
    copyBackwards: call.copyBackwards,
    signal: ending.signal,
    onOutput: (stream, chunk) => {
      if (isReaderGone || writeAll(stream === 'out' ? 1 : 2, chunk)) return;
      isReaderGone = true;
      ending.abort(new Error('nobody reads its output any more'));
    },
    onWarning: tell,
    ssh: {
      ...(sshConfig === undefined ? {} : { configFile: sshConfig }),
      onNewHostKey: tell,
    },
  });
  if (isReaderGone) return CODE_AFTER_SIGPIPE; // as for any program in a pipe
  switch (outcome.type) {
    case 'exited':
      if (call.verbose) tell(`exit ${outcome.exitCode}`);
      return outcome.exitCode;
    case 'cancelled':
      return 130;
    case 'transfer-failed':
    case 'lost':
    case 'never-fits':
    case 'out-of-memory':
      tell(outcome.reason);
      return OWN_FAILURE;
    case 'timed-out':
      tell('it ran longer than it may');
      return OWN_FAILURE;
  }
}

/** Takes `--ssh-config FILE` out: the lines of a batch have no such flag. */
function takeSshConfig(argv: readonly string[]): { rest: readonly string[]; sshConfig: string | undefined } {
  const end = argv.indexOf('--');
  const at = argv.findIndex((word, i) => word === '--ssh-config' && (end < 0 || i < end));
  if (at < 0) return { rest: argv, sshConfig: undefined };
  const sshConfig = argv[at + 1];
  if (sshConfig === undefined) throw new UsageError('--ssh-config needs a value');
  checkSshConfig(sshConfig);
  return { rest: [...argv.slice(0, at), ...argv.slice(at + 2)], sshConfig };
}

function print(text: string): number {
  process.stdout.write(text);
  return 0;
}

const CODE_AFTER_SIGPIPE = 141;

/**
 * Writes at once and whole: what the command printed last must not be lost in our exit. False when the reader is gone
 * (`| head`, a closed terminal).
 */
function writeAll(fd: number, chunk: Buffer): boolean {
  for (let at = 0; at < chunk.length; ) {
    try {
      at += writeSync(fd, chunk, at);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === 'EPIPE' || code === 'EIO') return false;
      if (code !== 'EAGAIN') throw error; // a pipe that is full: try again until its reader reads
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 2);
    }
  }
  return true;
}

main(process.argv.slice(2)).then(
  (code) => process.exit(code),
  (error: unknown) => failWith('execute_remote', error),
);
