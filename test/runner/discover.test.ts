import { existsSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { jobId } from '../../src/lib/domain/job.ts';
import { machineName } from '../../src/lib/domain/machine.ts';
import { LocalHost } from '../../src/lib/remote/local-host.ts';
import { RequestShell } from '../../src/lib/remote/remote-shell.ts';
import { discoverAttempts } from '../../src/lib/runner/discover.ts';
import { scratch } from '../remote/run-over.ts';
import { LocalRunner, smallJob } from './local-runner.ts';

/** What the records say of GPUs: only the first is one. */
const GPU_INDEXES: Record<string, unknown> = {
  ended: [0, 3, 1023],
  running: [1024],
  ending: [-1],
  cancelled: [0.5, '1'],
  torn: Array.from({ length: 1025 }, () => 0),
};

test('tells attempts apart by what stands in their folders', async () => {
  await using folder = await scratch();
  await using host = new LocalHost(machineName('here'), { home: folder.path });
  await using shell = await RequestShell.open(host);
  const states = {
    never: [],
    running: ['started'],
    ended: ['started', 'exit'],
    ending: ['started', 'cancelled'],
    cancelled: ['started', 'cancelled', 'exit'],
    torn: ['started'],
  };
  for (const [job, files] of Object.entries(states)) {
    const attempt = join(folder.path, 'runs', job, '1');
    await mkdir(attempt, { recursive: true });
    for (const file of files) {
      const flags = job === 'cancelled' ? 'c' : '-';
      await writeFile(
        join(attempt, file),
        file === 'exit' ? `0 1.00 2.00 0 ${flags} 1795247327 done\n\n` : '',
      );
    }
    if (job === 'torn') await writeFile(join(attempt, 'exit'), '');
    const request = {
      job,
      command: `run ${job}`,
      tree: 't',
      copyBackwards: job === 'ended' ? ['out'] : 'changed',
      gpuIndexes: GPU_INDEXES[job],
    };
    await writeFile(join(attempt, 'request'), `${JSON.stringify(request)}\n`);
  }
  const strange = join(folder.path, 'runs', 'strange', '1');
  await mkdir(join(strange, 'started'), { recursive: true });
  await writeFile(join(strange, 'request'), 'no JSON\n');
  const look = (claim: boolean) =>
    discoverAttempts(machineName('here'), shell, join(folder.path, 'runs'), { claim });
  const status = await look(false);
  expect(status.find(({ attempt }) => attempt.job === jobId('never'))?.state).toBe('unstarted');
  expect(existsSync(join(folder.path, 'runs', 'never', '1', 'started'))).toBe(false);
  const found = await look(true);
  // It does not say what it is: its folder alone tells.
  expect(found.find(({ attempt }) => attempt.job === jobId('strange'))?.command).toBe('');
  expect(found).toEqual(status);
  expect(existsSync(join(folder.path, 'runs', 'never', '1', 'started'))).toBe(true);
  expect(new Map(found.map(({ attempt, gpus }) => [String(attempt.job), gpus]))).toEqual(
    new Map([
      ['cancelled', []],
      ['ended', [0, 3, 1023]],
      ['ending', []],
      ['never', []],
      ['running', []],
      ['strange', []],
      ['torn', []],
    ]),
  );
  expect(new Map(found.map(({ attempt, state }) => [String(attempt.job), state]))).toEqual(
    new Map([
      ['cancelled', 'cancelled'],
      ['ended', 'ended'],
      ['strange', 'running'],
      ['ending', 'ending'],
      ['never', 'unstarted'],
      ['running', 'running'],
      ['torn', 'running'],
    ]),
  );
  expect(found.find(({ state }) => state === 'ended')).toMatchObject({
    command: 'run ended',
    tree: 't',
    copyBackwards: ['out'],
  });
});

test('a job that removes its own folder has deleted all of it', async () => {
  await using here = await LocalRunner.open();
  await writeFile(here.project('file'), 'x');
  const job = smallJob('gone', 'rm -rf "$PWD"', {
    copyForwards: 'working-directory',
    copyBackwards: 'changed',
  });
  expect(await here.run(job)).toEqual({ type: 'exited', exitCode: 0 });
  expect(JSON.parse(await here.read('gone.json'))).toMatchObject({ deleted: ['file'], returned_files: 0 });
});
