import { execFileSync } from 'node:child_process';
import { expect, test } from 'vitest';
import { comeBackCommand } from '../../src/cli/come-back.ts';

const plain = (...argv: string[]) => comeBackCommand(argv, '/usr/bin/execute_batch', {});

test('it is the command as it was given, without what asks for something else than a run', () => {
  expect(plain('b.sh', '--machines', 'a.yaml', 'ben@host:22', '--leave')).toBe(
    'execute_batch b.sh --machines a.yaml ben@host:22',
  );
  expect(plain('b.sh', '--cancel', '--status=true', '--results=out')).toBe(
    'execute_batch b.sh --results=out',
  );
});

test('it begins with what the command was probably called by', () => {
  expect(comeBackCommand(['b.sh'], '/p/node_modules/.bin/execute_batch', { npm_command: 'exec' })).toBe(
    'npx execute_batch b.sh',
  );
  expect(comeBackCommand(['b.sh'], '/my clone/dist/cli/execute-batch.js', {})).toBe(
    "node '/my clone/dist/cli/execute-batch.js' b.sh",
  );
});

test('bash reads every word back as it was', () => {
  const words = [
    'a b',
    "it's",
    '',
    '~',
    '~/x',
    '$HOME',
    '*.sh',
    'x;y',
    '\\',
    "tab\t'new\nline\x1b[2J",
    '数据',
    '-x=1',
    '!',
  ];
  const command = comeBackCommand(words, '/usr/bin/printf', {}).replace(/^printf /, "printf '%s\\0' ");
  const read = execFileSync('bash', ['-c', command], { env: { ...process.env, LC_ALL: 'C.UTF-8' } });
  expect(read.toString().split('\0').slice(0, -1)).toEqual(words);
  expect(command).not.toMatch(/\p{Cc}/u);
});
