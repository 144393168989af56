/** execute_remote from the outside: one command on one machine, as if it ran here. */
import { once } from 'node:events';
import { createServer } from 'node:net';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type TestHost, TestHosts } from '../rig/test-hosts.ts';
import { linesOf, Project } from './run-command.ts';

let hosts: TestHosts;
let plain: TestHost;

beforeAll(async () => {
  hosts = await TestHosts.start([
    { name: 'plain' },
    { name: 'calm' },
    { name: 'noisy', bashrc: 'echo noise from .bashrc; echo more >&2; export FROM_BASHRC=yes\n' },
  ]);
  plain = hosts.get('plain');
});
afterAll(() => hosts.close());

/** What of ours is on a host: everything below our folder but the source trees, which later calls use again. */
async function keptOn(host: TestHost): Promise<string> {
  return (await host.exec('find ~/.cache/ssh-scheduler -type f -not -path "*/trees/*" 2>/dev/null')).stdout;
}

describe.concurrent('what passes through', () => {
  test('standard output and error apart, and the exit code', async () => {
    await using project = await Project.start(hosts);
    for (const code of [0, 1, 77, 130, 255]) {
      const end = await project.remote('--machine', 'plain.yaml', `echo out; echo err >&2; exit ${code}`);
      expect(end).toEqual({ stdout: 'out\n', stderr: 'err\n', exitCode: code });
    }
    const killed = await project.remote('--machine', 'plain.yaml', 'kill -KILL $$');
    expect(killed.exitCode).toBe(137);
    expect(await project.list()).not.toContain('job_results');
  });

  test('the first line arrives while the command still runs', async () => {
    await using project = await Project.start(hosts);
    const command = 'echo first; echo second >&2; until [ -e ~/go-on ]; do sleep 0.05; done; echo last';
    const running = project.startRemote(['--machine', 'plain.yaml', command]);
    await running.says(/^first\n$/);
    await running.says(/^second\n$/, 'stderr');
    expect(running.isRunning).toBe(true);
    await plain.exec('touch ~/go-on');
    expect(await running.ended).toEqual({ stdout: 'first\nlast\n', stderr: 'second\n', exitCode: 0 });
  });

  test('binary output through a pipe, byte for byte', async () => {
    await using project = await Project.start(hosts);
    const bytes = 'head -c 3000000 /dev/urandom > ~/random; cat ~/random; md5sum < ~/random >&2';
    const line = `execute_remote --machine plain.yaml '${bytes}' | md5sum`;
    const { stdout, stderr, exitCode } = await project.startShell(line).ended;
    expect(stdout).toMatch(/^[0-9a-f]{32} {2}-\n$/);
    expect(stderr).toBe(stdout);
    expect(exitCode).toBe(0);
  });

  test('a reader that goes away ends it, as any program in a pipe', async () => {
    await using project = await Project.start(hosts);
    const line = `set -o pipefail; execute_remote --machine plain.yaml 'yes | head -n 2000000' | head -n 1; echo "\${PIPESTATUS[0]}"`;
    const { stdout } = await project.startShell(line).ended;
    expect(linesOf(stdout)).toEqual(['y', '141']);
  });

  test('a slow reader gets everything', async () => {
    await using project = await Project.start(hosts);
    // The reader starts when the writer's pipe has long been full.
    const line = `execute_remote --machine plain.yaml 'seq 200000' | { sleep 1; md5sum; }; seq 200000 | md5sum`;
    const [there, here] = linesOf((await project.startShell(line).ended).stdout);
    expect(there).toBe(here);
  });

  test('the user’s environment, and nothing of what the login shell prints', async () => {
    await using project = await Project.start(hosts);
    const end = await project.remote('--machine', 'noisy.yaml', 'echo "$FROM_BASHRC $MACHINE_NAME"');
    expect(end).toEqual({ stdout: 'yes noisy.yaml\n', stderr: '', exitCode: 0 });
  });

  test('--verbose tells what happens besides', async () => {
    await using project = await Project.start(hosts);
    const { stdout, stderr, exitCode } = await project.remote(
      '--machine',
      'plain.yaml',
      '--verbose',
      'exit 3',
    );
    expect(stdout).toBe('');
    expect(stderr).toContain('execute_remote: exit 3');
    expect(exitCode).toBe(3);
  });

  test('local is this machine', async () => {
    await using project = await Project.start();
    const end = await project.remote('--machine', 'local', 'echo "$MACHINE_NAME"; exit 4');
    expect(end).toEqual({ stdout: 'local\n', stderr: '', exitCode: 4 });
  });
});

describe.concurrent('files', () => {
  test('the seed’s test: a sed with files forward and back', async () => {
    await using project = await Project.start(hosts);
    await project.write('example/in.txt', ['an old word', 'and an older one']);
    await project.write('not-sent.txt', 'x');
    const args = [
      '--machine',
      'plain.yaml',
      '--copy-forwards',
      'example',
      '--copy-backwards',
      'example/out.txt',
    ];
    const command = "sed 's/old/new/' example/in.txt > example/out.txt; ls";
    const end = await project.remote(...args, '--job-name', 'sedtest', command);
    expect(end).toEqual({ stdout: 'example\n', stderr: '', exitCode: 0 });
    expect(await project.read('job_results/sedtest/example/out.txt')).toBe('an new word\nand an newer one\n');
    expect(await project.list('job_results/sedtest/example')).toEqual(['out.txt']);
    expect(await project.read('job_results/sedtest.out')).toBe('example\n');
    expect(await project.manifest('sedtest')).toMatchObject({ command, exit_code: 0, machine: 'plain.yaml' });
    // Results are never replaced.
    const again = await project.remote(...args, '--job-name', 'sedtest', 'touch ~/ran-again');
    expect(again.stderr).toMatch(
      /^execute_remote: .*job_results\/sedtest exists already: results are never replaced/,
    );
    expect(again.exitCode).toBe(255);
    expect((await plain.exec('ls ~')).stdout).not.toContain('ran-again');
  });

  test('the argument forms of the seed work as written there', async () => {
    await using project = await Project.start(hosts);
    await project.write('test.py', 'stands for a program');
    await project.write('example1/x', '');
    const line =
      "execute_remote --machine plain.yaml --copy-forwards example1 test.py --copy-backwards example1 --job-name example1 'cat test.py > example1/y; ls'";
    const { stdout, exitCode } = await project.startShell(line).ended;
    expect(stdout).toBe('example1\ntest.py\n');
    expect(exitCode).toBe(0);
    expect(await project.list('job_results/example1/example1')).toEqual(['x', 'y']);
  });

  test('-- ends a list, and a list that swallowed the command is explained', async () => {
    await using project = await Project.start(hosts);
    await project.write('data', 'content');
    const good = await project.remote('--machine', 'plain.yaml', '--copy-forwards', 'data', '--', 'cat data');
    expect(good).toEqual({ stdout: 'content', stderr: '', exitCode: 0 });
    const bad = await project.remote('--machine', 'plain.yaml', '--copy-forwards', 'data', 'cat data');
    expect(bad.exitCode).toBe(255);
    expect(linesOf(bad.stderr)).toEqual([
      expect.stringMatching(
        /^execute_remote: the command is missing: --copy-forwards takes every word up to the next flag, and took 'cat data' too\. .*-- 'cat data'$/,
      ),
    ]);
  });

  test('with a name alone: what the command made comes back, and a failure keeps its results', async () => {
    await using project = await Project.start(hosts);
    const end = await project.remote('--machine', 'plain.yaml', '--job-name', 'made', 'echo 1 > new; exit 9');
    expect(end.exitCode).toBe(9);
    expect(await project.list('job_results/made')).toEqual(['new']);
    expect(await project.list('job_results')).toEqual(['made', 'made.err', 'made.json', 'made.out']);
  });

  test('it can be run again and again, and leaves nothing on the host', async () => {
    const calm = hosts.get('calm');
    await using project = await Project.start(hosts);
    await project.write('data', 'content');
    for (const args of [
      ['echo again > file; pwd'],
      ['echo again > file; pwd'],
      ['--copy-forwards', 'data', '--', 'ls'],
    ]) {
      expect((await project.remote('--machine', 'calm.yaml', ...args)).exitCode).toBe(0);
    }
    expect(
      (await project.remote('--machine', 'calm.yaml', '--job-name', 'kept', 'touch file')).exitCode,
    ).toBe(0);
    expect(await keptOn(calm)).toBe('');
    expect((await calm.exec('ls ~/.cache/ssh-scheduler/runs/*')).stdout.trim()).toBe('');
    expect((await calm.exec('ls')).stdout).toBe('');
  });
});

describe.concurrent('what is wrong is told in one line', () => {
  test('arguments', async () => {
    await using project = await Project.start(hosts);
    const said = async (...args: string[]) => {
      const { stdout, stderr, exitCode } = await project.remote(...args);
      expect({ stdout, exitCode }).toEqual({ stdout: '', exitCode: 255 });
      expect(linesOf(stderr)).toHaveLength(1);
      return stderr;
    };
    const machine = ['--machine', 'plain.yaml'];
    expect(await said("'true'")).toMatch(/no machine is named/);
    expect(await said(...machine)).toMatch(/the command is missing/);
    expect(await said(...machine, 'echo', 'two words')).toMatch(
      /more than one command word \('echo', 'two words'\)/,
    );
    expect(await said(...machine, '--num-gpus', '1', 'true')).toMatch(
      /execute_remote takes no resource flags, found --num-gpus/,
    );
    expect(await said(...machine, '--copy-backwards', 'x', '--', 'true')).toMatch(
      /--copy-backwards needs --job-name/,
    );
    expect(await said(...machine, '--job-name', '../x', 'true')).toMatch(/contains a slash/);
    expect(await said(...machine, '--copy-forwards', 'gone', '--', 'true')).toMatch(/gone does not exist/);
    expect(await said('--machine', 'gone.yaml', 'true')).toMatch(/found no file .*gone\.yaml/);
    expect(await project.list()).not.toContain('job_results');
  });

  test('a machine that refuses, and one that does not speak ssh', async () => {
    await using project = await Project.start(hosts);
    const server = createServer((socket) => socket.resume().end('220 mail.example.org ESMTP\r\n'));
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const address = server.address();
    const port = typeof address === 'object' && address !== null ? address.port : 0;
    await project.write('mail.yaml', `ip: 127.0.0.1\nport: ${port}\n`);
    const odd = await project.remote('--machine', 'mail.yaml', 'true');
    server.close();
    await once(server, 'close');
    const refused = await project.remote('--machine', 'mail.yaml', 'true');
    for (const { stdout, stderr, exitCode } of [odd, refused]) {
      expect({ stdout, exitCode }).toEqual({ stdout: '', exitCode: 255 });
      expect(linesOf(stderr)).toEqual([expect.stringMatching(/^execute_remote: .*127\.0\.0\.1 port \d+/)]);
    }
    expect(refused.stderr).toMatch(/connection refused by 127\.0\.0\.1 port \d+: is sshd running there\?/);
  });

  test('a key that the host does not accept', async () => {
    await using project = await Project.start(hosts);
    const key = await project.write('other_key', '');
    const machine = plain.machineFile().replace(plain.keyPath, key);
    await project.write('other.yaml', machine);
    const { stderr, exitCode } = await project.startShell(
      'rm other_key; ssh-keygen -q -t ed25519 -N "" -f other_key && execute_remote --machine other.yaml true',
    ).ended;
    expect(exitCode).toBe(255);
    expect(linesOf(stderr)).toEqual([expect.stringMatching(/^execute_remote: .*other_key/)]);
  });
});
