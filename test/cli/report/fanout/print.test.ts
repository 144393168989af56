/** Folded output and differences, as people see them. */
import { expect, test } from 'vitest';
import { Gathered } from '../../../../src/cli/report/fanout/gathered.ts';
import { printDiff } from '../../../../src/cli/report/fanout/print-diff.ts';
import { printGathered } from '../../../../src/cli/report/fanout/print-gathered.ts';
import { machineName } from '../../../../src/lib/domain/machine.ts';
import type { HostOutcome } from '../../../../src/lib/fanout/host-result.ts';
import { hostResult, keptOuts } from './kept-out.ts';

type Said = readonly [names: string, out: string | Buffer, err?: string, outcome?: HostOutcome];

/** Each row is what some machines say. */
function gathered(...rows: readonly Said[]): Gathered {
  const all = new Gathered({ textMemoryBytes: 1000 });
  for (const [names, out, err = '', outcome] of rows)
    for (const name of names.split(' ')) {
      all.write(machineName(name), 'out', Buffer.from(out as string));
      all.write(machineName(name), 'err', Buffer.from(err));
      all.end(hostResult(name, outcome));
    }
  return all;
}

async function folded(
  rows: readonly Said[],
  isTTY = false,
): Promise<{ said: string[]; out: string; err: string }> {
  const outs = keptOuts(isTTY);
  using all = gathered(...rows);
  await printGathered(all.groups(), outs);
  return { said: outs.said, out: outs.out.text, err: outs.err.text };
}

async function diffs(
  rows: readonly Said[],
  isTTY = false,
): Promise<{ out: string; err: string; told: string[] }> {
  const outs = keptOuts(isTTY);
  const told: string[] = [];
  using all = gathered(...rows);
  await printDiff(all.groups(), outs, (message) => told.push(message));
  return { out: outs.out.text, err: outs.err.text, told };
}

const rule = '---------------';

test('each answer stands once under its machines, and errors after it with their machines', async () => {
  const { said, out, err } = await folded([
    ['gpu01 gpu02 gpu03', '2.6\n2.7\n', 'careful\nvery\n'],
    ['login', 'no newline'],
    ['gpu04', '', 'only errors'],
  ]);
  expect(out).toBe(`${rule}\ngpu[01-03] (3)\n${rule}\n2.6\n2.7\n${rule}\nlogin\n${rule}\nno newline\n`);
  expect(err).toBe('gpu[01-03]: careful\ngpu[01-03]: very\ngpu04: only errors\n');
  expect(said.map((text) => text.slice(0, 3))).toEqual(['out', 'out', 'err', 'err', 'out', 'out', 'out']);
});

test('a file gets every byte, a terminal lines it can show', async () => {
  const bytes = Buffer.concat([
    Buffer.from('1%\r2%\r\n\x1b[1m\0'),
    Buffer.from([0xff]),
    Buffer.alloc(100_000, 'x'),
  ]);
  const heading = `${rule}\na\n${rule}\n`;
  const outs = keptOuts();
  using all = gathered(['a', bytes]);
  await printGathered(all.groups(), outs);
  expect(outs.out.bytes.equals(Buffer.concat([Buffer.from(heading), bytes, Buffer.from('\n')]))).toBe(true);
  const { out } = await folded([['a', bytes]], true);
  expect(out.slice(0, heading.length + 40)).toBe(`${heading}2%\n\\x1b[1m\\x00\ufffd${'x'.repeat(25)}`);
  expect(out).not.toMatch(/(?!\n)\p{Cc}/u);
});

test('a long text is never whole in memory', async () => {
  const outs = keptOuts();
  using all = gathered(['a b', 'a line\n'.repeat(1_000_000)]);
  await printGathered(all.groups(), outs);
  expect(outs.out.bytes.length).toBe(`${rule}\na,b (2)\n${rule}\n`.length + 7_000_000);
  for (const data of outs.out.writes) expect(data.length).toBeLessThanOrEqual(256 * 1024);
});

test('a long list of machines does not hide the errors', async () => {
  const names = Array.from({ length: 200 }, (_, i) => `node${i * 7919}x${i * i}`).join(' ');
  const { err } = await folded([[names, '', 'broken\n']]);
  expect(err).toMatch(/^node.{10,60} and \d+ more: broken\n$/);
});

test('a difference is told against what most answer', async () => {
  const { out, err, told } = await diffs([
    ['gpu62', 'one\ntwo\nthree\n', 'odd\n'],
    ['gpu61 gpu60', 'one\nthree\n'],
    ['gpu01 gpu02 gpu03', 'one\ntwo\nthree\n'],
    ['gpu04', '', '', { type: 'unreachable', reason: { brief: 'x', full: 'x' } }],
    ['gpu05 gpu06 gpu07 gpu08 gpu09', 'one\n', '', { type: 'timed-out', limitMs: 1, left: 'nothing' }],
  ]);
  expect(out).toBe(
    '--- gpu[01-03,62] (4)\n+++ gpu[60-61] (2)\n@@ -1,3 +1,2 @@\n one\n-two\n three\n' +
      `${rule}\ngpu[05-09] (5)\n${rule}\none\n`,
  );
  expect(err).toBe('gpu62: odd\n');
  expect(told).toEqual([]);
});

test('empty answers, single lines and missing newlines have the heads that diff writes', async () => {
  const { out } = await diffs([
    ['a b c', 'x\n'],
    ['d', ''],
    ['e', 'x'],
  ]);
  expect(out).toBe(
    '--- a,b,c (3)\n+++ d\n@@ -1 +0,0 @@\n-x\n' +
      '--- a,b,c (3)\n+++ e\n@@ -1 +1 @@\n-x\n+x\n\\ No newline at end of file\n',
  );
});

test('what cannot be compared line by line is one line', async () => {
  const large = 'x\n'.repeat(600_000);
  const many = (text: string) => Array.from({ length: 5000 }, (_, i) => `${text}${i}\n`).join('');
  expect(
    (
      await diffs([
        ['a b', 'text\n'],
        ['c', 'te\0xt\n'],
        ['d', Buffer.from([0xff])],
        ['e', large],
      ])
    ).out,
  ).toBe(
    'c differs: binary (6 bytes; 5 expected)\nd differs: binary (1 byte; 5 expected)\n' +
      'e differs: longer than 1 MiB (1200000 bytes; 5 expected)\n',
  );
  expect(
    (
      await diffs([
        ['a b', large],
        ['c d', 'x\n'],
      ])
    ).out,
  ).toBe('c,d (2) differs: the most common one is longer than 1 MiB (2 bytes; 1200000 expected)\n');
  expect(
    (
      await diffs([
        ['a b', many('a')],
        ['c', many('b')],
      ])
    ).out,
  ).toMatch(/^c differs: more than 4000 lines differ \(28890 bytes; 28890/);
});

test('a terminal is shown what differs, but gets no control character', async () => {
  const { out } = await diffs(
    [
      ['a b', 'x\ty\n'],
      ['c', 'x\ty\r\x1b\n'],
    ],
    true,
  );
  expect(out).toBe('--- a,b (2)\n+++ c\n@@ -1 +1 @@\n-x\\ty\n+x\\ty\\r\\x1b\n');
});

test.each<[string, Said[], string[]]>([
  ['alike', [['a b c', 'x\n', 'y']], ['all 3 hosts answer alike']],
  [
    'alike where it ended',
    [
      ['a b', 'x\n'],
      ['c', '', '', { type: 'unreachable', reason: { brief: 'x', full: 'x' } }],
    ],
    ['all 2 hosts answer alike'],
  ],
  [
    'alike but for errors',
    [
      ['a b', 'x\n'],
      ['c', 'x\n', 'e\n', { type: 'exited', exitCode: 1 }],
    ],
    ['all 3 hosts print the same on stdout, but differ in exit code or on stderr'],
  ],
  ['one host', [['a', 'x\n']], ['one host answers: there is nothing to compare it with']],
  ['none', [['a', '', '', { type: 'not-started', reason: 'x' }]], []],
])('without a difference stdout stays empty: %s', async (_, rows, expected) => {
  const { out, told } = await diffs(rows);
  expect([out, told]).toEqual(['', expected]);
});

test('without names errors stand bare, and headings stay', async () => {
  const outs = keptOuts();
  using all = gathered(['a b', 'x\n', 'oops\n']);
  await printGathered(all.groups(), outs, { names: false });
  expect([outs.out.text, outs.err.text]).toEqual([`${rule}\na,b (2)\n${rule}\nx\n`, 'oops\n']);
});

test('the next piece waits until there is room', async () => {
  const outs = keptOuts();
  let release = () => {};
  const out = Object.assign(outs.out, {
    ready: () => new Promise<void>((resolve) => (release = resolve)),
  });
  using all = gathered(['a', 'a line\n'.repeat(100_000)]);
  const printing = printGathered(all.groups(), { ...outs, out });
  const writes = () => out.writes.length;
  expect(writes()).toBe(2); // the heading and one piece
  release();
  await new Promise((resolve) => setImmediate(resolve));
  expect(writes()).toBe(3);
  out.ready = async () => {};
  release();
  await printing;
  expect(out.bytes.length).toBe(`${rule}\na\n${rule}\n`.length + 700_000);
});
