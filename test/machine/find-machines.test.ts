import { mkdirSync, mkdtempSync, realpathSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { MachineConfigError, UsageError } from '../../src/lib/domain/errors.ts';
import { type FindMachinesOptions, findMachines } from '../../src/lib/machine/find-machines.ts';
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

  test.each(['-oProxyCommand=reboot', 'ann@', 'gpu1:99999', 'gpu\u001bc'])('%j is nothing', async (name) => {
    await expect(find(name)).rejects.toThrow(/^found the machine ".*", expected a machine file/);
    await expect(find(name)).rejects.not.toThrow('\u001b');
  });
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

const namesOf = async (...names: string[]) =>
  (await find(...names)).machines.map(({ config }) => config.name as string);
const LAB = `machines:
  gpu01: {ip: 10.0.0.1}
  gpu02: {ip: 10.0.0.2}
  gpu03: {ip: 10.0.0.3}
groups:
  fast: gpu[01-02]
  odd: [gpu01, "gpu03"]
  most: "@fast,@odd,!gpu02"
`;

describe('lists of hosts', () => {
  test('items with commas, in their order: files, names, local, destinations, ranges', async () => {
    write('here/lab.yaml', LAB);
    expect(await namesOf('local, lab.yaml ,ann@n[9-10]:2201,[::1]:22')).toEqual([
      ...['local', 'gpu01', 'gpu02', 'gpu03', 'ann@n9:2201', 'ann@n10:2201', '[::1]:22'],
    ]);
    const { machines } = await find('ann@n[9-10]:2201,local');
    expect(machines).toMatchObject([
      {
        kind: 'ssh',
        config: { host: 'n9', port: 2201, username: 'ann', source: { destination: 'ann@n9:2201' } },
      },
      { kind: 'ssh', config: { host: 'n10' } },
      { kind: 'local' },
    ]);
  });

  test('a name is first a machine of a file of the call, wherever that stands', async () => {
    const lab = write('here/lab.yaml', LAB);
    write('here/gpu02.yaml'); // a file of that name comes second
    const { machines } = await find('gpu[02-04],lab.yaml');
    expect(machines.map(({ config: { name, source } }) => [name, source.type])).toEqual([
      ['gpu02', 'file'],
      ['gpu03', 'file'],
      ['gpu04', 'destination'],
      ['gpu01', 'file'],
    ]);
    expect(machines[0]?.config).toMatchObject({ host: '10.0.0.2', source: { path: lab, line: 3 } });
    expect(await namesOf('gpu03,lab')).toEqual(['gpu03', 'gpu01', 'gpu02']);
    expect(await namesOf('gpu[02-02]')).toEqual(['gpu02.yaml']);
  });

  test('a name with commas or brackets that is a file stays one', async () => {
    const comma = write('here/a,b.yaml');
    const range = write('here/m[1-2].yaml');
    expect(await pathsOf('a,b.yaml')).toEqual([comma]);
    expect(await pathsOf('a,b')).toEqual([comma]);
    expect(await pathsOf('m[1-2].yaml,local')).toEqual([range, 'builtin']);
    const one = write('here/x/m1.yaml', 'ip: x');
    const two = write('here/x/m2.yaml', 'ip: y');
    expect(await pathsOf('x/m[1-2].yaml')).toEqual([one, two]);
  });

  test('what is meant twice is there once', async () => {
    write('here/lab.yaml', LAB);
    write('here/n2.yaml', 'ip: x');
    expect(await namesOf('n[1-3],n2,n[2-4],n1')).toEqual(['n1', 'n2.yaml', 'n3', 'n4']);
    expect(await namesOf('lab.yaml,gpu03,@fast,@odd')).toEqual(['gpu01', 'gpu02', 'gpu03']);
    expect(await namesOf('local,local')).toEqual(['local']);
    expect(await namesOf('n[1-3]', 'n[2-4]')).toHaveLength(4);
  });

  test('but a file that is named twice, and two things of one name, stay mistakes', async () => {
    write('here/lab.yaml', LAB);
    write('here/other.yaml', LAB);
    await expect(find('./lab.yaml,n[1-2],lab.yaml')).rejects.toThrow('twice, as ./lab.yaml and as lab.yaml');
    await expect(find('lab.yaml,other.yaml')).rejects.toThrow('found two machines named "gpu01"');
    expect(await namesOf('lab.yaml,n1,!other.yaml')).toEqual(['n1']);
    write('here/x/one.yaml'); // its machine has the file's name, which can be named while no other file has it
    expect(await namesOf('x/one.yaml,n1,one.yaml')).toEqual(['one.yaml', 'n1']);
    write('here/one.yaml');
    await expect(find('x/one.yaml,n1,one.yaml')).rejects.toThrow('found two machines named "one.yaml"');
  });

  test('! leaves out, wherever it stands in the call', async () => {
    write('here/lab.yaml', LAB);
    expect(await namesOf('!gpu02,lab.yaml')).toEqual(['gpu01', 'gpu03']);
    expect(await namesOf('lab', '!gpu[02-03]')).toEqual(['gpu01']);
    expect(await namesOf('n[1-9],!n[2-8],!@fast,lab.yaml')).toEqual(['n1', 'n9', 'gpu03']);
    expect(await namesOf('gpu[02-05],!lab.yaml')).toEqual(['gpu04', 'gpu05']);
    await expect(find('n[1-2],!n1,!n2')).rejects.toThrow('no host is left: all 2 are excluded');
    await expect(find('!n1')).rejects.toThrow(
      'found only what is excluded (!n1), expected hosts to exclude it',
    );
    const { machines, warnings } = await find('n[1-2],!n[2-4],!local');
    expect(machines).toHaveLength(1);
    expect(warnings).toEqual(['! names local,n[3-4], which are not among the hosts']);
  });

  test('mistakes name what is wrong', async () => {
    await expect(find('n[3-1],a')).rejects.toThrow('found "3-1", which counts down, in "n[3-1]"');
    await expect(find('')).rejects.toThrow('found an empty list of hosts, expected machine files');
    expect(await namesOf('a,,b,')).toEqual(['a', 'b']);
    await expect(find('a b,c')).rejects.toThrow(
      'found the machine "a b", expected commas between hosts, as in gpu01,gpu02',
    );
    await expect(find('a b.yaml')).rejects.toThrow('; with several hosts, commas between them');
    await expect(find('-o[1-2]')).rejects.toThrow('found the machine "-o1"');
    await expect(find('n[1-2]:99999')).rejects.toThrow('found the machine "n1:99999"');
    await expect(find('a,nowhere.yaml')).rejects.toThrow(`found no file ${cwd}/nowhere.yaml or`);
    await expect(find('gpu\u001b[2J')).rejects.toThrow(/^found a `\[` without `\]` in "gpu\\x1b\[2J"/);
    await expect(find('n[1-10000],local')).rejects.toThrow('a list of more than 10000 hosts');
    await expect(find('n[1-10000],a', 'b')).rejects.toThrow(UsageError);
    expect((await find('n[1-10000]')).machines).toHaveLength(10_000);
  });
});

describe('groups', () => {
  const users = (text: string) => write('home/.config/ssh-scheduler/groups.yaml', text);

  test('of a machine file, in one another, with ranges and exclusions', async () => {
    write('here/lab.yaml', LAB);
    const picked = async (only: string) =>
      (await findMachines(['lab'], { cwd, home, only: [only] })).machines.map(({ config }) => config.name);
    expect(await picked('@fast')).toEqual(['gpu01', 'gpu02']);
    expect(await picked('@odd')).toEqual(['gpu01', 'gpu03']);
    expect(await picked('@most')).toEqual(['gpu01', 'gpu03']);
    expect(await picked('@fast,!gpu01')).toEqual(['gpu02']);
  });

  test('of the user, read only when no file of the call has the group', async () => {
    users('groups:\n  gpus: gpu[1-2]\n  fast: [n1]\n  r1: x\n  r2: y\n');
    expect(await namesOf('@gpus,n1')).toEqual(['gpu1', 'gpu2', 'n1']);
    expect(await namesOf('@r[1-2]')).toEqual(['x', 'y']);
    write('here/lab.yaml', LAB);
    expect(await namesOf('lab,@fast')).toEqual(['gpu01', 'gpu02', 'gpu03']);
    const broken = users('groups: 1');
    expect(await namesOf('lab,@fast')).toHaveLength(3);
    await expect(find('@gpus')).rejects.toThrow(`${broken}:1:9: found a number as groups, expected a block`);
    const other = write('elsewhere/groups.yaml', 'groups: {mine: z}');
    const options = { cwd, home, configFolder: dirname(other) };
    expect((await findMachines(['@mine'], options)).machines).toMatchObject([{ config: { name: 'z' } }]);
  });

  test('members are first machines of the same file, and paths are seen from its folder', async () => {
    const mine = users(`machines: {gpu01: {ip: x}, all: {ip: y}}
groups:
  g: gpu01,gpu02,[::1]:22
  files: ./more.yaml,^names
`);
    write('here/lab.yaml', LAB);
    write('here/gpu02.yaml');
    write('home/.config/ssh-scheduler/more.yaml', 'ip: z\nname: z');
    write('home/.config/ssh-scheduler/names', 'n[1-2]');
    const { machines, sensitivePaths } = await find('@g,@files');
    expect(machines.map(({ config: { host, source } }) => [host, source.type])).toEqual([
      ['x', 'file'],
      ['gpu02', 'destination'],
      ['::1', 'destination'],
      ['z', 'file'],
      ['n1', 'destination'],
      ['n2', 'destination'],
    ]);
    expect([...sensitivePaths].sort()).toEqual([mine, mine.replace('groups', 'more')].sort());
    await expect(find('lab.yaml,@g')).rejects.toThrow('found two machines named "gpu01"');
    expect(await namesOf('lab,!@g')).toEqual(['gpu01', 'gpu03'].slice(1));
  });

  test('an unknown one: what is meant, and where it was looked for', async () => {
    const path = join(home, '.config/ssh-scheduler/groups.yaml');
    await expect(find('@fsat')).rejects.toThrow(
      `found the unknown group @fsat, expected one that a \`groups:\` has; groups are looked for in ${path} (not there)`,
    );
    const lab = write('here/lab.yaml', LAB);
    users('groups: {other: x}');
    await expect(find('lab,@fsat')).rejects.toThrow(
      `found the unknown group @fsat, expected @fast, if that is what is meant; groups are looked for in ${lab} and ${path}`,
    );
    await expect(find('lab,@zzzzz')).rejects.toThrow('expected one of @fast, @odd, @most, @other; groups');
    await expect(find('@')).rejects.toThrow('found the unknown group @, expected one of @other');
    const twin = write('here/twin.yaml', 'groups: {fast: x}');
    await expect(find('lab,twin,@fast')).rejects.toThrow(
      `found the group @fast twice, ${lab}:6 and ${twin}:1, expected it in one of these files`,
    );
  });

  test('a circle is shown, and mistakes inside a group name it', async () => {
    const path = users(`groups:
  a: x,@b
  b:
    - y
    - "@c"
  c: "@a"
  self: "@self"
  bad: n[1-
  worse: "@bad"
  none: "!x"
  nobody: "a b"
`);
    await expect(find('@b')).rejects.toThrow(
      `found a circle, @b -> @c -> @a -> @b, expected groups and lists that lead to hosts (in @a, ${path}:2)`,
    );
    await expect(find('@self')).rejects.toThrow('@self -> @self');
    await expect(find('n1,!@worse')).rejects.toThrow(/found "1-" as a range|found a `\[` without `\]`/);
    await expect(find('@worse')).rejects.toThrow(
      `without \`]\` in "n[1-", expected ranges of numbers as in gpu[01-12,15] (in @bad, ${path}:8)`,
    );
    await expect(find('@none')).rejects.toThrow(
      `found only what is excluded (!x), expected hosts to exclude it from (in @none, ${path}:10)`,
    );
    await expect(find('@nobody')).rejects.toThrow(`(in @nobody, ${path}:11)`);
  });

  test('groups that hold each other many times over are looked into once', async () => {
    const lines = Array.from({ length: 60 }, (_, i) => `  g${i}: ["@g${i + 1}", "n${i},@g${i + 1}"]`);
    users(`groups:\n${lines.join('\n')}\n  g60: end\n`);
    expect(await namesOf('@g0')).toHaveLength(61);
  });
});

describe('^files', () => {
  test('a list per line, with comments, blank lines and exclusions of the file', async () => {
    write('here/lists/hosts', '\ufeff# all\r\n\r\nn[1-3],local # the fast ones\r\n  !n2\n\n^lists/more');
    write('here/lists/more', 'n9#1\n'.replace('#1', ''));
    expect(await namesOf('^lists/hosts,n2')).toEqual(['n1', 'n3', 'local', 'n9', 'n2']);
    expect(await namesOf('n[1-9],!^lists/hosts')).toEqual(['n2', ...[4, 5, 6, 7, 8].map((i) => `n${i}`)]);
    write('home/mine', 'n1');
    expect(await namesOf('^~/mine')).toEqual(['n1']);
    write('here/lab.yaml', LAB);
    write('here/labs', 'lab\n');
    expect(await namesOf('^labs,!gpu02')).toEqual(['gpu01', 'gpu03']); // its files are files of the call
  });

  test('circles, files that are not there or no text, and mistakes with their line', async () => {
    write('here/a', 'n1\n^b');
    write('here/b', '^./a');
    await expect(find('^a')).rejects.toThrow('found a circle, ^a -> ^b -> ^./a, expected');
    await expect(find('^none')).rejects.toThrow(
      `found no file ${cwd}/none, expected the list of hosts that ^none`,
    );
    await expect(find('^')).rejects.toThrow('expected the list of hosts that ^ names');
    write('here/binary', 'n1\0');
    await expect(find('^binary')).rejects.toThrow(
      'which is no text of at most 1 MiB, expected a list of hosts',
    );
    write('here/huge', '#'.repeat(1024 * 1024 + 1));
    await expect(find('^huge')).rejects.toThrow('which is no text of at most 1 MiB');
    const bad = write('here/bad', '\nn1\nn[1-2],n[2-1]');
    await expect(find('^bad')).rejects.toThrow(`gpu[01-12,15] (${bad}:3)`);
    const odd = write('here/odd', '# x\nn1 n2');
    await expect(find('^odd')).rejects.toThrow(`expected commas between hosts, as in gpu01,gpu02 (${odd}:2)`);
    write('here/empty', '# nobody\n');
    await expect(find('^empty')).rejects.toThrow(
      'no host is left: the names stand for none, expected at least one',
    );
    expect(await namesOf('^empty,n1')).toEqual(['n1']);
  });

  test('files that name each other many times over are read once', async () => {
    for (let i = 0; i < 40; i++) write(`here/f${i}`, `^f${i + 1}\nn${i},^f${i + 1}`);
    write('here/f40', 'end');
    expect(await namesOf('^f0')).toHaveLength(41);
  });
});

describe('what is taken of the hosts', () => {
  const take = (names: string[], more: { exclude?: string[]; only?: string[] }) =>
    findMachines(names, { cwd, home, ...more });
  const taken = async (names: string[], more: { exclude?: string[]; only?: string[] }) =>
    (await take(names, more)).machines.map(({ config }) => config.name as string);

  test('exclude leaves out, and warns of what is not there', async () => {
    write('here/lab.yaml', LAB);
    expect(await taken(['lab', 'n1'], { exclude: ['gpu02,@odd'] })).toEqual(['n1']);
    expect(await taken(['n[1-9]'], { exclude: ['n[1-9],!n3'] })).toEqual(['n3']);
    const { warnings, machines } = await take(['n[1-3]'], { exclude: ['n[3-5]', 'lab.yaml'] });
    expect(machines).toHaveLength(2);
    expect(warnings).toEqual(['-x names lab.yaml,n[4-5], which are not among the hosts']);
    expect((await take(['n1'], { exclude: ['n2'] })).warnings).toEqual([
      '-x names n2, which is not among the hosts',
    ]);
    write('here/few', 'n1\nother');
    expect((await take(['n[1-2]'], { exclude: ['^few'] })).warnings).toEqual([]);
    await expect(take(['n[1-2]'], { exclude: ['n[1-2]'] })).rejects.toThrow(
      'no host is left: all 2 are excluded, expected at least one',
    );
  });

  test('only picks, in the order that it says, and refuses what is not there', async () => {
    write('here/lab.yaml', LAB);
    expect(await taken(['lab', 'n1'], { only: ['n1,gpu03', 'gpu01'] })).toEqual(['n1', 'gpu03', 'gpu01']);
    expect(await taken(['lab'], { only: ['@fast'], exclude: ['gpu01'] })).toEqual(['gpu02']);
    await expect(take(['lab'], { only: ['gpu01,gpu04'] })).rejects.toThrow(
      /^found gpu04, which lab does not have: it has gpu\[01-03\]$/,
    );
    await expect(take(['lab'], { only: ['gpu1'] })).rejects.toThrow(
      'found gpu1, which lab does not have: it has gpu[01-03] (did you mean gpu01?)',
    );
    await expect(take(['lab'], { only: ['gpx02'] })).rejects.toThrow('(did you mean gpu02?)');
    await expect(take(['lab', 'login'], { only: ['gpu[05-09],fast'] })).rejects.toThrow(
      'found fast,gpu[05-09], which lab and login do not have: they have gpu[01-03],login (did you mean @fast?)',
    );
    await expect(take(['n[0001-5000]'], { only: ['x'] })).rejects.toThrow(
      'found x, which n[0001-5000] does not have: it has n[0001-5000]',
    );
    await expect(take(['lab'], { only: ['login'] })).rejects.toThrow(UsageError);
  });
});

describe('an exclusion', () => {
  type Options = Omit<FindMachinesOptions, 'cwd' | 'home'>;
  const take = (names: string[], options: Options = {}) => findMachines(names, { cwd, home, ...options });
  const taken = async (names: string[], options: Options = {}) =>
    (await take(names, options)).machines.map(({ config }) => config.name as string);
  const refuse = { missingExclusion: 'refuse' } as const;

  test('of a bare host leaves out its ssh destinations, whatever user and port', async () => {
    const list = 'ann@gpu[1-3]:2201,ssh://bob@GPU2,gpu2,[::1]:22';
    const rest = ['ann@gpu1:2201', 'ann@gpu3:2201', '[::1]:22'];
    expect(await taken([`${list},!gpu2`])).toEqual(rest);
    expect(await taken([list], { exclude: ['gpu2'] })).toEqual(rest);
    expect(await taken([list], { exclude: ['Gpu[2-2]'] })).toEqual(rest);
    expect(await taken([list], { only: ['!gpu2'] })).toEqual(rest);
    expect(await taken([list], { exclude: ['::1'] })).not.toContain('[::1]:22');
    write('here/few', 'gpu2');
    expect(await taken([list], { exclude: ['^few'] })).toEqual(rest);
    write('home/.config/ssh-scheduler/groups.yaml', `groups: {bad: gpu2, good: "${list},!@bad"}`);
    expect(await taken([list], { exclude: ['@bad'] })).toEqual(rest);
    expect(await taken(['@good'])).toEqual(rest);
    expect((await take([list], { exclude: ['gpu2', '@bad', '^few'], ...refuse })).warnings).toEqual([]);
  });

  test('leaves out the host though a machine or a file has its name as well', async () => {
    write('here/lab.yaml', LAB);
    expect(await taken(['lab.yaml,ann@gpu[01-02]:2201,!gpu02'])).toEqual([
      'gpu01',
      'gpu03',
      'ann@gpu01:2201',
    ]);
    write('here/n1.yaml');
    expect(await taken(['ann@n[1-2]'], { exclude: ['n1'], ...refuse })).toEqual(['ann@n2']);
    expect(await taken(['ann@n[1-2],!n1'], refuse)).toEqual(['ann@n2']);
    expect(await taken(['ann@n[1-2]'], { exclude: ['n[1-2],!n1'] })).toEqual(['ann@n1']);
  });

  test('with a user or port leaves out what is written so', async () => {
    expect(await taken(['n1,ann@n1,ann@n1:22,n1:22,!ann@n1'])).toEqual(['n1', 'ann@n1:22', 'n1:22']);
    expect(await taken(['n1,n1:22,!n1:22'])).toEqual(['n1']);
    await expect(take(['n[1-2]'], { exclude: ['ann@n1'], ...refuse })).rejects.toThrow('(did you mean n1?)');
    write('here/lab.yaml', 'machines: {other: {ip: n1}}'); // a machine of a file has the name that it is given
    expect(await taken(['lab.yaml,n[1-2],!n1'])).toEqual(['other', 'n2']);
  });

  test('of what is not there can be refused', async () => {
    write('here/lab.yaml', LAB);
    await expect(take(['lab.yaml,!gpu7'], refuse)).rejects.toThrow(
      'found the exclusion of gpu7, which is not among the hosts, gpu[01-03]',
    );
    await expect(take(['lab.yaml'], { exclude: ['gpu2,login'], ...refuse })).rejects.toThrow(
      'found the exclusion of gpu2,login, which are not among the hosts, gpu[01-03] (did you mean gpu02?)',
    );
    await expect(take(['lab.yaml'], { exclude: ['gpu[04-09]'], ...refuse })).rejects.toThrow(UsageError);
    await expect(take(['lab.yaml'], { only: ['!gpu04'], ...refuse })).rejects.toThrow(
      'of gpu04, which is not',
    );
    write('here/all', 'lab.yaml\n!titan');
    await expect(take(['^all'], refuse)).rejects.toThrow(`gpu[01-03] (${cwd}/all:2)`);
    expect((await take(['lab.yaml,!gpu7'])).warnings).toEqual(['! names gpu7, which is not among the hosts']);
  });

  test('is only warned of for a part of a range, a group, and a file', async () => {
    write('here/lab.yaml', `${LAB}  broken: old[1-3]\n`);
    write('here/few', 'n7');
    write('here/b.yaml', 'ip: x');
    const { machines, warnings } = await take(['lab.yaml,!gpu[03-05]'], {
      exclude: ['@broken', '^few,b.yaml'],
      ...refuse,
    });
    expect(machines.map(({ config }) => config.name)).toEqual(['gpu01', 'gpu02']);
    expect(warnings).toEqual([
      '! names gpu[04-05], which are not among the hosts',
      '-x names @broken,^few,b.yaml, which are not among the hosts',
    ]);
    // It is a host of the lab, though not of those that are picked.
    expect(await taken(['lab.yaml'], { only: ['gpu01,!gpu03'], exclude: ['gpu02'], ...refuse })).toEqual([
      'gpu01',
    ]);
  });

  test('of all says so', async () => {
    const all = 'no host is left: all 2 are excluded';
    write('here/lab.yaml', LAB);
    await expect(take(['lab.yaml,!gpu03,!@fast'])).rejects.toThrow('all 3 are excluded');
    await expect(take(['n[1-2]'], { only: ['!n[1-2]'] })).rejects.toThrow(all);
    await expect(take(['lab.yaml'], { only: ['@fast,!@fast'] })).rejects.toThrow(all);
  });
});

describe('what is picked', () => {
  const pick = async (names: string[], ...only: string[]) =>
    (await findMachines(names, { cwd, home, only, missingExclusion: 'refuse' })).machines;
  const namesOf = async (names: string[], ...only: string[]) =>
    (await pick(names, ...only)).map(({ config }) => config.name as string);

  test('by nothing but exclusions is all but these', async () => {
    write('here/lab.yaml', LAB);
    expect(await namesOf(['lab.yaml'], '!gpu01')).toEqual(['gpu02', 'gpu03']);
    expect(await namesOf(['lab.yaml', 'n1'], '!@fast', '!n1')).toEqual(['gpu03']);
    expect(await namesOf(['lab.yaml'], '!gpu01', 'gpu[01-02]')).toEqual(['gpu02']);
  });

  test('by groups and files is what they hold, whatever that is', async () => {
    write('here/lab.yaml', `${LAB}  mix: gpu02,ann@old[1-2]\n`);
    write('here/few', 'n1\ngpu03');
    const machines = await pick(['lab.yaml'], '@mix,!old2', '^few', 'gpu01');
    expect(machines.map(({ config: { name, source } }) => [name, source.type])).toEqual([
      ['gpu02', 'file'],
      ['ann@old1', 'destination'],
      ['n1', 'destination'],
      ['gpu03', 'file'],
      ['gpu01', 'file'],
    ]);
    await expect(pick(['lab.yaml'], '@mix,n1')).rejects.toThrow('found n1, which lab.yaml does not have');
    expect(await namesOf(['lab.yaml'], 'ann@old1,@mix')).toEqual(['ann@old1', 'gpu02', 'ann@old2']);
    write('home/.config/ssh-scheduler/groups.yaml', 'machines: {gpu01: {ip: x}}\ngroups: {mine: gpu01}');
    await expect(pick(['lab.yaml'], '@mine')).rejects.toThrow('found two machines named "gpu01"');
  });

  test('a file with groups alone has groups to pick', async () => {
    write('here/groups.yaml', 'groups: {rack: "h[1-2]"}');
    expect(await namesOf(['groups.yaml'], '@rack')).toEqual(['h1', 'h2']);
    await expect(pick(['groups.yaml'], 'h1')).rejects.toThrow(
      'found h1, which groups.yaml does not have: it has groups only, @rack',
    );
    await expect(pick(['groups.yaml'], 'rack')).rejects.toThrow('(did you mean @rack?)');
    await expect(pick(['groups.yaml'])).rejects.toThrow(
      'no host is left: the names stand for none, expected at least one, such as those of a group, @rack',
    );
  });
});

test('groups and files are inside one another at most 100 deep', async () => {
  const groups = (count: number) =>
    `groups:\n${Array.from({ length: count }, (_, i) => `  g${i}: "@g${i + 1}"\n`).join('')}  g${count}: end\n`;
  write('here/deep.yaml', groups(99));
  expect(await namesOf('deep.yaml,@g0')).toEqual(['end']);
  write('here/deeper.yaml', groups(1000));
  await expect(find('deeper.yaml,@g0')).rejects.toThrow(
    /^found more than 100 groups or lists inside one another, @g0 -> @g1 -> @g2 -> \.\.\., expected at most 100 \(in @g99, /,
  );
  for (let i = 0; i < 101; i++) write(`here/f${i}`, `^f${i + 1}`);
  await expect(find('^f0')).rejects.toThrow(
    'found more than 100 groups or lists inside one another, ^f0 -> ',
  );
  await expect(find('^f2')).rejects.toThrow(`found no file ${cwd}/f101`);
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
