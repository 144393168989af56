import { generateKeyPairSync } from 'node:crypto';
import { expect, test } from 'vitest';
import { isSecretName, keysNamedIn, lookAt } from '../../src/lib/files/content-look.ts';

const look = (text: string, path = '/p/file') => lookAt(path, Buffer.from(text), true);

test('private keys of all kinds are secrets, public ones are not', async () => {
  const { privateKey, publicKey } = generateKeyPairSync('rsa', { modulusLength: 1024 });
  for (const type of ['pkcs1', 'pkcs8'] as const)
    expect(await look(String(privateKey.export({ type, format: 'pem' })))).toBe('secret');
  for (const kind of ['OPENSSH', 'EC', 'ENCRYPTED', 'DSA'])
    expect(await look(`-----BEGIN ${kind} PRIVATE KEY-----\n`)).toBe('secret');
  expect(await look('-----BEGIN PGP PRIVATE KEY BLOCK-----\n')).toBe('secret');
  expect(await look('\n-----BEGIN PRIVATE KEY-----\n')).toBe('secret');
  expect(await look('PuTTY-User-Key-File-3: ssh-ed25519\n')).toBe('secret');
  expect(await look(String(publicKey.export({ type: 'spki', format: 'pem' })))).toBe('plain');
  expect(await look('-----BEGIN CERTIFICATE-----\n')).toBe('plain');
  expect(await look("key = '-----BEGIN PRIVATE KEY-----'\n")).toBe('plain');
  expect(await look('')).toBe('plain');
});

test.each([
  ['of the guide', 'ip: 192.0.2.1\nusername: me\nssh_key_path: ~/.ssh/none\n'],
  ['with host and jump', 'host: gpu1\nusername: me\nproxy_jump: gate\n'],
  ['with a password', 'ip: gpu1\npassword: geheim\n'],
  ['a list', '- ip: a\n  username: u\n- ip: b\n  username: u\n'],
  ['named blocks', 'machines:\n  one:\n    host: a\n    ssh_key_path: ./none\n'],
  ['in braces', '{"ip": "a", "username": "u"}\n'],
])('a machine file %s is seen', async (_name, text) => {
  expect(await look(text, '/p/any.yaml')).toBe('machine-file');
  expect(await look(text, '/p/any.yml')).toBe('machine-file');
  expect(await look(text, '/p/any.txt')).toBe('plain');
  expect(await lookAt('/p/any.yaml', Buffer.from(text), false)).toBe('plain');
});

test.each([
  ['the settings of a database', 'host: db\nport: 5432\nusername: app\npassword: x\ndatabase: d\n', 'plain'],
  ['the same without a database', 'host: db\nport: 5432\nusername: app\npassword: x\n', 'secret'],
  ['a host and a user', 'host: db\nusername: app\n', 'plain'],
  ['a section', 'server:\n  ip: 192.0.2.1\n  username: me\n', 'plain'],
  ['hyperparameters', 'lr: 0.1\nhost: x\nip: y\nusername: z\n', 'plain'],
  ['no YAML', 'ip: [\nusername: {\n', 'plain'],
  ['an ip alone', 'ip: 192.0.2.1\n', 'plain'],
  ['a NUL', 'ip: a\nusername: u\0\n', 'plain'],
] as const)('%s is no machine file', async (_name, text, expected) => {
  expect(await look(text, '/p/any.yaml')).toBe(expected);
});

test('keys are found as the reader of machine files finds them', () => {
  const text = `- {ip: a, ssh_key_path: one, username: u}
- ssh_key_path: "keys/two of them"  # comment
- ssh_key_path: '~/three'
- "ssh_key_path" : /abs/four # comment
# nothing: here`;
  expect(keysNamedIn(text, '/p/sub/m.yaml', '/home/me')).toEqual([
    ...['/p/sub/one', '/p/sub/keys/two of them', '/home/me/three', '/abs/four'],
  ]);
});

test('names of secrets, and of examples', () => {
  const names = ['.env', '.env.local', '.env.production', '.netrc', '.pgpass'];
  expect(names.filter(isSecretName)).toEqual(names);
  const others = ['.env.example', '.env.sample', '.env.local.template', 'x.env', '.environment', '.envrc'];
  expect(others.filter(isSecretName)).toEqual([]);
});
