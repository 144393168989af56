/** Proves each ability of the test hosts with the system's own ssh client, so that other tests can rely on them. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { access, chmod, readdir, readFile, writeFile } from 'node:fs/promises';
import { networkInterfaces } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { runCommand, runOrThrow } from './command.ts';
import type { RigMode } from './host-spec.ts';
import { canUseNamespaces } from './namespace-rig.ts';
import { type TestHost, TestHosts } from './test-hosts.ts';
import { until } from './until.ts';

const A_DAY = 86_400;
const modes: RigMode[] = (await canUseNamespaces()) ? ['namespaces', 'loopback'] : ['loopback'];
if (modes.length === 1)
  console.warn('No rights to make namespaces: test hosts are proved in loopback mode only.');

/** Runs a line on a host through the system's ssh. */
function ssh(host: TestHost, line: string, options: readonly string[] = []) {
  // ssh keeps the first value it meets of an option.
  return runCommand('ssh', [...options, '-o', 'ConnectTimeout=10', ...host.sshArguments, line]);
}

/** An open session to `cat`: what goes in comes back, as long as the way is open. */
function openEcho(host: TestHost) {
  const child = spawn('ssh', [...host.sshArguments, 'cat'], { stdio: ['pipe', 'pipe', 'ignore'] });
  const ended = once(child, 'exit');
  const echo = { heard: '', ended, child, say: (text: string) => child.stdin.write(text) };
  child.stdin.on('error', () => {}); // writing into a dead session is part of the tests
  child.stdout.on('data', (chunk: Buffer) => {
    echo.heard += chunk.toString();
  });
  return echo;
}

/** Command lines on this whole machine that hold a text. */
async function commandLinesWith(text: string): Promise<string[]> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name));
  const lines = await Promise.all(
    pids.map((pid) => readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')),
  );
  return lines.map((line) => line.replaceAll('\0', ' ')).filter((line) => line.includes(text));
}

async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}

/** The link that ties a rig's network to this machine, named after its subnet. */
const uplinkOf = (address: string) => `rig${address.split('.').slice(1, 3).join('.')}`;
/** A number of seconds that no other process sleeps for: finds a process again anywhere on this machine. */
const uniqueSeconds = () => `${A_DAY}.${process.pid}${Math.floor(performance.now() * 1000)}`;

describe.each(modes)('test hosts (%s)', (mode) => {
  let hosts: TestHosts;
  let one: TestHost;
  let two: TestHost;

  beforeAll(async () => {
    hosts = await TestHosts.start(
      [
        {
          name: 'one',
          gpus: [
            { memoryTotalMiB: 7935, usedMiB: 2000, utilization: 12, name: 'NVIDIA GeForce RTX 2080' },
            { memoryTotalMiB: 7935 },
          ],
        },
        { name: 'two', bashrc: 'export FROM_BASHRC=yes\n', tools: { greet: '#!/bin/sh\necho hello\n' } },
        { name: 'mate', sharedHome: 'one' },
      ],
      { mode },
    );
    one = hosts.get('one');
    two = hosts.get('two');
  });
  afterAll(() => hosts.close());

  it('log in with a key, into a home folder of their own', async () => {
    const { exitCode, stdout, stderr } = await ssh(one, 'pwd; echo "$HOME"; whoami; cat > file; cat file');
    expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: '' });
    expect(stdout.split('\n').slice(0, 3)).toEqual([one.homeOnHost, one.homeOnHost, one.user]);
    await writeFile(join(two.homeDir, 'greeting'), 'from the test');
    expect((await ssh(two, 'cat greeting')).stdout).toBe('from the test');
    expect((await ssh(one, 'cat greeting')).exitCode).toBe(1);
    expect((await two.exec('cat ~/greeting')).stdout).toBe('from the test');
  });

  it('share a home where asked to', async () => {
    await ssh(one, 'echo shared > for-mate');
    expect((await ssh(hosts.get('mate'), 'cat for-mate')).stdout).toBe('shared\n');
  });

  it('have the tools and start-up files that were asked for', async () => {
    expect((await ssh(two, 'greet; echo $FROM_BASHRC')).stdout).toBe('hello\nyes\n');
    expect((await ssh(one, 'greet')).exitCode).toBe(127);
  });

  it('reach each other, as jump hosts do', async () => {
    const config = ['-F', hosts.sshConfigPath];
    // The configuration's host names are only the client's; the jump host is told the address.
    const { stdout, stderr } = await runCommand('ssh', [...config, '-J', 'one', 'two', 'cd; pwd']);
    expect(stdout, stderr).toBe(`${two.homeOnHost}\n`);
  });

  it('write machine files', () => {
    expect(one.machineFile('max_jobs: 3')).toBe(
      `username: ${one.user}\nip: ${one.address}\nport: ${one.port}\nssh_key_path: ${one.keyPath}\nmax_jobs: 3\n`,
    );
  });

  it('show what runs on them, and reap what is orphaned', async () => {
    const seconds = uniqueSeconds();
    await ssh(two, `setsid sleep ${seconds} </dev/null >/dev/null 2>&1 & sleep 0 & (true &)`);
    const found = await until(async () =>
      (await two.processes()).find((process) => process.commandLine === `sleep ${seconds}`),
    );
    expect((await one.processes()).some((process) => process.commandLine.includes(seconds))).toBe(false);
    await two.exec(`kill ${found.pid}`);
    const states = () => two.exec('ps -eo pid=,stat=').then(({ stdout }) => stdout);
    if (hosts.capabilities.ownIdentity)
      await until(async () => !/ Z/.test(await states()), { describe: states });
  });

  it('go silent and come back, and open sessions with them', async () => {
    const echo = openEcho(one);
    echo.say('before\n');
    await until(() => echo.heard === 'before\n', { describe: () => echo.heard });
    await one.cut();
    echo.say('during\n');
    const attempt = await ssh(one, 'true', ['-o', 'ConnectTimeout=1']);
    expect(attempt.exitCode).toBe(255);
    expect(attempt.stderr).toMatch(/timed out/i);
    expect((await ssh(two, 'true')).exitCode).toBe(0);
    expect(echo.heard).toBe('before\n');
    expect(echo.child.exitCode).toBeNull();
    await one.heal();
    await until(() => echo.heard === 'before\nduring\n', { deadlineMs: 15_000, describe: () => echo.heard });
    echo.child.kill();
    await echo.ended;
    expect((await ssh(one, 'true')).exitCode).toBe(0);
  });

  it('refuse connections until sshd runs again, with other settings', async () => {
    const echo = openEcho(two);
    echo.say('open\n');
    await until(() => echo.heard === 'open\n');
    await two.refuse();
    const refused = await ssh(two, 'true');
    expect(refused.exitCode).toBe(255);
    expect(refused.stderr).toMatch(mode === 'namespaces' ? /refused/ : /reset|closed/);
    echo.say('still\n');
    await until(() => echo.heard === 'open\nstill\n');
    await two.restartSshd(['MaxSessions 0']);
    expect((await ssh(two, 'true')).exitCode).toBe(255);
    await two.restartSshd([]);
    expect((await ssh(two, 'true')).exitCode).toBe(0);
    echo.child.kill();
    await echo.ended;
  });

  it('change their host key', async () => {
    const before = two.knownHostsLine;
    const spare = await TestHosts.start([{ name: 'spare' }], { mode });
    const host = spare.get('spare');
    expect((await ssh(host, 'true')).exitCode).toBe(0);
    await host.changeHostKey();
    const changed = await ssh(host, 'true');
    expect(changed.exitCode).toBe(255);
    expect(changed.stderr).toMatch(/REMOTE HOST IDENTIFICATION HAS CHANGED/);
    expect((await ssh(two, 'true')).exitCode).toBe(0);
    expect(two.knownHostsLine).toBe(before);
    await spare.close();
  });

  describe('GPU stand-ins', () => {
    const query = (fields: string, format = 'csv,noheader,nounits') =>
      ssh(one, `nvidia-smi --query-gpu=${fields} --format=${format}`).then(({ stdout }) => stdout);
    const ended = () =>
      until(async () => (await query('memory.used')) === '2000\n0\n', { describe: 'free GPUs' });

    it('answer in the format of nvidia-smi', async () => {
      expect(await query('index,name,memory.total,memory.free,utilization.gpu,mig.mode.current', 'csv')).toBe(
        'index, name, memory.total [MiB], memory.free [MiB], utilization.gpu [%], mig.mode.current\n' +
          '0, NVIDIA GeForce RTX 2080, 7935 MiB, 5935 MiB, 12 %, Disabled\n' +
          '1, NVIDIA A10, 7935 MiB, 7935 MiB, 0 %, Disabled\n',
      );
      const list = await ssh(one, 'nvidia-smi -L; nvidia-smi -i 1 --query-gpu=uuid --format=csv,noheader');
      expect(list.stdout).toMatch(/^GPU 0: NVIDIA GeForce RTX 2080 \(UUID: GPU-[0-9a-f-]{36}\)\nGPU 1: /);
      const [, second = 'missing', chosen] = list.stdout.split('\n');
      expect(second).toContain(`UUID: ${chosen})`);
      expect((await ssh(two, 'nvidia-smi -L')).exitCode).toBe(127);
      expect(await ssh(one, 'nvidia-smi --query-gpu=color --format=csv')).toMatchObject({
        exitCode: 2,
        stdout: 'Field "color" is not a valid field to query.\n\n',
      });
    });

    it('fail and say nothing useful when told to', async () => {
      await one.setDriverFailure(true);
      const failure = await ssh(one, 'nvidia-smi -L');
      expect(failure.exitCode).toBe(9);
      expect(failure.stdout).toContain("couldn't communicate with the NVIDIA driver");
      await one.setDriverFailure(false);
      await one.setGpuText('memory', '[N/A]');
      await one.setGpuText('utilization', '[Unknown Error]');
      expect(await query('memory.free,utilization.gpu', 'csv,noheader')).toBe(
        '[N/A], [Unknown Error]\n[N/A], [Unknown Error]\n',
      );
      await one.setGpuText('memory', undefined);
      await one.setGpuText('utilization', undefined);
      expect(await query('memory.free')).toBe('5935\n7935\n');
    });

    it('take GPU memory, run out of it as CUDA does, and write it all down', async () => {
      const before = (await one.gpuLedger()).length;
      const job = ssh(one, 'CUDA_VISIBLE_DEVICES=0,1 JOB_NAME=first gpu-job --memory 4000 --until ./stop');
      await until(async () => (await query('memory.used')) === '6000\n4000\n', { describe: 'memory taken' });
      const apps = await ssh(
        one,
        'nvidia-smi --query-compute-apps=gpu_uuid,pid,used_memory --format=csv,noheader',
      );
      expect(apps.stdout).toMatch(/^GPU-\S+, \d+, 4000 MiB\nGPU-\S+, \d+, 4000 MiB\n$/);
      const refused = await ssh(one, 'gpu-job --memory 2000');
      expect(refused.exitCode).toBe(1);
      expect(refused.stderr).toMatch(/^RuntimeError: CUDA out of memory. Tried to allocate 1.95 GiB/m);
      expect((await ssh(one, 'CUDA_VISIBLE_DEVICES=1 gpu-job --memory 2000')).exitCode).toBe(0);
      expect((await ssh(one, 'CUDA_VISIBLE_DEVICES= gpu-job')).stderr).toContain(
        'No CUDA GPUs are available',
      );
      expect((await ssh(two, 'gpu-job')).stderr).toContain('No CUDA GPUs are available');
      await one.exec('touch ~/stop');
      expect((await job).exitCode).toBe(0);
      expect(await query('memory.used')).toBe('2000\n0\n');
      const lines = (await one.gpuLedger()).slice(before);
      expect(
        lines.map(({ event, gpu, memoryMiB, usedMiB, jobs, jobName }) =>
          [event, gpu, memoryMiB, usedMiB, jobs, jobName].join(' '),
        ),
      ).toEqual([
        'take 0 4000 6000 1 first',
        'take 1 4000 4000 1 first',
        'refuse 0 2000 6000 1 -',
        'take 1 2000 6000 2 -',
        'give 1 2000 4000 1 -',
        'give 0 4000 2000 0 first',
        'give 1 4000 0 0 first',
      ]);
    });

    it('free the memory of killed jobs, and lingering memory only later', async () => {
      const killed = ssh(one, 'exec gpu-job --memory 100 --seconds 600');
      const pid = await until(
        async () => (await one.gpuLedger()).findLast((line) => line.memoryMiB === 100)?.pid,
      );
      await one.exec(`kill -KILL ${pid}`);
      expect((await killed).exitCode).not.toBe(0);
      await ended();
      const lingering = await ssh(one, 'gpu-job --memory 50 --linger-ms 400');
      expect(lingering.exitCode).toBe(0);
      const lines = async () => (await one.gpuLedger()).filter((line) => line.memoryMiB === 50);
      await ended();
      const [take, give] = await lines();
      expect((give?.at ?? 0) - (take?.at ?? 0)).toBeGreaterThanOrEqual(400);
      const term = ssh(one, 'exec gpu-job --memory 70 --seconds 600');
      const second = await until(
        async () => (await one.gpuLedger()).findLast((line) => line.memoryMiB === 70)?.pid,
      );
      await one.exec(`kill -TERM ${second}`);
      expect((await term).exitCode).toBe(143);
      expect((await one.gpuLedger()).at(-1)).toMatchObject({ event: 'give', memoryMiB: 70, usedMiB: 2000 });
    });

    it('show what others use, when that changes', async () => {
      await one.setGpus([{ memoryTotalMiB: 7935, usedMiB: 7000, utilization: 99 }]);
      expect(await query('memory.free,utilization.gpu')).toBe('935, 99\n');
      await one.setGpus([]);
      expect(await ssh(one, 'nvidia-smi -L')).toMatchObject({
        exitCode: 6,
        stdout: 'No devices were found\n',
      });
    });
  });

  it('are gone without a trace after close', async () => {
    const seconds = uniqueSeconds();
    const spare = await TestHosts.start([{ name: 'spare' }], { mode });
    await ssh(spare.get('spare'), `setsid sleep ${seconds} </dev/null >/dev/null 2>&1 &`);
    await until(async () => (await commandLinesWith(seconds)).length > 0, {
      describe: 'the job on the host',
    });
    await spare.close();
    await spare.close();
    expect(await exists(spare.folder)).toBe(false);
    await expectNothingLeft(spare.folder, seconds, spare.get('spare').address);
  });

  it('are gone without a trace after their owner is killed', async () => {
    const seconds = uniqueSeconds();
    const script = fileURLToPath(new URL('owner.ts', import.meta.url));
    const owner = spawn(process.execPath, ['--import', 'tsx', script, mode, seconds]);
    let output = '';
    let errors = '';
    owner.stdout.on('data', (chunk: Buffer) => {
      output += chunk.toString();
    });
    owner.stderr.on('data', (chunk: Buffer) => {
      errors += chunk.toString();
    });
    await until(() => output.endsWith('\n'), {
      deadlineMs: 20_000,
      describe: () => `hosts started; ${errors}`,
    });
    const [folder = '', address = ''] = output.trim().split(' ');
    if (mode === 'namespaces') expect(networkInterfaces()).toHaveProperty([uplinkOf(address)]);
    await until(async () => (await commandLinesWith(seconds)).length > 1, {
      describe: 'the job on the host',
    });
    owner.kill('SIGKILL');
    await once(owner, 'exit');
    await until(async () => !(await exists(folder)), { deadlineMs: 10_000, describe: `${folder} is gone` });
    await expectNothingLeft(folder, seconds, address);
  });

  async function expectNothingLeft(folder: string, seconds: string, address: string) {
    const lines = async () => [...(await commandLinesWith(folder)), ...(await commandLinesWith(seconds))];
    await until(async () => (await lines()).length === 0, { describe: lines });
    if (mode === 'namespaces') await until(() => !(uplinkOf(address) in networkInterfaces()));
  }
});

describe.runIf(modes.includes('namespaces'))('test hosts in namespaces', () => {
  it('are machines of their own: name, address, ids, /tmp and processes', async () => {
    await using hosts = await TestHosts.start([{ name: 'left' }, { name: 'right' }]);
    const look =
      'uname -n; cat /etc/machine-id /proc/sys/kernel/random/boot_id; echo mine > /tmp/x; ps -e | wc -l';
    const [left, right] = await Promise.all(
      hosts.hosts.map(async (host) => (await ssh(host, look)).stdout.split('\n')),
    );
    expect([left?.[0], right?.[0]]).toEqual(['left', 'right']);
    expect(left?.[1]).toMatch(/^[0-9a-f]{32}$/);
    expect(left?.[1]).not.toBe(right?.[1]);
    expect(left?.[2]).not.toBe(right?.[2]);
    expect(Number(left?.[3])).toBeLessThan(15);
    expect(hosts.get('left').address).not.toBe(hosts.get('right').address);
    expect(await readFile(join(hosts.get('left').tmpDir, 'x'), 'utf8')).toBe('mine\n');
  });

  it('lose everything but the disk when powered off, and come back as another boot', async () => {
    await using hosts = await TestHosts.start([{ name: 'box' }]);
    const box = hosts.get('box');
    const look = 'cat /proc/sys/kernel/random/boot_id /etc/machine-id';
    const first = (await ssh(box, `${look}; echo kept > file`)).stdout.split('\n');
    const seconds = uniqueSeconds();
    const echo = openEcho(box);
    echo.say('x\n');
    await until(() => echo.heard === 'x\n');
    await ssh(box, `setsid sleep ${seconds} </dev/null >/dev/null 2>&1 &`);
    await box.powerOff();
    expect(await commandLinesWith(seconds)).toEqual([]);
    expect(await box.processes()).toEqual([]);
    expect((await ssh(box, 'true', ['-o', 'ConnectTimeout=1'])).stderr).toMatch(/timed out/i);
    // Nobody told the client: its session hangs until the machine is back and knows nothing of it.
    expect(echo.child.exitCode).toBeNull();
    await box.boot();
    const second = (await ssh(box, `${look}; cat file`)).stdout.split('\n');
    expect(second[0]).not.toBe(first[0]);
    expect(second.slice(1, 3)).toEqual([first[1], 'kept']);
    echo.say('y\n');
    expect(await echo.ended).toEqual([255, null]);
  });

  it('can have a full disk, a password, root, a noisy shell, a slow network, or only busybox', async () => {
    await using hosts = await TestHosts.start([
      { name: 'small', diskMiB: 8 },
      { name: 'locked', password: 'open sesame', user: 'root' },
      {
        name: 'noisy',
        loginShell: 'noisy',
        tools: { noisy: '#!/bin/sh\necho noise\nexec /bin/bash "$@"\n' },
      },
      { name: 'far', delayMs: 40 },
      { name: 'bare', busyboxOnly: true, gpus: [{ memoryTotalMiB: 1000 }] },
    ]);
    const small = hosts.get('small');
    await small.fillDisk();
    expect((await ssh(small, 'echo text > file')).stderr).toMatch(/No space left/);
    await small.freeDisk();
    expect((await ssh(small, 'echo text > file')).exitCode).toBe(0);
    expect(await readFile(join(small.homeDir, 'file'), 'utf8')).toBe('text\n');

    const locked = hosts.get('locked');
    const askPass = join(hosts.folder, 'ask-pass');
    await writeFile(askPass, '#!/bin/sh\necho open sesame\n');
    await chmod(askPass, 0o755);
    await locked.restartSshd(['PermitRootLogin yes', 'PubkeyAuthentication no']);
    const password = await runCommand('ssh', ['-o', 'BatchMode=no', ...locked.sshArguments, 'id -u; pwd'], {
      env: { ...process.env, SSH_ASKPASS: askPass, SSH_ASKPASS_REQUIRE: 'force' },
    });
    expect(password.stdout, password.stderr).toBe('0\n/root\n');

    expect((await ssh(hosts.get('noisy'), 'echo said')).stdout).toBe('noise\nsaid\n');

    const far = hosts.get('far');
    const startedAt = performance.now();
    expect((await ssh(far, 'true')).exitCode).toBe(0);
    // Key exchange, login and command are at least five round trips of 80 ms.
    expect(performance.now() - startedAt).toBeGreaterThan(400);

    const bare = await ssh(
      hosts.get('bare'),
      'readlink /bin/ls; readlink /usr/bin/top; nvidia-smi -L; gpu-job; free | head -1',
    );
    expect(bare.stdout, bare.stderr).toMatch(/^busybox\nbusybox\nGPU 0: [^\n]*\n +total .* available\n$/);
  });

  it('start four at once, with sshd as it comes', async () => {
    await using hosts = await TestHosts.start(['a', 'b', 'c', 'd'].map((name) => ({ name })));
    const settings = await runOrThrow('bash', [
      '-c',
      '$(PATH=$PATH:/usr/sbin command -v sshd) -T -f /dev/null -h "$0"',
      join(hosts.folder, 'a', 'local', 'etc', 'host_key'),
    ]);
    expect(settings).toContain('maxsessions 10');
    const many = await Promise.all(hosts.hosts.map((host) => ssh(host, 'uname -n')));
    expect(many.map(({ stdout }) => stdout.trim())).toEqual(['a', 'b', 'c', 'd']);
  });
});

describe('a rig that cannot be', () => {
  it('says what is wrong with what was asked for', async () => {
    await expect(TestHosts.start([{ name: 'a' }, { name: 'a' }])).rejects.toThrow("Two hosts 'a'");
    await expect(TestHosts.start([{ name: 'a b' }])).rejects.toThrow("'a b' is no host name");
    await expect(TestHosts.start([{ name: 'a', sharedHome: 'b' }])).rejects.toThrow(
      "cannot share the home of 'b'",
    );
    await expect(TestHosts.start([{ name: 'a', sshd: ['Nonsense yes'] }])).rejects.toThrow(/Nonsense/);
  });

  it('refuses what loopback cannot do', async () => {
    await using hosts = await TestHosts.start([{ name: 'a' }], { mode: 'loopback' });
    expect(hosts.capabilities.powerOff).toBe(false);
    await expect(hosts.get('a').powerOff()).rejects.toThrow('powerOff needs test hosts in namespaces');
  });
});
