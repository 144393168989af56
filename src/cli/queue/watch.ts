/** `watch`: the live view of a service. */
import { visibleText } from '../../lib/util/terminal-text.ts';
import { DoorWayBack } from '../watch/door-way-back.ts';
import { QueueSource } from '../watch/queue-source.ts';
import { watch } from '../watch/watch.ts';
import { subcommand, wayOf } from './subcommand.ts';
import { noMoreWords } from './words.ts';

/** After this, somebody wants to know why there is nothing to see. */
const PATIENCE_MS = 3000;

export const COMMANDS = {
  watch: subcommand({
    name: 'watch',
    help: `job_queue watch [--filter TEXT]

Shows machines and jobs as they change, until q is pressed; ? tells the other keys. Survives a restart of the service.
Where there is no terminal, prints one table.

  --filter TEXT  only jobs that have this in their id, name, command, machine or state (fail, held), until another
                 filter is typed

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
      const waiting = setTimeout(() => warn('the service does not answer yet; still waiting'), PATIENCE_MS);
      const opening = QueueSource.open({ connect: () => door.connect() }).finally(() =>
        clearTimeout(waiting),
      );
      await using source = await opening;
      await outs.written();
      isShown = true;
      const last = await watch(source, { stdin: process.stdin, stdout: process.stdout, filter });
      if (last !== undefined) print(visibleText(last));
      return 0;
    },
  }),
} as const;
