/** What the command does about jobs that fail or take too long, on this machine. */
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { linesOf, Project, TINY_CPU } from './run-command.ts';

const LOCAL = ['--machines', 'local', ...TINY_CPU];

/** A line that notes its attempt in a file outside of its folder. */
const noting = (project: Project, command: string) =>
  `echo "$JOB_NAME $JOB_ATTEMPT" >>'${join(project.path, '../ledger')}'; ${command}`;

async function ledger(project: Project): Promise<string[]> {
  return linesOf(await readFile(join(project.path, '../ledger'), 'utf8')).sort();
}

describe.concurrent('jobs that fail', () => {
  test('--retries tries again, keeps what failed beside, and remembers what was used up', async () => {
    await using project = await Project.start();
    await project.write('b.sh', [
      noting(project, 'echo try $JOB_ATTEMPT; echo $JOB_ATTEMPT >made; [ $JOB_ATTEMPT = 3 ]'),
      noting(project, 'echo never >&2; exit 4'),
    ]);
    const { exitCode, stdout, stderr } = await project.batch('b.sh', ...LOCAL, '--retries', '2');
    expect(exitCode).toBe(1);
    expect(await ledger(project)).toEqual(
      [1, 2, 3].flatMap((n) => [`b.sh.1 ${n}`]).concat([1, 2, 3].map((n) => `b.sh.2 ${n}`)),
    );
    expect(await project.read('job_results/b.sh.1.out')).toBe('try 3\n');
    expect(await project.read('job_results/b.sh.1/made')).toBe('3\n');
    for (const number of [1, 2]) {
      const beside = `job_results/b.sh.1.attempt-${number}`;
      expect(await project.read(`${beside}.out`)).toBe(`try ${number}\n`);
      expect(await project.read(`${beside}/made`)).toBe(`${number}\n`);
      expect(JSON.parse(await project.read(`${beside}.json`))).toMatchObject({
        exit_code: 1,
        attempt: number,
      });
    }
    expect(await project.manifest('b.sh.1')).toMatchObject({ exit_code: 0, attempt: 3 });
    expect(await project.manifest('b.sh.2')).toMatchObject({ exit_code: 4, attempt: 3 });
    expect(linesOf(stdout).filter((line) => line.includes('tried again'))).toHaveLength(4);
    expect(stderr).toMatch(/1 done, 1 failed, 0 skipped/);
  });

  test('--retry-on: only what is named', async () => {
    await using project = await Project.start();
    await project.write('b.sh', [
      noting(project, 'exit 75'),
      noting(project, 'exit 3'),
      noting(project, 'sleep 1000'),
    ]);
    const args = ['b.sh', ...LOCAL, '--retries', '1', '--retry-on', 'exit:75,timeout', '--timeout', '1'];
    expect((await project.batch(...args, '--kill-after', '2')).exitCode).toBe(3);
    expect(await ledger(project)).toEqual(['b.sh.1 1', 'b.sh.1 2', 'b.sh.2 1', 'b.sh.3 1', 'b.sh.3 2']);
    expect(await project.manifest('b.sh.3')).toMatchObject({
      outcome: 'timed-out',
      timeout_s: 1,
      exit_code: null,
    });
  });

  test('--timeout in percent of the median ends what takes far longer than the others', async () => {
    await using project = await Project.start();
    await project.write('b.sh', ['sleep 0.3', 'sleep 0.3', 'sleep 0.3', 'sleep 1000']);
    const { exitCode, stdout } = await project.batch(
      'b.sh',
      ...LOCAL,
      '--timeout',
      '500%',
      '--kill-after',
      '2',
    );
    expect(exitCode).toBe(1);
    expect(stdout).toMatch(/failed: b\.sh\.4; sleep 1000 \(timed out after /);
  });

  test('--oom-grow asks for more of the memory that ran out', async () => {
    await using project = await Project.start();
    const oom = 'echo "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB" >&2; exit 1';
    await project.write('b.sh', [noting(project, `if [ $JOB_ATTEMPT = 1 ]; then ${oom}; fi`)]);
    const args = ['b.sh', ...LOCAL, '--json', '--retries', '1', '--retry-on', 'oom', '--oom-grow', '2'];
    const { exitCode, stdout } = await project.batch(...args);
    expect(exitCode).toBe(0);
    const events = linesOf(stdout).map((line) => JSON.parse(line) as { readonly [field: string]: unknown });
    const started = events.filter(({ type }) => type === 'job:started');
    const gpuMemory = started.map(({ request }) => (request as { gpuMemoryMiB: number }).gpuMemoryMiB);
    expect(gpuMemory[1]).toBe(2 * (gpuMemory[0] ?? 0));
    expect(events.find(({ type }) => type === 'job:ended')).toMatchObject({
      outcome: { type: 'out-of-memory', memory: 'gpu', exitCode: 1 },
      willRetry: true,
    });
  });

  test.each([
    ['soon', 0],
    ['now', 1],
  ] as const)('--halt %s,fail=1', async (when, cancelled) => {
    await using project = await Project.start();
    const slow = `until [ -e '${join(project.path, '../go')}' ]; do sleep 0.05; done`;
    await project.write('b.sh', [
      slow,
      'sleep 0.5; exit 1',
      ...Array.from({ length: 400 }, () => 'sleep 0.2'),
    ]);
    // Few at once, so that many still wait when the second one fails.
    const few = ['--machines', 'local', '--memory-required', '10', '--num-cpus', '0.2', '--no-gpu-required'];
    const running = project.startBatch(['b.sh', ...few, '--halt', `${when},fail=1`]);
    await running.says(/1 job has failed: /, 'stderr');
    if (when === 'soon') await project.write('../go', '');
    const { stdout, stderr } = await running.ended;
    expect(stderr).toMatch(/[1-9]\d* not run/);
    const ended = linesOf(stdout).filter((line) => line.startsWith('failed: b.sh.1; '));
    expect(ended).toHaveLength(cancelled);
    if (cancelled === 1) expect(ended[0]).toContain('cancelled: ended by --halt');
  });

  test('--rerun-failed runs failed lines again and keeps the earlier results; --failed-lines writes a batch file of them', async () => {
    await using project = await Project.start();
    await project.write('b.sh', ['exit 3', 'true', `test -e '${join(project.path, '../fixed')}'`]);
    const first = await project.batch('b.sh', ...LOCAL, '--failed-lines', 'failed.sh');
    expect(first.exitCode).toBe(2);
    expect(await project.read('failed.sh')).toBe(`exit 3\ntest -e '${join(project.path, '../fixed')}'\n`);
    await project.write('../fixed', '');
    const again = await project.batch('b.sh', ...LOCAL);
    expect(again.exitCode).toBe(2);
    expect(again.stdout).not.toContain('started: ');
    const rerun = await project.batch('b.sh', ...LOCAL, '--rerun-failed', '--failed-lines', 'failed.sh');
    expect(rerun.exitCode).toBe(1);
    expect(linesOf(rerun.stdout).filter((line) => line.startsWith('started: '))).toHaveLength(2);
    expect(await project.manifest('b.sh.3')).toMatchObject({ exit_code: 0, attempt: 2 });
    expect(JSON.parse(await project.read('job_results/b.sh.3.attempt-1.json'))).toMatchObject({
      exit_code: 1,
    });
    expect(await project.read('failed.sh')).toBe('exit 3\n');
  });

  test('--max-output cuts what is kept here, says so, and the manifest has the real size', async () => {
    await using project = await Project.start();
    await project.write('b.sh', ['yes | head -c 3000000; echo fine >&2', 'echo short']);
    expect((await project.batch('b.sh', ...LOCAL, '--max-output', '1M')).exitCode).toBe(0);
    const text = await project.read('job_results/b.sh.1.out');
    expect(text.length).toBeLessThan(1_100_000);
    expect(text.slice(-200)).toMatch(
      /\n\[ssh-scheduler: cut here, 3000000 bytes in all: see --max-output\]\n$/,
    );
    expect(await project.manifest('b.sh.1')).toMatchObject({ out_bytes: 3_000_000, out_cut: true });
    expect(await project.read('job_results/b.sh.2.out')).toBe('short\n');
    expect(existsSync(join(project.path, 'job_results/.partial'))).toBe(false);
  });
});
