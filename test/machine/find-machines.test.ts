import { mkdirSync, mkdtempSync, realpathSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { MachineConfigError, UsageError } from '../../src/lib/domain/errors.ts';
import { findMachines } from '../../src/lib/machine/find-machines.ts';
import { parseSshDestination } from '../../src/lib/machine/ssh-destination.ts';

let root: string;
let home: string;
let cwd: string;
beforeEach(() => {
  root = realpathSync(mkdtempSync(join(tmpdir(), 'find-machines-')));
  home = join(root, 'home');
  cwd = join(root, 'here');
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

function write(path: string, text = 'ip: 10.0.0.1\n'): string {
  mkdirSync(dirname(join(root, path)), { recursive: true });
  writeFileSync(join(root, path), text);
  return join(root, path);
}

const find = (...names: string[]) => findMachines(names, { cwd, home });
const pathsOf = async (...names: string[]) =>
  (await find(...names)).machines.map(({ config: { source } }) =>
    source.type === 'file' ? source.path : source.type,
  );

describe('where a name leads', () => {
  test('with a slash or ending in .yaml it is a file and nothing else', async () => {
    const lab = write('here/machines/lab.yaml');
    const plain = write('here/machines/plain');
    const mine = write('home/mine.yaml');
    expect(await pathsOf('machines/lab.yaml')).toEqual([lab]);
    expect(await pathsOf('./machines/plain')).toEqual([plain]);
    expect(await pathsOf(lab, '~/mine.yaml')).toEqual([lab, mine]);
    await expect(find('user@host/x')).rejects.toThrow(`found no file ${cwd}/user@host/x, expected`);
    await expect(find('nowhere.yaml')).rejects.toThrow(
      `found no file ${cwd}/nowhere.yaml or ${home}/.local/var/nowhere.yaml, expected`,
    );
    await expect(find('machines/')).rejects.toThrow(UsageError);
  });

  test('NAME.yaml here comes before ~/.local/var, there NAME.yaml before NAME', async () => {
    const third = write('home/.local/var/lab');
    expect(await pathsOf('lab')).toEqual([third]);
    const second = write('home/.local/var/lab.yaml');
    expect(await pathsOf('lab')).toEqual([second]);
    expect(await pathsOf('lab.yaml')).toEqual([second]);
    const first = write('here/lab.yaml');
    expect(await pathsOf('lab')).toEqual([first]);
    expect(await pathsOf('lab.yaml')).toEqual([first]);
  });

  test('a file named local.yaml hides the built-in machine', async () => {
    const { machines } = await find('local');
    expect(machines).toMatchObject([
      { kind: 'local', config: { name: 'local', source: { type: 'builtin' } } },
    ]);
    const file = write('here/local.yaml');
    expect(await pathsOf('local')).toEqual([file]);
  });

  test('all else is an ssh destination, which knows where a file was looked for', async () => {
    mkdirSync(join(root, 'here/gpu1.yaml'), { recursive: true }); // a folder is no machine file
    const { machines } = await find('gpu1', 'ssh://ann@gate:2200', 'ann@10.0.0.1:22');
    expect(machines).toMatchObject([
      {
        kind: 'ssh',
        config: {
          name: 'gpu1',
          host: 'gpu1',
          source: {
            searched: [`${cwd}/gpu1.yaml`, `${home}/.local/var/gpu1.yaml`, `${home}/.local/var/gpu1`],
          },
        },
      },
      { kind: 'ssh', config: { name: 'ssh://ann@gate:2200', host: 'gate', port: 2200, username: 'ann' } },
      { kind: 'ssh', config: { host: '10.0.0.1', port: 22, username: 'ann' } },
    ]);
    expect(machines[0]?.config).not.toHaveProperty('port');
  });

  test.each(['-oProxyCommand=reboot', 'a b', '', 'ann@', 'gpu1:99999', 'gpu\u001b[2J'])(
    '%j is nothing',
    async (name) => {
      await expect(find(name)).rejects.toThrow(/^found the machine ".*", expected a machine file/);
      await expect(find(name)).rejects.not.toThrow('\u001b');
    },
  );
});

describe('what is refused', () => {
  test('no names', async () => {
    await expect(find()).rejects.toThrow(UsageError);
  });

  test('two machines of one name, with both places', async () => {
    const one = write('here/a/lab.yaml', '\n\nip: x\n');
    const two = write('here/b/lab.yaml');
    await expect(find('a/lab.yaml', 'b/lab.yaml')).rejects.toThrow(
      `found two machines named "lab.yaml": ${one}:3 and ${two}:1; expected a name of its own`,
    );
    const named = write('here/c.yaml', 'ip: x\nname: gpu1\n');
    await expect(find('c', 'gpu1')).rejects.toThrow(`${named}:1 and --machines gpu1`);
    await expect(find('local', 'local')).rejects.toThrow('found two machines named "local"');
  });

  test('one file under two names', async () => {
    const file = write('here/lab.yaml');
    symlinkSync(file, join(cwd, 'other.yaml'));
    await expect(find('lab', 'other')).rejects.toThrow(`${cwd}/other.yaml twice, as lab and as other`);
  });

  test('a mistake in a file, a file that is no text, and a huge one', async () => {
    const bad = write('here/bad.yaml', 'ip: x\nport: many\n');
    await expect(find('bad')).rejects.toThrow(`${bad}:2:7: found "many" as port`);
    write('here/binary.yaml', 'ip\0');
    await expect(find('binary')).rejects.toThrow(MachineConfigError);
    write('here/huge.yaml', '#'.repeat(1024 * 1024 + 1));
    await expect(find('huge')).rejects.toThrow('no text of at most 1 MiB');
  });
});

test('machine files and keys are listed as sensitive, links resolved, and readable passwords are warned about', async () => {
  const key = write('home/.ssh/id_lab', 'key');
  symlinkSync(key, join(root, 'home/.ssh/link'));
  const file = write('here/lab.yaml', 'ip: x\nssh_key_path: ~/.ssh/link\npassword: hunter2\n');
  const { sensitivePaths, warnings } = await find('lab', 'local');
  expect([...sensitivePaths].sort()).toEqual([file, key, join(home, '.ssh/link')].sort());
  expect(warnings).toEqual([expect.stringContaining('run chmod 600')]);
});

test.each([
  ['gpu1', { host: 'gpu1' }],
  ['ann@corp@gpu1:22', { host: 'gpu1', port: 22, username: 'ann@corp' }],
  ['CORP\\ann@gpu1', { host: 'gpu1', username: 'CORP\\ann' }],
  ['[2001:db8::1]:2222', { host: '2001:db8::1', port: 2222 }],
  ['ssh://ann@[::1]/', { host: '::1', username: 'ann' }],
  ['2001:db8::1', { host: '2001:db8::1' }],
  ['fe80::1%eth0', { host: 'fe80::1%eth0' }],
  ['gpu1:0', undefined],
  ['gpu1:', undefined],
  ['-x@gpu1', undefined],
  ['a;b', undefined],
  ['ssh://a/b', undefined],
])('the destination %s', (text, expected) => {
  expect(parseSshDestination(text)).toEqual(expected);
});
