/** Files from the outside: what is sent, what stays, what comes home, and what happens when it cannot. */
import { randomBytes } from 'node:crypto';
import { lstat, mkdir, readdir, readFile, readlink, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { smallDisk } from '../files/small-disk.ts';
import { TestHosts } from '../rig/test-hosts.ts';
import { until } from '../rig/until.ts';
import { hostsAreMachines, linesOf, Project, TINY_CPU } from './run-command.ts';

let hosts: TestHosts;

beforeAll(async () => {
  hosts = await TestHosts.start([{ name: 'box' }, { name: 'small', diskMiB: 24 }]);
});
afterAll(() => hosts.close());

/** The events of a run with `--json`. */
const eventsOf = (stdout: string) =>
  linesOf(stdout).map((line) => JSON.parse(line) as { readonly [field: string]: unknown }); // an object, or the test fails

const batch = (project: Project, ...args: readonly string[]) =>
  project.batch('lines.sh', '--machines', 'box.yaml', ...TINY_CPU, ...args);

/** The folders of jobs on a host, as paths below its runs. */
async function jobFolders(name: string): Promise<string[]> {
  const runs = join(hosts.get(name).homeDir, '.cache/ssh-scheduler/runs');
  const all = await readdir(runs, { recursive: true }).catch(() => []);
  return all.filter((path) => /^[^/]+\/[^/]+\/[^/.][^/]*\/\d+$/.test(path));
}

describe.concurrent('forward', () => {
  test('lines that share paths and bring one small file each send each file once', async () => {
    await using project = await Project.start(hosts);
    for (let i = 0; i < 50; i++) await project.write(`code/${i}.py`, `module ${i} ${'x'.repeat(2000)}`);
    const lines: string[] = [];
    for (let i = 0; i < 40; i++) {
      await project.write(`inputs/${i}`, `input ${i}\n`);
      lines.push(
        `execute_remote --copy-forwards code inputs/${i} --copy-backwards --job-name n${i} 'cat inputs/${i}; ls code | wc -l; ls inputs | wc -l'`,
      );
    }
    await project.write('lines.sh', lines);
    const first = await batch(project, '--json');
    expect(first.exitCode).toBe(0);
    expect(await project.read('job_results/n37.out')).toBe('input 37\n50\n1\n');
    const sent = eventsOf(first.stdout).filter(({ type }) => type === 'tree:sent');
    const sum = (field: string) => sent.reduce((total, event) => total + Number(event[field]), 0);
    expect(sum('newFiles')).toBe(90);
    await rm(join(project.path, 'job_results'), { recursive: true });
    const second = await batch(project, '--json');
    expect(
      eventsOf(second.stdout).every(({ type, sentBytes }) => type !== 'tree:sent' || sentBytes === 0),
    ).toBe(true);
  });

  test('what stays behind, looks secret or points out is said; of the rest only what changed is sent again', async () => {
    await using project = await Project.start(hosts);
    for (const name of [
      '.git/config',
      'src/main.py',
      'src/__pycache__/main.pyc',
      'venv/pyvenv.cfg',
      'data/set',
      '.env',
    ])
      await project.write(name, `content of ${name}`);
    await project.write('src/weights', randomBytes(200_000));
    await project.write('.jobignore', 'data/\n');
    await symlink('/etc/hostname', join(project.path, 'src/out'));
    await project.write('lines.sh', ['find . -type f -o -type l | sort']);
    const first = await batch(project);
    expect(first.exitCode).toBe(0);
    expect(linesOf(await project.read('job_results/lines.sh.1.out'))).toEqual([
      './.env',
      './.jobignore',
      './lines.sh',
      './src/main.py',
      './src/out',
      './src/weights',
    ]);
    const notes = linesOf(first.stderr);
    const note = (pattern: RegExp) =>
      notes.find((line) => pattern.test(line)) ?? `nothing like ${pattern} in ${first.stderr}`;
    for (const name of [
      '.git',
      '__pycache__',
      'venv (Python virtual environment)',
      'box.yaml (machine file)',
      'data',
      'job_results',
    ])
      expect(note(/not sent: /)).toContain(name);
    expect(note(/secrets/)).toContain('.env');
    expect(note(/point out/)).toContain('src/out -> /etc/hostname');
    expect(note(/source tree of/)).toMatch(
      /box\.yaml: source tree of 5 files \(.*\) is there: 5 files \(.*\) sent$/,
    );

    await project.write('src/main.py', 'changed');
    await project.write('lines.sh', ['find . -type f -o -type l | sort', 'cat src/main.py']);
    const second = await batch(project);
    const told = linesOf(second.stderr).find((line) => line.includes('source tree of'));
    expect(told).toMatch(/is there: 2 files \(\d+ B\) sent, 19\d.* KiB were there$/);
    expect(second.stderr).toContain(
      '1 result that is there comes from an earlier state of the files that are sent',
    );
    const [one, two] = [await project.manifest('lines.sh.1'), await project.manifest('lines.sh.2')];
    expect(one.source_tree).toMatch(/^[0-9a-f]{40}$/);
    expect(two.source_tree).not.toBe(one.source_tree);
  });

  test('naming what stays behind sends it', async () => {
    await using project = await Project.start(hosts);
    await project.write('.git/config', 'git');
    await project.write('venv/pyvenv.cfg', 'v');
    await project.write('lines.sh', ['find . -type f | sort']);
    const { stderr, exitCode } = await batch(project, '--copy-forwards', '.git', 'venv', 'box.yaml');
    expect(exitCode).toBe(0);
    expect(linesOf(await project.read('job_results/lines.sh.1.out'))).toEqual([
      './.git/config',
      './box.yaml',
      './venv/pyvenv.cfg',
    ]);
    expect(stderr).toMatch(/secrets: box\.yaml/);
  });

  test('a shared input is sent once, linked and read-only; each job edits its own copy of the rest', async () => {
    await using project = await Project.start(hosts);
    await project.write('data/set/part 1', 'shared');
    await project.write('data/other', 'copied');
    await project.write('lines.sh', [
      'cat "data/set/part 1"; echo x >>data/other; cat data/other; ls -l data | grep -c "^l"',
      'cat "data/set/part 1" data/other',
      'touch data/set/new',
    ]);
    const { exitCode, stdout, stderr } = await batch(project, '--share-forwards', 'data/set');
    expect(stdout + stderr).toContain('failed: lines.sh.3');
    expect(exitCode).toBe(1);
    expect(await project.read('job_results/lines.sh.1.out')).toBe('sharedcopiedx\n1\n');
    expect(await project.read('job_results/lines.sh.2.out')).toBe('sharedcopied');
    expect(await project.read('job_results/lines.sh.3.err')).toMatch(/Permission denied/);
    expect(await project.list('job_results/lines.sh.1/data')).toEqual(['other']);
    expect(await project.list('job_results/lines.sh.2')).toEqual([]);
  });

  test('jobs of two small trees each work in their own, also in copies kept ready and after a kill', async () => {
    await using project = await Project.start(hosts);
    await project.write('a.txt', 'is a\n');
    await project.write('b.txt', 'is b\n');
    const line = (name: string, i: number) =>
      `execute_remote --job-name ${name}${i} --copy-forwards ${name}.txt --copy-backwards -- 'sleep 0.2; cat *.txt'`;
    const lines = ['a', 'b'].flatMap((name) => Array.from({ length: 30 }, (_, i) => line(name, i)));
    await project.write('lines.sh', lines);
    const first = project.startBatch(['lines.sh', '--machines', 'box.yaml', ...TINY_CPU]);
    await first.says(/finished: a25;/);
    first.signal('SIGKILL');
    await first.ended;
    await project.write('b.txt', 'is b now\n');
    const { exitCode, stderr } = await batch(project);
    expect([exitCode, stderr]).toEqual([0, expect.any(String)]);
    const printedIn = new Map<string, Set<string>>();
    for (let i = 0; i < 30; i++) {
      expect(await project.read(`job_results/a${i}.out`)).toBe('is a\n');
      const { source_tree: tree } = await project.manifest(`b${i}`);
      const printed = await project.read(`job_results/b${i}.out`);
      printedIn.set(String(tree), (printedIn.get(String(tree)) ?? new Set()).add(printed));
    }
    // What the killed run had started worked in the tree of then, and its manifest says so.
    const perTree = [...printedIn.values()].map((printed) => [...printed]);
    expect(perTree.every((printed) => printed.length === 1)).toBe(true);
    expect([['is b\n'], ['is b now\n']]).toEqual(expect.arrayContaining(perTree));
    expect(new Set(perTree.flat()).size).toBe(perTree.length);
  });

  test('a path that is not there is an error before anything runs', async () => {
    await using project = await Project.start(hosts);
    await project.write('lines.sh', ['true']);
    for (const flag of ['--copy-forwards', '--share-forwards']) {
      const { exitCode, stdout, stderr } = await batch(project, flag, 'no/such');
      expect([exitCode, stdout]).toEqual([255, '']);
      expect(stderr).toContain(`${flag}: no/such does not exist`);
    }
  });
});

describe.concurrent('back', () => {
  test('what was created, changed and deleted, each as what it is', async () => {
    await using project = await Project.start(hosts);
    await project.write('kept', 'k');
    await project.write('edited', 'before');
    await project.write('gone', 'g');
    await project.write('folder/a', 'a');
    await project.write('lines.sh', [
      'printf after_ >edited; rm -r gone folder; mkdir -p new/empty; ln -s kept link; printf x >"$(printf "odd\\377")"; chmod 700 new',
    ]);
    expect((await batch(project)).exitCode).toBe(0);
    const result = join(project.path, 'job_results/lines.sh.1');
    const names = await readdir(result, { recursive: true, encoding: 'latin1' });
    expect(names.sort()).toEqual(['edited', 'link', 'new', 'new/empty', 'odd\xff']);
    expect(await readlink(join(result, 'link'))).toBe('kept');
    expect((await lstat(join(result, 'edited'))).size).toBe(6);
    expect((await project.manifest('lines.sh.1')).deleted).toEqual(['folder', 'gone']);
  });

  test('named paths come whole; one that is not there is a warning, and the outcome stays', async () => {
    await using project = await Project.start(hosts);
    await project.write('models/base', 'unchanged');
    await project.write('lines.sh', ['echo 1 >log.1; echo 2 >log.2; echo 3 >other']);
    const { exitCode, stderr } = await batch(project, '--copy-backwards', 'models', 'log.*', 'model.pt');
    expect(exitCode).toBe(0);
    expect(await project.list('job_results/lines.sh.1')).toEqual(['log.1', 'log.2', 'models']);
    const warning = "--copy-backwards: model.pt does not exist in the job's folder";
    expect((await project.manifest('lines.sh.1')).warnings).toEqual([warning]);
    expect(stderr).toContain(warning);
  });

  test('a file that cannot be read there: transfer-failed, and the next run brings it without running it again', async () => {
    await using project = await Project.start(hosts);
    const ledger = 'ledger-unreadable';
    await project.write('lines.sh', [
      `echo ran >>~/${ledger}; echo said; echo made >made; echo x >locked; chmod 000 locked; ln "$PWD/locked" ~/locked-away`,
    ]);
    const first = await batch(project);
    expect(first.exitCode).toBe(1);
    expect(first.stdout).toMatch(
      /failed: lines\.sh\.1; .*exited 0, but files not transferred: .*locked.*Permission denied/,
    );
    expect(await project.list('job_results')).not.toContain('lines.sh.1.json');
    const again = await batch(project);
    expect(again.exitCode).toBe(1);
    expect(again.stderr).toContain('1 job has ended meanwhile');
    await hosts.get('box').exec('chmod 600 /home/lab/locked-away');
    const third = await batch(project);
    expect([third.exitCode, third.stderr]).toEqual([0, expect.any(String)]);
    expect(await project.list('job_results/lines.sh.1')).toEqual(['locked', 'made']);
    expect(await project.read('job_results/lines.sh.1.out')).toBe('said\n');
    expect(await readFile(join(hosts.get('box').homeDir, ledger), 'utf8')).toBe('ran\n');
    expect((await batch(project)).stdout).toContain('skipping evaluation');
  });

  test('a full disk here: transfer-failed, and the next run completes it without running it again', async () => {
    await using disk = await smallDisk(2);
    if (disk === undefined) return;
    await using project = await Project.start(hosts);
    await project.write('lines.sh', [
      'echo ran >>~/ledger-full; head -c 3000000 /dev/zero >large; echo said',
    ]);
    const results = join(disk.path, 'results');
    const first = await batch(project, '--results', results);
    expect([first.exitCode, first.stderr]).toEqual([
      255,
      expect.stringMatching(/results cannot be kept here: .*(room|space)/),
    ]);
    expect((await readdir(results)).filter((name) => name.endsWith('.json'))).toEqual([]);
    const elsewhere = join(project.path, 'moved');
    await mkdir(elsewhere);
    // More room: what is there moves to a larger disk, ids and all.
    await (await import('fs-extra')).default.copy(results, elsewhere);
    const second = await batch(project, '--results', elsewhere);
    expect([second.exitCode, second.stderr]).toEqual([0, expect.any(String)]);
    expect((await stat(join(elsewhere, 'lines.sh.1/large'))).size).toBe(3_000_000);
    expect(await readFile(join(hosts.get('box').homeDir, 'ledger-full'), 'utf8')).toBe('ran\n');
  });

  test('job folders are removed once results are home, read-only folders in them too', async () => {
    await using project = await Project.start(hosts);
    await project.write('lines.sh', [
      'mkdir -p cache/mod; echo x >cache/mod/file; chmod -R a-w cache',
      'echo 2 >file',
    ]);
    expect((await batch(project)).exitCode).toBe(0);
    expect(await project.read('job_results/lines.sh.1/cache/mod/file')).toBe('x\n');
    const { batch: id } = await project.manifest('lines.sh.1');
    const left = (await jobFolders('box')).filter((path) => path.includes(String(id)));
    expect(left).toEqual([]);
  });
});

describe.concurrent('a batch that is run again', () => {
  test('follows what still runs after SIGTERM, collects what has ended, and starts the rest', async () => {
    await using project = await Project.start(hosts);
    const gate = join(hosts.get('box').homeDir, 'gate-term');
    await project.write('lines.sh', [
      'echo ran1 >>~/ledger-term; echo first; until [ -e ~/gate-term ]; do sleep 0.05; done; echo last; echo x >made',
      'echo ran2 >>~/ledger-term; until [ -e ~/go-term ]; do sleep 0.05; done; echo y >made',
      'echo ran3 >>~/ledger-term',
    ]);
    const max = await project.machine(hosts.get('box'), 'max_jobs: 2', 'two.yaml');
    const args = ['lines.sh', '--machines', max, ...TINY_CPU];
    const first = project.startBatch(args);
    await first.says(/started: lines\.sh\.2/);
    const refused = await project.batch(...args);
    expect(refused.exitCode).toBe(255);
    expect(refused.stderr).toMatch(/this batch is being run by process \d+ on \S+: wait for it or end it/);
    first.signal('SIGTERM');
    expect((await first.ended).exitCode).toBe(143);
    await writeFile(join(hosts.get('box').homeDir, 'go-term'), '');
    const id = (await project.read('job_results/.batches/lines.sh.id')).trim();
    const runs = join(hosts.get('box').homeDir, '.cache/ssh-scheduler/runs');
    await until(async () =>
      (await readdir(runs, { recursive: true })).some((path) => path.endsWith(`${id}/lines.sh.2/1/exit`)),
    );
    const second = project.startBatch(args);
    await second.says(/1 has ended meanwhile/, 'stderr');
    await second.says(/finished: lines\.sh\.2/);
    await writeFile(gate, '');
    const { exitCode, stderr } = await second.ended;
    expect([exitCode, stderr]).toEqual([0, expect.stringContaining('1 job still runs')]);
    expect(await project.read('job_results/lines.sh.1.out')).toBe('first\nlast\n');
    expect(await project.list('job_results/lines.sh.1')).toEqual(['made']);
    const ledger = await readFile(join(hosts.get('box').homeDir, 'ledger-term'), 'utf8');
    expect(linesOf(ledger).sort()).toEqual(['ran1', 'ran2', 'ran3']);
  });

  test('what was started with another --copy-backwards is brought home as it was started', async () => {
    await using project = await Project.start(hosts);
    await project.write('lines.sh', [
      'mkdir out; echo precious >out/model; until [ -e ~/gate-back ]; do sleep 0.05; done',
    ]);
    const first = project.startBatch([
      'lines.sh',
      '--machines',
      'box.yaml',
      ...TINY_CPU,
      '--copy-backwards',
      'out',
    ]);
    await first.says(/started: lines\.sh\.1/);
    first.signal('SIGKILL');
    await first.ended;
    await writeFile(join(hosts.get('box').homeDir, 'gate-back'), '');
    expect((await batch(project)).exitCode).toBe(0);
    expect(await project.read('job_results/lines.sh.1/out/model')).toBe('precious\n');
  });

  test('a line that was changed meanwhile does not take over what the old one left', async () => {
    await using project = await Project.start(hosts);
    await project.write('lines.sh', ['echo old; until [ -e ~/gate-changed ]; do sleep 0.05; done']);
    const first = project.startBatch(['lines.sh', '--machines', 'box.yaml', ...TINY_CPU]);
    await first.says(/started: lines\.sh\.1/);
    first.signal('SIGTERM');
    await first.ended;
    await project.write('lines.sh', ['echo new']);
    const { exitCode, stderr } = await batch(project);
    await writeFile(join(hosts.get('box').homeDir, 'gate-changed'), '');
    expect([exitCode, stderr]).toEqual([0, expect.stringContaining('1 orphaned')]);
    expect(await project.read('job_results/lines.sh.1.out')).toBe('new\n');
    expect((await project.manifest('lines.sh.1')).attempt).toBe(2);
  });
});

test('a full disk on the machine: what does not fit is not sent; what a job fills up is collected when there is room', async () => {
  if (!hostsAreMachines) return;
  await using project = await Project.start(hosts);
  const small = hosts.get('small');
  const run = () =>
    project.batch('lines.sh', '--machines', 'small.yaml', ...TINY_CPU, '--copy-forwards', 'input');
  await project.write('input', randomBytes(40_000_000));
  await project.write('lines.sh', ['true']);
  const tooMuch = await run();
  expect(tooMuch.stdout).toMatch(
    /files not transferred: .*No space left on device: 38\.\d MiB are to be sent/,
  );
  await project.write('input', 'little');
  await project.write('lines.sh', [
    'true',
    'echo ran >>/dev/shm/ledger-disk; until [ -e go ]; do sleep 0.05; done; echo made >made',
  ]);
  const running = project.startBatch([
    'lines.sh',
    '--machines',
    'small.yaml',
    ...TINY_CPU,
    '--copy-forwards',
    'input',
  ]);
  await running.says(/started: lines\.sh\.2/);
  const [folder] = (await jobFolders('small')).filter((path) => path.includes('lines.sh.2'));
  const work = join('/home/lab/.cache/ssh-scheduler/runs', folder ?? '', 'work');
  await small.exec(`touch '${work}/go.tmp'`);
  await small.fillDisk();
  await small.exec(`mv '${work}/go.tmp' '${work}/go'`);
  const ended = await running.ended;
  expect(ended.stdout).toMatch(/lines\.sh\.2; .*(exited 1|files not transferred)/);
  await small.freeDisk();
  const again = await project.batch(
    'lines.sh',
    '--machines',
    'small.yaml',
    ...TINY_CPU,
    '--copy-forwards',
    'input',
  );
  expect(again.stdout).not.toContain('started: lines.sh.1');
  expect((await project.manifest('lines.sh.2')).exit_code).toBe(1); // its own write had failed
  expect((await project.manifest('lines.sh.2')).attempt).toBe(1);
});
