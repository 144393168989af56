/** What job_queue says to people when things are not as they seem, with a service of its own. */
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';

const PROGRAM = resolve('dist/cli/job-queue.js');
const root = mkdtempSync(join(tmpdir(), 'queue-messages-'));
const cwd = join(root, 'project');
const TINY = ['--no-gpu-required', '--memory-required', '10', '--num-cpus', '0.01'] as const;
const GROUP = String(process.getegid?.() ?? 0);

function bash(line: string, input = '') {
  const env = { PATH: process.env.PATH, HOME: root, LANG: 'C.UTF-8' };
  const define = `job_queue() { '${process.execPath}' '${PROGRAM}' "$@"; }`;
  const { status, stdout, stderr } = spawnSync('/bin/bash', ['-c', `${define}\n${line}`], {
    ...{ cwd, env, input, encoding: 'utf8', timeout: 60_000 },
  });
  return { status, stdout, stderr };
}

const queue = (...args: readonly string[]) => bash(`job_queue ${args.map((word) => `'${word}'`).join(' ')}`);
const submit = (...args: readonly string[]) => Number(queue('submit', '--quiet', ...TINY, ...args).stdout);

let started: ReturnType<typeof bash>;
beforeAll(() => {
  mkdirSync(cwd);
  writeFileSync(join(cwd, 'job.sh'), 'echo "$1"\n');
  started = queue('start', '--daemon', '--group', GROUP);
}, 60_000);
afterAll(() => {
  queue('stop', '--kill');
  rmSync(root, { recursive: true, force: true });
}, 60_000);

test('a start in the background shows what the service had to say, and where it is', () => {
  expect(started).toMatchObject({
    status: 0,
    stdout: expect.stringMatching(/^serving as process \d+\n/) as string,
  });
  expect(started.stderr).toMatch(
    new RegExp(`^job_queue: Everybody in the group '${GROUP}' can run anything as you, through /.*\\.$`, 'm'),
  );
  expect(started.stderr).not.toMatch(/serving|\d\d:\d\d:\d\d/);
});

test('a start in the background that fails after its door was open has failed', () => {
  const failed = queue('--data-dir', join(root, 'other'), 'start', '--daemon', '--machines', 'missing.yaml');
  expect(failed).toMatchObject({ status: 255, stdout: '' });
  expect(failed.stderr).toContain('missing.yaml');
}, 60_000);

test('follow says how a job ended that has no good end', () => {
  const killed = submit('--hold', '--command', 'true');
  queue('kill', String(killed));
  expect(queue('follow', String(killed))).toEqual({
    status: 1,
    stdout: '',
    stderr: expect.stringMatching(
      new RegExp(`^job_queue: job ${killed}: killed, .*killed by hand\n$`),
    ) as string,
  });
  const fails = submit('--command', 'kill -9 $$');
  expect(queue('follow', String(fails)).stderr).toBe(`job_queue: job ${fails}: fail, exited 137 (SIGKILL)\n`);
  const child = submit('--depends-on', String(fails), '--command', 'true');
  const followed = queue('follow', String(child));
  expect(followed).toMatchObject({ status: 1, stdout: '' });
  expect(followed.stderr).toMatch(new RegExp(`^job_queue: job ${child}: abort, .+\n$`));
}, 60_000);

test('commands come from standard input', () => {
  const sent = bash(
    `job_queue submit --quiet ${TINY.join(' ')} --hold --command-file -`,
    '# two\necho 1\n\necho 2\n',
  );
  expect(sent).toMatchObject({ status: 0, stderr: '' });
  expect(sent.stdout).toMatch(/^\d+\n\d+\n$/);
  expect(bash('job_queue submit --command-file -', 'echo (\n').stderr).toContain('standard input:1');
  expect(bash('job_queue submit --command-file -').stderr).toContain('standard input is empty');
}, 60_000);

test('~ is the home folder of the service', () => {
  const id = submit('--copy-forwards', '--hold', '--cwd', '~', '--command', 'true');
  expect(queue('status', String(id)).stdout).toMatch(new RegExp(`^folder: +${root}$`, 'm'));
});

test.runIf(process.platform === 'linux')('arguments that are not UTF-8 are refused, not changed', () => {
  const message = 'job_queue: the argument "a\uFFFD" is not UTF-8: it would arrive changed, expected UTF-8\n';
  for (const call of ["submit --hold job.sh ok $'a\\xff'", "remove-job job.sh $'a\\xff'"])
    expect(bash(`job_queue ${call}`)).toEqual({ status: 255, stdout: '', stderr: message });
  // The character itself is an argument like any other, beside words of all kinds.
  const typed = bash(`job_queue submit --quiet --hold ${TINY.join(' ')} job.sh '\uFFFD' '' 'ä'`);
  expect(typed).toMatchObject({ status: 0, stderr: '' });
});
