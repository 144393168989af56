import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { HostLines } from '../../../../src/cli/report/fanout/host-lines.ts';
import { LINE_LIMIT_BYTES } from '../../../../src/cli/report/fanout/line-writer.ts';
import { machineName } from '../../../../src/lib/domain/machine.ts';
import { keptOuts } from './kept-out.ts';

const gpu1 = machineName('gpu1');
const gpu2 = machineName('gpu2');

/** What reaches stdout of these chunks of one machine. */
function shown(chunks: readonly (string | Buffer)[], isTTY = false): string {
  const outs = keptOuts(isTTY);
  const lines = new HostLines(outs);
  for (const chunk of chunks) lines.write(gpu1, 'out', Buffer.from(chunk as string));
  lines.end(gpu1);
  return outs.out.text;
}

/** The bytes cut at any places. */
function cut(bytes: Buffer, places: readonly number[]): Buffer[] {
  const ends = [...new Set(places.map((place) => place % (bytes.length + 1)))].sort((a, b) => a - b);
  return [...ends, bytes.length].map((end, i) => bytes.subarray(ends[i - 1] ?? 0, end));
}

const line = fc.oneof(
  fc.string({ maxLength: 20, unit: 'grapheme' }).map((text) => Buffer.from(text)),
  fc.uint8Array({ maxLength: 20 }).map((bytes) => Buffer.from(bytes)),
);
const plainLine = line.map((bytes) => Buffer.from(bytes.filter((byte) => byte !== 0x0a && byte !== 0x0d)));
const host = fc.record({
  lines: fc.array(plainLine, { maxLength: 12 }),
  isLastWhole: fc.boolean(),
  places: fc.array(fc.nat({ max: 400 }), { maxLength: 12 }),
});

test.each([false, true])(
  'however chunks are cut and mixed, lines come whole, in order, with their host (terminal: %s)',
  (isTTY) => {
    fc.assert(
      fc.property(
        fc.array(host, { minLength: 1, maxLength: 4 }),
        fc.array(fc.nat(), { maxLength: 60 }),
        (hosts, turns) => {
          const outs = keptOuts(isTTY);
          const lines = new HostLines(outs);
          const queues = hosts.map(({ lines: texts, isLastWhole, places }) => {
            const bytes = Buffer.concat(texts.flatMap((text) => [text, Buffer.from('\n')]));
            return cut(isLastWhole ? bytes : bytes.subarray(0, -1), places);
          });
          for (const turn of [...turns, ...queues.flatMap((queue, i) => queue.map(() => i))]) {
            const i = turn % queues.length;
            const chunk = queues[i]?.shift();
            if (chunk !== undefined) lines.write(machineName(`h${i}`), 'out', chunk);
          }
          hosts.forEach((_, i) => {
            lines.end(machineName(`h${i}`));
          });
          const printed = outs.out.bytes.toString('latin1').split('\n');
          expect(printed.pop()).toBe('');
          hosts.forEach(({ lines: texts, isLastWhole }, i) => {
            // A last line that is empty and has no newline is no line.
            const isMissing = !isLastWhole && texts.at(-1)?.length === 0;
            const expected = (isMissing ? texts.slice(0, -1) : texts).map((text) => text.toString('latin1'));
            const found = printed.filter((text) => text.startsWith(`h${i}: `)).map((text) => text.slice(4));
            if (isTTY) expect(found.length).toBe(expected.length);
            else expect(found).toEqual(expected);
          });
          for (const text of printed) expect(text).toMatch(/^h[0-3]: /);
          if (isTTY) expect(outs.out.text).not.toMatch(/(?!\n)\p{Cc}/u);
        },
      ),
      { numRuns: 300 },
    );
  },
);

test('progress bars leave what a terminal would show, wherever they are cut', () => {
  const bar = fc.array(fc.stringMatching(/^[a-z]{1,4}$/), { minLength: 1, maxLength: 5 });
  fc.assert(
    fc.property(
      fc.array(fc.tuple(bar, fc.nat({ max: 2 })), { minLength: 1, maxLength: 5 }),
      fc.array(fc.nat({ max: 200 }), { maxLength: 12 }),
      fc.boolean(),
      (bars, places, isTTY) => {
        const sent = bars
          .map(([states, returns]) => `${states.join('\r')}${'\r'.repeat(returns)}\n`)
          .join('');
        const expected = bars
          .map(([states, returns]) => `gpu1: ${states.at(-1)}${isTTY ? '' : '\r'.repeat(returns)}\n`)
          .join('');
        expect(shown(cut(Buffer.from(sent), places), isTTY)).toBe(expected);
      },
    ),
    { numRuns: 300 },
  );
});

test('each stream goes to its own place, and one chunk is one write', () => {
  const outs = keptOuts();
  const lines = new HostLines(outs);
  lines.write(gpu1, 'out', Buffer.from('a\nb\nhal'));
  lines.write(gpu1, 'err', Buffer.from('oops\n'));
  lines.write(gpu2, 'out', Buffer.from('c\n'));
  lines.write(gpu1, 'out', Buffer.from('f\nd\n'));
  lines.end(gpu1);
  lines.write(gpu1, 'out', Buffer.from('again'));
  lines.end(gpu1);
  expect(outs.said).toEqual([
    'out gpu1: a\ngpu1: b\n',
    'err gpu1: oops\n',
    'out gpu2: c\n',
    'out gpu1: half\ngpu1: d\n',
    'out gpu1: again\n',
  ]);
});

describe('on a terminal', () => {
  test('control characters are written as escapes, in the name too', () => {
    const outs = keptOuts(true);
    const lines = new HostLines(outs);
    lines.write(machineName('gpu\x1b'), 'out', Buffer.from('\x1b[31mred\x07\u009b\n'));
    expect(outs.out.writes).toEqual(['gpu\\x1b: \\x1b[31mred\\x07\\x9b\n']);
  });

  test('tabs reach the columns that they reach without a prefix', () => {
    expect(shown(['a\tbc\t日\td\n\t\n'], true)).toBe('gpu1: a       bc      日      d\ngpu1:         \n');
    expect(shown(['a\tb\n'])).toBe('gpu1: a\tb\n');
  });

  test('bytes that are no UTF-8 are replaced', () => {
    expect(shown([Buffer.from([0x61, 0xff, 0x62, 0x0a])], true)).toBe('gpu1: a\ufffdb\n');
  });
});

test.each([
  ['many states in a chunk', `${'#'.repeat(50)} 10%\r`.repeat(500)],
  ['a chunk for each state, its return at the end', `${'#'.repeat(10_000)} 10%\r`],
  ['a chunk for each state, its return in front', `\r${'#'.repeat(10_000)} 10%`],
])('what a progress bar overwrites is dropped at once: %s', (_, chunk) => {
  const outs = keptOuts();
  const lines = new HostLines(outs);
  for (let i = 0; i < 200; i++) lines.write(gpu1, 'out', Buffer.from(chunk)); // far more than a line may be long
  expect(outs.out.bytes.length).toBe(0);
  lines.write(gpu1, 'out', Buffer.from('\rdone\n'));
  expect(outs.out.text).toBe('gpu1: done\n');
});

test.each([
  ['in one chunk', 1_000_000],
  ['byte by byte', 1],
  ['in chunks that end within characters', 1000],
])('a line without an end is cut into lines that hold whole characters: %s', (_, step) => {
  const text = 'xx日'.repeat(40_000); // 200 kB
  const bytes = Buffer.from(text);
  const chunks: Buffer[] = [];
  for (let at = 0; at < bytes.length; at += step) chunks.push(bytes.subarray(at, at + step));
  for (const isTTY of [true, false]) {
    const lines = shown(chunks, isTTY).trimEnd().split('\n');
    expect(lines.length).toBe(4);
    expect(lines.map((line) => line.replace(/^gpu1: /, '')).join('')).toBe(text);
    for (const line of lines) expect(Buffer.byteLength(line)).toBeLessThanOrEqual(LINE_LIMIT_BYTES + 6);
  }
  expect(
    shown([...chunks, 'end\nnext\n'])
      .split('\n')
      .slice(-3),
  ).toEqual([expect.stringMatching(/^gpu1: .*end$/), 'gpu1: next', '']);
});

test('a line of just the longest length stays whole', () => {
  const text = 'x'.repeat(LINE_LIMIT_BYTES);
  expect(shown([`${text}\n`])).toBe(`gpu1: ${text}\n`);
  expect(shown([text, '\n'])).toBe(`gpu1: ${text}\n`);
  expect(shown([text, 'y\n'])).toBe(`gpu1: ${text}\ngpu1: y\n`);
});

test('without names lines come bare', () => {
  const outs = keptOuts();
  const lines = new HostLines(outs, { names: false });
  lines.write(gpu1, 'out', Buffer.from('a\nb'));
  lines.write(gpu2, 'err', Buffer.from('\nc\n'));
  lines.end(gpu1);
  expect(outs.said).toEqual(['out a\n', 'err \nc\n', 'out b\n']);
});
