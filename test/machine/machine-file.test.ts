import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { inspect } from 'node:util';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { MachineConfigError } from '../../src/lib/domain/errors.ts';
import { Secret } from '../../src/lib/machine/config.ts';
import { parseMachineFile, warnOfReadableSecrets } from '../../src/lib/machine/machine-file.ts';

let home: string;
beforeAll(() => {
  home = mkdtempSync(join(tmpdir(), 'machine-file-'));
  mkdirSync(join(home, '.ssh'));
  for (const name of ['.ssh/id_lab', '.ssh/id_lab.pub', 'beside']) writeFileSync(join(home, name), 'key\n');
});
afterAll(() => rmSync(home, { recursive: true, force: true }));

const parse = (text: string) => parseMachineFile(text, join(home, 'lab.yaml'), { home });

const HOSTS =
  'hosts as in "gpu[01-12],login" or a list of such texts (what begins with ! or @ goes in quotes)';

function mistake(text: string): string {
  try {
    parse(text);
  } catch (error) {
    expect(error).toBeInstanceOf(MachineConfigError);
    return (error as Error).message.replace(`${home}/`, '');
  }
  throw new Error('no mistake was found');
}

describe('what a file can say', () => {
  test('the four lines that most people need', () => {
    const text = 'username: ben\nip: 105.29.123.241\nport: 22\nssh_key_path: ~/.ssh/id_lab # a comment\n';
    expect(parse(text)).toEqual({
      machines: [
        {
          name: 'lab.yaml',
          host: '105.29.123.241',
          port: 22,
          username: 'ben',
          sshKeyPath: join(home, '.ssh/id_lab'),
          env: {},
          startSpacingMs: 5,
          source: { type: 'file', path: join(home, 'lab.yaml'), line: 1 },
        },
      ],
      warnings: [],
    });
  });

  test('every key', () => {
    const [machine] = parse(`
machines:
  gpu-1:
    host: fe80::1%eth0
    name: titan
    port: 2222
    username: ann@corp
    ssh_key_path: beside
    proxy_jump: ann@gate:2200,inner
    host_key_checking: no
    setup: |
      source ~/conda.sh
      conda activate lab
    env: {LAB: 010, MODE: yes, SMALL: 1e3, NOTHING: , QUOTED: "a b"}
    max_jobs: 3
    gpus: [3, 1]
    remote_dir: ~/scratch dir
    start_spacing: 0
    password: hunter2
    passphrase: "12345"
`).machines;
    expect(machine).toMatchObject({
      name: 'titan',
      host: 'fe80::1%eth0',
      port: 2222,
      username: 'ann@corp',
      sshKeyPath: join(home, 'beside'),
      proxyJump: 'ann@gate:2200,inner',
      hostKeyChecking: 'no',
      setup: 'source ~/conda.sh\nconda activate lab\n',
      env: { LAB: '010', MODE: 'yes', SMALL: '1e3', NOTHING: '', QUOTED: 'a b' },
      maxJobs: 3,
      gpus: [1, 3],
      remoteDir: '~/scratch dir',
      startSpacingMs: 0,
    });
    expect(machine?.password?.reveal()).toBe('hunter2');
    expect(machine?.passphrase?.reveal()).toBe('12345');
    expect(machine?.source).toMatchObject({ line: 4 });
  });

  test('many machines as a map, as a list, and as a list under `machines:`', () => {
    const names = (text: string) => parse(text).machines.map(({ name }) => name);
    expect(names('machines:\n  a: {ip: 10.0.0.1}\n  b: {ip: 10.0.0.2}\n')).toEqual(['a', 'b']);
    expect(names('- ip: 10.0.0.1\n  name: a\n- ip: b.lab\n')).toEqual(['a', 'b.lab']);
    expect(names('machines:\n- {ip: 10.0.0.1}\n')).toEqual(['10.0.0.1']);
    expect(names('machines: {7: {ip: x}}')).toEqual(['7']);
  });

  test('groups beside `machines:`, or alone', () => {
    const text = `machines: {a: {ip: x}}
groups:
  some: a,gpu[01-12],!gpu07
  7:
    - gpu[1-2]
    - "@some"
  r1.x-y_z: &z [b]
  same: *z
`;
    const { machines, groups } = parse(text);
    expect(machines).toHaveLength(1);
    expect([...(groups ?? [])]).toEqual([
      ['some', { lists: ['a,gpu[01-12],!gpu07'], line: 3 }],
      ['7', { lists: ['gpu[1-2]', '@some'], line: 4 }],
      ['r1.x-y_z', { lists: ['b'], line: 7 }],
      ['same', { lists: ['b'], line: 8 }],
    ]);
    expect(parse('groups: {a: b}')).toMatchObject({ machines: [], warnings: [] });
    expect(parse('machines: {a: {ip: x}}')).not.toHaveProperty('groups');
  });

  test('YAML anchors, a single GPU, a BOM and CRLF', () => {
    expect(
      parse('machines:\n  a: &a {ip: x, gpus: 2, env: &e {A: 1}}\n  b: {ip: y, env: *e}').machines,
    ).toMatchObject([{ gpus: [2] }, { env: { A: '1' } }]);
    expect(parse('\ufeffip: x\r\nport: 5\r\n').machines[0]).toMatchObject({ host: 'x', port: 5 });
  });

  test('a variable that each job gets anew is warned about', () => {
    expect(parse('ip: x\nenv: {CUDA_VISIBLE_DEVICES: 0}').warnings).toEqual([
      expect.stringContaining('CUDA_VISIBLE_DEVICES in env has no effect'),
    ]);
  });
});

describe('mistakes', () => {
  test.each([
    [
      'ip: 10.1',
      'lab.yaml:1:5: found the number 10.1 as ip, expected an address, a host name or an alias of your ssh configuration (a number goes in quotes)',
    ],
    ['ip: x\nport: "22"', 'lab.yaml:2:7: found "22" as port, expected a whole number from 1 to 65535'],
    ['ip: x\nport: 0', 'lab.yaml:2:7: found the number 0 as port, expected a whole number from 1 to 65535'],
    ['ip: x\nport:', 'lab.yaml:2:6: found nothing as port, expected a whole number from 1 to 65535'],
    [
      'ip: x\nuser_name: ben',
      'lab.yaml:2:1: found the unknown key `user_name`, expected `username`, if that is what is meant',
    ],
    [
      'ip: x\nkey: a',
      'lab.yaml:2:1: found the unknown key `key`, expected `ssh_key_path`, if that is what is meant',
    ],
    [
      'machnes:\n  a: {ip: x}',
      'lab.yaml:1:1: found the unknown key `machnes`, expected `machines`, if that is what is meant',
    ],
    [
      'machines: {a: {ip: x}}\nport: 22',
      'lab.yaml:2:1: found the unknown key `port`, expected one of machines, groups',
    ],
    [
      'username: ben',
      'lab.yaml:1:1: found a machine without `ip`, expected `ip:` with an address, a host name or an alias of your ssh configuration',
    ],
    ['ip: x\nhost: y', 'lab.yaml:2:7: found "y" as host, expected either `ip` or `host`: they mean the same'],
    [
      'ip: "-oProxyCommand=x"',
      'lab.yaml:1:5: found "-oProxyCommand=x" as ip, expected an address, a host name or an alias of your ssh configuration',
    ],
    [
      'ip: x\nmax_jobs: 1.5',
      'lab.yaml:2:11: found the number 1.5 as max_jobs, expected a whole number from 1 to 1000000',
    ],
    [
      'ip: x\ngpus: [0, 0]',
      'lab.yaml:2:11: found the number 0 again in gpus, expected different whole numbers from 0 to 1023, as in [0, 1]',
    ],
    [
      'ip: x\ngpus: [a]',
      'lab.yaml:2:8: found "a" in gpus, expected different whole numbers from 0 to 1023, as in [0, 1]',
    ],
    ['ip: x\nenv: [A]', 'lab.yaml:2:6: found a list as env, expected a block of NAME: value lines'],
    [
      'ip: x\nenv: {A-B: 1}',
      'lab.yaml:2:7: found the name "A-B" in env, expected letters, digits and _, no digit first',
    ],
    ['ip: x\nenv: {A: [1]}', 'lab.yaml:2:10: found a list as env.A, expected text or a number'],
    [
      'ip: x\nhost_key_checking: off',
      'lab.yaml:2:20: found "off" as host_key_checking, expected accept-new, strict, no',
    ],
    [
      'ip: x\nhost_key_checking: false',
      'lab.yaml:2:20: found the boolean false as host_key_checking, expected accept-new, strict, no',
    ],
    [
      'ip: x\nproxy_jump: a b',
      'lab.yaml:2:13: found "a b" as proxy_jump, expected [user@]host[:port], several with commas, or none',
    ],
    ['ip: x\nname: a/b', 'lab.yaml:2:7: found "a/b" as name, expected a name without spaces and slashes'],
    [
      'machines: {"a b": {ip: x}}',
      'lab.yaml:1:19: found the machine name "a b", expected one without spaces and slashes',
    ],
    [
      'machines:\n  a: {ip: x}\n  b:\n    ip: y\n    name: a',
      'lab.yaml:4:5: found the machine name "a" again (first on line 2), expected a name of its own for each machine; `name:` gives one',
    ],
    [
      'machines:\n  a: 10.0.0.1',
      'lab.yaml:2:6: found text, expected a block of `key: value` lines for one machine',
    ],
    ['machines: {}', 'lab.yaml:1:11: found no machine as machines, expected a block for each name'],
    ['[]', 'lab.yaml:1:1: found an empty list, expected a block for each machine'],
    [
      '',
      'lab.yaml:1:1: found an empty file, expected a block with `ip:`, or `machines:` with a block for each name, or a list of blocks',
    ],
    [
      'ip: x\nip: y',
      'lab.yaml:2:1: found what is not YAML: Map keys must be unique, expected `key: value` lines',
    ],
    [
      'ip: x\n\tport: 2',
      'lab.yaml:2:1: found what is not YAML: Tabs are not allowed as indentation, expected `key: value` lines',
    ],
    [
      'ip: x\ngroups: {a: b}',
      'lab.yaml:2:1: found groups beside the keys of one machine, expected `machines:` with a block for each name, and `groups:` beside it',
    ],
    ['groups: gpu[1-2]', 'lab.yaml:1:9: found text as groups, expected a block of `name: hosts` lines'],
    ['groups: {"a b": x}', 'lab.yaml:1:10: found the group name "a b", expected letters, digits and _ . -'],
    ['groups: {a: []}', `lab.yaml:1:13: found an empty list as the group a, expected ${HOSTS}`],
    ['groups: {a: [b, {c: d}]}', `lab.yaml:1:17: found a block of keys in the group a, expected ${HOSTS}`],
    ['groups:\n  a: ""', `lab.yaml:2:6: found "" in the group a, expected ${HOSTS}`],
    [
      'groups:\n  a: !gpu1 x',
      'lab.yaml:2:12: found what begins with ! in the group a, expected it in quotes',
    ],
    ['groups:\n  a: !gpu1', 'lab.yaml:2:11: found what begins with ! in the group a, expected it in quotes'],
    [
      'groups:\n  a: [10.1]',
      'lab.yaml:2:7: found the number 10.1 in the group a, expected text (a number goes in quotes)',
    ],
    [
      'groups:\n  a: @b',
      'lab.yaml:2:6: found what is not YAML: Plain value cannot start with reserved character @, expected `key: value` lines',
    ],
    ['ip: *nowhere', 'lab.yaml:1:5: found a value that begins with `*`, expected it in quotes'],
  ])('%j', (text, message) => {
    expect(mistake(text)).toBe(message);
  });

  test.each([
    '/',
    '~',
    'relative',
    '~/..',
    '/a/../b',
    "/it's",
    '/a"b',
    '/a\\\\b',
    '/a!b',
    '/a\\nb',
    '~ann/x',
  ])('remote_dir %s', (folder) => {
    expect(mistake(`ip: x\nremote_dir: "${folder.replaceAll('"', '\\"')}"`)).toMatch(
      /^lab.yaml:2:13: found .* as remote_dir, expected a folder/,
    );
  });

  test('a key that is not there, is a folder, or is the public half', () => {
    expect(mistake('ip: x\nssh_key_path: ~/.ssh/id_rsa')).toBe(
      `lab.yaml:2:15: found "~/.ssh/id_rsa" as ssh_key_path, expected a private key that exists: there is no ${home}/.ssh/id_rsa`,
    );
    expect(mistake('ip: x\nssh_key_path: ~/.ssh')).toContain('which is no file');
    expect(mistake('ip: x\nssh_key_path: ~/.ssh/id_lab.pub')).toContain('found the public key');
    expect(mistake('ip: x\nssh_key_path: ~ann/key')).toContain('expected the path of a private key');
  });
});

describe('passwords', () => {
  test('are in no message, whatever is wrong around them', () => {
    const secret = 'hunter2hunter2';
    for (const text of [
      `ip: x\npassword: [${secret}]`,
      `ip: x\npassword: {${secret}: 1}`,
      `ip: x\npassword: *${secret}`,
      `ip: x\npassword: !${secret} [1]`,
      `ip: x\npassword: @${secret}`,
      `ip: x\npassword: "${secret}`,
      `ip: x\npassword: "\\${secret}"`,
      `ip: x\npassword: "a" ${secret}`,
      `machines: ${secret}`,
      `- ${secret}`,
      secret,
    ]) {
      expect(mistake(text)).not.toContain('hunter');
    }
    expect(mistake('ip: x\npassword: 12345')).toBe(
      'lab.yaml:2:11: found what is no text (not shown) as password, expected text; put it in quotes',
    );
  });

  test('are not shown when a machine is printed', () => {
    const [machine] = parse('ip: x\npassword: hunter2\npassphrase: hunter2').machines;
    for (const text of [
      JSON.stringify(machine),
      inspect(machine, { depth: 9, showHidden: true }),
      `${machine?.password}`,
    ]) {
      expect(text).toContain('***');
      expect(text).not.toContain('hunter');
    }
  });

  test('are warned about when others can read the file', async () => {
    const path = join(home, 'secret.yaml');
    writeFileSync(path, 'ip: x\npassword: hunter2\n');
    const { machines } = parse('ip: x\npassword: hunter2');
    chmodSync(path, 0o644);
    expect(await warnOfReadableSecrets(path, machines)).toBe(
      `${path} holds a password or passphrase and can be read by its group and everybody: run chmod 600 ${path}`,
    );
    chmodSync(path, 0o600);
    expect(await warnOfReadableSecrets(path, machines)).toBeUndefined();
    chmodSync(path, 0o644);
    expect(await warnOfReadableSecrets(path, parse('ip: x').machines)).toBeUndefined();
  });

  test('compare by what they hold', () => {
    expect(new Secret('a').reveal()).toBe('a');
  });
});

test('any text is read or refused with a place', () => {
  const line = fc.oneof(
    fc.string(),
    fc.constantFrom(
      'ip: x',
      'machines:',
      '  a:',
      '    ip: y',
      '- ip: z',
      'env:',
      '  A: 1',
      'gpus: [1',
      'port: 22',
      '*a',
      '&a b',
      '? x',
      '---',
      'password: x',
    ),
  );
  fc.assert(
    fc.property(fc.array(line, { maxLength: 8 }), (lines) => {
      try {
        parse(lines.join('\n'));
      } catch (error) {
        expect(error).toBeInstanceOf(MachineConfigError);
        expect((error as Error).message).toMatch(/lab\.yaml:\d+:\d+: found .*, expected /s);
      }
    }),
    { numRuns: 500 },
  );
});
