/**
 * Loaded before a built command: gives it short waiting times, which are no flags. And ends it with the test that
 * started it, however that ends.
 */
import { pathToFileURL } from 'node:url';

const command = pathToFileURL(process.argv[1]);
const { BatchRun } = await import(new URL('../lib/batch/batch-run.js', command).href);
const open = BatchRun.open.bind(BatchRun);
BatchRun.open = (options) =>
  open({
    ...options,
    tuning: {
      ...options.tuning,
      outputPollMs: 100,
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
