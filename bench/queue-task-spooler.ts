/** Debian's task-spooler, the peer of a submit: one client process per job, a server in memory. */
import { join } from 'node:path';
import { runOrThrow } from '../test/rig/command.ts';
import { folderIn } from './queue-service.ts';
import { secondsOf } from './timing.ts';

const PROGRAM = 'tsp';

/**
 * Seconds per job that `tsp` adds behind one that runs, from a loop of a shell, with a server of its own. Nothing of it is
 * left. Its list is in memory alone and every waiting job keeps a process, so there are some hundred, and nothing is durable.
 */
export async function taskSpoolerSecondsPerAdd(folder: string, jobs: number): Promise<number> {
  const place = await folderIn(folder, 'task-spooler');
  const env = { ...process.env, TS_SOCKET: join(place, 'socket'), TS_SLOTS: '1', TMPDIR: place };
  const tsp = (...args: string[]) => runOrThrow(PROGRAM, args, { env, timeoutMs: 30_000 });
  const first = (await tsp('-n', 'sleep', '600')).trim();
  const pid = Number((await tsp('-p', first)).trim());
  try {
    const loop = 'i=0; while [ $i -lt "$1" ]; do "$2" -n true >/dev/null; i=$((i + 1)); done';
    const seconds = await secondsOf({
      program: '/bin/sh',
      args: ['-ec', loop, 'sh', String(jobs), PROGRAM],
      env,
    });
    const waiting = (await tsp('-l')).split('\n').filter((line) => /^\d+\s+queued\b/.test(line)).length;
    if (waiting !== jobs) throw new Error(`task-spooler has ${waiting} jobs that wait, expected ${jobs}`);
    return seconds / jobs;
  } finally {
    await tsp('-K');
    // The server leaves what runs.
    if (pid > 1) process.kill(pid);
  }
}
