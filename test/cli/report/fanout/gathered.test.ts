import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { Gathered } from '../../../../src/cli/report/fanout/gathered.ts';
import type { SpoolText } from '../../../../src/cli/report/fanout/spool.ts';
import { machineName } from '../../../../src/lib/domain/machine.ts';
import type { HostOutcome } from '../../../../src/lib/fanout/host-result.ts';
import { hostResult } from './kept-out.ts';

let folder = '';
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'gathered-test-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

const bytesOf = (text: SpoolText): Buffer => Buffer.concat([...text.pieces()]);

function gather(gathered: Gathered, name: string, out: string, err = '', outcome?: HostOutcome): void {
  gathered.write(machineName(name), 'out', Buffer.from(out));
  gathered.write(machineName(name), 'err', Buffer.from(err));
  gathered.end(hostResult(name, outcome));
}

test('machines are sorted by output and outcome: the largest group first, then natural order', () => {
  using gathered = new Gathered();
  gather(gathered, 'gpu10', 'a\n');
  gather(gathered, 'gpu2', 'a\n');
  gather(gathered, 'gpu1', 'b\n');
  gather(gathered, 'gpu3', 'a\n', 'warning\n');
  gather(gathered, 'gpu4', 'a\n', '', { type: 'exited', exitCode: 1 });
  gather(gathered, 'gpu5', '', '', { type: 'signalled', signal: 'KILL' });
  gather(gathered, 'gpu6', '', '', { type: 'signalled', signal: 'TERM' });
  gathered.end(hostResult('gpu8', { type: 'unreachable', reason: { brief: 'a', full: 'a' } }));
  gathered.end(hostResult('gpu7', { type: 'unreachable', reason: { brief: 'b', full: 'b' } }));
  gathered.write(machineName('gpu9'), 'out', Buffer.from('still running'));
  expect(gathered.groups().map(({ machines }) => machines.join(' '))).toEqual([
    ...['gpu2 gpu10', 'gpu7 gpu8', 'gpu1', 'gpu3', 'gpu4', 'gpu5', 'gpu6'],
  ]);
});

test('texts come back whole, however they are split and wherever they are kept', () => {
  fc.assert(
    fc.property(
      fc.array(
        fc.tuple(fc.nat({ max: 2 }), fc.constantFrom('out', 'err'), fc.nat({ max: 200_000 }), fc.nat()),
        { maxLength: 20 },
      ),
      fc.constantFrom(0, 100, 70_000, 1_000_000),
      fc.constantFrom(0, 100_000, 10_000_000),
      (chunks, textMemoryBytes, memoryBytes) => {
        using gathered = new Gathered({ textMemoryBytes, memoryBytes, folder });
        const expected = new Map<string, Buffer[]>();
        for (const [host, stream, length, seed] of chunks) {
          const chunk = Buffer.alloc(length, Buffer.from(`${seed} `));
          const key = `h${host} ${stream}`;
          expected.set(key, [...(expected.get(key) ?? []), Buffer.from(chunk)]);
          gathered.write(machineName(`h${host}`), stream as 'out' | 'err', chunk);
          chunk.fill(0); // the caller's to use again
        }
        const check = (): void => {
          for (const host of ['h0', 'h1', 'h2']) {
            const { stdout, stderr } = gathered.answer(machineName(host));
            expect(bytesOf(stdout).equals(Buffer.concat(expected.get(`${host} out`) ?? []))).toBe(true);
            expect(bytesOf(stderr).equals(Buffer.concat(expected.get(`${host} err`) ?? []))).toBe(true);
          }
        };
        check();
        for (const host of ['h0', 'h1', 'h2']) gathered.end(hostResult(host));
        check();
      },
    ),
    { numRuns: 40 },
  );
});

test('many small chunks are few writes, and what is forgotten is used again', () => {
  using gathered = new Gathered({ textMemoryBytes: 0, folder });
  for (const name of ['a', 'b', 'c']) {
    for (let i = 0; i < 3000; i++) gathered.write(machineName(name), 'out', Buffer.alloc(100, name));
    gathered.end(hostResult(name));
    expect(gathered.answer(machineName(name)).stdout.bytes).toBe(300_000);
    expect(bytesOf(gathered.answer(machineName(name)).stdout).equals(Buffer.alloc(300_000, name))).toBe(true);
    gathered.forget(machineName(name));
  }
  expect(gathered.groups()).toEqual([]);
});

test('large and small texts are told apart by their last byte', () => {
  using gathered = new Gathered({ textMemoryBytes: 1000, folder });
  for (const [name, last] of [...'abc'].map((name) => [name, name === 'c' ? 'y' : 'x'] as const))
    gather(gathered, name, 'z'.repeat(400_000) + last);
  expect(gathered.groups().map(({ machines }) => machines.join(' '))).toEqual(['a b', 'c']);
});

test('nothing is left in the temporary folder, not even while it is used or when the process is killed', () => {
  const gathered = new Gathered({ memoryBytes: 0, folder });
  gathered.write(machineName('a'), 'out', Buffer.alloc(200_000));
  expect(readdirSync(folder)).toEqual([]);
  gathered.close();
  const program = `
    import { Gathered } from ${JSON.stringify(new URL('../../../../src/cli/report/fanout/gathered.ts', import.meta.url).href)};
    new Gathered({ memoryBytes: 0 }).write('a', 'out', Buffer.alloc(200_000));
    process.kill(process.pid, 'SIGKILL');`;
  const { signal } = spawnSync(process.execPath, ['--import', 'tsx', '--input-type=module', '-e', program], {
    env: { ...process.env, TMPDIR: folder, TSX_DISABLE_CACHE: '1' },
  });
  expect(signal).toBe('SIGKILL');
  expect(readdirSync(folder).filter((name) => name.startsWith('execute_to'))).toEqual([]);
});

test('a place that takes no file is named', () => {
  using gathered = new Gathered({ memoryBytes: 0, folder: join(folder, 'missing') });
  expect(() => gathered.write(machineName('a'), 'out', Buffer.alloc(200_000))).toThrow(
    /does not fit into memory and cannot be kept in .*missing: ENOENT.*TMPDIR/,
  );
});
