// The pure parsers of the probe, on recorded outputs and on what machines have been seen to print.
import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type IdentityLines, identityOf } from '../../src/lib/machine/identity.ts';
import { parseCgroups } from '../../src/lib/machine/parse-cgroups.ts';
import { type CpuLines, parseCpu } from '../../src/lib/machine/parse-cpu.ts';
import { killsAtLogout } from '../../src/lib/machine/parse-logind.ts';
import { parseMemory } from '../../src/lib/machine/parse-memory.ts';
import { parseNvidiaSmi } from '../../src/lib/machine/parse-nvidia-smi.ts';

function recorded(name: string): string[] {
  return readFileSync(new URL(`../fixtures/probe/${name}`, import.meta.url), 'utf8').split('\n');
}

describe('nvidia-smi', () => {
  test('reads rows', () => {
    const { gpus, warnings } = parseNvidiaSmi(recorded('nvidia-smi/two-gpus.txt'), '0');
    expect(gpus).toEqual([
      {
        index: 0,
        uuid: 'GPU-2f0a7c11-92cf-0a4e-7d3b-61c2f6a0b9d1',
        name: 'NVIDIA GeForce GTX 1060 6GB',
        memoryTotalMiB: 6144,
        memoryFreeMiB: 5933,
        utilization: 0,
        mig: false,
      },
      expect.objectContaining({ index: 1, utilization: 0.37 }),
    ]);
    expect(warnings).toEqual([]);
  });

  test('a GPU with MIG is listed and takes no jobs', () => {
    const { gpus, warnings } = parseNvidiaSmi(recorded('nvidia-smi/mig.txt'), '0');
    expect(gpus[0]).toMatchObject({ mig: true, memoryFreeMiB: 81037, utilization: 0 });
    expect(gpus[0]?.unplaceable).toMatch(/^MIG is on: /);
    expect(gpus[1]).toMatchObject({ mig: false, utilization: 1 });
    expect(gpus[1]?.unplaceable).toBeUndefined();
    expect(warnings).toEqual([]);
  });

  test('unknown utilization counts as 0, unknown memory makes a GPU unplaceable, KiB is read', () => {
    const { gpus, warnings } = parseNvidiaSmi(recorded('nvidia-smi/unknown-values.txt'), '0');
    expect(warnings).toEqual([]);
    expect(gpus.map((gpu) => [gpu.memoryFreeMiB, gpu.utilization, gpu.unplaceable])).toEqual([
      [0, 0.03, 'memory not reported'],
      [1990, 0, undefined],
      [16000, 0, undefined],
      [0, 0, 'memory not reported'],
      [0, 0, 'memory not reported'],
      [14850, 0.12, undefined],
    ]);
    expect(gpus[5]?.memoryTotalMiB).toBe(15360);
  });

  test('a driver that does not know MIG answers six columns', () => {
    const { gpus } = parseNvidiaSmi(recorded('nvidia-smi/old-driver.txt'), '0');
    expect(gpus.map((gpu) => [gpu.name, gpu.memoryFreeMiB, gpu.utilization, gpu.mig])).toEqual([
      ['Tesla K80', 11439, 0, false],
      ['Tesla K80', 2000, 0.98, false],
    ]);
  });

  test.each([
    ['no-driver.txt', '9', /driver does not run \(nvidia-smi exited 9\): NVIDIA-SMI has failed.*not used/],
    [
      'version-mismatch.txt',
      '18',
      /nvidia-smi exited 18: Failed to initialize NVML: Driver\/library version mismatch/,
    ],
    ['no-devices.txt', '6', /nvidia-smi exited 6: No devices were found; its GPUs are not used/],
  ])('%s is a warning and no GPU', (file, status, warning) => {
    const parsed = parseNvidiaSmi(recorded(`nvidia-smi/${file}`), status);
    expect(parsed.gpus).toEqual([]);
    expect(parsed.warnings).toEqual([expect.stringMatching(warning)]);
  });

  test('the healthy GPUs of a machine that lost one are used', () => {
    const { gpus, warnings } = parseNvidiaSmi(recorded('nvidia-smi/lost-gpu.txt'), '15');
    expect(gpus.map(({ index }) => index)).toEqual([0, 2]);
    expect(warnings).toEqual([expect.stringMatching(/exited 15: Unable to determine.*only the 2 GPUs/)]);
  });

  test('no nvidia-smi is nothing to tell; one that was killed is', () => {
    expect(parseNvidiaSmi([], 'none')).toEqual({ gpus: [], warnings: [] });
    expect(parseNvidiaSmi([''], '137').warnings).toEqual([expect.stringMatching(/did not answer in time/)]);
  });

  test('whatever is printed, numbers stay within bounds and no control character gets through', () => {
    const cell = fc.oneof(
      fc.string(),
      fc.constantFrom(
        '0',
        '99999',
        '-1',
        '1e9',
        '5 MiB',
        '9'.repeat(30),
        '200 %',
        '3 %',
        '[N/A]',
        'Enabled',
        '\u001b[2J',
      ),
    );
    fc.assert(
      fc.property(
        fc.array(fc.array(cell, { maxLength: 9 }).map((cells) => cells.join(', '))),
        fc.string(),
        (lines, status) => {
          const { gpus, warnings } = parseNvidiaSmi(lines, status);
          for (const gpu of gpus) {
            expect(gpu.utilization >= 0 && gpu.utilization <= 1).toBe(true);
            expect(gpu.memoryFreeMiB >= 0 && gpu.memoryFreeMiB <= gpu.memoryTotalMiB).toBe(true);
            expect(gpu.name + gpu.uuid).not.toMatch(/\p{Cc}/u);
          }
          for (const warning of warnings) expect(warning).not.toMatch(/\p{Cc}/u);
        },
      ),
    );
  });
});

describe('main memory', () => {
  test.each([
    ['procps-4.txt', [], 24152, 23515],
    ['procps-3.3.txt', recorded('free/meminfo-6.txt'), 64253, 30607],
    ['busybox-1.35.txt', [], 24152, 23515],
    // No `available` column: /proc/meminfo knows, or the free and the cached memory is added up.
    ['procps-3.2.txt', ['MemTotal: 8061640 kB', 'MemAvailable: 4500000 kB'], 7872, 4394],
    ['busybox-1.22.txt', recorded('free/meminfo-2.6.txt'), 995, 770],
  ])('%s', (file, meminfo, totalMiB, freeMiB) => {
    expect(parseMemory(recorded(`free/${file}`), meminfo)).toEqual({ totalMiB, freeMiB });
  });

  test('without free, /proc/meminfo answers; without both, nothing does', () => {
    expect(parseMemory([], recorded('free/meminfo-6.txt'))).toEqual({ totalMiB: 64253, freeMiB: 30607 });
    expect(parseMemory(['free: not found'], [])).toBeUndefined();
  });

  test('more available than there is, is not believed', () => {
    expect(parseMemory([], ['MemTotal: 1024 kB', 'MemAvailable: 999999999 kB'])).toEqual({
      totalMiB: 1,
      freeMiB: 1,
    });
  });
});

describe('CPU', () => {
  const idle: CpuLines = {
    before: [
      'uptime 100.00',
      'cpu  0 0 0 0 0 0 0 0 0 0',
      'cpu0 0 0 0 0 0 0 0 0 0 0',
      'cpu1 0 0 0 0 0 0 0 0 0 0',
    ],
    after: [
      'uptime 101.00',
      'cpu  0 0 0 200 0 0 0 0 0 0',
      'cpu0 0 0 0 100 0 0 0 0 0 0',
      'cpu1 0 0 0 100 0 0 0 0 0 0',
    ],
    nproc: ['2'],
    allowed: ['Cpus_allowed_list:\t0-1'],
  };
  const later = (...rows: string[]) => ({ ...idle, after: ['uptime 101.00', ...rows] });

  test('an idle machine, and one with one CPU busy', () => {
    expect(parseCpu(idle, [])).toEqual({ cores: 2, coresInUse: 0, isMeasured: true });
    const busy = later('cpu0 60 10 20 0 0 5 5 0 0 0', 'cpu1 0 0 0 100 0 0 0 0 0 0');
    expect(parseCpu(busy, [])).toEqual({ cores: 2, coresInUse: 1, isMeasured: true });
  });

  test('stolen time is in use, waiting for disks is not, guests are not counted twice', () => {
    expect(parseCpu(later('cpu0 0 0 0 50 0 0 0 50 0 0', 'cpu1 0 0 0 50 50 0 0 0 0 0'), [])?.coresInUse).toBe(
      0.5,
    );
    // 100 ticks of which 50 are a guest's: user holds them already.
    expect(parseCpu(later('cpu0 50 0 0 50 0 0 0 0 50 0', 'cpu1 0 0 0 100 0 0 0 0 0 0'), [])?.coresInUse).toBe(
      0.5,
    );
  });

  test('only the CPUs that we may run on count', () => {
    const lines = {
      ...later('cpu0 100 0 0 0', 'cpu1 0 0 0 100'),
      nproc: ['1'],
      allowed: ['Cpus_allowed_list:\t1'],
    };
    expect(parseCpu(lines, [])).toEqual({ cores: 1, coresInUse: 0, isMeasured: true });
    // Renumbered CPUs of a container: none of those allowed is listed.
    const renumbered = { ...later('cpu0 100 0 0 0', 'cpu1 0 0 0 100'), allowed: ['Cpus_allowed_list:\t8-9'] };
    expect(parseCpu(renumbered, [])?.coresInUse).toBe(1);
  });

  test('a quota is the limit; what its group used is in use, and so is what the whole machine lacks', () => {
    const quota = { cores: 1.5, kind: 'v2', path: '/a b' };
    const use = { ...idle, before: [...idle.before, 'use usage_usec 1000000 v2 /a b'] };
    const used = { ...use, after: [...idle.after, 'use usage_usec 1250000 v2 /a b'] };
    expect(parseCpu(used, [quota])).toEqual({ cores: 1.5, coresInUse: 0.25, isMeasured: true });
    const v1 = {
      ...idle,
      before: [...idle.before, 'use 0 cpuacct /x'],
      after: [...idle.after, 'use 500000000 cpuacct /x'],
    };
    expect(parseCpu(v1, [{ cores: 1, kind: 'cpu', path: '/x' }])?.coresInUse).toBe(0.5);
    const full = later('cpu0 100 0 0 0', 'cpu1 100 0 0 0');
    expect(parseCpu(full, [quota])).toEqual({ cores: 1.5, coresInUse: 1.5, isMeasured: true });
  });

  test('counters that stand still or go back are said to be unknown', () => {
    expect(parseCpu({ ...idle, after: idle.before }, [])).toEqual({
      cores: 2,
      coresInUse: 0,
      isMeasured: false,
    });
    expect(parseCpu({ ...idle, before: idle.after, after: idle.before }, [])?.isMeasured).toBe(false);
    expect(parseCpu({ before: [], after: [], nproc: [], allowed: [] }, [])).toBeUndefined();
  });

  test('whatever is printed, what is in use is from 0 to the cores', () => {
    const line = fc.oneof(
      fc
        .tuple(fc.nat(3), fc.array(fc.nat(1000), { maxLength: 10 }))
        .map(([cpu, ticks]) => `cpu${cpu} ${ticks.join(' ')}`),
      fc.string(),
      fc.constantFrom('uptime 5.0', 'uptime 6.0', 'use 999999999999 cpuacct /x', 'use usage_usec 5 v2 '),
    );
    const lines = fc.array(line);
    fc.assert(
      fc.property(lines, lines, fc.string(), fc.string(), (before, after, nproc, allowed) => {
        const cpu = parseCpu({ before, after, nproc: [nproc], allowed: [allowed] }, [
          { cores: 2.5, kind: 'cpu', path: '/x' },
        ]);
        if (cpu === undefined) return;
        expect(cpu.cores).toBeGreaterThan(0);
        expect(cpu.coresInUse >= 0 && cpu.coresInUse <= cpu.cores).toBe(true);
      }),
    );
  });
});

describe('control groups', () => {
  test('version 2: limits of every level, page cache counted as free', () => {
    const { quotas, memory } = parseCgroups([
      'group v2 /user.slice/user 1.slice',
      'cpu.max 150000 100000',
      'memory.max 2147483648',
      'memory.high 1073741824',
      'memory.current 1073741824',
      'inactive_file 268435456',
      'active_file 268435456',
      'slab_reclaimable 0',
      'group v2 /user.slice',
      'cpu.max max 100000',
      'memory.max max',
      'memory.high max',
      'memory.current 5',
      'group v2 ',
    ]);
    expect(quotas).toEqual([{ cores: 1.5, path: '/user.slice/user 1.slice', kind: 'v2' }]);
    expect(memory).toEqual([{ limitMiB: 1024, freeMiB: 512 }]);
  });

  test('version 1: no limit is a huge number or -1; children are counted under total_', () => {
    const { quotas, memory } = parseCgroups([
      'group cpu /docker/1',
      'cpu.cfs_quota_us 50000',
      'cpu.cfs_period_us 100000',
      'group cpu ',
      'cpu.cfs_quota_us -1',
      'cpu.cfs_period_us 100000',
      'group memory /docker/1',
      'memory.limit_in_bytes 1073741824',
      'memory.usage_in_bytes 536870912',
      'inactive_file 0',
      'total_inactive_file 104857600',
      'group memory ',
      'memory.limit_in_bytes 9223372036854771712',
      'memory.usage_in_bytes 1',
    ]);
    expect(quotas).toEqual([{ cores: 0.5, path: '/docker/1', kind: 'cpu' }]);
    expect(memory).toEqual([{ limitMiB: 1024, freeMiB: 612 }]);
  });

  test('nonsense is no limit', () => {
    expect(parseCgroups(['cpu.max 1 2', 'group v2 /x', 'cpu.max 0 0', 'cpu.max', 'memory.max -5'])).toEqual({
      quotas: [],
      memory: [],
    });
  });
});

describe('KillUserProcesses', () => {
  test.each([
    ['no setting', ['file /etc/systemd/logind.conf'], 'ann', false],
    ['set', ['file /etc/systemd/logind.conf', ' KillUserProcesses = yes '], 'ann', true],
    [
      'root is excluded unless they say otherwise',
      ['file /etc/systemd/logind.conf', 'KillUserProcesses=1'],
      'root',
      false,
    ],
    [
      'excluded by name',
      ['file /etc/systemd/logind.conf', 'KillUserProcesses=yes', 'KillExcludeUsers=root ann'],
      'ann',
      false,
    ],
    [
      'only others',
      ['file /etc/systemd/logind.conf', 'KillUserProcesses=on', 'KillOnlyUsers=bob'],
      'ann',
      false,
    ],
    [
      'a drop-in wins over the main file',
      [
        'file /etc/systemd/logind.conf',
        'KillUserProcesses=yes',
        'file /usr/lib/systemd/logind.conf.d/9.conf',
        'KillUserProcesses=no',
      ],
      'ann',
      false,
    ],
    [
      'an empty drop-in in /etc hides the vendor one of its name',
      [
        'file /etc/systemd/logind.conf.d/9.conf',
        'file /usr/lib/systemd/logind.conf.d/9.conf',
        'KillUserProcesses=yes',
      ],
      'ann',
      false,
    ],
    [
      'drop-ins go by name, wherever they are',
      [
        ...['file /etc/systemd/logind.conf.d/10-a.conf', 'KillUserProcesses=no'],
        ...['file /usr/lib/systemd/logind.conf.d/20-b.conf', 'KillUserProcesses=true'],
      ],
      'ann',
      true,
    ],
  ])('%s', (_, lines, user, expected) => {
    expect(killsAtLogout(lines, user)).toBe(expected);
  });
});

describe('identity', () => {
  const host: IdentityLines = {
    machineId: ['0f3b6c1d2e4a58799b7c6d5e4f3a2b1c'],
    hostname: 'atlas',
    networkCards: [],
    namespaces: ['pid:[4026531836]', 'uts:[4026531838]'],
    mounts: [],
  };
  const mountOf = (id: string, point = '/etc/hostname') =>
    `1 2 8:1 /var/lib/docker/containers/${id}/hostname ${point} rw - ext4 /dev/sda1 rw`;

  test('is the same for every login and fit for a folder name', () => {
    expect(identityOf(host)).toBe(identityOf({ ...host, namespaces: [] }));
    expect(identityOf(host)).toMatch(/^[0-9a-f]{32}$/);
    expect(identityOf(host)).not.toBe(host.machineId[0]);
  });

  test('tells copies of one disk image apart by their names, and machines without an id by their network cards', () => {
    expect(identityOf({ ...host, hostname: 'hermes' })).not.toBe(identityOf(host));
    const bare = { ...host, machineId: [] };
    expect(identityOf({ ...bare, networkCards: ['02:00:00:00:00:01'] })).not.toBe(
      identityOf({ ...bare, networkCards: ['02:00:00:00:00:02'] }),
    );
    expect(identityOf({ ...bare, networkCards: ['a', 'b'] })).toBe(
      identityOf({ ...bare, networkCards: ['b', 'a'] }),
    );
  });

  test('tells containers of one host apart, and knows one again after its restart', () => {
    const first = {
      ...host,
      namespaces: ['pid:[4026532001]', 'uts:[4026532000]'],
      mounts: [mountOf('a'.repeat(64))],
    };
    const second = { ...first, mounts: [mountOf('b'.repeat(64))] };
    expect(identityOf(first)).not.toBe(identityOf(host));
    expect(identityOf(first)).not.toBe(identityOf(second));
    expect(identityOf({ ...first, namespaces: ['pid:[4026532777]', 'uts:[4026532776]'] })).toBe(
      identityOf(first),
    );
    expect(identityOf({ ...host, mounts: [mountOf('a'.repeat(64), '/mnt')] })).toBe(identityOf(host));
  });

  test('tells bare namespaces apart by the host name if they have one, else by the process namespace', () => {
    const shared = { ...host, namespaces: ['pid:[4026532001]', 'uts:[4026531838]'] };
    expect(identityOf(shared)).not.toBe(identityOf(host));
    expect(identityOf(shared)).not.toBe(
      identityOf({ ...shared, namespaces: ['pid:[4026532002]', 'uts:[4026531838]'] }),
    );
    const own = { ...host, hostname: 'box', namespaces: ['pid:[4026532001]', 'uts:[4026532000]'] };
    expect(identityOf(own)).toBe(
      identityOf({ ...own, namespaces: ['pid:[4026532009]', 'uts:[4026532008]'] }),
    );
  });
});
