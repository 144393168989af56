/**
 * Run by watch.test.ts in a real terminal: `watch-program FOLDER` watches what files in that folder say. `overview.json` the
 * overview (but for its moment), `away` why it is away, `slow` answers only come when it is gone, `output` what every job has printed, `ended` that it
 * has ended, `events` lines that have happened, `over` what it says at its end. It writes `pid`,
 * `requests` and `acts`.
 */
import { appendFileSync, existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { WatchSource } from '../../../src/cli/watch/source.ts';
import { watch } from '../../../src/cli/watch/watch.ts';
import type { OutputItem, Overview } from '../../../src/lib/domain/overview.ts';

const [folder = '', ...flags] = process.argv.slice(2);
const has = (name: string) => existsSync(join(folder, name));
const read = (name: string) => (has(name) ? readFileSync(join(folder, name)) : Buffer.alloc(0));

async function when(name: string): Promise<string> {
  // A test that failed has taken the folder away.
  for (; !has(name); await sleep(20)) if (!existsSync(folder)) process.exit(1);
  return String(read(name));
}

async function* output(signal: AbortSignal): AsyncGenerator<OutputItem> {
  for (let sent = 0; ; ) {
    const bytes = read('output').subarray(sent);
    sent += bytes.length;
    if (bytes.length > 0) yield { type: 'chunk', stream: 'out', base64: bytes.toString('base64') };
    if (has('ended')) {
      yield { type: 'end', state: 'fail', outcome: { type: 'exited', exitCode: 3 } };
      return;
    }
    await sleep(20, undefined, { signal });
  }
}

const source: WatchSource = {
  title: 'queue on desk (/home/ann/.local/share/job_queue)',
  actions: ['hold', 'release', 'kill'],
  get away() {
    return has('away') ? { since: Date.now() - 62_000, reason: String(read('away')) } : undefined;
  },
  over: when('over'),
  async overview({ filter = '' }) {
    appendFileSync(join(folder, 'requests'), `${filter}\n`);
    while (has('slow')) await sleep(20);
    if (has('away')) throw new Error(String(read('away')));
    const all: Overview = JSON.parse(String(read('overview.json')));
    const only = ({ jobs }: Overview['running']) => {
      const found = jobs.filter(({ name }) => name.includes(filter));
      return { jobs: found, count: found.length };
    };
    return {
      ...all,
      at: Date.now(),
      running: only(all.running),
      waiting: only(all.waiting),
      ended: only(all.ended),
    };
  },
  onEvents(listener) {
    let told = 0;
    const timer = setInterval(() => {
      const lines = String(read('events')).split('\n').filter(Boolean);
      const fresh = lines.slice(told).map((text) => ({
        ...{ at: Date.now(), text },
        ...(text.startsWith('Ctrl-C') && { isImportant: true as const }),
      }));
      told = lines.length;
      if (fresh.length > 0) listener(fresh);
    }, 20);
    return () => clearInterval(timer);
  },
  output: (_id, signal) => output(signal),
  async act(action, id) {
    appendFileSync(join(folder, 'acts'), `${action} ${id}\n`);
    while (has('slow')) await sleep(20);
    return `job ${id}: ${action} is done`;
  },
  async [Symbol.asyncDispose]() {},
};

writeFileSync(join(folder, 'pid'), String(process.pid));
const { stdin, stdout } = process;
const said = await watch(source, {
  stdin,
  stdout,
  busyMs: 50,
  idleMs: 100,
  silentMs: 1000,
  actMs: 1000,
  leavesBackground: flags.includes('--batch'),
  ...(flags.includes('--interrupt') && {
    onInterrupt: () => appendFileSync(join(folder, 'acts'), 'interrupt\n'),
  }),
});
console.log(`said: ${said ?? 'nothing'}`);
// What is more than a view goes on without it.
if (flags.includes('--batch')) console.log(`and at the end: ${await source.over}`);
process.exit(0);
