import { expect, test } from 'vitest';
import { cutToWidth, textWidth, visibleText } from '../../src/lib/util/terminal-text.ts';

test('control characters become visible, letters of any script stay', () => {
  expect(visibleText('a\tb\r\nc\x00\x1b[31m\x7f\x85\x9b')).toBe('a\\tb\\r\\nc\\x00\\x1b[31m\\x7f\\x85\\x9b');
  expect(visibleText('\u2028\u202e\u2066\u061c\ud800')).toBe('\\u2028\\u202e\\u2066\\u061c\\ud800');
  const letters = 'Größe 数据 データ 한국어 עברית हिन्दी 👩‍🔬 \\n "quotes"';
  expect(visibleText(letters)).toBe(letters);
});

test('wide characters take two columns, combining ones none', () => {
  expect(textWidth('plain')).toBe(5);
  expect(textWidth('数据')).toBe(4);
  expect(textWidth('ｆｕ한')).toBe(6);
  expect(textWidth('e\u0301é')).toBe(2);
  expect(textWidth('👩‍🔬!')).toBe(3);
  expect(textWidth('\u200b')).toBe(0);
});

test('text is cut between characters and never too wide', () => {
  expect(cutToWidth('exactly', 7)).toBe('exactly');
  expect(cutToWidth('exactly', 6)).toBe('exa...');
  expect(cutToWidth('数据数据', 7)).toBe('数据...');
  expect(cutToWidth('数据数据', 6)).toBe('数...');
  expect(cutToWidth('exactly', 2)).toBe('..');
  expect(cutToWidth('exactly', 0)).toBe('');
});
