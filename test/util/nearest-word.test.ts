import { expect, test } from 'vitest';
import { nearestWord } from '../../src/lib/util/nearest-word.ts';

const keys = ['ssh_key_path', 'username', 'port', 'host', 'max_jobs', 'start_spacing'];

test.each([
  ['usernmae', 'username'],
  ['user-name', 'username'],
  ['SSH Key Path', 'ssh_key_path'],
  ['prot', 'port'],
  ['hots', 'host'],
  ['maxjobs', 'max_jobs'],
  ['key', 'ssh_key_path'],
  ['spacing', 'start_spacing'],
  ['colour', undefined],
  ['x', undefined],
  ['', undefined],
])('%j is meant to be %j', (word, expected) => {
  expect(nearestWord(word, keys)).toBe(expected);
});
