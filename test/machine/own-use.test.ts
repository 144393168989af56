// What our own processes use, read from recorded answers, and what is left when it is taken off.
import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { GpuSnapshot, MachineSnapshot } from '../../src/lib/domain/machine.ts';
import { withoutOwnUse } from '../../src/lib/machine/own-use.ts';
import { parseGpuProcesses } from '../../src/lib/machine/parse-nvidia-smi.ts';
import { type OwnUseLines, parseOwnUse } from '../../src/lib/machine/parse-own-use.ts';
import { parseProbe } from '../../src/lib/machine/probe.ts';

const gpus = [gpu(0, 'GPU-a', 8192, 500), gpu(1, 'GPU-b', 8192, 8000), gpu(2, 'GPU-c', 8192, 8000)];

const options = { takenAt: 1, nonce: 'abcdef123456' };

function whole(file: string): string {
  return readFileSync(new URL(`../fixtures/probe/whole/${file}`, import.meta.url), 'utf8');
}

function gpu(index: number, uuid: string, memoryTotalMiB: number, memoryFreeMiB: number): GpuSnapshot {
  return { index, uuid, name: 'A10', memoryTotalMiB, memoryFreeMiB, utilization: 0.9, mig: false };
}

/** Two processes that are there at both looks. */
const twice = ['10 100 20 777', '11 5 5 778'];
const parse = (lines: Partial<OwnUseLines>, seconds = 0.25) =>
  parseOwnUse({ before: twice, after: twice, memory: [], gpuProcesses: [], ...lines }, seconds, gpus);

describe('recorded answers', () => {
  // In each a process burns a core (in the last it has just begun to), one holds 3000 MiB of GPU 0, and one of another
  // batch burns a core beside them.
  test.each([
    ['own-jobs-dash.txt', 1],
    ['own-jobs-bash.txt', 0.962],
    ['own-jobs-busybox-shell.txt', 0.962],
    ['own-jobs-busybox-only.txt', 0.385],
  ])('%s', (file, cpuCores) => {
    const machine = parseProbe(whole(file), options);
    expect(machine.warnings).toEqual([]);
    const onGpus = [{ index: 0, memoryMiB: 3000, isAlone: true }];
    expect(machine.ownUse).toEqual({ cpuCores, memoryMiB: 77, gpus: onGpus });
  });

  test('one that was not asked for it has none', () => {
    expect(parseProbe(whole('debian-12-dash.txt'), options)).not.toHaveProperty('ownUse');
  });

  test('GPUs whose processes are not known are a warning when jobs of ours are there', () => {
    const answer = whole('own-jobs-dash.txt').replace(/gpu-processes-status\n0/, 'gpu-processes-status\n137');
    expect(parseProbe(answer, options).warnings).toEqual([expect.stringMatching(/its GPUs.*exited 137/)]);
    const idle = answer.replace(/own-after\n(\d.*\n)+/, 'own-after\n');
    expect(parseProbe(idle, options).warnings).toEqual([]);
  });
});

describe('cores', () => {
  test('are the ticks between the two looks', () => {
    expect(parse({ after: ['10 120 25 777', '11 5 5 778'] }).cpuCores).toBe(1);
    expect(parse({ after: ['10 120 25 777', '11 5 5 778'] }, 0).cpuCores).toBe(0);
  });

  test('what comes, goes, or has the number of another does no harm', () => {
    expect(parse({ after: ['11 6 5 778', '12 9000 0 900'] }).cpuCores).toBe(0.04);
    expect(parse({ after: ['10 9000 0 901', '11 6 5 778'] }).cpuCores).toBe(0.04);
    expect(parse({ after: ['10 90 0 777', '11 6 5 778'] }).cpuCores).toBe(0.04); // a counter that steps back
  });
});

describe('memory', () => {
  test('is the share where the kernel tells it', () => {
    const memory = [
      '/proc/10/smaps_rollup:Pss_Anon:          307200 kB',
      '/proc/10/smaps_rollup:Pss_Shmem:           1024 kB',
      '/proc/11/smaps_rollup:Pss_Anon:            1024 kB',
      '/proc/12/smaps_rollup:Pss_Anon:          999999 kB',
    ];
    expect(parse({ memory }).memoryMiB).toBe(302); // 12 is not ours
  });

  test('else what is no copy of a file, else all that is resident', () => {
    const memory = [
      '/proc/10/status:VmRSS:\t  409600 kB',
      '/proc/10/status:RssAnon:\t  204800 kB',
      '/proc/10/status:RssShmem:\t  1024 kB',
      '/proc/11/status:VmRSS:\t  102400 kB',
    ];
    expect(parse({ memory }).memoryMiB).toBe(301);
  });
});

describe('GPUs', () => {
  test('are those that our processes are on', () => {
    const gpuProcesses = [
      'GPU-a, 10, 3000',
      'GPU-a, 11, 200',
      'GPU-b, 10, [N/A]',
      'GPU-b, 12, 4000',
      'GPU-c, 12, 5',
    ];
    expect(parse({ gpuProcesses }).gpus).toEqual([
      { index: 0, memoryMiB: 3200, isAlone: true },
      { index: 1, memoryMiB: 0, isAlone: false },
    ]);
  });

  test('a process without a number is not ours', () => {
    const gpuProcesses = ['GPU-a, 10, 3000', 'GPU-a, [N/A], [N/A]'];
    expect(parse({ gpuProcesses }).gpus).toEqual([{ index: 0, memoryMiB: 3000, isAlone: false }]);
  });

  test('rows are read with and without units, and what is no row is none', () => {
    const rows = [
      'GPU-a, 7, 12 MiB',
      ' GPU-a , 8 , [Insufficient Permissions]',
      'No running processes found',
      '',
    ];
    expect(parseGpuProcesses([...rows, 'MIG-1, 9, 4', 'GPU-a, -3, 1', 'GPU-a, 1, 2, 3'])).toEqual([
      { gpuUuid: 'GPU-a', pid: 7, memoryMiB: 12 },
      { gpuUuid: 'GPU-a', pid: 8, memoryMiB: 0 },
      { gpuUuid: 'GPU-a', memoryMiB: 1 },
    ]);
  });
});

test('whatever is printed, what we use stays within bounds', () => {
  const word = fc.oneof(
    fc.string(),
    fc.constantFrom('10', '11', '-5', '9'.repeat(20), '777', 'GPU-a', 'NaN'),
  );
  const rows = (separator: string) =>
    fc.array(
      fc.array(word, { maxLength: 5 }).map((words) => words.join(separator)),
      { maxLength: 8 },
    );
  const memory = fc.array(
    fc
      .tuple(word, fc.constantFrom('Pss_Anon', 'RssShmem', 'VmRSS', 'x'), word)
      .map(([pid, name, value]) => `/proc/${pid}/status:${name}: ${value} kB`),
  );
  fc.assert(
    fc.property(
      rows(' '),
      rows(' '),
      memory,
      rows(', '),
      fc.double({ noNaN: true }),
      (before, after, memoryLines, gpuProcesses, seconds) => {
        const use = parseOwnUse(
          { before: [...twice, ...before], after: [...twice, ...after], memory: memoryLines, gpuProcesses },
          seconds,
          gpus,
        );
        for (const amount of [use.cpuCores, use.memoryMiB, ...use.gpus.map(({ memoryMiB }) => memoryMiB)]) {
          expect(amount).toBeGreaterThanOrEqual(0);
          expect(amount).toBeLessThanOrEqual(2 ** 40);
        }
      },
    ),
  );
});

describe('what others use', () => {
  const snapshot: MachineSnapshot = {
    takenAt: 1,
    identity: 'x',
    hostname: 'titan',
    bootId: '',
    cpuCores: 8,
    cpuCoresInUse: 3.25,
    memoryTotalMiB: 32_000,
    memoryFreeMiB: 10_000,
    gpus,
    warnings: [],
  };

  test('is what was measured minus what is ours', () => {
    const ownUse = {
      cpuCores: 1.05,
      memoryMiB: 300,
      gpus: [
        { index: 0, memoryMiB: 3000, isAlone: true },
        { index: 1, memoryMiB: 100, isAlone: false },
      ],
    };
    expect(withoutOwnUse({ ...snapshot, ownUse })).toEqual({
      ...snapshot,
      cpuCoresInUse: 2.2,
      memoryFreeMiB: 10_300,
      gpus: [
        { ...gpus[0], memoryFreeMiB: 3500, utilization: 0 },
        { ...gpus[1], memoryFreeMiB: 8100 },
        gpus[2],
      ],
    });
  });

  test('is what was measured where ours was not asked for', () => {
    expect(withoutOwnUse(snapshot)).toEqual(snapshot);
  });

  test('is never negative, never more than was measured, and is taken off once', () => {
    const amount = (max: number) => fc.double({ min: 0, max, noNaN: true });
    const ownUse = fc.record({
      cpuCores: amount(20),
      memoryMiB: fc.integer({ min: 0, max: 50_000 }),
      gpus: fc.uniqueArray(
        fc.record({
          index: fc.nat(4),
          memoryMiB: fc.integer({ min: 0, max: 20_000 }),
          isAlone: fc.boolean(),
        }),
        { selector: ({ index }) => index },
      ),
    });
    fc.assert(
      fc.property(ownUse, amount(8), fc.nat(32_000), (own, cpuCoresInUse, memoryFreeMiB) => {
        const measured = { ...snapshot, cpuCoresInUse, memoryFreeMiB };
        const others = withoutOwnUse({ ...measured, ownUse: own });
        expect(others.cpuCoresInUse).toBeGreaterThanOrEqual(0);
        expect(others.cpuCoresInUse).toBeLessThanOrEqual(cpuCoresInUse + 0.0005); // rounded
        expect(others.cpuCoresInUse).toBeGreaterThanOrEqual(cpuCoresInUse - own.cpuCores - 0.0005);
        expect(others.memoryFreeMiB).toBe(Math.min(32_000, memoryFreeMiB + own.memoryMiB));
        for (const [at, gpuThere] of others.gpus.entries()) {
          const before = gpus[at];
          const ours = own.gpus.find(({ index }) => index === gpuThere.index);
          expect(gpuThere.memoryFreeMiB).toBe(
            Math.min(gpuThere.memoryTotalMiB, (before?.memoryFreeMiB ?? 0) + (ours?.memoryMiB ?? 0)),
          );
          expect(gpuThere.utilization).toBe(ours?.isAlone === true ? 0 : before?.utilization);
        }
        expect(withoutOwnUse(others)).toEqual(others);
      }),
    );
  });
});
