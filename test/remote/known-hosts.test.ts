import { mkdir, readFile, stat, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import {
  addKnownHost,
  keyFingerprint,
  knownHostLine,
  knownHostName,
  meansHost,
  parseKnownHosts,
  publicKeyType,
  readKnownHosts,
} from '../../src/lib/remote/known-hosts.ts';
import { runCommand, runOrThrow } from '../rig/command.ts';
import { scratch } from './run-over.ts';

async function newKey(
  folder: string,
  type = 'ed25519',
): Promise<{ readonly line: string; readonly key: Buffer }> {
  const path = join(folder, `key-${type}-${Math.random()}`);
  await runOrThrow('ssh-keygen', ['-q', '-t', type, '-N', '', '-f', path]);
  const line = (await readFile(`${path}.pub`, 'utf8')).split(' ').slice(0, 2).join(' ');
  return { line, key: Buffer.from(line.split(' ')[1] ?? '', 'base64') };
}

test('reads names, markers, comments and line numbers, and skips what is no key', async () => {
  await using folder = await scratch();
  const { line, key } = await newKey(folder.path);
  const text = [
    '# comment',
    '',
    `host,10.0.0.1 ${line} a comment`,
    `@revoked bad ${line}`,
    `@cert-authority *.lab ${line}`,
    `@unknown x ${line}`,
    'half a-line',
    'host ssh-rsa AAAA',
    `host ssh-rsa ${line.split(' ')[1]}`,
    `  spaced\t${line.replace(' ', '\t')}\r`,
  ].join('\n');
  const found = parseKnownHosts(text, 'f');
  expect(found.map(({ line: at, marker, names }) => [at, marker, names])).toEqual([
    [3, 'none', 'host,10.0.0.1'],
    [4, 'revoked', 'bad'],
    [5, 'cert-authority', '*.lab'],
    [10, 'none', 'spaced'],
  ]);
  expect(found[0]?.key.equals(key)).toBe(true);
  expect(publicKeyType(key)).toBe('ssh-ed25519');
  expect(publicKeyType(Buffer.from([0, 0, 0, 9]))).toBe('');
});

test('names match as sshd(8) says: lists, wildcards, negation, ports, case', () => {
  expect(knownHostName('Host.Lab', 22)).toBe('host.lab');
  expect(knownHostName('::1', 2222)).toBe('[::1]:2222');
  expect(meansHost('a,B,c', 'b')).toBe(true);
  expect(meansHost('*.lab', 'gpu1.lab')).toBe(true);
  expect(meansHost('*.lab,!gpu1.lab', 'gpu1.lab')).toBe(false);
  expect(meansHost('!gpu1.lab', 'gpu2.lab')).toBe(false);
  expect(meansHost('gpu?', 'gpu12')).toBe(false);
  expect(meansHost('gpu??', 'gpu12')).toBe(true);
  expect(meansHost('host', '[host]:2222')).toBe(false);
  expect(meansHost('[host]:*', '[host]:2222')).toBe(true);
  expect(meansHost('[', 'x')).toBe(false);
  expect(meansHost(`${'*a'.repeat(40)}b`, 'a'.repeat(200))).toBe(false); // and at once
  expect(meansHost('|1|bad', 'host')).toBe(false);
});

test('names hashed by ssh-keygen are found, and ssh-keygen finds ours', async () => {
  await using folder = await scratch();
  const { line, key } = await newKey(folder.path);
  const theirs = await folder.write('theirs', `gpu1 ${line}\n[gpu2]:2222 ${line}\n`);
  await runOrThrow('ssh-keygen', ['-q', '-H', '-f', theirs]);
  const read = await readKnownHosts([join(folder.path, 'missing'), theirs]);
  expect(read.every(({ names }) => names.startsWith('|1|'))).toBe(true);
  expect(read.filter(({ names }) => meansHost(names, 'gpu1')).map((host) => host.line)).toEqual([1]);
  expect(read.filter(({ names }) => meansHost(names, '[gpu2]:2222')).map((host) => host.line)).toEqual([2]);
  const ours = await folder.write(
    'ours',
    `${knownHostLine('gpu3', key, true)}\n${knownHostLine('[gpu4]:77', key, false)}\n`,
  );
  expect((await runCommand('ssh-keygen', ['-F', 'gpu3', '-f', ours])).stdout).toContain('found: line 1');
  expect((await runCommand('ssh-keygen', ['-F', '[gpu4]:77', '-f', ours])).stdout).toContain('found: line 2');
});

test('fingerprints are those of ssh-keygen', async () => {
  await using folder = await scratch();
  for (const type of ['ed25519', 'ecdsa', 'rsa']) {
    const { line, key } = await newKey(folder.path, type);
    const file = await folder.write(`${type}.pub`, `${line}\n`);
    expect(await runOrThrow('ssh-keygen', ['-l', '-f', file])).toContain(keyFingerprint(key));
  }
});

test('a key is added once, by however many at a time, on a line of its own', async () => {
  await using folder = await scratch();
  const { line, key } = await newKey(folder.path);
  const file = join(folder.path, 'new', '.ssh', 'known_hosts');
  await Promise.all(Array.from({ length: 12 }, () => addKnownHost(file, 'gpu1', key, true)));
  expect((await readKnownHosts([file])).map(({ names }) => meansHost(names, 'gpu1'))).toEqual([true]);
  expect((await stat(file)).mode & 0o777).toBe(0o600);
  expect((await stat(join(folder.path, 'new', '.ssh'))).mode & 0o777).toBe(0o700);
  const noNewline = await folder.write('no-newline', `other ${line}`);
  await addKnownHost(noNewline, 'gpu1', key, false);
  expect(await readFile(noNewline, 'utf8')).toBe(`other ${line}\ngpu1 ${line}\n`);
});

test('the lock of a process that died is taken over, that of a living one is waited for', async () => {
  await using folder = await scratch();
  const { key } = await newKey(folder.path);
  const file = join(folder.path, 'known_hosts');
  await writeFile(`${file}.lock`, '');
  const before = new Date(Date.now() - 60_000);
  await utimes(`${file}.lock`, before, before);
  await addKnownHost(file, 'gpu1', key, false);
  expect(await readKnownHosts([file])).toHaveLength(1);
  await expect(stat(`${file}.lock`)).rejects.toThrow('ENOENT');
});

test('a file that cannot be written is the caller\u2019s error', async () => {
  await using folder = await scratch();
  const { key } = await newKey(folder.path);
  await mkdir(join(folder.path, 'known_hosts'));
  await expect(addKnownHost(join(folder.path, 'known_hosts'), 'gpu1', key, false)).rejects.toThrow('EISDIR');
});
