/**
 * What the README promises: its files are there, its commands are options of ours and run on `local`, the examples run,
 * and the code of docs/library.md compiles and runs.
 */
import { existsSync } from 'node:fs';
import { cp, mkdtemp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { parseToArguments, HELP as TO_HELP } from '../src/cli/to-arguments.ts';
import { type CommandResult, runCommand, runOrThrow } from './rig/command.ts';

const root = resolve(import.meta.dirname, '..');
const SMALL = ['--no-gpu-required', '--memory-required', '50', '--num-cpus', '0.1'];

/** A project as a user has it after installing: the examples, and the commands in PATH. */
interface Project extends AsyncDisposable {
  readonly path: string;
  /** Runs a line of shell in the project. */
  sh(line: string): Promise<CommandResult>;
  read(path: string): Promise<string>;
}

let built: string;

// A copy: dist/ may be rebuilt by others while these tests run.
beforeAll(async () => {
  built = await mkdtemp(join(tmpdir(), 'examples-build-'));
  await cp(join(root, 'dist'), join(built, 'dist'), { recursive: true });
  await cp(join(root, 'package.json'), join(built, 'package.json'));
  await symlink(join(root, 'node_modules'), join(built, 'node_modules'));
  await writeFile(
    join(built, 'bin.sh'),
    ['batch', 'remote']
      .map((name) => `execute_${name}() { node ${built}/dist/cli/execute-${name}.js "$@"; }\n`)
      .join(''),
  );
  return () => rm(built, { recursive: true, force: true });
});

async function project(): Promise<Project> {
  const path = await mkdtemp(join(tmpdir(), 'examples-'));
  await cp(join(root, 'examples'), join(path, 'examples'), { recursive: true });
  await cp(join(root, 'package.json'), join(path, 'package.json'));
  await symlink(join(built, 'dist'), join(path, 'dist'));
  return {
    path,
    sh: (line) => runCommand('bash', ['-c', `. ${built}/bin.sh\n${line}`], { cwd: path, timeoutMs: 60_000 }),
    read: (name) => readFile(join(path, name), 'utf8'),
    [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }),
  };
}

describe('examples', () => {
  test('npm run quickstart runs three lines on this machine', async () => {
    await using here = await project();
    const first = await here.sh('npm run --silent quickstart');
    expect(first.stderr).toContain('3 done, 0 failed, 0 skipped, 0 not run');
    expect(first.exitCode).toBe(0);
    expect(first.stdout.match(/^finished: /gm)).toHaveLength(3);
    expect(await here.read('job_results/examples_quickstart.sh.2.out')).toBe(
      'another job\na combined job (bash syntax applies)\n',
    );
    expect(await readdir(join(here.path, 'job_results/examples_quickstart.sh.3'))).toEqual([
      'result-of-examples_quickstart.sh.3.txt',
    ]);
    const again = await here.sh('npm run --silent quickstart');
    expect(again.stderr).toContain('0 done, 0 failed, 3 skipped, 0 not run');
    expect(again.exitCode).toBe(0);
  });

  test('the batch of the README: one line fails, three have good results', async () => {
    await using here = await project();
    const { stdout, stderr, exitCode } = await here.sh(
      `execute_batch examples/batch_script.sh --machines local ${SMALL.join(' ')}`,
    );
    expect(exitCode, stderr).toBe(1);
    expect(stdout).toMatch(/^failed: examples_batch_script\.sh\.2; .*\(exited 1, local, /m);
    expect(stdout.match(/^finished: /gm)).toHaveLength(3);
    expect(await here.read('job_results/examples_batch_script.sh.1.out')).toBe('one job\n');
    expect(await here.read('job_results/examples_batch_script.sh.4.out')).toContain(
      'running on local as examples_batch_script.sh.4\n',
    );
  });

  test('lines that name their own files get these and no others', async () => {
    await using here = await project();
    const { exitCode, stderr } = await here.sh(
      `execute_batch examples/own_files.sh --machines local ${SMALL.join(' ')}`,
    );
    expect(exitCode, stderr).toBe(0);
    expect(await here.read('job_results/example1.out')).toContain('round 3 of 3');
    expect(await here.read('job_results/example2/examples/example2/rounds.log')).toContain('round 5 of 5');
  });

  test('run.sh stops at the machine file that has to be filled in', async () => {
    await using here = await project();
    const { exitCode, stderr } = await here.sh('HOME=$PWD; export -f execute_batch; bash examples/run.sh');
    expect(stderr).toMatch(/examples\/machine\.yaml:\d+:\d+: found "~\/\.ssh\/id_ssh_key"/);
    expect(exitCode).toBe(255);
  });

  test('the machine files are right but for their keys', async () => {
    await using here = await project();
    const { exitCode, stderr } = await here.sh(
      'HOME=$PWD; mkdir .ssh && touch .ssh/id_ssh_key && ' +
        'execute_batch /dev/null --machines examples/machine.yaml examples/machine2.yaml',
    );
    expect(stderr).toContain('the batch file /dev/null is empty'); // which is looked at behind the machines
    expect(exitCode).toBe(255);
  });
});

describe('documents', () => {
  const documents = ['README.md', 'CHANGELOG.md', 'docs', 'test/rig/README.md'];

  test('every link leads to a file', async () => {
    const missing: string[] = [];
    for (const file of await markdownFiles(documents)) {
      const text = await readFile(join(root, file), 'utf8');
      for (const [, target = ''] of text.matchAll(/\]\(([^)#\s]+)(?:#[^)]*)?\)/g)) {
        if (/^https?:/.test(target)) continue;
        if (!existsSync(join(root, dirname(file), target))) missing.push(`${file}: ${target}`);
      }
    }
    expect(missing).toEqual([]);
  });

  test('every file and script that the README names is there', async () => {
    const text = await readFile(join(root, 'README.md'), 'utf8');
    const paths = text.match(/\b(?:examples|docs)\/[\w./-]*\w/g) ?? [];
    expect(paths.filter((path) => !existsSync(join(root, path)))).toEqual([]);
    const { scripts } = JSON.parse(await readFile(join(root, 'package.json'), 'utf8')) as {
      scripts: Record<string, string>; // our own package.json
    };
    const named = [...text.matchAll(/npm run ([a-z:]+)/g)].map(([, name = '']) => name);
    expect(named.filter((name) => scripts[name] === undefined)).toEqual([]);
  });

  test('the README shows the examples as they are', async () => {
    const text = await readFile(join(root, 'README.md'), 'utf8');
    const own = await readFile(join(root, 'examples/own_files.sh'), 'utf8');
    expect(text).toContain(await readFile(join(root, 'examples/batch_script.sh'), 'utf8'));
    expect(text).toContain(own.replaceAll(/^#.*\n/gm, ''));
  });

  test('the README names every option of execute_batch, and no other', async () => {
    const text = await readFile(join(root, 'README.md'), 'utf8');
    const help = await runOrThrow('node', [join(built, 'dist/cli/execute-batch.js'), '--help']);
    const options = (from: string) => new Set(from.match(/--[a-z][a-z-]+/g));
    const table = text.slice(text.indexOf('### execute_batch'), text.indexOf('### execute_remote'));
    expect([...options(help)].filter((option) => !options(table).has(option))).toEqual([]);
    expect([...options(table)].filter((option) => !options(help).has(option))).toEqual([]);
  });

  test('the commands of the README do what they say, on `local`', async () => {
    await using here = await project();
    const lines = (await shellLines('README.md')).filter((line) => line.startsWith('execute_'));
    const calls = lines.filter(
      // Those are lines of a batch, and those are for machines that we have not got.
      (line) => !line.includes('--job-name example') && !line.startsWith('execute_to '),
    );
    expect(calls.length).toBeGreaterThan(6);
    for (const line of calls) {
      // The same command, asked of this machine for what any laptop has; `--dry-run` where a GPU would be needed.
      const isBatch = line.startsWith('execute_batch');
      const call = line.replace(/--machines (?:examples\/\S+ ?)+/, '--machines local ');
      const { exitCode, stdout, stderr } = await here.sh(
        isBatch ? `${call} --dry-run` : `${call}; code=$?; rm -rf job_results; exit $code`,
      );
      if (isBatch) expect(stdout, `${line}\n${stderr}`).toMatch(/^dry run: /m);
      else expect(exitCode, `${line}\n${stderr}`).toBe(0);
    }
  });

  test('the README calls execute_to as it is to be called', async () => {
    const lines = (await shellLines('README.md')).filter((line) => line.startsWith('execute_to '));
    expect(lines.length).toBeGreaterThan(3);
    for (const line of lines) {
      const quoted = line.replace(/ <\S+/, '');
      const words = await runOrThrow('bash', ['-c', `execute_to() { printf '%s\\0' "$@"; }\n${quoted}`]);
      expect(parseToArguments(words.split('\0').slice(0, -1)), line).toHaveProperty('command');
    }
  });

  test('the documents call job_queue as it is to be called, and docs/queue.md tells of every command', async () => {
    const groups = ['service', 'machines', 'submit', 'look', 'jobs', 'follow', 'state', 'watch'];
    const commands = new Map<string, { parse(argv: readonly string[]): unknown }>();
    for (const group of groups) {
      const { COMMANDS } = (await import(`../src/cli/queue/${group}.ts`)) as {
        COMMANDS: Record<string, { parse(argv: readonly string[]): unknown }>; // as each group exports
      };
      for (const [name, command] of Object.entries(COMMANDS)) commands.set(name, command);
    }
    const texts = await Promise.all(['README.md', 'docs/queue.md', 'docs/sjq.md'].map(shellLines));
    const lines = texts.flat().filter((line) => line.startsWith('job_queue '));
    expect(lines.length).toBeGreaterThan(15);
    for (const line of lines) {
      const words = await runOrThrow('bash', [
        '-c',
        `job_queue() { printf '%s\\0' "$@"; }\n${line.replace(/ >\S+/, '')}`,
      ]);
      const argv = words.split('\0').slice(0, -1);
      const name = argv.splice(argv[0]?.startsWith('--') === true ? 2 : 0, 1)[0] ?? '';
      expect(() => commands.get(name)?.parse(argv), line).not.toThrow();
      expect(commands.has(name), line).toBe(true);
    }
    const text = await readFile(join(root, 'docs/queue.md'), 'utf8');
    expect(
      [...commands.keys()].filter(
        (name) => !text.includes(`\`${name}`) && !text.includes(`job_queue ${name}`),
      ),
    ).toEqual([]);
  });

  test('docs/execute-to.md names every option of execute_to, and no other', async () => {
    const text = await readFile(join(root, 'docs/execute-to.md'), 'utf8');
    const options = (from: string) => new Set(from.match(/--[a-z][a-z-]+/g));
    const own = options(TO_HELP);
    for (const plain of ['--help', '--version']) own.delete(plain);
    expect([...own].filter((option) => !options(text).has(option))).toEqual([]);
    expect([...options(text)].filter((option) => !own.has(option))).toEqual([]);
  });
});

describe('library', () => {
  test('the code of docs/library.md compiles and runs', { timeout: 60_000 }, async () => {
    await using here = await project();
    await rm(join(here.path, 'package.json'));
    await writeFile(join(here.path, 'package.json'), '{"type":"module"}');
    await runOrThrow('mkdir', ['-p', join(here.path, 'node_modules')]);
    await symlink(built, join(here.path, 'node_modules/ssh-scheduler'));
    await symlink(join(root, 'node_modules/@types'), join(here.path, 'node_modules/@types'));
    const blocks = await codeBlocks('docs/library.md', 'ts');
    const names = blocks.map((_, i) => `block${i}`);
    await Promise.all(blocks.map((text, i) => writeFile(join(here.path, `block${i}.ts`), text)));
    const strict = '--strict --noUncheckedIndexedAccess --exactOptionalPropertyTypes --skipLibCheck';
    const target =
      '--target es2023 --lib es2023,esnext.disposable --module nodenext --types node --ignoreConfig';
    const compiled = await here.sh(
      `${join(root, 'node_modules/.bin/tsc')} ${strict} ${target} ${names.map((name) => `${name}.ts`).join(' ')}`,
    );
    expect(compiled.stdout).toBe('');
    const outputs: string[] = [];
    for (const name of names) {
      const { exitCode, stdout, stderr } = await here.sh(`HOME=$PWD node ${name}.js`);
      expect(exitCode, `${name}: ${stderr}`).toBe(0);
      outputs.push(stdout);
    }
    expect(outputs[0]).toContain('3 of 3 lines have a good result');
    expect(outputs[1]).toContain("this is local\n{ type: 'exited', exitCode: 3 }");
    expect(outputs[2]).toContain('local: this is local\n\nall well\n');
    expect(outputs[3]).toContain('such jobs fit; ');
    expect(outputs[4]).toMatch(/name: 'job_2',\s+state: 'fail'/);
    expect(outputs[5]).toContain('6 fit; then: ');
  });

  test('importing it loads neither ssh, YAML, tar nor the command line', async () => {
    const hook =
      'import { writeSync } from "node:fs"; export async function load(u, c, n) { writeSync(2, u + "\\n"); return n(u, c); }';
    const register = `import { register } from 'node:module'; register('data:text/javascript,' + ${JSON.stringify(encodeURIComponent(hook))});`;
    const { stderr } = await runCommand('node', [
      '--import',
      `data:text/javascript,${encodeURIComponent(register)}`,
      '--input-type=module',
      '-e',
      `import ${JSON.stringify(join(built, 'dist/lib/index.js'))}`,
    ]);
    const packages = new Set([...stderr.matchAll(/node_modules\/(?:@[^/]+\/)?([^/\n]+)/g)].map(([, n]) => n));
    expect(stderr).toContain('dist/lib/index.js');
    expect(
      ['ssh2', 'node-ssh', 'yaml', 'tar', 'yargs', 'systeminformation', 'fs-extra', 'log-update'].filter(
        (n) => packages.has(n),
      ),
    ).toEqual([]);
  });
});

async function markdownFiles(names: readonly string[]): Promise<string[]> {
  const files: string[] = [];
  for (const name of names) {
    if (name.endsWith('.md')) files.push(name);
    else for (const file of await readdir(join(root, name))) files.push(`${name}/${file}`);
  }
  return files.filter((file) => file.endsWith('.md'));
}

/** The fenced blocks of one language in a document. */
async function codeBlocks(file: string, language: string): Promise<string[]> {
  const text = await readFile(join(root, file), 'utf8');
  const blocks = text.matchAll(/^```(\S*)\n([\s\S]*?)^```$/gm);
  return [...blocks].filter(([, name]) => name === language).map(([, , block = '']) => block);
}

async function shellLines(file: string): Promise<string[]> {
  return (await codeBlocks(file, 'sh')).flatMap((block) => block.trimEnd().split('\n'));
}
