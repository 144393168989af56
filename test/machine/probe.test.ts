// The probe script run for real in every shell there is here, and the reading of whole answers.
import { spawn, spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { availableParallelism, hostname, tmpdir, totalmem } from 'node:os';
import { dirname, join } from 'node:path';
import { text } from 'node:stream/consumers';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { isProbeComplete, ProbeError, parseProbe, probeScript } from '../../src/lib/machine/probe.ts';

const nonce = 'n0nce12345678';
// Other tests on this machine have batches of their own.
const batch = randomBytes(6).toString('hex');
const otherBatch = randomBytes(6).toString('hex');
// sh and bash are wherever jobs can run; the others are used where they are installed.
const shells = [['sh'], ['bash'], ['dash'], ['busybox', 'sh']].filter(
  ([program = '', ...args]) => spawnSync(program, [...args, '-c', 'exit 0']).status === 0,
);

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'probe-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

function write(path: string, content: string, mode = 0o644): void {
  const whole = join(folder, path);
  mkdirSync(dirname(whole), { recursive: true });
  writeFileSync(whole, content, { mode });
}

interface Run {
  readonly shell?: readonly string[];
  readonly gpuTimeoutMs?: number;
  readonly ownBatch?: string;
  readonly fileRoot?: string;
  readonly env?: NodeJS.ProcessEnv;
}

async function run({ shell = ['sh'], env = {}, ...options }: Run = {}): Promise<string> {
  const [program = 'sh', ...args] = shell;
  const child = spawn(program, args, {
    env: { ...process.env, PATH: `${folder}/bin:${process.env.PATH}`, ...env },
    stdio: ['pipe', 'pipe', 'ignore'], // shells tell there of what they killed,
  });
  child.stdin.end(probeScript({ nonce, cpuIntervalMs: 50, ...options }));
  return text(child.stdout);
}

const probe = async (options: Run = {}) => parseProbe(await run(options), { takenAt: 7, nonce });

describe.each(shells.map((shell) => ({ shell, name: shell.join(' ') })))('under $name', ({ shell }) => {
  test('this machine is seen as Node sees it', async () => {
    const machine = await probe({ shell });
    expect(machine).toMatchObject({ takenAt: 7, hostname: hostname(), tools: { missing: [] } });
    expect(machine.identity).toMatch(/^[0-9a-f]{32}$/);
    expect(machine.bootId).toBe(readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim());
    expect(machine.cpuCores).toBeLessThanOrEqual(availableParallelism());
    expect(machine.cpuCoresInUse).toBeLessThanOrEqual(machine.cpuCores);
    expect(machine.memoryTotalMiB).toBeLessThanOrEqual(Math.ceil(totalmem() / 1024 / 1024));
    expect(machine.memoryFreeMiB).toBeGreaterThan(10);
    expect((await probe({ shell })).identity).toBe(machine.identity);
  });

  test('GPUs are asked for, whatever else the machine says', async () => {
    write('bin/nvidia-smi', `#!/bin/sh\ncat ${fixture('nvidia-smi/mig.txt')}\n`, 0o755);
    expect((await probe({ shell })).gpus.map(({ index, mig }) => [index, mig])).toEqual([
      [0, true],
      [1, false],
    ]);
  });

  test('a driver that does not know MIG is asked again without it', async () => {
    const script = `#!/bin/sh
case $1 in
  *mig*) echo 'Field "mig.mode.current" is not a valid field to query.'; exit 2 ;;
  *) cat ${fixture('nvidia-smi/old-driver.txt')} ;;
esac
`;
    write('bin/nvidia-smi', script, 0o755);
    const machine = await probe({ shell });
    expect(machine.gpus.map(({ memoryFreeMiB }) => memoryFreeMiB)).toEqual([11439, 2000]);
    expect(machine.warnings).toEqual([]);
  });

  test('a failing driver is a warning; one that hangs is given up', async () => {
    write('bin/nvidia-smi', `#!/bin/sh\ncat ${fixture('nvidia-smi/no-driver.txt')}\nexit 9\n`, 0o755);
    expect((await probe({ shell })).warnings).toEqual([expect.stringMatching(/exited 9/)]);
    write('bin/nvidia-smi', '#!/bin/sh\nexec sleep 60\n', 0o755);
    const machine = await probe({ shell, gpuTimeoutMs: 1000 });
    expect(machine.warnings).toEqual([expect.stringMatching(/did not answer in time/)]);
    expect(machine.memoryFreeMiB).toBeGreaterThan(10);
  });

  test('control groups of version 2 limit what counts, at every level', async () => {
    containerTree({
      controllers: '0::/../user.slice/job',
      root: '/',
      point: '/sys/fs/cgroup',
      type: 'cgroup2 cgroup2 rw',
    });
    expect(await run({ shell, fileRoot: folder })).toContain('group v2 \n'); // not above the mount point
    containerTree({
      controllers: '0::/user.slice/job',
      root: '/',
      point: '/sys/fs/cgroup',
      type: 'cgroup2 cgroup2 rw',
    });
    write('sys/fs/cgroup/user.slice/cpu.max', '50000 100000\n');
    write('sys/fs/cgroup/user.slice/cpu.stat', 'usage_usec 1000\nuser_usec 10\n');
    write('sys/fs/cgroup/user.slice/job/memory.max', '104857600\n');
    write('sys/fs/cgroup/user.slice/job/memory.current', '52428800\n');
    write('sys/fs/cgroup/user.slice/job/memory.stat', 'anon 1\ninactive_file 10485760\nactive_file 0\n');
    expect(await probe({ shell, fileRoot: folder })).toMatchObject({
      cpuCores: 0.5,
      memoryTotalMiB: 100,
      memoryFreeMiB: 60,
    });
  });

  test('control groups of version 1, in a container that sees only its own part', async () => {
    containerTree({
      controllers: '4:cpu,cpuacct:/docker/1\n3:memory:/docker/1',
      root: '/docker/1',
      point: '/sys/fs/cgroup/all',
      type: 'cgroup cgroup rw,cpu,cpuacct,memory',
    });
    write('sys/fs/cgroup/all/cpu.cfs_quota_us', '150000\n');
    write('sys/fs/cgroup/all/cpu.cfs_period_us', '100000\n');
    write('sys/fs/cgroup/all/cpuacct.usage', '1000\n');
    write('sys/fs/cgroup/all/memory.limit_in_bytes', '104857600\n');
    write('sys/fs/cgroup/all/memory.usage_in_bytes', '52428800\n');
    expect(await probe({ shell, fileRoot: folder })).toMatchObject({
      cpuCores: Math.min(1.5, availableParallelism()),
      memoryTotalMiB: 100,
      memoryFreeMiB: 50,
    });
  });

  test('processes with the mark of a batch are told of, and only these', async () => {
    write('bin/nvidia-smi', gpuOf('GPU-a, 1234, 12'), 0o755);
    await using own = await burner(`${batch}/a/1`);
    await using _ofAnother = await burner(`${otherBatch}/a/1`);
    const output = await run({ shell, ownBatch: batch });
    for (const name of ['own-before', 'own-after']) {
      expect(sectionOf(output, name)).toMatch(new RegExp(`^${own.pid} \\d+ \\d+ \\d+$`));
    }
    // The shares of kinds are new in 5.5.
    expect(sectionOf(output, 'own-memory')).toMatch(
      new RegExp(`^(/proc/${own.pid}/(smaps_rollup:Pss_|status:)\\w+:\\s+\\d+ kB\\n?){2,3}$`),
    );
    expect(sectionOf(output, 'gpu-processes')).toBe('GPU-a, 1234, 12');
    expect(parseProbe(output, { takenAt: 7, nonce }).warnings).toEqual([]);
  });

  test('without a batch nothing is looked for', async () => {
    write('bin/nvidia-smi', gpuOf('GPU-a, 1234, 12'), 0o755);
    await using _own = await burner(`${batch}/a/1`);
    expect(await run({ shell })).not.toMatch(/@@\w+ (own-|gpu-processes)/);
    expect(readFileSync(join(folder, 'asked'), 'utf8')).not.toContain('compute-apps');
  });

  test('kernels that tell no shares tell what is resident', async () => {
    containerTree({ controllers: '', root: '/', point: '/none', type: 'cgroup2 cgroup2 rw' });
    write('proc/10/environ', `A=1\0SSH_SCHEDULER_ATTEMPT=${batch}/a/1\0B=2\0`);
    write('proc/11/environ', `A=SSH_SCHEDULER_ATTEMPT=${batch}/a/1\0`);
    write('proc/12/environ', `SSH_SCHEDULER_ATTEMPT=${otherBatch}/a/1\0`);
    for (const pid of [10, 11, 12]) {
      const fields = `S 1 10 10 0 -1 4194560 99 0 0 0 ${pid} 4 0 0 20 0 1 0 777 1000 50 18446744073709551615 1`;
      write(`proc/${pid}/stat`, `${pid} (a) b (1 2 3) ${fields}\n`);
      write(`proc/${pid}/smaps_rollup`, 'Rss: 9 kB\nPss: 5 kB\n');
      write(`proc/${pid}/status`, 'Name:\tx\nVmRSS:\t 9000 kB\nRssAnon:\t 4096 kB\nRssShmem:\t 1024 kB\n');
    }
    const output = await run({ shell, ownBatch: batch, fileRoot: folder });
    expect(sectionOf(output, 'own-after')).toBe('10 10 4 777');
    expect(parseProbe(output, { takenAt: 7, nonce }).ownUse).toEqual({ cpuCores: 0, memoryMiB: 5, gpus: [] });
  });

  test('an nvidia-smi that hangs when asked for processes is given up, its GPUs are not', async () => {
    write('bin/nvidia-smi', gpuOf('', 'exec sleep 60'), 0o755);
    await using own = await burner(`${batch}/a/1`);
    const machine = await probe({ shell, ownBatch: batch, gpuTimeoutMs: 1000 });
    expect(own.pid).toBeGreaterThan(0);
    expect(machine.gpus).toHaveLength(1);
    expect(machine.ownUse?.gpus).toEqual([]);
    expect(machine.warnings).toEqual([
      expect.stringMatching(/counts as others' \(nvidia-smi exited 1\d\d\)/),
    ]);
  });

  test('a login manager that kills is warned about', async () => {
    containerTree({ controllers: '', root: '/', point: '/none', type: 'cgroup2 cgroup2 rw' });
    write('etc/systemd/logind.conf.d/kill.conf', '[Login]\nKillUserProcesses=yes\nKillExcludeUsers=\n');
    expect((await probe({ shell, fileRoot: folder })).warnings).toEqual([]); // it does not run
    mkdirSync(join(folder, 'run/systemd/seats'), { recursive: true });
    expect((await probe({ shell, fileRoot: folder })).warnings).toEqual([
      expect.stringMatching(/KillUserProcesses=yes/),
    ]);
  });

  test('a foreign locale and the OpenMP variables change nothing', async () => {
    const env = {
      LANG: 'de_DE.UTF-8',
      LC_ALL: 'de_DE.UTF-8',
      LANGUAGE: 'de',
      OMP_NUM_THREADS: '1',
      OMP_THREAD_LIMIT: '1',
    };
    const output = await run({ shell, env });
    const plain = await run({ shell });
    const nproc = (text: string) => /nproc\n(\d+)/.exec(text)?.[1];
    expect(nproc(output)).toBe(nproc(plain));
    expect(output).toMatch(/total +used +free/);
  });

  test('a script cut short runs nothing', async () => {
    const script = probeScript({ nonce }).slice(0, -5);
    const [program = 'sh', ...args] = shell;
    const { stdout } = spawnSync(program, args, { input: script, encoding: 'utf8' });
    expect(stdout).toBe('');
  });
});

describe('reading whole answers', () => {
  const options = { takenAt: 1, nonce: 'abcdef123456' };

  test('of a Debian', () => {
    const { cpuCoresInUse, ...machine } = parseProbe(whole('debian-12-dash.txt'), options);
    expect(machine).toMatchObject({
      hostname: 'atlas',
      cpuCores: 2,
      gpus: [],
      kernel: '6.1.0-28-amd64',
      user: 'ann',
      tools: { missing: [], findCnewer: true },
      warnings: [],
    });
    expect(cpuCoresInUse).toBeGreaterThanOrEqual(0);
  });

  test('of a machine with nothing but busybox', () => {
    expect(parseProbe(whole('busybox-1.35.txt'), options).tools).toEqual({
      missing: ['bash'],
      findCnewer: false,
    });
  });

  test('behind a login banner and with the line ends of a terminal', () => {
    const banner = 'Welcome!\n@@somebody end\n@@ \u001b[2J no new line at the end';
    const answer = whole('debian-12-dash.txt');
    expect(parseProbe(banner + answer.replaceAll('\n', '\r\n'), options)).toEqual(
      parseProbe(answer, options),
    );
  });

  test('cut off: an error, unless only the GPUs are missing', () => {
    const answer = whole('debian-12-dash.txt');
    expect(isProbeComplete(answer, options.nonce)).toBe(true);
    const withoutGpus = answer.slice(0, answer.indexOf('gpus\n'));
    expect(isProbeComplete(withoutGpus, options.nonce)).toBe(false);
    expect(parseProbe(withoutGpus, options).warnings).toEqual([
      expect.stringMatching(/nvidia-smi did not answer/),
    ]);
    expect(() => parseProbe(answer.slice(0, 900), options)).toThrow(ProbeError);
    expect(() => parseProbe('', options)).toThrow(ProbeError);
  });

  test('another system is named', () => {
    expect(() => parseProbe(whole('debian-12-dash.txt').replace('Linux', 'FreeBSD'), options)).toThrow(
      'found the system FreeBSD, expected Linux',
    );
  });
});

test('a nonce, root or batch that could be read as shell is refused', () => {
  expect(() => probeScript({ nonce, ownBatch: '$(reboot)' })).toThrow('Internal error');
  expect(() => probeScript({ nonce, ownBatch: '' })).toThrow('Internal error');
  expect(() => probeScript({ nonce: '$(reboot)' })).toThrow('Internal error');
  expect(() => probeScript({ nonce, fileRoot: '/a b' })).toThrow('Internal error');
});

function fixture(name: string): string {
  return new URL(`../fixtures/probe/${name}`, import.meta.url).pathname;
}

function whole(name: string): string {
  return readFileSync(fixture(`whole/${name}`), 'utf8');
}

/** The lines of one section. */
function sectionOf(output: string, name: string): string | undefined {
  return new RegExp(`\\n@@${nonce} ${name}\\n([^@]*)`).exec(output)?.[1]?.trim();
}

/** An nvidia-smi with one GPU and the processes on it, which takes note of how it was asked. */
function gpuOf(processes: string, beforeProcesses = ''): string {
  return `#!/bin/sh
echo "$*" >>${folder}/asked
case $1 in
  *compute-apps*) ${beforeProcesses}
    printf '%s\\n' '${processes}' ;;
  *) echo '0, GPU-a, NVIDIA A10, 8192 MiB, 4096 MiB, 0 %, Disabled' ;;
esac
`;
}

/** A process that burns a core and bears a mark. */
async function burner(mark: string): Promise<AsyncDisposable & { readonly pid: number }> {
  const child = spawn('sh', ['-c', 'echo up; while :; do :; done'], {
    env: { ...process.env, SSH_SCHEDULER_ATTEMPT: mark },
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  const exited = once(child, 'exit');
  await once(child.stdout, 'data');
  return {
    pid: child.pid ?? 0,
    async [Symbol.asyncDispose]() {
      child.kill('SIGKILL');
      await exited;
    },
  };
}

/** The parts of /proc that tell of control groups; the rest is this machine's own. */
function containerTree(tree: { controllers: string; root: string; point: string; type: string }): void {
  write('proc/self/cgroup', `${tree.controllers}\n`);
  write('proc/self/mountinfo', `32 31 0:28 ${tree.root} ${tree.point} rw,relatime - ${tree.type}\n`);
  for (const name of ['stat', 'uptime', 'meminfo', 'sys']) {
    rmSync(join(folder, 'proc', name), { force: true });
    symlinkSync(`/proc/${name}`, join(folder, 'proc', name));
  }
}
