/**
 * An sjq door in a process of its own: `PATH [MAX_CONNECTIONS]`. Asked over IPC it tells how much memory it needs, in MiB; asked for
 * `job`, it starts a program, and tells how that went.
 */
import { spawn } from 'node:child_process';
import { SjqServer } from '../../src/lib/queue/sjq/sjq-server.ts';
import { KeptQueue } from './sjq-rig.ts';

const MIB = 1024 * 1024;
const FIRST_ID = 1_000_000;

await SjqServer.open({
  socketPath: process.argv[2] ?? '',
  // Numbers of jobs are larger than a STATUS is long, so that both can be told apart.
  queue: new KeptQueue(FIRST_ID, 20),
  maxLineBytes: 2000,
  maxOptionsBytes: 10_000,
  maxOptions: 50,
  maxScriptBytes: 10_000,
  maxDroppedBytes: 30_000,
  maxHeldBytes: 4 * MIB,
  lastWordsMs: 20,
  ...(process.argv[3] === undefined ? {} : { maxConnections: Number(process.argv[3]) }),
});
process.on('message', (what) => {
  if (what === 'job') {
    const job = spawn('true', { stdio: 'pipe' });
    job.on('error', ({ message }) => process.send?.(message)).on('exit', (status) => process.send?.(status));
    return;
  }
  globalThis.gc?.();
  const { heapUsed, external } = process.memoryUsage();
  process.send?.((heapUsed + external) / MIB);
});
console.log('open');
