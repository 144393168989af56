import { expect, test } from 'vitest';
import { notesText } from '../../src/lib/files/source-notes.ts';
import type { LeftBehindReason } from '../../src/lib/files/source-part.ts';

const NOTHING = { leftBehind: [], secrets: [], linksOut: [] };
const left = (reason: LeftBehindReason, ...paths: string[]) => paths.map((path) => ({ path, reason }));
const numbered = (count: number) => Array.from({ length: count }, (_, i) => `name${i}`);

test('says in a line what stays behind and how to send it', () => {
  const leftBehind = [
    ...left('jobignore', ...numbered(5)),
    ...left('machine-file', 'm.yaml'),
    ...left('pycache', ...numbered(12)),
    ...left('virtual-environment', '.venv'),
    ...left('results', 'job_results'),
    ...left('key', 'keys/id'),
    ...left('git', '.git'),
  ];
  expect(notesText({ ...NOTHING, leftBehind })).toEqual([
    'not sent: .git, job_results, .venv (Python virtual environment), 12 __pycache__ folders, m.yaml (machine file), ' +
      'keys/id (key of a machine), 5 paths by .jobignore (--copy-forwards . PATH... sends such paths too)',
  ]);
  expect(notesText({ ...NOTHING, leftBehind: left('pycache', 'a/__pycache__') })[0]).toMatch(
    /^not sent: a\/__py/,
  );
  expect(notesText({ ...NOTHING, leftBehind: left('jobignore', 'a', 'b') })[0]).toMatch(
    /^not sent: a \(by \.jobignore\), b \(by \.jobignore\)$/,
  );
});

test('warns of secrets and of links that point out, and says nothing about nothing', () => {
  expect(notesText(NOTHING)).toEqual([]);
  expect(
    notesText({ ...NOTHING, secrets: ['.env', 'keys/id_rsa'], linksOut: [{ path: 'a', target: '/etc' }] }),
  ).toEqual([
    'warning: sends files that look like secrets: .env, keys/id_rsa',
    'warning: links that point out of what is sent are sent as links: a -> /etc',
  ]);
});

test('lines are bounded, and names cannot move the cursor', () => {
  const long = 'x'.repeat(5000);
  const nasty = ['\x1b[2J', 'a\nb', '\u202egpj.exe', long, ...numbered(1000)];
  const lines = notesText({
    leftBehind: (
      ['git', 'results', 'virtual-environment', 'machine-file', 'key', 'jobignore', 'pycache'] as const
    ).flatMap((reason) => left(reason, ...nasty.slice(1, 4))),
    secrets: nasty,
    linksOut: nasty.map((path) => ({ path, target: long })),
  });
  expect(lines).toHaveLength(3);
  for (const line of lines) {
    expect(line.length).toBeLessThan(2000);
    expect(line).not.toMatch(/[\p{Cc}\u202e]/u);
  }
  expect(lines[1]).toMatch(/\\x1b\[2J, a\\nb, .* and 999 more$/);
});
