/** `watch`: the live view of a service. */
import { visibleText } from '../../lib/util/terminal-text.ts';
import { DoorWayBack } from '../watch/door-way-back.ts';
import { QueueSource } from '../watch/queue-source.ts';
import { watch } from '../watch/watch.ts';
import { subcommand, wayOf } from './subcommand.ts';
import { noMoreWords } from './words.ts';

export const COMMANDS = {
  watch: subcommand({
    name: 'watch',
    help: `job_queue watch [--filter TEXT]

Shows machines and jobs as they change, until q is pressed; ? tells the other keys. Survives a restart of the service.
Where there is no terminal, prints one table.

  --filter TEXT  only jobs that have this in their id, name, command or machine, until another filter is typed

Example: job_queue --host me@gpubox watch
`,
    flags: { '--filter': 'value' },
    read: (given) => {
      noMoreWords(given.words, 0, 'job_queue watch [--filter TEXT]');
      return { way: wayOf(given), filter: given.value('--filter') };
    },
    run: async ({ way, filter }, { warn, print, outs }) => {
      let isShown = false;
      // In the midst of the view a line of ours would stand anywhere.
      const say = (message: string) => {
        if (!isShown) warn(message);
      };
      await using door = new DoorWayBack(way, say);
      await using source = await QueueSource.open({ connect: () => door.connect() });
      await outs.written();
      isShown = true;
      const last = await watch(source, { stdin: process.stdin, stdout: process.stdout, filter });
      if (last !== undefined) print(visibleText(last));
      return 0;
    },
  }),
} as const;
