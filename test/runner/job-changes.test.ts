/** What a job's folder is made of, and what the supervisor tells of what the job changed in it, by every way it has. */
import {
  chmod,
  chown,
  mkdir,
  readdir,
  readFile,
  readlink,
  rm,
  stat,
  symlink,
  writeFile,
} from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import type { AttemptPlace } from '../../src/lib/runner/supervisor.ts';
import { smallDisk } from '../files/small-disk.ts';
import { runOrThrow } from '../rig/command.ts';
import { findProgram } from '../rig/find-program.ts';
import { until } from '../rig/until.ts';
import { type OpenSupervisor, SupervisorFolder } from './supervisors.ts';

/** The ways to list a folder, as variables of the supervisor's; LISTING_TIME is how find or stat write a change time. */
const WAYS: Record<string, NodeJS.ProcessEnv> = {
  'GNU find': {},
  'GNU find, a clock of years': { LISTING_TIME: '%CY' }, // so that all lies in the same tick
  busybox: { PATH: 'busybox' },
  'busybox, a clock of seconds': { PATH: 'busybox', LISTING_TIME: '%Z' },
  perl: { LISTING_BY: 'perl' },
};

async function openBy(folder: SupervisorFolder, way: NodeJS.ProcessEnv): Promise<OpenSupervisor> {
  if (way.PATH === undefined) return await folder.open(way);
  return await folder.open({ ...way, PATH: await busyboxPath(folder) }, 'cp -a');
}

/** A folder with bash and busybox's programs and no others. */
async function busyboxPath(folder: SupervisorFolder): Promise<string> {
  const path = join(folder.path, 'busybox');
  if ((await mkdir(path, { recursive: true })) === undefined) return path;
  const busybox = findProgram('busybox');
  const applets = (await runOrThrow(busybox, ['--list'])).split('\n').filter((name) => name !== '');
  for (const name of applets.filter((one) => one !== 'bash')) await symlink(busybox, join(path, name));
  await symlink(findProgram('bash'), join(path, 'bash'));
  return path;
}

const FORWARD = `
mkdir -p gone-folder/sub becomes-file becomes-link empty fill 'sp ace' inner
echo kept | tee kept same-size set-back touched mode gone becomes-folder 'sp ace/in' gone-folder/{a,sub/b} >/dev/null
echo old | tee becomes-file/x becomes-link/f inner/kept inner/edited fill.txt >/dev/null
printf 'a\\0b' >zero
printf 'a\\1b\\0c' >swapped
head -c 30000 /dev/urandom >random
touch empty-file './-dash' $'new\\nline' $'bytes\\xff' $'bytes\\xfe' "quote'" '*'`;

const JOB = `
printf 'KEPT\\n' >same-size
printf 'KEPT\\n' >set-back; touch -r kept set-back
touch touched
chmod 755 mode
rm -r gone gone-folder
rm becomes-folder; mkdir becomes-folder; echo new >becomes-folder/in
rm -r becomes-file; echo new >becomes-file
rm -r becomes-link; ln -s new-folder becomes-link
echo new >fill/new
echo more >>inner/edited
printf 'a\\0b\\0' >zero.new; touch -r zero zero.new; cat zero.new >zero; touch -r zero.new zero; rm zero.new
printf 'a\\0b\\1c' >swapped; touch -r kept swapped
mkdir -p new-empty new-folder/deep; echo new >new-folder/f; echo new >'new-folder/deep/-new file'
ln -s kept new-link; ln -s nowhere new-dangling
mkfifo fifo
rm $'new\\nline'; echo new | tee $'new\\nname' >$'bytes\\xff'; rm "quote'"`;

const CHANGED = [
  './becomes-file',
  './becomes-folder/in',
  './becomes-link',
  './bytes\xff',
  './fill/new',
  './inner/edited',
  './mode',
  './new\nname',
  './new-dangling',
  './new-empty',
  './new-folder/deep/-new file',
  './new-folder/f',
  './new-link',
  './same-size',
  './set-back',
  './swapped',
  './touched',
  './zero',
];
const DELETED = ['./gone', './gone-folder', './new\nline', "./quote'"];
const FLAGS = { hasFiles: true, hasDeletions: true };

for (const [name, way] of Object.entries(WAYS)) {
  test(`${name}: what a job creates, changes and deletes is listed, and nothing else`, async () => {
    await using folder = await SupervisorFolder.make();
    await folder.part('part', `${FORWARD}\nln -s kept link; ln -s kept link-moved; ln -s kept link-gone`);
    await folder.part('second', 'mkdir fill; echo 2 >fill/second; echo 2 >fill/second-edited');
    const one = await openBy(folder, way);
    const call = { parts: ['part', 'second'], back: 'changed' } as const;
    const all = one.run(
      'all',
      `${JOB}\nln -sfn zero link-moved; rm link-gone; echo 3 >fill/second-edited`,
      call,
    );
    const none = one.run('none', 'cat kept >/dev/null; ls -R . >/dev/null', call);
    const gone = one.run('gone', 'rm -r -- * .[!.]* 2>/dev/null; true', call);
    expect(await one.report(all, 'ended')).toMatchObject({ exitCode: 0, ...FLAGS });
    expect(await folder.paths(all, 'changed')).toEqual(
      [...CHANGED, './fill/second-edited', './link-moved'].sort(),
    );
    expect(await folder.paths(all, 'deleted')).toEqual([...DELETED, './link-gone'].sort());
    expect(await one.report(none, 'ended')).toMatchObject({ hasFiles: false, hasDeletions: false });
    expect(await folder.paths(none, 'changed')).toEqual([]);
    expect(await one.report(gone, 'ended')).toMatchObject({ hasFiles: false, hasDeletions: true });
    expect(await folder.paths(gone, 'deleted')).toEqual(
      (await readdir(join(folder.path, 'trees', 'part'), 'latin1')).map((entry) => `./${entry}`).sort(),
    );
    // The next controller is told the same.
    const second = await openBy(folder, way);
    for (const place of [all, none, gone]) second.supervisor.adopt(place);
    for (const place of [all, none]) {
      const agoMs: unknown = expect.any(Number); // by now it is a while ago
      expect(await second.report(place, 'ended')).toEqual({ ...(await one.report(place, 'ended')), agoMs });
    }
  }, 60_000);
}

for (const name of ['GNU find', 'busybox']) {
  test(`${name}: so it is for a small tree, whether its copy was kept ready or not`, async () => {
    await using folder = await SupervisorFolder.make();
    await folder.part('part', FORWARD);
    const one = await openBy(folder, WAYS[name] ?? {});
    const call = { parts: ['part'], isSmallTree: true, back: 'changed' } as const;
    const run = async (job: string, script: string) => {
      const place = one.run(job, script, call);
      return [place, await one.report(place, 'ended')] as const;
    };
    const check = async (job: string) => {
      const [all, end] = await run(job, JOB);
      expect(end).toMatchObject({ exitCode: 0, ...FLAGS });
      expect(await folder.paths(all, 'changed')).toEqual(CHANGED);
      expect(await folder.paths(all, 'deleted')).toEqual(DELETED);
      const [, unchanged] = await run(`${job}-none`, 'cat kept');
      expect(unchanged).toMatchObject({ hasFiles: false, hasDeletions: false });
      await expect(stat(folder.file(all, 'before'))).rejects.toThrow('ENOENT');
    };
    await check('fresh');
    for (let i = 0; i < 8; i++) await run(`first${i}`, 'true');
    const spares = join(folder.path, 'runs', '.spares');
    const set = await until(async () => (await readdir(spares)).find((one) => one.startsWith('part.1.')));
    const ready = join(spares, set, '0');
    await until(() => stat(ready));
    await check('ready');
    await expect(stat(ready)).rejects.toThrow('ENOENT');
  });

  test(`${name}: all that is in a folder that was empty has been made`, async () => {
    await using folder = await SupervisorFolder.make();
    const one = await openBy(folder, WAYS[name] ?? {});
    const made = one.run('made', 'mkdir -p a/b c; echo >c/f; ln -s nowhere l; mkfifo p; touch .h', {
      back: 'changed',
    });
    expect(await one.report(made, 'ended')).toMatchObject({ hasFiles: true, hasDeletions: false });
    expect(await folder.paths(made, 'changed')).toEqual(['./.h', './a/b', './c/f', './l']);
    const nothing = one.run('nothing', 'true', { back: 'changed' });
    expect(await one.report(nothing, 'ended')).toMatchObject({ hasFiles: false, hasDeletions: false });
  });
}

test('shared inputs are linked into the folder, under any name, and their contents are not looked at', async () => {
  await using folder = await SupervisorFolder.make();
  await folder.part('part', 'mkdir -p data/deep; echo 1 >data/small');
  const target = Buffer.from(`${folder.path}/shared/b\xff\n'"\\ ü`)
    .toString('latin1')
    .replace('\xc3\xbf', '\xff');
  const shared = Buffer.from(target, 'latin1');
  await mkdir(join(folder.path, 'shared'));
  await mkdir(shared);
  await writeFile(Buffer.concat([shared, Buffer.from('/in')]), 'shared\n');
  const one = await folder.open();
  const links = [
    { path: 'data/big', target },
    { path: "data/deep/new\n'\\x41 $HOME/\xff\x01-é", target },
    { path: '-top', target },
  ];
  const place = one.run('linked', 'cat data/big/in; echo more >>data/big/in; rm -- -top', {
    parts: ['part'],
    links,
    back: 'changed',
  });
  expect(await one.report(place, 'ended')).toMatchObject({
    exitCode: 0,
    hasFiles: false,
    hasDeletions: true,
  });
  expect(await folder.read(place)).toBe('shared\n');
  for (const { path } of links.slice(0, 2)) {
    const at = Buffer.concat([Buffer.from(`${folder.file(place, 'work')}/`), Buffer.from(path, 'latin1')]);
    expect(await readlink(at, 'latin1')).toBe(target);
  }
  expect(await folder.paths(place, 'deleted')).toEqual(['./-top']);

  const alone = one.run('alone', 'cat a/b/in', { links: [{ path: 'a/b', target }], back: 'changed' });
  expect(await one.report(alone, 'ended')).toMatchObject({ exitCode: 0, hasFiles: false });
});

test('a link whose place is taken, or lies behind a file or a link, is an error', async () => {
  await using folder = await SupervisorFolder.make();
  await folder.part('part', 'mkdir d; touch file; ln -s /tmp link; ln -s nowhere dangling');
  const one = await folder.open();
  const wrong = {
    d: 'd is there already',
    dangling: 'dangling is there already',
    'file/x': 'file is no folder, and file/x was to be in it',
    'link/x': 'link is no folder, and link/x was to be in it',
    'dangling/x': 'dangling is no folder, and dangling/x was to be in it',
  };
  for (const [i, [path, reason]] of Object.entries(wrong).entries()) {
    const place = one.run(`j${i}`, 'true', { parts: ['part'], links: [{ path, target: '/x' }] });
    expect((await one.report(place, 'failed')).reason).toBe(`cannot link a shared input: ${reason}`);
  }
  await expect(stat('/tmp/x')).rejects.toThrow('ENOENT');
});

test('an attempt whose part is not there does nothing, and can be started when it has come', async () => {
  await using folder = await SupervisorFolder.make();
  await folder.part('first', 'touch a');
  const one = await folder.open();
  const call = { parts: ['first', 'second'] };
  const place = one.run('job', 'ls', call);
  expect(await one.report(place, 'lacks')).toEqual({ type: 'lacks', part: 'second' });
  expect(await readdir(join(folder.path, 'runs'))).toEqual([]);
  await folder.part('second', 'touch b');
  one.run('job', 'ls', call);
  await one.report(place, 'ended');
  expect(await folder.read(place)).toBe('a\nb\n');
});

test('parts that share folders and files are put together, the later over the earlier', async () => {
  await using folder = await SupervisorFolder.make();
  await folder.part('first', 'mkdir -p d/e; echo 1 >d/e/a; echo 1 >d/both; chmod 444 d/both');
  await folder.part('second', 'mkdir -p d/e; echo 2 >d/e/b; echo 2 >d/both');
  const one = await folder.open();
  const place = one.run('job', 'cd d; cat e/* both; echo 3 >>e/a', {
    parts: ['first', 'second'],
    back: 'changed',
  });
  expect(await one.report(place, 'ended')).toMatchObject({ hasFiles: true, hasDeletions: false });
  expect(await folder.read(place)).toBe('1\n2\n2\n');
  expect(await folder.paths(place, 'changed')).toEqual(['./d/e/a']);
});

for (const name of ['GNU find', 'busybox']) {
  test(`${name}: read-only folders are copied, and linked into, by an ordinary user too`, async () => {
    await using folder = await SupervisorFolder.make();
    await folder.part('first', 'mkdir -p d/ro own; echo 1 >d/ro/a; echo 1 >own/f; chmod 555 d/ro d own');
    await folder.part('second', 'mkdir -p d/ro; echo 2 >d/ro/b; chmod 555 d/ro d');
    let path = name === 'busybox' ? await busyboxPath(folder) : `${process.env.PATH}`;
    if (process.getuid?.() === 0) {
      // Becomes an ordinary user on its way.
      const bin = join(folder.path, 'bin');
      await mkdir(bin);
      const become = `${findProgram('setpriv')} --reuid=65534 --regid=65534 --clear-groups`;
      const bash = `#!/bin/sh\n[ "$(id -u)" != 0 ] || exec ${become} ${findProgram('bash')} "$@"\nexec ${findProgram('bash')} "$@"\n`;
      await writeFile(join(bin, 'bash'), bash, { mode: 0o755 });
      for (const one of ['.', 'runs', 'trees', 'leases']) await chown(join(folder.path, one), 65534, 65534);
      await runOrThrow('chown', ['-R', '65534:65534', join(folder.path, 'trees')]);
      path = `${bin}:${path}`;
    }
    const one = await folder.open({ PATH: path }, 'cp -a');
    const links = [{ path: 'd/ro/new/link', target: '/' }];
    const call = { links, back: 'changed' } as const;
    const show =
      'id -u; (cd d/ro && echo *); stat -c "%a %n" d/ro d own; touch d/ro/no || chmod 700 d/ro; rm -r d/ro/b';
    const both = one.run('both', show, { ...call, parts: ['first', 'second'] });
    expect(await one.report(both, 'ended')).toMatchObject({
      exitCode: 0,
      hasFiles: false,
      hasDeletions: true,
    });
    const [user, ...shown] = (await folder.read(both)).trim().split('\n');
    expect(Number(user)).not.toBe(0);
    expect(shown).toEqual(['a b new', '555 d/ro', '555 d', '555 own']);
    expect(await folder.paths(both, 'deleted')).toEqual(['./d/ro/b']);
    const alone = one.run('alone', 'echo d/ro/*; exit 4', { ...call, parts: ['first'] });
    expect(await one.report(alone, 'ended')).toMatchObject({ exitCode: 4, hasFiles: false });
    expect(await folder.read(alone)).toBe('d/ro/a d/ro/new\n');
    // A folder that cannot be read could hold anything.
    for (const isSmallTree of [false, true]) {
      const shut = one.run(`shut-${isSmallTree}`, 'mkdir e; echo >e/f; chmod 0 e; exit 3', {
        parts: ['first'],
        isSmallTree,
        back: 'changed',
      });
      const failed = await one.report(shut, 'failed');
      expect(failed.exitCode).toBe(3);
      expect(failed.reason).toMatch(/^cannot list what the job made: .*(Permission denied|cannot be read)/);
      await until(() => folder.read(shut, 'exit'));
      await chmod(join(folder.file(shut, 'work'), 'e'), 0o700);
      one.supervisor.adopt(shut);
      expect(await one.report(shut, 'ended')).toMatchObject({ exitCode: 3, hasFiles: true });
      expect(await folder.paths(shut, 'changed')).toEqual(['./e/f']);
    }
    await runOrThrow('chmod', ['-R', 'u+w', folder.path]);
  });
}

for (const kind of ['of a tree', 'of a small tree', 'without a tree']) {
  test(`a job ${kind} that fills its machine's disk is recorded, and listed once there is room`, async () => {
    await using disk = await smallDisk(4);
    if (disk === undefined) return;
    await using folder = await SupervisorFolder.make(disk.path);
    await folder.part('part', 'echo 1 >kept; echo 1 >edited; echo 1 >gone');
    const call = {
      parts: kind === 'without a tree' ? [] : ['part'],
      isSmallTree: kind === 'of a small tree',
      back: 'changed',
    } as const;
    const one = await folder.open();
    const fill = 'rm -f gone; echo 2 >>edited; head -c 100M /dev/zero >big; exit 6';
    const place: AttemptPlace = one.run('fills', fill, call);
    const failed = await one.report(place, 'failed');
    expect(failed.exitCode).toBe(6);
    expect(failed.reason).toMatch(/^cannot list what the job made.*(disk full|No space left)/);
    expect(await until(() => folder.read(place, 'exit'))).toMatch(/^6 .* unlisted *\n/);
    // Still full: the same again.
    const second = await folder.open();
    second.supervisor.adopt(place);
    expect((await second.report(place, 'failed')).exitCode).toBe(6);
    const started = second.run('later', 'true', call);
    expect((await second.report(started, 'failed')).exitCode).toBe(undefined);
    await rm(join(folder.file(place, 'work'), 'big'));
    const third = await folder.open();
    third.supervisor.adopt(place);
    const hasDeletions = kind !== 'without a tree';
    expect(await third.report(place, 'ended')).toMatchObject({ exitCode: 6, hasFiles: true, hasDeletions });
    expect(await folder.paths(place, 'changed')).toEqual(['./edited']);
    expect(await folder.paths(place, 'deleted')).toEqual(hasDeletions ? ['./gone'] : []);
    expect(await readFile(folder.file(place, 'exit'), 'utf8')).toMatch(/^6 .* done *\n/);
  });
}
