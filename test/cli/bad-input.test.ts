/** Bad input gets one clear message, exit code 255, and loses nothing: nothing runs and no result is touched. */
import { readFile } from 'node:fs/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { runOrThrow } from '../rig/command.ts';
import { TestHosts } from '../rig/test-hosts.ts';
import { type CommandEnd, linesOf, Project, TINY_CPU } from './run-command.ts';

let hosts: TestHosts;

beforeAll(async () => {
  hosts = await TestHosts.start([{ name: 'plain' }, { name: 'changed' }]);
});
afterAll(() => hosts.close());

/** A refusal by execute_batch: nothing on stdout, and on stderr what is wrong, without a stack. */
function expectRefusal({ exitCode, stdout, stderr }: CommandEnd, message: string | RegExp): void {
  expect(stderr).toMatch(message);
  expect(stderr).not.toMatch(/^\s+at /m);
  expect(stdout).toBe('');
  expect(exitCode).toBe(255);
}

describe.concurrent('the batch file', () => {
  test('missing, a folder, empty, only comments', async () => {
    await using project = await Project.start();
    await project.write('empty.sh', '');
    await project.write('comments.sh', ['# nothing', '', '   ']);
    await project.write('folder/x', '');
    const refused = (name: string) => project.batch(name, '--machines', 'local');
    expectRefusal(
      await refused('gone.sh'),
      /^execute_batch: cannot read the batch file gone\.sh: there is no such file; /,
    );
    expectRefusal(await refused('folder'), /cannot read the batch file folder: it is a folder; /);
    expectRefusal(
      await refused('empty.sh'),
      /the batch file empty\.sh is empty: expected one command per line/,
    );
    expectRefusal(await refused('comments.sh'), /comments\.sh has only blank lines and comments: /);
  });

  test('syntax errors of bash are told with their lines before anything runs', async () => {
    await using project = await Project.start();
    await project.write('batch.sh', [
      'touch ran',
      'echo "open',
      'for i in 1 2; do',
      'echo fine',
      'if true; then fi',
    ]);
    const end = await project.batch('batch.sh', '--machines', 'local', ...TINY_CPU);
    expectRefusal(end, /^execute_batch: batch\.sh:2: .*unexpected EOF.*\nbatch\.sh:3: .*\nbatch\.sh:5: .*fi/);
    expect(project.has('job_results')).toBe(false);
  });

  test('lines that only set something for later lines get a warning, and run', async () => {
    await using project = await Project.start();
    const setters = ['cd sub', 'export A=1', 'set -e', 'B=2', 'echo joined \\', 'echo fine && cd /'];
    await project.write('batch.sh', setters);
    await project.write('sub/x', '');
    const { stderr, exitCode } = await project.batch('batch.sh', '--machines', 'local', ...TINY_CPU);
    const warned = linesOf(stderr).flatMap((line) => /batch\.sh:(\d+): /.exec(line)?.[1] ?? []);
    expect(warned).toEqual(['1', '2', '3', '4', '5']);
    expect(stderr).toMatch(/batch\.sh:1: this line only sets something for later lines/);
    expect(stderr).toMatch(/batch\.sh:5: the line ends with a backslash/);
    expect(exitCode).toBe(0);
  });

  test('names that are taken, collide with files of another job, or leave the results folder', async () => {
    await using project = await Project.start();
    await project.write('batch.sh', [
      "execute_remote --job-name one 'true'",
      "execute_remote --job-name one 'true'",
      "execute_remote --job-name one.out 'true'",
      "execute_remote --job-name ../up 'true'",
      "execute_remote --job-name /etc/x 'true'",
      "execute_remote --job-name .. 'true'",
      "execute_remote --job-name batch.sh.8 'true'",
      'echo mine',
    ]);
    const end = await project.batch('batch.sh', '--machines', 'local');
    expectRefusal(end, /batch\.sh:2: the job name 'one' is taken by line 1/);
    expectRefusal(
      end,
      /batch\.sh:3: the job name 'one\.out' is also a result file of the job 'one' on line 1/,
    );
    expectRefusal(end, /batch\.sh:4: the job name '\.\.\/up' contains a slash/);
    expectRefusal(end, /batch\.sh:5: the job name '\/etc\/x' contains a slash/);
    expectRefusal(end, /batch\.sh:6: the job name '\.\.' begins with '\.'/);
    expectRefusal(end, /batch\.sh:8: the job name 'batch\.sh\.8' is taken by line 7/);
  });

  test('shell syntax around an execute_remote call, and a list that swallowed the command', async () => {
    await using project = await Project.start();
    await project.write('batch.sh', [
      "execute_remote 'true' && echo after",
      "execute_remote 'true' > log",
      "execute_remote --copy-forwards data 'python train.py'",
      "execute_remote --num-cpu 2 'true'",
      "execute_remote --memory-required lots 'true'",
    ]);
    const end = await project.batch('batch.sh', '--machines', 'local');
    expectRefusal(
      end,
      /batch\.sh:1:23: found `&&` outside of quotes: an execute_remote line is parsed, not run by a shell/,
    );
    expectRefusal(end, /batch\.sh:2:23: found `>` outside of quotes/);
    expectRefusal(
      end,
      /batch\.sh:3: the command is missing: --copy-forwards takes every word up to the next flag, and took 'python train\.py' too/,
    );
    expectRefusal(end, /batch\.sh:4: unknown flag --num-cpu: did you mean --num-cpus\?/);
    expectRefusal(end, /batch\.sh:5: --memory-required: .*lots/);
  });
});

describe.concurrent('the command line', () => {
  test('no file, no machine, unknown flags, values that are none', async () => {
    await using project = await Project.start();
    await project.write('batch.sh', ['true']);
    expectRefusal(
      await project.batch('--machines', 'local', 'batch.sh'),
      /no batch file is named: .*FILE goes first/,
    );
    expectRefusal(await project.batch('batch.sh'), /^execute_batch: no machine is named: add --machines/);
    expectRefusal(await project.batch('batch.sh', '--machines', 'local', '--num-gpu', '1'), /num-gpu/);
    for (const [flag, value] of [
      ['--memory-required', '-5'],
      ['--memory-required', '7 potatoes'],
      ['--num-cpus', '0'],
      ['--num-gpus', '1.5'],
      ['--gpu-utilization', '75'],
      ['--placement', 'sideways'],
    ] as const) {
      expectRefusal(
        await project.batch('batch.sh', '--machines', 'local', `${flag}=${value}`),
        flag.slice(2),
      );
    }
    expectRefusal(
      await project.batch('batch.sh', '--machines', 'local', '--joblog', 'no/such/folder/log'),
      /--joblog: cannot open "no\/such\/folder\/log" for writing: /,
    );
    expect(project.has('job_results')).toBe(false);
  });

  test('the home folder is not sent whole, unless what to send is named', async () => {
    await using project = await Project.start();
    await project.write('batch.sh', ['echo hi']);
    const run = (...more: string[]) =>
      project.startBatch(['batch.sh', '--machines', 'local', ...TINY_CPU, ...more], {
        env: { HOME: project.path },
      }).ended;
    const refused = await run();
    expectRefusal(
      refused,
      /the working directory is your home folder \(.*\), all of which would be sent: .*--copy-forwards/,
    );
    expect((await run('--copy-forwards', 'batch.sh')).exitCode).toBe(0);
    const root = project.startBatch(
      [`${project.path}/batch.sh`, '--machines', 'local', '--results', project.path],
      {
        cwd: '../../../../../../..',
      },
    );
    expectRefusal(await root.ended, /the working directory is \/, all of which would be sent/);
  });

  test('paths that are not there', async () => {
    await using project = await Project.start();
    await project.write('batch.sh', ['echo hi']);
    const args = ['batch.sh', '--machines', 'local', ...TINY_CPU];
    expectRefusal(
      await project.batch(...args, '--copy-forwards', 'gone'),
      /--copy-forwards: gone does not exist/,
    );
    expectRefusal(
      await project.batch(...args, '--share-forwards', 'gone'),
      /--share-forwards: gone does not exist/,
    );
    expectRefusal(
      await project.batch(...args, '--share-forwards', 'batch.sh', '--copy-forwards', './batch.sh'),
      /expected a path to be either copied or shared/,
    );
    const back = await project.batch(...args, '--copy-backwards', 'gone', 'batch.sh');
    expect(back.stderr).toMatch(
      /line 1 \(batch\.sh\.1\): --copy-backwards: gone does not exist in the job's folder/,
    );
    expect(await project.list('job_results/batch.sh.1')).toEqual(['batch.sh']);
    expect(back.exitCode).toBe(0);
  });
});

describe.concurrent('machines', () => {
  test('mistakes in a machine file come with file, line and column', async () => {
    await using project = await Project.start();
    await project.write('batch.sh', ['true']);
    const refused = async (name: string, lines: readonly string[]) => {
      await project.write(name, lines);
      return await project.batch('batch.sh', '--machines', name);
    };
    expectRefusal(
      await refused('typo.yaml', ['username: me', 'ip: 10.0.0.1', 'prot: 22']),
      /typo\.yaml:3:1: .*prot.*port/,
    );
    expectRefusal(await refused('port.yaml', ['ip: 10.0.0.1', 'port: 99999']), /port\.yaml:2:7: .*99999/);
    expectRefusal(
      await refused('key.yaml', ['ip: 10.0.0.1', 'ssh_key_path: ~/.ssh/gone']),
      /key\.yaml:2:15: .*~\/\.ssh\/gone.*there is no .*\/home\/\.ssh\/gone/,
    );
    expectRefusal(await project.batch('batch.sh', '--machines', 'gone.yaml'), /found no file .*gone\.yaml/);
    expectRefusal(await project.batch('batch.sh', '--machines', 'local', 'local'), /local/);
  });

  test('a changed host key is refused, with what changed and what to do', async () => {
    const changed = hosts.get('changed');
    await using project = await Project.start(hosts);
    await changed.changeHostKey();
    await project.write('batch.sh', ['touch ~/ran']);
    const end = await project.batch('batch.sh', '--machines', 'changed.yaml', ...TINY_CPU);
    expectRefusal(end, /changed\.yaml is left out: .*host key.*changed/is);
    expect(end.stderr).toContain(project.knownHostsPath);
    expect(end.stderr).toContain('SHA256:');
    expect(end.stderr).toContain('no machine can be used');
    expect((await changed.exec('ls ~')).stdout).not.toContain('ran');
    // It is the user's decision.
    await project.machine(changed, 'host_key_checking: no');
    expect((await project.batch('batch.sh', '--machines', 'changed.yaml', ...TINY_CPU)).exitCode).toBe(0);
  });

  test('an unknown host key is added and said so, and with strict checking refused', async () => {
    await using project = await Project.start(hosts);
    const plain = hosts.get('plain');
    await project.write('../known_hosts', '');
    await project.machine(plain, 'host_key_checking: strict', 'strict.yaml');
    await project.write('batch.sh', ['true']);
    expectRefusal(
      await project.batch('batch.sh', '--machines', 'strict.yaml', ...TINY_CPU, '--dry-run'),
      /strict\.yaml is left out: .*host key/i,
    );
    const first = await project.batch('batch.sh', '--machines', 'plain.yaml', ...TINY_CPU, '--dry-run');
    expect(first.stderr).toMatch(/SHA256:/);
    expect(first.exitCode).toBe(0);
    expect(await readFile(project.knownHostsPath, 'utf8')).toContain(plain.knownHostsLine);
    const second = await project.batch('batch.sh', '--machines', 'strict.yaml', ...TINY_CPU, '--dry-run');
    expect(second.stderr).not.toContain('SHA256:');
    expect(second.exitCode).toBe(0);
  });

  test('a key with a passphrase and no agent says what is missing; with the passphrase it works', async () => {
    await using project = await Project.start(hosts);
    const plain = hosts.get('plain');
    const key = await project.write('../locked_key', await readFile(plain.keyPath));
    await runOrThrow('ssh-keygen', ['-q', '-p', '-P', '', '-N', 'long words', '-f', key]);
    const machine = plain.machineFile().replace(plain.keyPath, key);
    await project.write('locked.yaml', machine);
    await project.write('batch.sh', ['true']);
    const args = ['batch.sh', '--machines', 'locked.yaml', ...TINY_CPU];
    expectRefusal(await project.batch(...args), /locked\.yaml is left out: .*passphrase/);
    await project.write('locked.yaml', `${machine}passphrase: wrong words\n`);
    const wrong = await project.batch(...args);
    expectRefusal(wrong, /locked\.yaml is left out: .*passphrase/);
    expect(wrong.stderr).not.toContain('wrong words');
    await project.write('locked.yaml', `${machine}passphrase: long words\n`);
    expect((await project.batch(...args)).exitCode).toBe(0);
  });
});
