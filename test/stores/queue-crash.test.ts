/** kill -9 at any moment: what was acknowledged is on the disk. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { QueueStore } from '../../src/lib/stores/queue-store.ts';
import { until } from '../rig/until.ts';
import { temporaryFolder } from './queue-jobs.ts';

const PROGRAM = fileURLToPath(new URL('queue-crash-program.ts', import.meta.url));

/** Runs the program until it has printed so many lines, and kills it then, at whatever it is doing. */
async function linesUntilKilled(folder: string, lines: number): Promise<string[]> {
  const child = spawn(process.execPath, ['--import', 'tsx', PROGRAM, folder], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let [output, errors] = ['', ''];
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    output += text;
    if (output.split('\n').length > lines) child.kill('SIGKILL');
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    errors += text;
  });
  const closed = once(child, 'close');
  await until(() => child.signalCode !== null || child.exitCode !== null, { deadlineMs: 120_000 });
  await closed;
  if (child.signalCode !== 'SIGKILL') throw new Error(`it ended by itself: ${errors}`);
  // A line that was cut off was not said.
  return output.slice(0, output.lastIndexOf('\n')).split('\n');
}

test('every acknowledged job is there after kill -9, in its state, and no id or attempt comes twice', {
  timeout: 300_000,
}, async () => {
  using folder = temporaryFolder();
  const added = new Set<number>();
  const said = new Map<number, string>();
  for (let round = 0; round < 6; round++) {
    for (const line of await linesUntilKilled(folder.path, 2 + Math.floor(Math.random() * 300))) {
      const [word = '', idText, rest] = line.split(' ');
      const id = Number(idText);
      if (word === 'added') {
        expect(added.has(id)).toBe(false);
        added.add(id);
      } else if (word !== 'open') {
        const now = `${word} ${rest}`;
        expect(said.get(id)).not.toBe(now);
        said.set(id, now);
      }
    }
    const store = await QueueStore.open(folder.path);
    const jobs = new Map(store.list().map((job) => [job.id, job]));
    for (const id of added) {
      const job = jobs.get(id);
      const [word, rest] = (said.get(id) ?? 'added').split(' ');
      if (job === undefined) throw new Error(`job ${id} was acknowledged and is lost`);
      // What was done and not yet said may be there as well.
      if (word === 'added') expect(['queued', 'running', 'success', 'fail']).toContain(job.state);
      if (word === 'claimed') {
        expect(job.attempt).toBe(Number(rest));
        expect(['running', 'success', 'fail']).toContain(job.state);
      }
      if (word === 'ended') expect(job.state).toBe(rest);
    }
    expect(store.nextId).toBeGreaterThan(Math.max(0, ...jobs.keys()));
    expect(store.claimed().length).toBe(store.counts().running);
    store.close();
  }
  expect(added.size).toBeGreaterThan(0);
});
