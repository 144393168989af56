import { constants } from 'node:os';
import { expect, test } from 'vitest';
import { exitCodeOfHosts, fanoutSummary } from '../../../../src/cli/report/fanout/fanout-summary.ts';
import type { HostOutcome } from '../../../../src/lib/fanout/host-result.ts';
import { hostResult } from './kept-out.ts';

const good: HostOutcome = { type: 'exited', exitCode: 0 };
const exit = (exitCode: number): HostOutcome => ({ type: 'exited', exitCode });
const reason = (host: string) => ({ brief: 'connection refused', full: `${host}:22: connection refused` });
const unreachable = (host: string): HostOutcome => ({ type: 'unreachable', reason: reason(host) });
const notStarted: HostOutcome = { type: 'not-started', reason: 'gpu04 failed' };

const mixed = [
  hostResult('gpu12', notStarted),
  hostResult('gpu11', { type: 'cancelled', reason: 'Ctrl-C', left: { unknown: 'no connection' } }),
  hostResult('gpu10', { type: 'cancelled', reason: 'Ctrl-C', left: 'nothing' }),
  hostResult('gpu09', exit(10)),
  hostResult('gpu04', exit(3)),
  hostResult('gpu05', { type: 'signalled', signal: 'SEGV' }),
  hostResult('gpu06', { type: 'timed-out', limitMs: 5000, left: 'nothing' }),
  hostResult('gpu08', { type: 'timed-out', limitMs: 5000, left: { processes: 1 } }),
  hostResult('gpu13', { type: 'transfer-failed', stage: 'send', reason: reason('gpu13') }),
  hostResult('gpu14', { type: 'transfer-failed', stage: 'fetch', reason: reason('gpu14'), exitCode: 0 }),
  hostResult('gpu03', { type: 'lost', reason: reason('gpu03') }),
  hostResult('gpu07', unreachable('gpu07')),
  hostResult('gpu02', unreachable('gpu02')),
  hostResult('gpu01', good),
];

test('what went wrong stands by kind, machines with the same words together', () => {
  expect(fanoutSummary(mixed)).toEqual([
    'gpu[02,07]: unreachable: connection refused',
    'gpu03: connection lost, the command may run on: gpu03:22: connection refused',
    'gpu13: transfer failed, the command was not started: gpu13:22: connection refused',
    'gpu14: transfer failed, the command had ended with exit 0: gpu14:22: connection refused',
    'gpu06: timed out after 5s, ended',
    'gpu08: timed out after 5s, 1 process could not be ended',
    'gpu05: ended by SIGSEGV',
    'gpu04: exit 3',
    'gpu09: exit 10',
    'gpu10: cancelled: Ctrl-C',
    'gpu11: cancelled: Ctrl-C, it may run on: no connection',
    'gpu12: not started: gpu04 failed',
    '1 of 14 hosts done well, 12 failed, 1 not started',
  ]);
});

test('verbose gives every machine its reason', () => {
  const results = [
    hostResult('b', unreachable('b')),
    hostResult('a', unreachable('a')),
    hostResult('c', exit(1)),
    hostResult('d', exit(1)),
  ];
  expect(fanoutSummary(results, { verbose: true })).toEqual([
    'a,b: unreachable: connection refused',
    '  a: unreachable: a:22: connection refused',
    '  b: unreachable: b:22: connection refused',
    'c,d: exit 1',
    '0 of 4 hosts done well, 4 failed',
  ]);
});

test('nothing is said when all went well, and of one host no count', () => {
  expect(fanoutSummary([hostResult('a'), hostResult('b')])).toEqual([]);
  expect(fanoutSummary([hostResult('a', exit(2))])).toEqual(['a: exit 2']);
});

test("machines' text cannot reach into the terminal", () => {
  const lines = fanoutSummary([
    hostResult('a\x1b', { type: 'lost', reason: { brief: 'x', full: 'x\x1b\n' } }),
    hostResult('b', { type: 'signalled', signal: '\x07' }),
    hostResult('c', { type: 'cancelled', reason: '\x07', left: { unknown: '\x07' } }),
  ]);
  expect(lines.join('')).not.toMatch(/\p{Cc}/u);
});

test('a list of thousands of machines is cut', () => {
  const results = Array.from({ length: 3000 }, (_, i) => hostResult(`n${i * 7919}x${i * i}`, exit(1)));
  const [line = '', count] = fanoutSummary(results);
  expect(line).toMatch(/^n0x0,.{500,1000} and \d+ more: exit 1$/);
  const shown =
    line
      .split(': ')[0]
      ?.split(' and ')[0]
      ?.split(/,(?![^[]*\])/).length ?? 0;
  expect(line).toContain(` and ${3000 - shown} more`);
  expect(count).toBe('0 of 3000 hosts done well, 3000 failed');
});

const many = (count: number, outcome: HostOutcome) =>
  Array.from({ length: count }, (_, i) => hostResult(`h${i}`, outcome));

test.each<[string, HostOutcome[], number, number]>([
  ['all good', [good, good], 0, 0],
  ['exit codes', [exit(3), exit(7), good], 2, 7],
  ['none reached', [unreachable('a'), unreachable('b')], 255, 255],
  ['none reached, others not started', [unreachable('a'), notStarted], 255, 255],
  ['nothing ran', [notStarted, notStarted], 255, 255],
  ['some reached', [good, unreachable('a')], 1, 255],
  ['not started', [good, notStarted], 1, 0],
  ['signal', [{ type: 'signalled', signal: 'KILL' }], 1, 128 + constants.signals.SIGKILL],
  ['unknown signal', [{ type: 'signalled', signal: 'toString' }], 1, 255],
  ['timed out', [{ type: 'timed-out', limitMs: 1, left: 'nothing' }, exit(3)], 2, 124],
  ['cancelled', [{ type: 'cancelled', reason: 'x', left: 'nothing' }, exit(3)], 2, 130],
  ['lost', [{ type: 'lost', reason: reason('a') }, exit(3)], 2, 255],
  ['not transferred', [{ type: 'transfer-failed', stage: 'send', reason: reason('a') }], 1, 255],
])('exit code: %s', (_, outcomes, counted, largest) => {
  const results = outcomes.map((outcome, i) => hostResult(`h${i}`, outcome));
  expect(exitCodeOfHosts(results, { largest: false })).toBe(counted);
  expect(exitCodeOfHosts(results, { largest: true })).toBe(largest);
});

test('more than 100 are 101', () => {
  expect(exitCodeOfHosts(many(100, exit(1)), { largest: false })).toBe(100);
  expect(exitCodeOfHosts(many(101, exit(1)), { largest: false })).toBe(101);
  expect(exitCodeOfHosts(many(500, exit(1)), { largest: false })).toBe(101);
});
