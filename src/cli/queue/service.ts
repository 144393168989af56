/** `start`, `stop` and `service-file`: the service itself. */
import { resolve } from 'node:path';
import { UsageError } from '../../lib/domain/errors.ts';
import type { StopAnswer, StopRequest } from '../../lib/queue/requests.ts';
import { answer } from './door.ts';
import { serve, startDaemon } from './serve.ts';
import { UNIT_HELP, unitText } from './service-file.ts';
import { readStart, START_FLAGS, START_FLAGS_HELP } from './start-arguments.ts';
import { subcommand } from './subcommand.ts';
import { noMoreWords } from './words.ts';

const STOP_USAGE = 'job_queue stop [--when-idle | --kill]';

export const COMMANDS = {
  start: subcommand({
    name: 'start',
    help: `job_queue start [flags]

Starts the service, which runs until job_queue stop, Ctrl-C or SIGTERM: these leave its jobs running, and the next start
takes them over.

${START_FLAGS_HELP}  --daemon                in the background: returns when it answers
  --no-daemon             in the foreground, also where ~/.sjqrc says sjq.daemon=T

Example: job_queue start --daemon --machines lab.yaml
`,
    flags: { ...START_FLAGS, '--daemon': 'switch', '--no-daemon': 'switch' },
    read: (words) => {
      const start = readStart(words, 'job_queue start', 'job_queue start --daemon');
      if (words.has('--daemon') && words.has('--no-daemon'))
        throw new UsageError('--daemon and --no-daemon contradict each other: give one of them');
      const isDaemon = start.sjq?.isDaemon === true && !words.has('--no-daemon');
      return { start, isDaemon: isDaemon || words.has('--daemon') };
    },
    run: async ({ start, isDaemon }, surroundings) =>
      isDaemon ? await startDaemon(start, surroundings) : await serve(start, surroundings),
  }),
  stop: subcommand({
    name: 'stop',
    help: `${STOP_USAGE}

Ends the service and leaves running jobs running; the next start takes them over. Waiting ones stay on the disk.

  --when-idle  refuses while jobs run or wait, and says how many
  --kill       ends the jobs that run first

Example: job_queue stop --when-idle
`,
    flags: { '--when-idle': 'switch', '--kill': 'switch' },
    read: (words): StopRequest => {
      noMoreWords(words.words, 0, STOP_USAGE);
      if (words.has('--when-idle') && words.has('--kill'))
        throw new UsageError('--when-idle and --kill contradict each other: give one of them');
      return { how: words.has('--kill') ? 'kill' : words.has('--when-idle') ? 'when-idle' : 'leave' };
    },
    run: async (request, { door, print }) => {
      const reply = await (await door()).call('stop', request);
      const { running, waiting } = answer<StopAnswer>(
        reply,
        { running: 'number', waiting: 'number' },
        'stop',
      );
      const goesOn = running === 1 ? '1 job runs on' : `${running} jobs run on`;
      print(`stopped: ${goesOn}, ${waiting} ${waiting === 1 ? 'waits' : 'wait'} for the next start`);
      return 0;
    },
  }),
  'service-file': subcommand({
    name: 'service-file',
    help: `job_queue service-file [flags of start]

Prints a systemd user unit that keeps a service running with these flags. It needs no service. How to install it is said
on standard error.

${START_FLAGS_HELP}
Example: job_queue service-file --machines lab.yaml > ~/.config/systemd/user/ssh-scheduler-queue.service
`,
    flags: START_FLAGS,
    read: (words) => readStart(words, 'job_queue service-file'),
    run: async (start, { outs, warn }) => {
      const program = resolve(process.argv[1] ?? '');
      const { execPath: node, execArgv: nodeFlags } = process;
      outs.stdout.write(unitText(start, { node, nodeFlags, program, cwd: process.cwd() }));
      for (const line of UNIT_HELP) warn(line);
      return 0;
    },
  }),
} as const;
