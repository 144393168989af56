import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { machineName } from '../../src/lib/domain/machine.ts';
import { LocalHost } from '../../src/lib/remote/local-host.ts';
import { RequestShell } from '../../src/lib/remote/remote-shell.ts';
import { discoverAttempts } from '../../src/lib/runner/discover.ts';
import { scratch } from '../remote/run-over.ts';
import { LocalRunner, smallJob } from './local-runner.ts';

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
  };
  for (const [job, files] of Object.entries(states)) {
    const attempt = join(folder.path, 'runs', job, '1');
    await mkdir(attempt, { recursive: true });
    for (const file of files) await writeFile(join(attempt, file), '');
    const request = {
      job,
      command: `run ${job}`,
      tree: 't',
      copyBackwards: job === 'ended' ? ['out'] : 'changed',
    };
    await writeFile(join(attempt, 'request'), `${JSON.stringify(request)}\n`);
  }
  const strange = join(folder.path, 'runs', 'strange', '1');
  await mkdir(join(strange, 'started'), { recursive: true });
  await writeFile(join(strange, 'request'), 'no JSON\n');
  const found = await discoverAttempts(machineName('here'), shell, join(folder.path, 'runs'));
  expect(new Map(found.map(({ attempt, state }) => [String(attempt.job), state]))).toEqual(
    new Map([
      ['cancelled', 'cancelled'],
      ['ended', 'ended'],
      ['ending', 'ending'],
      ['never', 'unstarted'],
      ['running', 'running'],
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
