/** The store of job scripts, with real files, and the shell text that runs one, under a real bash and a real supervisor. */
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { chmod, mkdir, readdir, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';
import { UsageError } from '../../src/lib/domain/errors.ts';
import type { QueueJobSpec } from '../../src/lib/domain/queue.ts';
import {
  checkScriptName,
  MAX_SCRIPT_BYTES,
  ScriptMissingError,
  ScriptStore,
  sameScript,
  scriptCommand,
} from '../../src/lib/queue/script-store.ts';
import { LocalRunner, smallJob } from '../runner/local-runner.ts';
import { scratch } from './programs.ts';

const run = promisify(execFile);
const sha256 = (text: string) => createHash('sha256').update(text).digest('hex');
const mode = async (path: string) => (await stat(path)).mode & 0o777;

/** All that a shell could stumble over. */
const ODD = [
  `it's "quoted" \\n $HOME \`id\` $(id) !! %s %d \\\\`,
  'EOF',
  "'EOF'",
  'tab\there, carriage return\r',
  'é 漢字 🙂 \u2028 \ufeff',
  Array.from({ length: 31 }, (_, at) => String.fromCharCode(at + 1)).join(''),
  '\x7f\u0080 end without a newline',
].join('\n');

/** Runs a script's shell text as a supervisor does, in an attempt's folder of its own. */
async function runScript(
  folder: string,
  call: { readonly name?: string; readonly text: string; readonly args?: readonly string[] },
  env: NodeJS.ProcessEnv = {},
) {
  const { name = 'job.sh', text, args = [] } = call;
  await mkdir(join(folder, 'work'), { recursive: true });
  await writeFile(join(folder, 'script'), `${scriptCommand({ name, text, args })}\n`);
  const cwd = join(folder, 'work');
  return await run('bash', [join(folder, 'script')], { cwd, env: { ...process.env, ...env } });
}

test('a text is kept once, privately, under its SHA-256, and comes back as it was', async () => {
  await using folder = await scratch();
  const scripts = join(folder.path, 'scripts');
  const store = new ScriptStore(scripts);
  const ids = await Promise.all([store.keep(ODD), store.keep(ODD), store.keep(''), store.keep('a\0b')]);
  expect(ids).toEqual([sha256(ODD), sha256(ODD), sha256(''), sha256('a\0b')]);
  expect((await readdir(scripts)).sort()).toEqual([...new Set(ids)].sort());
  expect(await mode(scripts)).toBe(0o700);
  expect(await mode(join(scripts, sha256(ODD)))).toBe(0o600);
  const later = new ScriptStore(scripts);
  expect(await later.text(sha256(ODD))).toBe(ODD);
  expect(await later.texts([...ids, ...ids])).toEqual(
    new Map([
      [sha256(ODD), ODD],
      [sha256(''), ''],
      [sha256('a\0b'), 'a\0b'],
    ]),
  );
});

test('a folder that others could look into is closed', async () => {
  await using folder = await scratch();
  const scripts = join(folder.path, 'scripts');
  await mkdir(scripts);
  await chmod(scripts, 0o755);
  new ScriptStore(scripts);
  expect(await mode(scripts)).toBe(0o700);
});

test('what is missing, damaged or no id is told; keeping the text again mends it', async () => {
  await using folder = await scratch();
  const id = await new ScriptStore(folder.path).keep('echo hello');
  const store = new ScriptStore(folder.path);
  await writeFile(join(folder.path, id), 'echo bye');
  await expect(store.text(id)).rejects.toThrow(/was changed/);
  await expect(store.text(id)).rejects.toThrow(ScriptMissingError);
  await store.keep('echo hello');
  expect(await store.text(id)).toBe('echo hello');
  await expect(store.text(sha256('other'))).rejects.toThrow(/cannot read the script .*ENOENT/);
  await expect(store.texts(['../lock'])).rejects.toThrow(/'..\/lock' is no script's id/);
});

test('texts that are not in use go, but for those that were kept just now', async () => {
  await using folder = await scratch();
  const fresh = new ScriptStore(folder.path);
  const [a, b, c] = await Promise.all(['a', 'b', 'c'].map((text) => fresh.keep(text)));
  if (a === undefined || b === undefined || c === undefined) throw new Error('not kept');
  await writeFile(join(folder.path, 'note'), 'not ours');
  await writeFile(join(folder.path, `${a}.partial-0123456789ab`), 'half');
  expect(await fresh.removeExcept([b])).toBe(0);
  expect((await readdir(folder.path)).sort()).toEqual([a, b, c, 'note'].sort());
  const later = new ScriptStore(folder.path, { settleMs: 0 });
  await later.keep('a');
  expect(await later.removeExcept([b])).toBe(2);
  expect((await readdir(folder.path)).sort()).toEqual([b, 'note'].sort());
  expect(await later.keep('a')).toBe(a);
  expect(await later.text(a)).toBe('a');
});

test('a text that is too long, or no text, is refused', async () => {
  await using folder = await scratch();
  const store = new ScriptStore(folder.path);
  await expect(store.keep('x'.repeat(MAX_SCRIPT_BYTES + 1))).rejects.toThrow(
    new UsageError('the script has 1048577 bytes: expected at most 1 MiB'),
  );
  await expect(store.keep('half \ud83d of a pair')).rejects.toThrow(UsageError);
  expect(await readdir(folder.path)).toEqual([]);
});

test.each(['', '.', '..', 'a/b', 'a\nb', '\u2028', 'é'.repeat(101), '\ud83d'])(
  'the name %j is refused',
  (name) => {
    expect(() => checkScriptName(name)).toThrow(UsageError);
    expect(() => scriptCommand({ name, text: '', args: [] })).toThrow(UsageError);
  },
);

test('a script comes to its machine byte for byte, private and executable', async () => {
  await using folder = await scratch();
  for (const [text, locale] of [
    [ODD, 'C'],
    [ODD, 'C.UTF-8'],
    [`a\0b\0\0${ODD}\0`, 'C'],
    ['\n\n', 'C'],
  ] as const) {
    const path = join(folder.path, sha256(text + locale));
    const name = "it's a -n %s 漢\\字.sh";
    // It prints itself: what is behind `exit` is never read as a command.
    const whole = `cat "$0"; exit\n${text}`;
    const { stdout } = await runScript(path, { name, text: whole }, { LC_ALL: locale });
    expect(stdout).toBe(whole);
    const file = join(path, 'script-file', name);
    expect(await readFile(file, 'utf8')).toBe(whole);
    expect(await mode(file)).toBe(0o700);
    expect(await mode(join(path, 'script-file'))).toBe(0o700);
    expect(await readdir(join(path, 'work'))).toEqual([]);
  }
});

test('a script has its arguments, its own name and its folder', async () => {
  await using folder = await scratch();
  const text = 'printf "<%s>" "$0" "$#" "$@" "$PWD"; exit 7';
  const args = ['', "it's", '-n', '--', '$HOME', 'two words', 'new\nline', '*', ODD];
  const failure = await runScript(folder.path, { name: '-x', text, args }).then(
    () => undefined,
    (error: { readonly stdout: string; readonly code: number }) => error,
  );
  expect(failure?.code).toBe(7);
  const file = join(folder.path, 'script-file/-x');
  const words = [file, String(args.length), ...args, join(folder.path, 'work')];
  expect(failure?.stdout).toBe(words.map((word) => `<${word}>`).join(''));
});

test('#! says what a script runs under, else it is bash', async () => {
  await using folder = await scratch();
  const at = (name: string) => join(folder.path, name);
  const cat = '#! /bin/cat\nno shell reads this';
  expect((await runScript(at('cat'), { text: cat })).stdout).toBe(cat);
  const bash = await runScript(at('bash'), { text: 'printf "%s" "$BASH_VERSION"; [[ a == a ]]' });
  expect(bash.stdout).toMatch(/^\d+\.\d+/);
  expect((await runScript(at('empty'), { text: '' })).stdout).toBe('');
  // Versions of bash differ in words and exit code.
  const none = runScript(at('none'), { text: '#!/no/such/program\n' });
  await expect(none).rejects.toThrow(/bad interpreter|cannot execute/);
});

test('an argument or a script that cannot be is refused', () => {
  expect(() => scriptCommand({ name: 'a', text: '', args: ['x\0y'] })).toThrow(/NUL/);
});

test('through a supervisor a script runs in the job’s folder, also where a setup line went elsewhere', async () => {
  await using local = await LocalRunner.open({ setup: 'cd /' });
  await using plain = await LocalRunner.open();
  const script = { name: 'my job', text: `cat "$0"; echo "$0"; pwd; exit 5\n${ODD}`, args: ['a b'] };
  const job = smallJob('s', scriptCommand(script), { copyBackwards: 'changed' });
  expect(await local.run(job)).toEqual({ type: 'exited', exitCode: 5 });
  const out = await local.read('s.out');
  expect(out.slice(0, script.text.length)).toBe(script.text);
  expect(out.slice(script.text.length)).toMatch(/^\/.*\/s\/1\/script-file\/my job\n\/\n$/);
  expect(await plain.run(job)).toEqual({ type: 'exited', exitCode: 5 });
  expect(await plain.read('s.out')).toMatch(/\/s\/1\/work\n$/);
  expect(await readdir(plain.result('s'))).toEqual([]);
});

test('sameScript wants the same name and exactly the same arguments', () => {
  const spec = (script?: QueueJobSpec['script']) => ({ script }) as QueueJobSpec;
  const one = spec({ name: 'job.sh', id: sha256(''), args: ['a', 'b c'] });
  expect(sameScript(one, { script: 'job.sh', args: ['a', 'b c'] })).toBe(true);
  expect(sameScript(one, { script: 'job.sh', args: ['a', 'b', 'c'] })).toBe(false);
  expect(sameScript(one, { script: 'job.sh', args: ['a'] })).toBe(false);
  expect(sameScript(one, { script: 'job.sh', args: ['a', 'b c', ''] })).toBe(false);
  expect(sameScript(one, { script: 'job.sh', args: ['b c', 'a'] })).toBe(false);
  expect(sameScript(one, { script: 'job', args: ['a', 'b c'] })).toBe(false);
  expect(sameScript(spec(), { script: 'job.sh', args: [] })).toBe(false);
});
