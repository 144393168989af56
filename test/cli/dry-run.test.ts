/** `--dry-run`, and requests that can never be satisfied: machines are asked, nothing is run. */
import { readdir } from 'node:fs/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { TestHosts } from '../rig/test-hosts.ts';
import { hostsAreMachines, linesOf, Project, TINY, TINY_CPU } from './run-command.ts';

let hosts: TestHosts;
let machines: string[];

beforeAll(async () => {
  hosts = await TestHosts.start([
    { name: 'gpubox', gpus: [{ memoryTotalMiB: 8000 }, { memoryTotalMiB: 8000, usedMiB: 7900 }] },
    { name: 'plain' },
  ]);
  machines = hostsAreMachines ? ['gpubox.yaml', 'plain.yaml'] : ['gpubox.yaml'];
});
afterAll(() => hosts.close());

/** What stands in the home folders of the hosts: a run would leave or at least make something there. */
async function homes(): Promise<string[]> {
  return (await Promise.all(hosts.hosts.map((host) => readdir(host.homeDir, { recursive: true }))))
    .flat()
    .sort();
}

describe('--dry-run', () => {
  test('prints which line would start where and every line that cannot, and runs nothing', async () => {
    await using project = await Project.start(hosts);
    await project.write('batch.sh', [
      'touch ~/ran && echo one',
      '',
      'echo waits for the GPU',
      "execute_remote --gpu-memory-required 9G 'echo too much'",
      "execute_remote --no-gpu-required --memory-required 900G 'echo far too much'",
      'echo has a result',
    ]);
    await project.write('job_results/batch.sh.6/x', '');
    const before = await homes();
    const args = ['batch.sh', '--machines', ...machines, ...TINY, '--dry-run'];
    const { stdout, exitCode } = await project.batch(...args);
    const lines = linesOf(stdout);
    expect(lines).toContain('would start: batch.sh.1; touch ~/ran && echo one (on gpubox.yaml, GPU 0)');
    expect(lines).toContain('would wait:  batch.sh.3; echo waits for the GPU');
    expect(lines).toContain('would skip:  batch.sh.6: its result exists');
    const impossible = lines.indexOf('cannot run:  batch.sh.4; echo too much');
    expect(impossible).toBeGreaterThan(0);
    expect(lines[impossible + 1]).toMatch(/^ {13}gpubox\.yaml: .*9216 MiB/);
    if (hostsAreMachines) expect(lines[impossible + 2]).toMatch(/^ {13}plain\.yaml: .*GPU/);
    const second = lines.indexOf('cannot run:  batch.sh.5; echo far too much');
    expect(lines[second + 1]).toMatch(/^ {13}gpubox\.yaml: .*921600 MiB/);
    expect(lines.at(-1)).toBe(
      'dry run: 1 would start at once, 1 would wait, 2 can never run, 1 would be skipped',
    );
    expect(stdout).not.toContain('started:');
    expect(exitCode).toBe(2);
    expect(await homes()).toEqual(before);
    expect(await project.list('job_results')).toEqual(['batch.sh.6']);
  });

  test('makes no results folder, and says so with exit code 0 when all can run', async () => {
    await using project = await Project.start(hosts);
    await project.write('batch.sh', ['touch ~/ran']);
    const { stdout, exitCode } = await project.batch(
      'batch.sh',
      '--machines',
      ...machines,
      ...TINY_CPU,
      '--dry-run',
    );
    expect(exitCode).toBe(0);
    expect(stdout).toMatch(/^would start: batch\.sh\.1; touch ~\/ran \(on (gpubox|plain)\.yaml\)$/m);
    expect(project.has('job_results')).toBe(false);
  });
});

describe('a request that no machine can ever satisfy', () => {
  test('is refused before anything starts, with the shortfall per machine', async () => {
    await using project = await Project.start(hosts);
    await project.write('batch.sh', ['touch ~/ran', "execute_remote --gpu-memory-required 9G 'touch ~/ran'"]);
    const { stdout, stderr, exitCode } = await project.batch('batch.sh', '--machines', ...machines, ...TINY);
    expect(exitCode).toBe(255);
    expect(stdout).toBe('');
    expect(stderr).toContain('line 2 can never run on these machines:');
    expect(stderr).toMatch(/^ {2}gpubox\.yaml: .*9216 MiB/m);
    if (hostsAreMachines) expect(stderr).toMatch(/^ {2}plain\.yaml: .*GPU/m);
    expect((await homes()).includes('ran')).toBe(false);
    expect((await project.list('job_results')).filter((name) => !name.startsWith('.'))).toEqual([]);
  });

  test('more GPUs than any machine has, and more cores', async () => {
    await using project = await Project.start(hosts);
    await project.write('batch.sh', ['true', 'true']);
    const args = ['batch.sh', '--machines', 'gpubox.yaml', ...TINY];
    const gpus = await project.batch(...args, '--num-gpus', '3');
    expect(gpus.exitCode).toBe(255);
    expect(gpus.stderr).toMatch(
      /2 lines, first line 1, can never run on these machines:\n {2}gpubox\.yaml: .*the machine has 2 GPUs, 3 were requested/,
    );
    const cores = await project.batch(
      'batch.sh',
      '--machines',
      'gpubox.yaml',
      '--num-cpus',
      '1000',
      '--no-gpu-required',
    );
    expect(cores.exitCode).toBe(255);
    expect(cores.stderr).toMatch(
      /gpubox\.yaml: .* of \d+ cores in use, 1000 more requested, the total must stay below \d/,
    );
  });
});
