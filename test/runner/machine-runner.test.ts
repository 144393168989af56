import { createHash } from 'node:crypto';
import { chmod, mkdir, readdir, readFile, rm, stat, symlink, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { expect, test } from 'vitest';
import { machineName } from '../../src/lib/domain/machine.ts';
import { LocalHost } from '../../src/lib/remote/local-host.ts';
import { smallDisk } from '../files/small-disk.ts';
import { scratch } from '../remote/run-over.ts';
import { runCommand } from '../rig/command.ts';
import { until } from '../rig/until.ts';
import { LocalRunner, smallJob } from './local-runner.ts';

const EXITED_0 = { type: 'exited', exitCode: 0 };

/** Commands that a careless quoting, trimming or evaluation would change. */
const COMMANDS = [
  `echo "double 'single' inside" 'single "double" inside' back\\slash "dollar \\$HOME" '$HOME'`,
  `printf '%s|%d|100%%\\n' 'a b' 7`,
  `true && echo yes || echo no; false && echo no || echo yes`,
  `printf 'b\\na\\n' | sort | tr '\\n' ' '`,
  `sleep 0 & wait; echo "after &"`,
  `echo "a # b" c # a comment`,
  `echo 'Grüße, 世界 🚀' | wc -c`,
  `cat <<<"here string \\"quoted\\""; read -r a b <<<'x y z'; echo "$b"`,
  `for i in 1 2 3; do\n  echo "line $i"\ndone\n[[ abc == a* ]] && echo glob`,
  `cat <<'EOF'\n$not expanded\\n \`nor this\`\nEOF`,
  `echo *; echo "[a-z]" ?; set -- a 'b c'; echo $#`,
  `echo $((1 + 2)) $(echo sub) \`echo tick\` \${x:-default} "\${#HOME}" >/dev/null; echo $'tab\\there'`,
  `echo '!!' "!"; echo end-of-line\\\n-continued; (exit 9)`,
  `  leading=space; echo "$leading"  ; echo trailing   `,
  `printf '\\x00\\x01\\xff\\xfe binary'; printf 'no newline' >&2; exit 3`,
  `echo end; echo "job j 1 end" '; exit'`,
  `x='it'"'"'s'; echo "$x"; case $x in it*) echo in;; esac`,
];

test('runs commands exactly as bash reads them', async () => {
  await using here = await LocalRunner.open();
  const cwd = here.project(); // as empty as a job's own folder
  await Promise.all(
    COMMANDS.map(async (command, i) => {
      const script = here.result(`script-${i}`);
      await writeFile(script, `${command}\n`);
      const expected = await runCommand('bash', [script], { cwd });
      const outcome = await here.run(smallJob(`c${i}`, command));
      expect(outcome, command).toEqual({ type: 'exited', exitCode: expected.exitCode });
      expect(await here.read(`c${i}.out`), command).toBe(expected.stdout);
      expect((await here.read(`c${i}.err`)).replaceAll(/^.*script: /gm, ''), command).toBe(
        expected.stderr.replaceAll(/^.*script-\d+: /gm, ''),
      );
    }),
  );
});

test('tells a job who it is and which GPUs it has', async () => {
  await using here = await LocalRunner.open({
    env: { FROM_FILE: `it's "here" $HOME` },
    setup: 'export FROM_SETUP=yes',
  });
  const show =
    'echo "$JOB_NAME|$JOB_ID|$JOB_ATTEMPT|$MACHINE_NAME|$CUDA_DEVICE_ORDER|$(printenv CUDA_VISIBLE_DEVICES || echo unset)|$FROM_FILE|$FROM_SETUP"';
  const job = smallJob('who am i', show);
  const gpus = { ...job.request, gpus: 2 };
  await here.run({ ...job, request: gpus }, 3, [1, 4]);
  expect(await here.read('who am i.out')).toBe(
    `who am i|batch/who am i|3|here|PCI_BUS_ID|1,4|it's "here" $HOME|yes\n`,
  );
  await here.run(smallJob('without', show), 1, []);
  expect(await here.read('without.out')).toContain('|unset|');
  const reserved = smallJob('reserved', show);
  await here.run({ ...reserved, request: { ...gpus, reserveMachine: true } }, 1, [0, 1]);
  expect(await here.read('reserved.out')).toContain('|unset|');
  expect((await here.event('job:started', (e) => e.name === 'who am i')).cudaVisibleDevices).toBe('1,4');
});

test('writes output byte for byte, the two streams apart', async () => {
  await using here = await LocalRunner.open();
  const outcome = await here.run(
    smallJob(
      'bytes',
      'head -c 3000001 /dev/urandom | tee ../copy; for i in 1 2 3; do printf "\\303"; sleep 0.06; printf "\\274"; done >&2; sha256sum <../copy >&2; printf end >&2',
    ),
  );
  expect(outcome).toEqual(EXITED_0);
  const out = await readFile(here.result('bytes.out'));
  const digest = createHash('sha256').update(out).digest('hex');
  expect(out.length).toBe(3_000_001);
  expect(await here.read('bytes.err')).toBe(`üüü${digest}  -\nend`);
});

test('brings output home while the job runs', async () => {
  const heard: string[] = [];
  await using here = await LocalRunner.open({
    onOutput: (job, stream, chunk) => heard.push(`${job.name} ${stream} ${chunk.toString()}`),
  });
  const run = await here.start(
    smallJob('live', 'echo first; until [ -e gate ]; do sleep 0.02; done; echo last >&2'),
  );
  await until(async () => (await here.read('live.out')) === 'first\n');
  expect(heard).toEqual(['live out first\n']);
  const work = join(here.folder, 'home/.cache/ssh-scheduler/runs/key/batch/live/1/work');
  await writeFile(join(work, 'gate'), '');
  expect(await run.ended).toEqual(EXITED_0);
  expect(heard).toEqual(['live out first\n', 'live err last\n']);
});

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;

test('a burst of 70 MB arrives whole, in bounded memory, and delays no other job', async () => {
  // What is held counts, not what waits for the collector, which comes when it likes.
  const held = () => {
    collectGarbage();
    return process.memoryUsage().arrayBuffers;
  };
  let most = 0;
  let pieces = 0;
  await using here = await LocalRunner.open({
    onOutput: () => {
      pieces += 1;
      if (pieces % 8 === 0) most = Math.max(most, held());
    },
  });
  const before = held();
  const burst = await here.start(
    smallJob(
      'burst',
      'yes "a line of the burst" | head -c 40000000; until [ -e ../../../other/1/exit ]; do sleep 0.01; done; yes | head -c 30000000',
    ),
  );
  let burstIsOver = false;
  void burst.ended.then(() => {
    burstIsOver = true;
  });
  await until(async () => (await stat(here.result('burst.out'))).size > 1_000_000);
  expect(await here.run(smallJob('other', 'echo me too'))).toEqual(EXITED_0);
  expect(burstIsOver).toBe(false);
  expect(await burst.ended).toEqual(EXITED_0);
  const out = await readFile(here.result('burst.out'));
  expect(out.length).toBe(70_000_000);
  expect(out.subarray(0, 40_000_000).equals(Buffer.alloc(40_000_000, 'a line of the burst\n'))).toBe(true);
  expect(most).toBeGreaterThan(0);
  expect(most - before).toBeLessThan(4 << 20);
});

test('spaces the starts, also of jobs that wait for the same source tree', async () => {
  await using tools = await scratch();
  await writeFile(join(tools.path, 'tar'), '#!/bin/sh\nsleep 0.6\nPATH=/usr/bin:/bin exec tar "$@"\n', {
    mode: 0o755,
  });
  const hostEnv = { PATH: `${tools.path}:${process.env.PATH}` };
  await using here = await LocalRunner.open({ startSpacingMs: 80, hostEnv });
  await writeFile(here.project('file'), 'x');
  const startedAt: number[] = [];
  here.stream.on('job:started', () => startedAt.push(performance.now()));
  await Promise.all(
    [0, 1, 2, 3, 4].map((i) => here.run(smallJob(`s${i}`, 'true', { copyForwards: 'working-directory' }))),
  );
  // The last of five cannot start sooner, whenever the news of the first came.
  const [first = 0] = startedAt;
  expect((startedAt.at(-1) ?? 0) - first).toBeGreaterThan(4 * 80 - 60);
  const gaps = startedAt.slice(1).map((at, i) => at - (startedAt[i] ?? 0));
  expect(gaps.filter((gap) => gap > 30).length).toBeGreaterThanOrEqual(3);
});

test('tells listeners of starts and ends', async () => {
  await using here = await LocalRunner.open();
  const told: string[] = [];
  here.runner.onStarted((name) => told.push(`started ${name}`));
  here.runner.onEnded((name) => told.push(`ended ${name}`));
  await here.run(smallJob('one', 'true'));
  await here.run(smallJob('two', 'false'));
  expect(told).toEqual(['started one', 'ended one', 'started two', 'ended two']);
});

test('each job works in a copy: it changes neither the source nor another job\u2019s', async () => {
  await using here = await LocalRunner.open();
  await mkdir(here.project('sub'));
  await writeFile(here.project('sub/data'), 'original');
  await writeFile(here.project('run.sh'), '#!/bin/sh\ncat sub/data\n');
  await chmod(here.project('run.sh'), 0o755);
  await symlink('sub/data', here.project('link'));
  const more = { copyForwards: 'working-directory', copyBackwards: 'changed' } as const;
  const edit = smallJob(
    'edit',
    'echo mine >>sub/data; echo via-link >link; rm run.sh; chmod 700 sub; cat sub/data',
    more,
  );
  const look = smallJob('look', './run.sh; ls', more);
  await here.run(edit);
  await here.run(look);
  expect(await here.read('edit.out')).toBe('via-link\n');
  expect(await here.read('look.out')).toBe('originallink\nrun.sh\nsub\n');
  expect(await readFile(here.project('sub/data'), 'utf8')).toBe('original');
  expect(await readdir(here.result('edit'), { recursive: true })).toEqual(['sub', 'sub/data']);
  expect(await readdir(here.result('look'))).toEqual([]);
});

test('brings home what a job made or changed, whatever its times say, and nothing else', async () => {
  await using here = await LocalRunner.open();
  for (const name of ['old', 'same', 'untouched', 'backdated', 'mode', 'renamed'])
    await writeFile(here.project(name), 'content');
  await utimes(here.project('old'), 1000, 1000);
  const command = [
    'cp -p old new-with-old-time',
    'echo x >dated; touch -d 1999-01-01 dated',
    'printf CONTENT >same', // as long as before, in the same tick perhaps
    'touch -r backdated ../stamp; printf CONTENT >backdated; touch -r ../stamp backdated',
    'chmod 700 mode', // of small trees only the executable bit is looked at
    'mkdir -p empty/folder; : >zero',
    'ln -s no/such/target dangling; ln -s old to-old',
    'mv renamed moved',
    'mkdir -p "deep/er"; echo y >"deep/er/\na \' \\"name\\" -"; echo z >-dash',
    'echo u >"$(printf "\\377")"; echo v >"$(printf "\\376")"',
    'mkfifo pipe; cat old >/dev/null; ls untouched',
  ].join('\n');
  const names = [
    '-dash',
    'backdated',
    'dangling',
    'dated',
    'deep',
    'deep/er',
    'deep/er/\na \' "name" -',
    'empty',
  ];
  names.push('empty/folder', 'mode', 'moved', 'new-with-old-time', 'same', 'to-old', 'zero');
  const more = { copyForwards: 'working-directory', copyBackwards: 'changed' } as const;
  const check = async (name: string) => {
    await here.run(smallJob(name, command, more));
    const found = await readdir(here.result(name), { recursive: true, encoding: 'latin1' });
    expect(found.sort()).toEqual([...names, '\xfe', '\xff'].sort());
    expect(await here.read(`${name}/same`)).toBe('CONTENT');
    expect(await here.read(`${name}/backdated`)).toBe('CONTENT');
    expect((await stat(here.result(`${name}/dated`))).mtime.getFullYear()).toBe(1999);
    const manifest: unknown = JSON.parse(await here.read(`${name}.json`));
    expect(manifest).toMatchObject({
      outcome: 'exited',
      exit_code: 0,
      returned_files: 11,
      deleted: ['renamed'],
      warnings: [],
    });
  };
  await check('made');
  // A machine may prepare copies of a tree that many jobs want: these are to be as good.
  for (let i = 0; i < 12; i++) expect(await here.run(smallJob(`between-${i}`, 'ls', more))).toEqual(EXITED_0);
  await check('made later');
  const backdate = command.split('\n')[3] ?? '';
  await here.run(smallJob('little', backdate, more));
  expect(await readdir(here.result('little'))).toEqual(['backdated']);
});

test('a file changed at once is seen as changed, every time', async () => {
  await using here = await LocalRunner.open({ startSpacingMs: 0 });
  await writeFile(here.project('file'), 'before');
  const names = Array.from({ length: 40 }, (_, i) => `at-once-${i}`);
  await Promise.all(
    names.map((name) =>
      here.run(
        smallJob(name, 'printf after >file', { copyForwards: 'working-directory', copyBackwards: 'changed' }),
      ),
    ),
  );
  for (const name of names) expect(await here.read(`${name}/file`)).toBe('after');
});

test('--copy-backwards patterns are expanded there, and one that matches nothing is told', async () => {
  await using here = await LocalRunner.open();
  const make =
    'mkdir out; echo 1 >out/a.log; echo 2 >"out/b c.log"; echo 3 >out/d.txt; echo 4 >"$(echo \'$(touch evil)\')"';
  const job = smallJob('picked', make, { copyBackwards: ['out/*.log', '$(touch evil)', 'no-such-*'] });
  expect(await here.run(job)).toEqual(EXITED_0);
  const names = await readdir(here.result('picked'), { recursive: true });
  expect(names.sort()).toEqual(['$(touch evil)', 'out', 'out/a.log', 'out/b c.log']);
  expect((await here.event('job:warned')).message).toContain('does not exist');
});

test('a finished result is never replaced', async () => {
  await using here = await LocalRunner.open();
  const job = smallJob('twice', 'echo second >file', { copyBackwards: 'changed' });
  await mkdir(here.result('twice'));
  await writeFile(here.result('twice/file'), 'first');
  expect(await here.run(job)).toMatchObject({
    type: 'transfer-failed',
    exitCode: 0,
    reason: expect.stringContaining('never replaced'),
  });
  expect(await here.read('twice/file')).toBe('first');
  await writeFile(here.result('kept.json'), '{}');
  expect(await here.run(smallJob('kept', 'true'))).toMatchObject({ type: 'transfer-failed' });
  expect(await here.read('kept.json')).toBe('{}');
});

test('a full disk here fails the transfer with the reason; the files stay there, and a later run completes it', async () => {
  await using disk = await smallDisk(1);
  if (disk === undefined) return;
  const problems: string[] = [];
  await using here = await LocalRunner.open({
    resultsFolder: disk.path,
    onLocalProblem: (error) => problems.push(error.message),
  });
  const made = smallJob('made', 'head -c 3000000 /dev/urandom >large; exit 3', { copyBackwards: 'changed' });
  expect(await here.run(made)).toMatchObject({
    type: 'transfer-failed',
    exitCode: 3,
    reason: expect.stringMatching(/(ENOSPC|no space).*; its files stay on here/i),
  });
  expect(problems).toHaveLength(1);
  const folder = join(here.folder, 'home/.cache/ssh-scheduler/runs/key/batch');
  expect((await stat(join(folder, 'made/1/work/large'))).size).toBe(3_000_000);
  const shown = (await readdir(disk.path)).filter((name) => !name.startsWith('.'));
  expect(shown.sort()).toEqual(['made.err', 'made.out']);
  const loud = smallJob('loud', 'head -c 3000000 /dev/zero; echo "as it was" >&2');
  expect(await here.run(loud)).toMatchObject({ type: 'transfer-failed', exitCode: 0 });
  expect(problems).toHaveLength(2);
  expect(problems[1]).toMatch(/ENOSPC/);
  expect((await stat(join(folder, 'loud/1/out'))).size).toBe(3_000_000);
  expect(await readdir(disk.path)).not.toContain('loud.json');
  expect(await readdir(join(disk.path, '.partial')).catch(() => [])).toEqual([]);

  await using later = await LocalRunner.open({ folder: here.folder, ownsOutput: () => true });
  expect(await (await later.adopt(made, 'ended')).ended).toEqual({ type: 'exited', exitCode: 3 });
  expect((await stat(later.result('made/large'))).size).toBe(3_000_000);
  expect(await (await later.adopt(loud, 'ended')).ended).toEqual(EXITED_0);
  expect((await stat(later.result('loud.out'))).size).toBe(3_000_000);
  expect(await later.read('loud.err')).toBe('as it was\n');
});

test('a disk that has no room for the manifest leaves nothing half-made', async () => {
  await using disk = await smallDisk(1);
  if (disk === undefined) return;
  const problems: Error[] = [];
  await using here = await LocalRunner.open({
    resultsFolder: disk.path,
    onLocalProblem: (error) => problems.push(error),
  });
  const gate = join(here.folder, 'gate');
  const run = await here.start(
    smallJob('full', `until [ -e ${gate} ]; do sleep 0.02; done`, { copyBackwards: 'changed' }),
  );
  await here.event('job:started');
  await runCommand('dd', ['if=/dev/zero', `of=${join(disk.path, 'filler')}`, 'bs=64k']);
  await writeFile(gate, '');
  expect(await run.ended).toMatchObject({
    type: 'transfer-failed',
    reason: expect.stringContaining('ENOSPC'),
  });
  expect(problems).toHaveLength(1);
  expect((await readdir(disk.path, { recursive: true })).sort()).toEqual([
    '.partial',
    'filler',
    'full.err',
    'full.out',
  ]);
  await rm(join(disk.path, 'filler'));
  const again = await here.adopt(smallJob('full', 'x', { copyBackwards: 'changed' }), 'ended');
  expect(await again.ended).toEqual(EXITED_0);
  expect(await readdir(disk.path)).toContain('full.json');
});

test('ended jobs leave nothing on the machine but the source tree', async () => {
  const here = await LocalRunner.open();
  await using _ = here;
  await writeFile(here.project('file'), 'x');
  for (const name of ['a', 'b']) {
    await here.run(
      smallJob(name, 'echo hi >made', { copyForwards: 'working-directory', copyBackwards: 'changed' }),
    );
  }
  await here.runner.close();
  const left = await readdir(join(here.folder, 'home/.cache/ssh-scheduler'), { recursive: true });
  expect(left.filter((path) => path.startsWith('runs/'))).toEqual(['runs/key']);
  expect(left.filter((path) => path.endsWith('/file')).length).toBe(1);
  expect((await readdir(here.result())).sort()).toEqual([
    'a',
    'a.err',
    'a.json',
    'a.out',
    'b',
    'b.err',
    'b.json',
    'b.out',
  ]);
  expect(here.events.filter(({ type }) => type === 'tree:sent').length).toBe(1);
});

test('a cancelled job keeps what it wrote', async () => {
  await using here = await LocalRunner.open({ killGraceMs: 300 });
  const job = smallJob(
    'stopped',
    "trap '' TERM; echo begun; echo part >file; until false; do sleep 0.05; done",
    {
      copyBackwards: 'changed',
    },
  );
  const run = await here.start(job);
  await until(async () => (await here.read('stopped.out')) === 'begun\n');
  run.cancel('Ctrl-C twice');
  expect(await run.ended).toEqual({ type: 'cancelled', reason: 'Ctrl-C twice' });
  expect(await here.read('stopped/file')).toBe('part\n');
  const manifest: unknown = JSON.parse(await here.read('stopped.json'));
  expect(manifest).toMatchObject({ outcome: 'cancelled', reason: 'Ctrl-C twice', exit_code: null });
});

test('notes processes left behind in the event and the manifest', async () => {
  await using here = await LocalRunner.open();
  await here.run(smallJob('untidy', 'sleep 1000 & sleep 1001 &'));
  expect((await here.event('job:ended')).leftBehind).toBe(2);
  expect(JSON.parse(await here.read('untidy.json'))).toMatchObject({ left_behind: 2, exit_code: 0 });
});

test('says when a reserved GPU keeps its memory, or nobody can say', async () => {
  await using tools = await scratch();
  await writeFile(join(tools.path, 'nvidia-smi'), '#!/bin/sh\necho "0, 5000"\necho "1, 400"\n', {
    mode: 0o755,
  });
  const hostEnv = { PATH: `${tools.path}:${process.env.PATH}` };
  await using here = await LocalRunner.open({ gpuWaitMs: 300, hostEnv });
  await here.runner.waitForGpuMemory([{ gpu: 0, freeMiBBefore: 5000 }]);
  expect(here.events).toEqual([]);
  await here.runner.waitForGpuMemory([{ gpu: 1, freeMiBBefore: 1000 }]);
  await here.runner.waitForGpuMemory([{ gpu: 7, freeMiBBefore: 1000 }]);
  expect(here.events).toMatchObject([
    { type: 'gpu:still-held', machine: 'here', gpu: 1, heldMiB: 600 },
    { type: 'gpu:still-held', machine: 'here', gpu: 7, heldMiB: 1000 },
  ]);
});

test('a job whose output has no place here is not started', async () => {
  const problems: Error[] = [];
  await using here = await LocalRunner.open({ onLocalProblem: (error) => problems.push(error) });
  await mkdir(here.result('blocked.out')); // stands where the output belongs
  const blocked = smallJob('blocked', 'echo >>ran', { copyBackwards: 'changed' });
  const [outcome, other] = await Promise.all([here.run(blocked), here.run(smallJob('other', 'echo fine'))]);
  expect(outcome).toEqual({ type: 'transfer-failed', reason: expect.stringContaining('EISDIR') });
  expect(other).toEqual(EXITED_0);
  expect(await here.read('other.out')).toBe('fine\n');
  expect(here.events.filter((e) => e.type === 'job:started' && e.name === 'blocked')).toEqual([]);
  expect((await here.runner.discover()).filter(({ attempt }) => attempt.job === 'blocked')).toEqual([]);
  expect(problems).toEqual([]); // its own name is at fault, not the disk
});

test('a machine that answers again but cannot be used is told once, and no connection is left open', async () => {
  const open = new Set<LocalHost>();
  await using scratchFolder = await scratch();
  const home = join(scratchFolder.path, 'home');
  await mkdir(home);
  const connect = async () => {
    const host = new LocalHost(machineName('here'), { home, env: { ...process.env, HOME: home } });
    open.add(host);
    void host.closed.then(() => open.delete(host));
    return host;
  };
  await using here = await LocalRunner.open({ connect });
  await rm(join(home, '.cache'), { recursive: true });
  await writeFile(join(home, '.cache'), 'in the way');
  const [first] = open;
  let tries = 0;
  const count = open.add.bind(open);
  open.add = (host) => {
    tries += 1;
    return count(host);
  };
  await first?.close();
  await until(() => tries >= 4, { describe: 'several tries' });
  expect(open.size).toBeLessThanOrEqual(1); // the one being tried
  expect(here.events.filter(({ type }) => type === 'machine:warned')).toHaveLength(1);
  await rm(join(home, '.cache'));
  await here.event('machine:back');
});
