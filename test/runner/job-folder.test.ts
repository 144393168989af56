import fc from 'fast-check';
import { expect, test } from 'vitest';
import { jobFolder, machineKey } from '../../src/lib/runner/job-folder.ts';

test('plain names stay, all else is encoded', () => {
  expect(jobFolder('job_1.run-2')).toBe('job_1.run-2');
  expect(jobFolder('a b/é')).toBe('a%20b%2f%c3%a9');
  expect(jobFolder('-rf')).toBe('%2drf');
  expect(jobFolder('..')).toBe('%2e.');
  expect(jobFolder('100%')).toBe('100%25');
});

test('any two names have two folders, which need no quoting and are no special ones', () => {
  const name = fc.string({ unit: 'grapheme', minLength: 1, maxLength: 400 });
  fc.assert(
    fc.property(name, name, (one, other) => {
      const folder = jobFolder(one);
      expect(folder).toMatch(/^[A-Za-z0-9_%][A-Za-z0-9._%-]*$/);
      expect(folder.length).toBeLessThanOrEqual(180);
      const isSame = Buffer.from(one).equals(Buffer.from(other));
      expect(folder === jobFolder(other)).toBe(isSame);
    }),
  );
  expect(jobFolder('x'.repeat(300))).not.toBe(jobFolder(`${'x'.repeat(299)}y`));
});

test('a machine has a short key, always the same', () => {
  expect(machineKey('machine-id abc')).toMatch(/^[0-9a-f]{16}$/);
  expect(machineKey('a')).toBe(machineKey('a'));
  expect(machineKey('a')).not.toBe(machineKey('b'));
});
