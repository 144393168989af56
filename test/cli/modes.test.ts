/** What execute_batch does besides running a batch, with a batch of real jobs on this machine. */
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { until } from '../rig/until.ts';

const tsx = resolve('node_modules/tsx/dist/esm/index.mjs');
const program = resolve('src/cli/execute-batch.ts');
const SMALL = [
  '--copy-forwards',
  'b.sh',
  '--no-gpu-required',
  '--memory-required',
  '10',
  '--num-cpus',
  '0.01',
];
const RUN = ['b.sh', '--machines', 'local', ...SMALL];

let folder = '';
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'modes-'));
  mkdirSync(join(folder, 'home'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true, maxRetries: 5, retryDelay: 200 }));

function start(args: readonly string[]) {
  const child = spawn(process.execPath, ['--import', tsx, program, ...args], {
    cwd: folder,
    env: { ...process.env, HOME: join(folder, 'home') },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const said = { stdout: '', stderr: '' };
  for (const name of ['stdout', 'stderr'] as const)
    child[name].on('data', (chunk: Buffer) => {
      said[name] += chunk.toString();
    });
  return { child, said, closed: new Promise((done) => child.once('close', done)) };
}

async function batch(...args: readonly string[]) {
  const { said, closed } = start(args);
  return { code: await closed, ...said };
}

const write = (...lines: readonly string[]) => writeFileSync(join(folder, 'b.sh'), `${lines.join('\n')}\n`);
const read = (name: string) => readFileSync(join(folder, name), 'utf8');

test('leave, ask, cancel, ask again: the machines are remembered, and every answer fits', async () => {
  // The second line ends by itself when the test fails.
  write('echo "no such thing 1" >&2; exit 3', `touch ${folder}/began; sleep 60`);
  const left = await batch(...RUN, '--leave');
  expect(left.stderr).toMatch(/^execute_batch: leaving: 2 started, \d running now, 0 waiting$/m);
  expect(left.stderr).toContain(`run in this folder: node ${program} ${RUN.join(' ')}\n`);
  expect(left.code).toBe(0);
  await until(() => existsSync(join(folder, 'began')), { deadlineMs: 30_000 });

  const asked = await batch('b.sh', '--status', '--json');
  expect(asked.stderr).toContain('using the machines of the last run: local\n');
  const [, second] = asked.stdout
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line) as unknown);
  expect(second).toMatchObject({ name: 'b.sh.2', state: 'running', machine: 'local' });
  expect(asked.code).toBe(0);

  const cancelled = await batch('b.sh', '--cancel');
  expect(cancelled.stdout).toMatch(/^still running: b\.sh\.2; .* \(local, since \d\d:\d\d\)$/m);
  expect(cancelled.stdout).toMatch(/^failed: b\.sh\.2; .* \(cancelled: ended by --cancel, local, /m);
  expect(cancelled.stderr).toContain('nothing of this batch runs any more\n');
  expect(cancelled.code).toBe(0);
  const after = await batch('b.sh', '--status', '--verbose');
  expect(after.stdout).toMatch(/^failed {3}b\.sh\.1 .*\nwaiting {2}b\.sh\.2 .*\n1 failed, 1 waiting\n$/);
  expect((await batch('--orphans', '--machines', 'local')).stderr).toContain('no orphans');
}, 120_000);

test('Ctrl-C and SIGTERM say how to come back', async () => {
  write(
    `touch ${folder}/began; for i in $(seq 600); do [ -e ${folder}/go ] && break; sleep 0.1; done; touch ${folder}/over`,
  );
  const { child, said, closed } = start([...RUN, '--retries', '1']);
  await until(() => existsSync(join(folder, 'began')), { deadlineMs: 30_000 });
  const comeBack = `execute_batch: to go on with the batch, run in this folder: node ${program} ${RUN.join(' ')} --retries 1\n`;
  child.kill('SIGINT');
  await until(() => said.stderr.includes(comeBack), { deadlineMs: 30_000, describe: () => said.stderr });
  child.kill('SIGTERM');
  expect(await closed).toBe(143);
  expect(said.stderr.slice(said.stderr.indexOf('SIGTERM: leaving'))).toContain(comeBack);
  writeFileSync(join(folder, 'go'), '');
  expect((await batch(...RUN)).code).toBe(0); // it did run on, and its result comes home
  expect(existsSync(join(folder, 'over'))).toBe(true);
}, 120_000);

test('a question about a batch that was never run needs machines, and says so', async () => {
  write('true');
  const { stderr, code } = await batch('b.sh', '--status');
  expect(stderr).toMatch(/no machine is named, and job_results remembers no run of b\.sh: add --machines/);
  expect(code).toBe(255);
});

test('--failed-lines is a batch file of what failed, and never the batch file itself', async () => {
  write('true', 'echo "a b"; exit 4', '# a comment', 'exit 5');
  const same = await batch(...RUN, '--failed-lines', './b.sh');
  expect(same.stderr).toContain('--failed-lines: "./b.sh" is the batch file itself: name another one');
  expect(same.code).toBe(255);
  expect(existsSync(join(folder, 'job_results'))).toBe(false);
  const first = await batch(...RUN, '--failed-lines', 'again.sh');
  expect(first.code).toBe(2);
  expect(read('again.sh')).toBe('echo "a b"; exit 4\nexit 5\n');
  expect(first.stderr).toMatch(/^execute_batch: 1 job: exited 4$/m);
  write('true');
  expect((await batch('b.sh', '--machines', 'local', ...SMALL, '--failed-lines', 'again.sh')).code).toBe(0);
  expect(read('again.sh')).toBe('');
}, 120_000);
