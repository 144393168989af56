/** The last line of what is printed: real files, as jobs leave them. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { lastLine } from '../../src/lib/util/last-line.ts';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'last-line-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

/** A file that was written so many seconds after the first of the test. */
function file(name: string, content: string | Buffer, second = 0): string {
  const path = join(folder, name);
  writeFileSync(path, content);
  utimesSync(path, 1000 + second, 1000 + second);
  return path;
}

test.each<[string, string | Buffer, string | undefined]>([
  ['the last of several', 'a\nb\n', 'b'],
  ['one without an end', 'a\nbc', 'bc'],
  ['blank ones are passed by', 'a\n \t\n\n', 'a'],
  ['lines of Windows', 'a\r\nb\r\n', 'b'],
  ['a progress bar as it stands', 'start\n10%\r50%\r 90%', ' 90%'],
  ['one that returns at its end', 'start\n10%\r50%\r', '50%'],
  ['nothing but blanks', ' \n\n', undefined],
  ['nothing', '', undefined],
  ['500 characters, whole ones', `${'😀'.repeat(600)}\n`, '😀'.repeat(500)],
  ['a character that is there in part', Buffer.from('caf\u00e9').subarray(0, 4), 'caf'],
  ['a last line longer than what is read', `x\n${'y'.repeat(9000)}`, 'y'.repeat(500)],
  ['a character cut by where the reading begins', Buffer.from(`€${'z'.repeat(4094)}`), 'z'.repeat(500)],
])('%s', async (_, content, expected) => {
  expect(await lastLine([file('out', content)])).toBe(expected);
});

test('of two files, the one that changed last counts, unless it has no line', async () => {
  const out = file('out', 'from out\n', 1);
  expect(await lastLine([out, file('err', 'from err\n', 2)])).toBe('from err');
  expect(await lastLine([out, file('err', 'from err\n', 0)])).toBe('from out');
  expect(await lastLine([out, file('err', '\n\n', 2)])).toBe('from out');
});

test('pipes, devices, folders and what is not there are passed by, and nobody waits', async () => {
  const pipe = join(folder, 'pipe');
  expect(spawnSync('mkfifo', [pipe]).status).toBe(0);
  symlinkSync(pipe, join(folder, 'link'));
  for (const path of [pipe, join(folder, 'link'), '/dev/zero', folder, join(folder, 'none')])
    expect(await lastLine([path])).toBeUndefined();
  expect(await lastLine([pipe, file('out', 'here\n')])).toBe('here');
  expect(await lastLine([])).toBeUndefined();
});
