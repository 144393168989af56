import fc from 'fast-check';
import { expect, test } from 'vitest';
import { shellQuote } from '../../src/lib/util/shell-quote.ts';
import { runOrThrow } from '../rig/command.ts';

const NASTY = [
  '',
  ' ',
  "'",
  "''",
  '"',
  '\\',
  "\\'",
  '$HOME',
  '`id`',
  '-n',
  '\n',
  'a\nb\n',
  '!',
  '*',
  '~',
  '#',
  'é 世 🚀',
  '\u0001',
  '%s',
];

test.each(['bash', 'dash'])('%s reads a quoted text back as one word', async (shell) => {
  const random = fc.sample(fc.string({ unit: 'grapheme', maxLength: 30 }), { numRuns: 150, seed: 7 });
  const texts = [...NASTY, ...random].map((text) => text.replaceAll('\0', ''));
  const script = `for text in ${texts.map(shellQuote).join(' ')}; do printf '%s\\0' "$text"; done`;
  expect((await runOrThrow(shell, ['-c', script])).split('\0')).toEqual([...texts, '']);
});
