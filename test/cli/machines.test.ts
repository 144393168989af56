/** execute_batch from the outside: what requests and machine files mean, ways to machines, machines that fail, full disks. */
import { mkdir, readFile, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { runOrThrow } from '../rig/command.ts';
import { TestHosts } from '../rig/test-hosts.ts';
import { hostsAreMachines, linesOf, Project, TINY, TINY_CPU, withoutFacts } from './run-command.ts';

const TWO_GPUS = [{ memoryTotalMiB: 8000 }, { memoryTotalMiB: 8000 }];

let hosts: TestHosts;

beforeAll(async () => {
  hosts = await TestHosts.start([
    { name: 'gpubox', gpus: TWO_GPUS },
    { name: 'plain' },
    { name: 'second', gpus: TWO_GPUS.slice(1) },
    { name: 'small', ...(hostsAreMachines ? { diskMiB: 8 } : {}) },
    { name: 'guarded', gpus: TWO_GPUS.slice(1), ...(hostsAreMachines ? { password: 'open sesame' } : {}) },
  ]);
});
afterAll(() => hosts.close());

describe.concurrent('resources', () => {
  const show = `echo "\${CUDA_VISIBLE_DEVICES-unset} $MACHINE_NAME"`;

  test('--no-gpu-required and --reserve leave CUDA_VISIBLE_DEVICES unset', async () => {
    await using project = await Project.start(hosts);
    await project.write('batch.sh', [show]);
    const args = ['batch.sh', '--machines', 'gpubox.yaml', ...TINY];
    await project.batch(...args, '--no-gpu-required', '--results', 'a');
    const reserved = await project.batch(...args, '--reserve', '--results', 'b');
    expect(await project.read('a/batch.sh.1.out')).toBe('unset gpubox.yaml\n');
    expect(await project.read('b/batch.sh.1.out')).toBe('unset gpubox.yaml\n');
    expect(withoutFacts(reserved.stdout)[2]).toBe(`started: batch.sh.1;  ${show}`);
    expect(withoutFacts(reserved.stdout)[0]).toBe("machine limits:  {'gpubox.yaml': 1}");
  });

  test('a reserved machine runs one job at a time', async () => {
    await using project = await Project.start(hosts);
    const command = 'mkdir ~/alone && sleep 0.2 && rmdir ~/alone';
    await project.write('batch.sh', Array<string>(4).fill(command));
    const args = ['batch.sh', '--machines', 'plain.yaml', ...TINY_CPU, '--reserve'];
    expect((await project.batch(...args)).exitCode).toBe(0);
  });

  test('--no-reserve-gpu lets several jobs share a GPU as far as memory and utilization allow', async () => {
    await using project = await Project.start(hosts);
    await project.write('batch.sh', Array<string>(4).fill(show));
    const share = (...more: string[]) =>
      project.batch('batch.sh', '--machines', 'gpubox.yaml', ...TINY, '--no-reserve-gpu', ...more);
    const byUse = await share('--gpu-utilization', '.3', '--results', 'a');
    expect(linesOf(byUse.stdout)[0]).toBe("machine limits:  {'gpubox.yaml': 6}"); // 3 x 0.3 < 1.2 on each of two
    const byMemory = await share('--gpu-utilization', '.1', '--gpu-memory-required=3G', '--results', 'b');
    expect(linesOf(byMemory.stdout)[0]).toBe("machine limits:  {'gpubox.yaml': 4}");
    expect(byUse.exitCode).toBe(0);
    expect(byMemory.exitCode).toBe(0);
  });

  test('--num-gpus 2 gives both GPUs of one machine', async () => {
    await using project = await Project.start(hosts);
    await project.write('batch.sh', [show]);
    const { stdout } = await project.batch(
      'batch.sh',
      '--machines',
      'gpubox.yaml',
      ...TINY,
      '--num-gpus',
      '2',
    );
    expect(await project.read('job_results/batch.sh.1.out')).toBe('0,1 gpubox.yaml\n');
    expect(stdout).toContain('started: batch.sh.1;  export CUDA_VISIBLE_DEVICES=0,1 && echo');
    expect((await project.manifest('batch.sh.1')).gpus).toEqual([0, 1]);
  });

  test.runIf(hostsAreMachines)('jobs are spread over machines, or packed with --placement pack', async () => {
    await using project = await Project.start(hosts);
    await project.write('batch.sh', Array<string>(2).fill(`${show}; sleep 0.5`));
    const args = [
      'batch.sh',
      '--machines',
      'second.yaml',
      'guarded.yaml',
      ...TINY,
      '--copy-forwards',
      'batch.sh',
    ];
    // GPUs, since how busy the processors are is not for the test to say.
    args.push('--no-reserve-gpu', '--gpu-utilization', '.55');
    const machinesOf = async (results: string) => {
      const names = ['batch.sh.1', 'batch.sh.2'];
      const manifests = await Promise.all(names.map((name) => project.manifest(name, results)));
      return manifests.map(({ machine }) => machine).sort();
    };
    const spread = await project.batch(...args, '--results', 'spread');
    expect(spread.stderr).not.toContain('left out');
    expect(spread.exitCode).toBe(0);
    expect(await machinesOf('spread')).toEqual(['guarded.yaml', 'second.yaml']);
    expect((await project.batch(...args, '--placement', 'pack', '--results', 'pack')).exitCode).toBe(0);
    const [first, second] = await machinesOf('pack');
    expect(first).toBe(second);
  });

  test('one hint says when a default is what limits a batch', async () => {
    await using project = await Project.start(hosts);
    // More lines than any machine has memory for at 7000 MiB each.
    await project.write('batch.sh', Array<string>(400).fill('true'));
    const hintsOf = async (...flags: string[]) => {
      const args = ['batch.sh', '--machines', 'gpubox.yaml', '--num-cpus', '.001', '--dry-run', ...flags];
      const lines = linesOf((await project.batch(...args)).stderr);
      return lines.filter((line) => line.startsWith('execute_batch: hint: '));
    };
    expect(await hintsOf('--no-gpu-required')).toEqual([
      expect.stringMatching(
        /the default --memory-required 7000 lets \d+ jobs run at once; with less memory each, up to \d+ would$/,
      ),
    ]);
    expect(await hintsOf('--no-reserve-gpu', '--memory-required', '10')).toEqual([
      'execute_batch: hint: the default --gpu-utilization 0.75 lets 2 jobs share the GPUs at once; at 0.1 each, 16 would',
    ]);
    expect(await hintsOf('--no-reserve-gpu', '--memory-required', '10', '--gpu-utilization', '.2')).toEqual(
      [],
    );
  });
});

describe.concurrent('machine files', () => {
  test('setup, env, max_jobs, gpus and remote_dir', async () => {
    await using project = await Project.start();
    const extra = [
      `setup: greet() { echo "hello $1 from $PLACE"; }; export MODULE='loaded now'`,
      `env: { PLACE: a b, QUOTED: "it's $HOME" }`,
      'max_jobs: 1',
      'gpus: [1]',
      'remote_dir: ~/elsewhere/ours',
    ];
    const alone = 'mkdir ~/only-one && sleep 0.2 && rmdir ~/only-one'; // max_jobs
    await project.machine(hosts.get('gpubox'), extra.join('\n'), 'box.yaml');
    await project.write('batch.sh', [
      `greet world; echo "$MODULE, $QUOTED, $CUDA_VISIBLE_DEVICES"; pwd; ${alone}`,
      alone,
    ]);
    const args = ['batch.sh', '--machines', 'box.yaml', ...TINY];
    const { stdout, exitCode } = await project.batch(...args, '--no-reserve-gpu');
    expect(exitCode).toBe(0);
    expect(linesOf(stdout).slice(0, 2)).toEqual([
      "machine limits:  {'box.yaml': 1}",
      'machine gpu choices: [[1]]',
    ]);
    const [greeting, values, folder] = linesOf(await project.read('job_results/batch.sh.1.out'));
    expect(greeting).toBe('hello world from a b');
    expect(values).toBe("loaded now, it's $HOME, 1");
    expect(folder).toContain(`${hosts.get('gpubox').homeOnHost}/elsewhere/ours/runs/`);
  });

  test('machine files and the keys they name are sent only when they are named', async () => {
    await using project = await Project.start(hosts);
    const { address, port, user, keyPath } = hosts.get('plain');
    await project.write('keys/id', await readFile(keyPath));
    const machine = [`username: ${user}`, `ip: ${address}`, `port: ${port}`, 'ssh_key_path: ../keys/id'];
    await project.write('lab/box.yaml', machine);
    await project.write('keys/other', 'x');
    await project.write('.hidden', 'x');
    await mkdir(join(project.path, 'sub'));
    await symlink('../lab', join(project.path, 'sub', 'linked'));
    const list = "execute_remote --copy-forwards keys sub/linked/deep -- 'find . | sort'";
    await project.write('lab/deep/x', 'x');
    await project.write('batch.sh', ['find . | sort', list]);
    const args = ['--machines', 'lab/box.yaml', ...TINY_CPU];
    const { exitCode } = await project.batch('batch.sh', ...args);
    expect(exitCode).toBe(0);
    const all = linesOf(await project.read('job_results/batch.sh.1.out'));
    expect(all).toEqual(
      expect.arrayContaining(['./.hidden', './batch.sh', './keys', './keys/other', './lab']),
    );
    const named = linesOf(await project.read('job_results/batch.sh.2.out'));
    expect(named).toEqual(expect.arrayContaining(['./keys/other', './sub/linked/deep/x']));
    for (const secret of ['./lab/box.yaml', './keys/id']) {
      expect(all).not.toContain(secret);
      expect(named).not.toContain(secret);
    }
    await project.write('find.sh', ['find . | sort']);
    const paths = ['keys/id', 'lab/box.yaml', 'sub/linked/box.yaml'];
    const sent = await project.batch('find.sh', ...args, '--copy-forwards', ...paths);
    expect(sent.exitCode).toBe(0);
    const there = linesOf(await project.read('job_results/find.sh.1.out'));
    expect(there).toEqual(expect.arrayContaining(paths.map((path) => `./${path}`)));
  });

  test.runIf(hostsAreMachines)('proxy_jump goes through another host, and a password logs in', async () => {
    await using project = await Project.start(hosts);
    const { address, user, keyPath } = hosts.get('plain');
    const guarded = hosts.get('guarded');
    const jump = hosts.get('gpubox');
    // The host is reached by the name that only the jump host's side of the network needs to know.
    await project.write(
      'far.yaml',
      `username: ${user}\nip: ${address}\nssh_key_path: ${keyPath}\nproxy_jump: ${jump.user}@${jump.address}\n`,
    );
    await project.write(
      'secret.yaml',
      `username: ${guarded.user}\nip: ${guarded.address}\npassword: open sesame\n`,
      0o644,
    );
    // A jump host is asked for by ssh's rules: its key comes from the configuration.
    const config = await readFile(project.sshConfigPath, 'utf8');
    await project.write('../ssh_config', `${config}  IdentityFile ${keyPath}\n  IdentitiesOnly yes\n`);
    await project.write('batch.sh', ['echo "$MACHINE_NAME $(hostname)"', 'echo "$MACHINE_NAME $(hostname)"']);
    const { exitCode, stderr } = await project.batch(
      'batch.sh',
      '--machines',
      'far.yaml',
      'secret.yaml',
      ...TINY_CPU,
      '--reserve',
    );
    expect(stderr).not.toContain('open sesame');
    expect(stderr).toMatch(
      /secret\.yaml holds a password or passphrase and can be read by its group and everybody/,
    );
    expect(exitCode).toBe(0);
    const outs = await Promise.all([1, 2].map((line) => project.read(`job_results/batch.sh.${line}.out`)));
    expect(outs.sort()).toEqual(['far.yaml plain\n', 'secret.yaml guarded\n']);
    // gpubox was only passed through.
    expect(await readFile(jump.sshdLogPath, 'utf8')).not.toContain('open sesame');
  });

  test.runIf(hostsAreMachines)(
    'one that does not answer is named and left out; with none left, 255',
    async () => {
      await using project = await Project.start(hosts);
      await project.write('dead.yaml', `username: nobody\nip: ${hosts.get('plain').address}\nport: 9\n`);
      await project.write('batch.sh', ['echo hi']);
      const some = await project.batch('batch.sh', '--machines', 'dead.yaml', 'plain.yaml', ...TINY_CPU);
      expect(some.exitCode).toBe(0);
      expect(some.stderr).toMatch(
        /^execute_batch: dead\.yaml is left out: connection refused by .* port 9: is sshd running there\? \(tried again until the batch ends\)$/m,
      );
      expect(linesOf(some.stdout)[0]).toMatch(/^machine limits: {2}\{'plain\.yaml': \d+\}$/);
      const none = await project.batch(
        'batch.sh',
        '--machines',
        'dead.yaml',
        ...TINY_CPU,
        '--results',
        'other',
      );
      expect(none.exitCode).toBe(255);
      expect(none.stdout).toBe('');
      expect(none.stderr).toContain('dead.yaml is left out: connection refused');
      expect(none.stderr).toContain('no machine can be used');
      expect(await project.list('other')).toEqual([]);
    },
  );

  test('two entries that are the same machine are an error that names both', async () => {
    await using project = await Project.start(hosts);
    await project.machine(hosts.get('plain'), 'name: twin', 'other.yaml');
    await project.write('batch.sh', ['echo hi']);
    const { exitCode, stderr, stdout } = await project.batch(
      'batch.sh',
      '--machines',
      'plain.yaml',
      'other.yaml',
      ...TINY_CPU,
    );
    expect(exitCode).toBe(255);
    expect(stdout).toBe('');
    expect(stderr).toMatch(/(plain\.yaml and twin|twin and plain\.yaml) are the same machine/);
  });
});

describe.concurrent('a full disk', () => {
  test.runIf(hostsAreMachines)('on a machine fails the jobs there with a clear outcome', async () => {
    const small = hosts.get('small');
    await using project = await Project.start(hosts);
    await project.write('batch.sh', ['head -c 50000000 /dev/zero > big', 'echo fine']);
    const args = ['batch.sh', '--machines', 'small.yaml', ...TINY_CPU, '--reserve'];
    const { stdout, exitCode } = await project.batch(...args);
    expect(stdout).toMatch(/^failed: batch\.sh\.1; .*\(.*\)$/m);
    expect(exitCode).toBeGreaterThan(0);
    await small.exec('rm -rf ~/.cache/ssh-scheduler');

    await small.fillDisk();
    await project.write('payload', Buffer.alloc(3_000_000, 'x'));
    const full = await project.batch(...args, '--results', 'full');
    expect(full.exitCode === 2 || full.exitCode === 255).toBe(true);
    expect(full.stdout + full.stderr).toMatch(/No space left on device|disk full|cannot write to/);
    await small.freeDisk();
    await project.write('small.sh', ['echo fine']);
    const after = await project.batch('small.sh', ...args.slice(1), '--copy-forwards', 'small.sh');
    expect(after.stdout).toContain('finished: small.sh.1; echo fine');
  });

  test.runIf(hostsAreMachines)('here is one clear line, and nothing is lost', async () => {
    await using project = await Project.start(hosts);
    const results = await project.write('results/.keep', '');
    const folder = join(results, '..');
    await runOrThrow('mount', ['-t', 'tmpfs', '-o', 'size=512k', 'none', folder]);
    try {
      await project.write('batch.sh', [
        'echo ran >>~/full-ledger; head -c 4000000 /dev/zero | tr "\\0" x > big; echo made',
      ]);
      const args = ['batch.sh', '--machines', 'plain.yaml', ...TINY_CPU, '--results', 'results'];
      const { stdout, stderr, exitCode } = await project.batch(...args);
      expect([exitCode, stderr]).toEqual([
        255,
        expect.stringMatching(
          /^execute_batch: results cannot be kept here: .*(ENOSPC|no space left).*the same command/m,
        ),
      ]);
      expect(stdout).not.toContain('finished: ');
      expect(stderr).not.toMatch(/^\s+at /m);
      expect(project.has('results/batch.sh.1.json')).toBe(false);
      expect(project.has('results/batch.sh.1')).toBe(false);
      const kept = await hosts
        .get('plain')
        .exec('find ~/.cache/ssh-scheduler/runs -name big -size +3000k | wc -l');
      expect(kept.stdout.trim()).toBe('1');
      await runOrThrow('mount', ['-o', 'remount,size=64m', folder]);
      expect((await project.batch(...args)).exitCode).toBe(0);
      expect((await hosts.get('plain').exec('cat ~/full-ledger')).stdout).toBe('ran\n');
    } finally {
      await runOrThrow('umount', [folder]);
    }
  });
});
