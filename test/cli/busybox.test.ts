/** A machine with bash and busybox, and none of the GNU tools: what jobs make comes home all the same. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { TestHosts } from '../rig/test-hosts.ts';
import { Project, TINY_CPU } from './run-command.ts';

let hosts: TestHosts;
let isThere = false;

beforeAll(async () => {
  await using probe = await TestHosts.start([]);
  isThere = probe.capabilities.busyboxOnly;
  hosts = await TestHosts.start([{ name: 'tiny', ...(isThere && { busyboxOnly: true }) }]);
  if (!isThere)
    console.warn('test hosts cannot be reduced to busybox here: the same is tried with the tools they have');
});
afterAll(() => hosts.close());

test('what jobs create or change comes home, and nothing else', async () => {
  await using project = await Project.start(hosts);
  await project.write('kept.txt', 'as it was');
  await project.write('sub/grows.txt', 'first\n');
  await project.write('gone.txt', 'not wanted');
  const first =
    'echo new >new.txt; echo more >>sub/grows.txt; mkdir empty d; echo q >"d/sp ace"; cp -p kept.txt old-time.txt; ln -s new.txt link; rm gone.txt';
  // More than a dozen, so that ready-made copies are used as well.
  await project.write('batch.sh', [first, ...Array.from({ length: 14 }, (_, i) => `echo ${i} >made.txt`)]);
  const { exitCode, stderr } = await project.batch('batch.sh', '--machines', 'tiny.yaml', ...TINY_CPU);
  expect(exitCode, stderr).toBe(0);
  const made = ['d', 'empty', 'link', 'new.txt', 'old-time.txt', 'sub'];
  expect(await project.list('job_results/batch.sh.1')).toEqual(made);
  expect(await project.list('job_results/batch.sh.1/d')).toEqual(['sp ace']);
  expect(await project.list('job_results/batch.sh.1/sub')).toEqual(['grows.txt']);
  expect(await project.read('job_results/batch.sh.1/sub/grows.txt')).toBe('first\nmore\n');
  expect(JSON.parse(await project.read('job_results/batch.sh.1.json'))).toMatchObject({
    deleted: ['gone.txt'],
  });
  for (let i = 0; i < 14; i++) {
    expect(await project.list(`job_results/batch.sh.${i + 2}`)).toEqual(['made.txt']);
    expect(await project.read(`job_results/batch.sh.${i + 2}/made.txt`)).toBe(`${i}\n`);
  }
});
