/** A project with everything that a name or a mode can be, for tests of what carries files. */
import { randomBytes } from 'node:crypto';
import {
  appendFile,
  chmod,
  lstat,
  mkdir,
  readdir,
  readFile,
  readlink,
  rename,
  rm,
  symlink,
  writeFile,
} from 'node:fs/promises';
import { join } from 'node:path';

/** Every path with what it is, below a folder. */
export async function contents(root: string, path: Uint8Array = Buffer.from('')): Promise<string[]> {
  const names = await readdir(Buffer.concat([Buffer.from(`${root}/`), path]), { encoding: 'buffer' });
  const found = names.map(async (name) => {
    const inside = path.length === 0 ? name : Buffer.concat([path, Buffer.from('/'), name]);
    const full = Buffer.concat([Buffer.from(`${root}/`), inside]);
    const stat = await lstat(full);
    const line = `${inside.toString('latin1')} ${stat.mode.toString(8)}`;
    if (stat.isSymbolicLink()) return [`${line} -> ${await readlink(full, 'latin1')}`];
    if (stat.isDirectory()) return [line, ...(await contents(root, inside))];
    return [`${line} ${await readFile(full, 'latin1')}`];
  });
  return (await Promise.all(found)).flat().sort();
}

/** A project with everything that a name or a mode can be. */
export async function makeOddProject(root: string): Promise<void> {
  const project = (...path: string[]) => join(root, ...path);
  const names = ['plain', 'with space', 'quote\'s "here"', 'new\nline', '-rf', '--help', 'ünï', '$HOME', '*'];
  for (const name of [
    ...names,
    'back\\slash',
    'back\\nslash',
    '%d',
    ' first',
    'last ',
    'n'.repeat(255),
    'all',
  ])
    await writeFile(project(name), `content of ${name}`);
  const bytes = Buffer.concat([Buffer.from(project('')), Buffer.from('/not utf8 \xff\xfe\x81', 'latin1')]);
  await writeFile(bytes, 'bytes');
  await mkdir(project('empty'));
  await mkdir(project('deep/er/est'), { recursive: true });
  await writeFile(project('deep/er/est/zero'), '');
  await writeFile(project('run.sh'), '#!/bin/sh\n', { mode: 0o755 });
  await writeFile(project('secret'), 'x', { mode: 0o600 });
  await writeFile(project('for all'), 'x');
  await chmod(project('for all'), 0o666); // beyond any usual umask
  await symlink('deep/er', project('link'));
  await symlink('/no/such\nplace \\n', project('dangling'));
  await mkdir(project('read-only'));
  for (const name of ['kept', 'changed', 'removed'])
    await writeFile(project('read-only', name), 'x', { mode: 0o444 });
  await chmod(project('read-only'), 0o555);
  await writeFile(project('big'), randomBytes(300_000));
}

/** Changes that a tree can undergo. */
export async function editOddProject(root: string): Promise<void> {
  const project = (...path: string[]) => join(root, ...path);
  await appendFile(project('plain'), 'more');
  await rm(project('new\nline'));
  await rename(project('big'), project('deep/moved\nand renamed'));
  await chmod(project('with space'), 0o755);
  await chmod(project('deep'), 0o700);
  await rm(project('back\\slash'));
  await mkdir(project('back\\slash'));
  await rm(project('empty'), { recursive: true });
  await writeFile(project('empty'), 'a file now');
  await rm(project('link'));
  await symlink('deep', project('link'));
  await rm(project('deep/er/est'), { recursive: true });
  await mkdir(project('new/folder'), { recursive: true });
  await chmod(project('read-only'), 0o755);
  await rm(project('read-only/removed'));
  await rm(project('read-only/changed'));
  await writeFile(project('read-only/changed'), 'other', { mode: 0o444 });
  await chmod(project('read-only'), 0o555);
}
