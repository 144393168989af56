/** A service's door by itself: `door-program DATA` serves a few verbs there until it is killed. */
import { DataFolder } from '../../src/lib/queue/data-folder.ts';
import type { Verb } from '../../src/lib/queue/door-connection.ts';
import { DoorServer } from '../../src/lib/queue/door-server.ts';

/** What the tests ask for. */
const verbs: { readonly [verb: string]: Verb } = {
  echo: async (args) => args,
  where: async () => process.pid,
  /** Memory of this process in MiB, after its garbage is gone. */
  memory: async () => {
    globalThis.gc?.();
    const { heapUsed, external, arrayBuffers } = process.memoryUsage();
    return (heapUsed + Math.max(external, arrayBuffers)) / 1024 / 1024;
  },
  long: (_args, { signal }) =>
    new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason))),
  async *count() {
    for (let i = 0; i < 1000; i++) yield i;
  },
};

const data = DataFolder.take(process.argv[2] ?? '');
const door = await DoorServer.open({ dataFolder: data.path, verbs });
console.log(`ready ${data.isTakenOver ? 'taken over' : 'new'} ${door.socketPath}`);
