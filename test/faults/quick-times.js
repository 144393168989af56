/**
 * Loaded before a built command: gives it short waiting times, which are no flags. And ends it with the test that
 * started it, however that ends.
 */
import { pathToFileURL } from 'node:url';

const command = pathToFileURL(process.argv[1]);
/** All kinds of runs take the same ones, and each opens in the same way. */
const CLASSES = { BatchRun: '../lib/batch/batch-run.js', QueueService: '../lib/queue/service.js' };
const name = command.pathname.endsWith('job-queue.js') ? 'QueueService' : 'BatchRun';
const { [name]: Run } = await import(new URL(CLASSES[name], command).href);
const open = Run.open.bind(Run);
Run.open = (options) =>
  open({
    ...options,
    tuning: {
      ...options.tuning,
      outputPollMs: 100,
      troublePauseMs: 1000,
      refetchPausesMs: [300, 1000, 2000, 4000],
      lateJoin: { patienceMs: 2000, pauses: { firstMs: 200, longestMs: 1000 } },
      backoff: { firstMs: 100, longestMs: 1000 },
      ssh: {
        ...options.tuning?.ssh,
        keepaliveIntervalMs: 400,
        keepaliveCountMax: 2,
        connectTimeoutMs: 4000,
      },
    },
  });

const test = process.ppid;
setInterval(() => {
  if (process.ppid !== test) process.exit(1);
}, 1000).unref();
