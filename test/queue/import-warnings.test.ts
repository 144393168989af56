/** `job_queue import` says what a person should know about what came in. */
import { execFile } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';
import { smallSpec } from '../stores/queue-jobs.ts';
import { RunningService, ServiceFolders } from './running-service.ts';

const COMMAND = fileURLToPath(new URL('../../src/cli/job-queue.ts', import.meta.url));

test('a job that ran elsewhere waits again, and import says so', { timeout: 60_000 }, async () => {
  using folders = new ServiceFolders();
  await using running = await RunningService.open(folders);
  const job = {
    ...{ id: 1, spec: smallSpec('train_1', { waitForMachine: true }), state: 'running', isHeld: true },
    ...{ submittedAt: 5, attempt: 1, losses: 0, failures: 0 },
  };
  const state = { format: 'job_queue state', version: 1, service: 'elsewhere', nextId: 2, jobs: [job] };
  const file = join(folders.root, 'state.json');
  writeFileSync(file, JSON.stringify(state));
  const args = ['--import', 'tsx', COMMAND, '--data-dir', folders.data, 'import', file];
  const { stdout, stderr } = await promisify(execFile)(process.execPath, args, { timeout: 50_000 });
  expect(stdout).toContain('imported: 1 job');
  expect(stderr).toMatch(/job 1 was running when the state was exported, and waits again/);
  expect((await running.get(1)).state).toBe('user-hold');
});
