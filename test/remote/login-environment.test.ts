import { chmod } from 'node:fs/promises';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { machineName } from '../../src/lib/domain/machine.ts';
import { LocalHost } from '../../src/lib/remote/local-host.ts';
import { parseEnvironment, readLoginEnvironment } from '../../src/lib/remote/login-environment.ts';
import { runOrThrow } from '../rig/command.ts';
import { scratch } from './run-over.ts';

let folder: Awaited<ReturnType<typeof scratch>>;
beforeEach(async () => {
  folder = await scratch();
});
afterEach(() => folder[Symbol.asyncDispose]());

/** A host whose user has this login shell. */
const hostWith = (shell: string) =>
  new LocalHost(machineName('here'), {
    home: folder.path,
    env: { PATH: '/usr/bin:/bin', HOME: folder.path, SHELL: shell, SSH_CONNECTION: '1 2 3 4', DISPLAY: ':9' },
  });

/** What a shell has after it evaluated the exports. */
async function evaluated(exports: Buffer): Promise<Map<string, string>> {
  const path = await folder.write('exports', '');
  await runOrThrow('tee', [path], { input: exports.toString('utf8') });
  const text = await runOrThrow('bash', ['--norc', '--noprofile', '-c', '. "$1"; env -0', 'x', path], {
    env: { PATH: '/usr/bin:/bin' },
  });
  const pairs = text.split('\0').map((entry) => /^([^=]+)=([\s\S]*)$/.exec(entry));
  return new Map(pairs.flatMap((pair) => (pair ? [[pair[1] ?? '', pair[2] ?? '']] : [])));
}

/** An answer as a login shell gives it. */
const MARK = '\0ssh-scheduler-environment\0';
const answer = (...entries: string[]) =>
  Buffer.from(`noise\n${MARK}${entries.map((entry) => `${entry}\0`).join('')}${MARK}more noise`, 'latin1');

test('reads what the start files of an interactive login set', async () => {
  await folder.write('.bash_profile', 'export FROM_PROFILE=1\n. ~/.bashrc\necho noise\n');
  await folder.write(
    '.bashrc',
    `case $- in *i*) ;; *) return;; esac\nexport PATH=/opt/tool:$PATH FROM_BASHRC="two\nlines 'quoted' \\$HOME"\n`,
  );
  const { exports, problem } = await readLoginEnvironment(hostWith('/bin/bash'));
  expect(problem).toBeUndefined();
  const there = await evaluated(exports);
  expect(there.get('FROM_PROFILE')).toBe('1');
  expect(there.get('FROM_BASHRC')).toBe("two\nlines 'quoted' $HOME");
  expect(there.get('PATH')).toMatch(/^\/opt\/tool:/);
  for (const name of ['SSH_CONNECTION', 'DISPLAY', 'JOB_NAME']) expect(there.has(name)).toBe(false);
});

test('a login shell that hangs, ends or prints without end is told, and jobs do without', async () => {
  const shells = {
    hangs: '#!/bin/sh\nexec sleep 100\n',
    ends: '#!/bin/sh\nexit 1\n',
    floods: '#!/bin/sh\nexec yes\n',
    'knows no flags': '#!/bin/sh\necho "usage: $0" >&2; exit 64\n',
  };
  await Promise.all(
    Object.entries(shells).map(async ([name, text]) => {
      const shell = await folder.write(name.replaceAll(' ', '-'), text);
      await chmod(shell, 0o755);
      const read = await readLoginEnvironment(hostWith(shell), 1000);
      expect(read.exports.length, name).toBe(0);
      expect(read.problem, name).toMatch(
        /the login shell (did not answer|took longer than 1 s); jobs get the plain environment/,
      );
    }),
  );
});

test('keeps values byte for byte and drops names that a shell cannot have', async () => {
  const exports = parseEnvironment(
    answer(
      'GOOD=a=b\nc',
      'BASH_FUNC_x%%=() { evil; }',
      'a-b=1',
      '1A=2',
      'EMPTY=',
      'no equals sign',
      'BYTES=\xff\xfe',
      "Q='; touch evil; '",
    ),
  );
  expect(exports?.toString('latin1')).toBe(
    "export GOOD='a=b\nc'\nexport EMPTY=''\nexport BYTES='\xff\xfe'\nexport Q=''\\''; touch evil; '\\'''",
  );
});

test('drops what belongs to one session alone', () => {
  const session = [
    'PWD=/',
    'SHLVL=1',
    '_=x',
    'TERM=xterm',
    'SSH_AUTH_SOCK=/x',
    'TMUX_PANE=1',
    'XDG_RUNTIME_DIR=/run',
    'IFS=:',
    'UID=0',
    'JOB_ID=1',
  ];
  expect(parseEnvironment(answer(...session, 'KEEP=1'))?.toString()).toBe("export KEEP='1'");
});

test('an answer without both marks is none', () => {
  for (const text of ['', 'noise', MARK, `${MARK}A=1\0`])
    expect(parseEnvironment(Buffer.from(text))).toBeUndefined();
  expect(parseEnvironment(Buffer.from(`${MARK}A=1\0${MARK}`))?.toString()).toBe("export A='1'");
});
