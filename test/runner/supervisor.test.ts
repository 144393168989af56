import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { appendFile, mkdir, readdir, readFile, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { shellQuote } from '../../src/lib/util/shell-quote.ts';
import { runCommand, runOrThrow } from '../rig/command.ts';
import { until } from '../rig/until.ts';
import { isAlive, parentOf, SupervisorFolder } from './supervisors.ts';

const SCRIPT = fileURLToPath(new URL('../../src/lib/runner/supervisor.sh', import.meta.url));

/** The process ids that a job printed, one a line. */
const pidsIn = (text: string) => text.trim().split('\n').map(Number);

const noneAlive = async (pids: readonly number[]) =>
  until(async () => !(await Promise.all(pids.map(isAlive))).includes(true), {
    describe: () => `the end of processes ${pids.join(' ')}`,
  });

test('the script is whole shell text', async () => {
  await runOrThrow('bash', ['-n', SCRIPT]);
});

test('two supervisors given the same attempts at once start each one once', async () => {
  await using folder = await SupervisorFolder.make();
  const both = await Promise.all([folder.open(), folder.open()]);
  const places = Array.from({ length: 20 }, (_, i) => ({ folder: `job${i}`, number: 1 }));
  for (const place of places) {
    for (const one of both) one.run(place.folder, `echo ${place.folder} >>${folder.path}/starts`);
  }
  await until(
    () => both.every(({ heard }) => places.every((place) => heard.some((h) => isOver(h, place.folder)))),
    {
      deadlineMs: 15_000,
    },
  );
  for (const { folder: name } of places) {
    const ends = both.flatMap(({ heard }) => heard.filter((h) => isOver(h, name)).map((h) => h.report.type));
    expect(ends.sort()).toEqual(['ended', 'refused']);
  }
  const starts = (await readFile(join(folder.path, 'starts'), 'utf8')).trim().split('\n');
  expect(starts.sort()).toEqual(places.map((place) => place.folder).sort());
});

function isOver({ place, report }: { place: { folder: string }; report: { type: string } }, name: string) {
  return place.folder === name && report.type !== 'started';
}

test('an adopted attempt that never started is kept from ever starting', async () => {
  await using folder = await SupervisorFolder.make();
  const [first, second] = await Promise.all([folder.open(), folder.open()]);
  const place = { folder: 'late', number: 1 };
  second.supervisor.adopt(place);
  await second.report(place, 'unstarted');
  first.run('late', `touch ${folder.path}/ran`);
  await first.report(place, 'refused');
  await expect(stat(join(folder.path, 'ran'))).rejects.toThrow('ENOENT');
});

test('a call that is cut off anywhere is not carried out', async () => {
  await using folder = await SupervisorFolder.make();
  const preamble = `R=${shellQuote(join(folder.path, 'runs'))}\nT=x\nCOPY='cp -a'\n${await readFile(SCRIPT, 'utf8')}\n`;
  const script = `: "first' line"\ntouch ${folder.path}/ran`;
  const call = `job j 1 '' ${shellQuote('export A=1\nexport B=2')} '' '{"a":1}' ${shellQuote(script)} none '' 20 end\n`;
  const runUpTo = (length: number) =>
    runCommand('bash', ['--norc', '--noprofile'], { input: preamble + call.slice(0, length) });
  for (let length = 3; length < call.length - 1; length += 4) {
    await runUpTo(length);
    await expect(stat(join(folder.path, 'runs', 'j')), `cut after ${length} bytes`).rejects.toThrow('ENOENT');
  }
  for (const words of ['cancel j 1 5', 'cancel j 1 5 en', 'expire j 1 5', 'adopt j 1', 'adopt j 1 e']) {
    await runCommand('bash', ['--norc', '--noprofile'], { input: `${preamble}${words}` });
    await expect(stat(join(folder.path, 'runs', 'j')), words).rejects.toThrow('ENOENT');
  }
  await runUpTo(call.length);
  await until(() => stat(join(folder.path, 'runs', 'j', '1', 'exit')));
  await stat(join(folder.path, 'ran'));
});

test('jobs outlive a killed supervisor, and the next one adopts them and tells their ends', async () => {
  await using folder = await SupervisorFolder.make();
  const first = await folder.open();
  const gate = join(folder.path, 'gate');
  const waits = `until [ -e ${gate} ]; do sleep 0.02; done; echo went on; exit 7`;
  const running = first.run('running', waits);
  const over = first.run('over', 'echo quick; exit 3');
  await first.report(running, 'started');
  await first.report(over, 'ended');
  const [wrapper = 0] = pidsIn((await folder.read(running, 'wrapper')).replaceAll(' ', '\n'));
  process.kill(await parentOf(wrapper), 'SIGKILL');
  expect(await first.supervisor.ended).toContain('ended');

  const second = await folder.open();
  for (const place of [running, over]) second.supervisor.adopt(place);
  expect(await second.report(over, 'ended')).toMatchObject({
    exitCode: 3,
    hasOutput: true,
    hasErrors: false,
  });
  await second.report(running, 'started');
  await writeFile(gate, '');
  expect(await second.report(running, 'ended')).toMatchObject({ exitCode: 7, hasOutput: true });
  expect(await folder.read(running)).toBe('went on\n');
});

test('an adopted attempt whose processes were all killed is lost', async () => {
  await using folder = await SupervisorFolder.make();
  const first = await folder.open();
  const place = first.run('doomed', 'echo $$; exec sleep 1000');
  await until(async () => (await folder.read(place)) !== '');
  const [shell = 0] = pidsIn(await folder.read(place));
  const wrapper = await parentOf(shell);
  process.kill(wrapper, 'SIGKILL');
  process.kill(shell, 'SIGKILL');
  const second = await folder.open();
  second.supervisor.adopt(place);
  expect(await second.report(place, 'lost')).toEqual({ type: 'lost', because: 'wrapper gone' });
});

test('an attempt of an earlier boot is lost at once, and nobody who has its process id now is touched', async () => {
  await using folder = await SupervisorFolder.make();
  const first = await folder.open();
  const boots: Record<string, (boot: string) => string> = {
    'another kernel': (boot) => boot.replace(/^[^:]*/, 'another-boot-id'),
    'another first process': (boot) => `${boot.split(':')[0]}:123456789`,
  };
  for (const [name, another] of Object.entries(boots)) {
    // The process of the record is alive, by its id and its start time, and no one of ours.
    const place = first.run(name.replaceAll(' ', '-'), 'exec sleep 1000');
    await first.report(place, 'started');
    const pid = Number((await folder.read(place, 'pid')).split(' ')[0]);
    for (const file of ['wrapper', 'pid']) {
      const [id, start, boot = ''] = (await folder.read(place, file)).trim().split(' ');
      expect(boot).toMatch(/^[0-9a-f-]{36}:\d+$/);
      await writeFile(folder.file(place, file), `${id} ${start} ${another(boot)}\n`);
    }
    const second = await folder.open();
    second.supervisor.adopt(place);
    expect(await second.report(place, 'lost'), name).toEqual({ type: 'lost', because: 'rebooted' });
    second.supervisor.cancel(place, 0);
    second.supervisor.expire(place, 0);
    const marker = second.run(`behind-${place.folder}`, 'true');
    await second.report(marker, 'ended');
    expect(await isAlive(pid), name).toBe(true);
    process.kill(pid, 'SIGKILL');
  }
});

test('a record without a boot, or of a machine that does not tell it, is understood', async () => {
  await using folder = await SupervisorFolder.make();
  const first = await folder.open();
  const gate = join(folder.path, 'gate');
  const told = (await readFile('/proc/sys/kernel/random/boot_id', 'utf8')).trim();
  for (const [i, boot] of ['', ' -', ` ${told}:`].entries()) {
    const place = first.run(`old${i}`, `until [ -e ${gate} ]; do sleep 0.02; done; exit 6`);
    await first.report(place, 'started');
    for (const file of ['wrapper', 'pid']) {
      const words = (await folder.read(place, file)).split(' ');
      await writeFile(folder.file(place, file), `${words[0]} ${words[1]}${boot}\n`);
    }
    const second = await folder.open();
    second.supervisor.adopt(place);
    expect(await second.report(place, 'started')).toEqual({ type: 'started', agoMs: 0 });
    await writeFile(gate, '');
    expect(await second.report(place, 'ended')).toMatchObject({ exitCode: 6 });
    await rm(gate);
  }
});

test('an exit record that is missing, empty or malformed is no exit; one without the time of the end is', async () => {
  await using folder = await SupervisorFolder.make();
  const one = await folder.open();
  const records = {
    empty: '',
    zeros: '\0'.repeat(80),
    short: '0 1.00 2.00 0 -\n',
    unended: '0 1.00 2.00 0 - 1795247327 do',
    code: 'a[$(touch ran)] 1.00 2.00 0 - 1795247327 done\n',
    end: '0 1.00 x 0 - 1795247327 done\n',
    when: '0 1.00 2.00 0 - 1795a done\n',
    flags: '0 1.00 2.00 0 o;o 1795247327 done\n',
  };
  for (const [folderName, record] of Object.entries(records)) {
    const place = { folder: folderName, number: 1 };
    await mkdir(folder.file(place, 'started'), { recursive: true });
    await writeFile(folder.file(place, 'wrapper'), '4194399 1\n');
    await writeFile(folder.file(place, 'exit'), record);
    one.supervisor.adopt(place);
    expect((await one.report(place, 'lost')).because, folderName).toBe('wrapper gone');
  }
  const old = { folder: 'old', number: 1 };
  await mkdir(folder.file(old, 'started'), { recursive: true });
  await writeFile(folder.file(old, 'exit'), '3 1.00 2.50 0 -oe done          \n\n');
  one.supervisor.adopt(old);
  expect(await one.report(old, 'ended')).toEqual({
    type: 'ended',
    exitCode: 3,
    durationMs: 1500,
    agoMs: 0,
    leftBehind: 0,
    hasOutput: true,
    hasErrors: true,
    hasFiles: false,
    hasDeletions: false,
  });
});

test('a wrapper that is killed is told of, and what is left of its job is ended', async () => {
  await using folder = await SupervisorFolder.make();
  const one = await folder.open({ KEEPER_SECONDS: '0.1' });
  const place = one.run('orphaned', 'sleep 4399');
  await one.report(place, 'started');
  const wrapper = Number((await folder.read(place, 'wrapper')).split(' ')[0]);
  const job = Number((await folder.read(place, 'pid')).split(' ')[0]);
  process.kill(wrapper, 'SIGKILL');
  expect(await one.report(place, 'lost')).toEqual({ type: 'lost', because: 'wrapper gone' });
  expect(await isAlive(job)).toBe(false);
  expect(one.heard.filter(({ report }) => report.type === 'lost')).toHaveLength(1);
});

test('tells exit codes as bash has them', async () => {
  await using folder = await SupervisorFolder.make();
  const one = await folder.open();
  const codes = {
    true: 0,
    'exit 3': 3,
    'exit 255': 255,
    'no-such-command-here': 127,
    'kill -KILL $$': 137,
    'kill -TERM $$': 143,
    'kill -SEGV $$': 139,
    'false | true': 0,
    'if then': 2,
  };
  const places = Object.entries(codes).map(([script, code], i) => ({
    script,
    code,
    place: one.run(`e${i}`, script),
  }));
  for (const { script, code, place } of places) {
    expect((await one.report(place, 'ended')).exitCode, script).toBe(code);
    expect(await until(() => folder.read(place, 'exit'))).toMatch(
      new RegExp(`^${code} \\d.* 0 \\S+ \\d{10} done *\\n`),
    );
  }
});

test('a job has signals at their defaults, nothing on standard input and a session of its own', async () => {
  await using folder = await SupervisorFolder.make();
  const one = await folder.open();
  const place = one.run(
    'plain',
    [
      'grep SigIgn /proc/self/status',
      'readlink /proc/$$/fd/0',
      'read -r _ _ _ _ group session _ </proc/$$/stat; [ $group $session = "$$ $$" ] || [ "$group $session" = "$$ $$" ] && echo leads',
      // What its wrapper reports on must not be held open by the job, nor be written to.
      'for f in /proc/$$/fd/*; do [ "$(readlink $f)" != "$(readlink /proc/$PPID/fd/1)" ] || echo "holds $f"; done',
      'timeout -s INT 0.05 sleep 60; echo timeout $?',
      'yes | head -n 1; echo pipe $PIPESTATUS',
      'bash -c "kill -INT \\$\\$"; echo int $?',
      'pwd',
    ].join('\n'),
  );
  await one.report(place, 'ended');
  const [ignored = '', ...lines] = (await folder.read(place)).trim().split('\n');
  // HUP, INT, QUIT, PIPE, TERM are signals 1, 2, 3, 13 and 15; a test run under nohup has HUP ignored for good.
  expect(Number.parseInt(ignored.split('\t')[1] ?? '', 16) & 0b101_0000_0000_0110).toBe(0);
  expect(lines).toEqual([
    '/dev/null',
    'leads',
    'timeout 124',
    'y',
    'pipe 141',
    'int 130',
    folder.file(place, 'work'),
  ]);
  expect(await folder.read(place, 'err')).not.toContain('Broken pipe');
});

test('ends what a job left behind, with TERM and then KILL, and counts it', async () => {
  await using folder = await SupervisorFolder.make();
  const one = await folder.open({ GRACE_TENTHS: '5' });
  const ways = {
    plain: { script: 'sleep 1000 & echo $!', leftBehind: 1 },
    'a group of its own': {
      script: 'timeout 1000 sleep 1001 & echo $!; until pgrep -P $!; do :; done',
      leftBehind: 2,
    },
    'job control': { script: 'set -m; sleep 1000 & echo $!', leftBehind: 1 },
    'deaf to TERM': {
      script: "(trap '' TERM; >deaf; exec sleep 1000) & echo $!; until [ -e deaf ]; do :; done",
      leftBehind: 1,
    },
    stopped: { script: 'sleep 1000 & kill -STOP $!; echo $!', leftBehind: 1 },
    'under nohup': { script: 'nohup sleep 1000 & echo $!', leftBehind: 1 },
    'in a subshell': { script: '(sleep 1000 & echo $!)', leftBehind: 1 },
    'a session of its own': { script: 'setsid sleep 1000 & echo $!', leftBehind: 1 },
    'of a long job': { script: 'sleep 2.1; sleep 1000 & echo $!', leftBehind: 1 },
    'a daemon of a long job': {
      // After more than two seconds: a long job's processes are looked for in another way than a short one's.
      script: "sleep 2.1; setsid sh -c 'sleep 1000 & echo $!'",
      leftBehind: 1,
    },
  };
  const places = Object.entries(ways).map(([name, way], i) => ({
    name,
    way,
    place: one.run(`l${i}`, way.script),
  }));
  for (const { name, way, place } of places) {
    const end = await one.report(place, 'ended');
    expect({ name, exitCode: end.exitCode, leftBehind: end.leftBehind }).toEqual({
      name,
      exitCode: 0,
      leftBehind: way.leftBehind,
    });
    const pids = pidsIn(await folder.read(place));
    expect(pids.length).toBeGreaterThan(0);
    await noneAlive(pids);
  }
});

test('a cancel ends a job with all its descendants, KILL where TERM does not', async () => {
  await using folder = await SupervisorFolder.make();
  const one = await folder.open({ GRACE_TENTHS: '5' });
  const place = one.run(
    'tree',
    "echo $$; sleep 1000 & echo $!; set -m; timeout 1000 sleep 1001 & echo $!; (trap '' TERM; echo $BASHPID; exec sleep 1000)",
  );
  await until(async () => (await folder.read(place)).trim().split('\n').length === 4);
  one.supervisor.cancel(place, 300);
  expect((await one.report(place, 'ended')).exitCode).toBeGreaterThan(128);
  await noneAlive(pidsIn(await folder.read(place)));
});

test('a cancel right behind the start finds the job, however far it has come', async () => {
  await using folder = await SupervisorFolder.make();
  const one = await folder.open();
  await mkdir(join(folder.path, 'trees', 't'));
  await writeFile(join(folder.path, 'trees', 't', 'file'), 'x');
  const places = Array.from({ length: 40 }, (_, i) => {
    const place = one.run(`c${i}`, 'echo $$; exec sleep 1000', { parts: i % 2 === 0 ? [] : ['t'] });
    one.supervisor.cancel(place, 1000);
    return place;
  });
  for (const place of places) {
    expect((await one.report(place, 'ended')).exitCode).toBe(143);
    const started = await folder.read(place);
    if (started !== '') await noneAlive(pidsIn(started));
  }
});

test('says why a job could not be started', async () => {
  await using folder = await SupervisorFolder.make();
  await folder.part('part', 'touch file');
  const odd = await folder.open({}, 'cp --no-such-option');
  const uncopied = await odd.report(odd.run('uncopied', 'true', { parts: ['part'] }), 'failed');
  expect(uncopied).toEqual({
    type: 'failed',
    reason: expect.stringMatching(/^cannot copy the source tree: cp: .*no-such-option/) as string,
  });
  const one = await folder.open();
  await rm(join(folder.path, 'runs'), { recursive: true, maxRetries: 5 }); // the supervisors may still write into it
  await writeFile(join(folder.path, 'runs'), 'a file');
  const blocked = one.run('blocked', 'true');
  expect((await one.report(blocked, 'failed')).reason).toMatch(/cannot make .*blocked/);
});

test('keeps the leases of its batch fresh, and no others', async () => {
  await using folder = await SupervisorFolder.make();
  const lease = (name: string) => join(folder.path, 'leases', name);
  const old = new Date(Date.now() - 3_600_000);
  for (const name of ['a b.batch.machine', 'c.batch.machine', 'c.other.machine']) {
    await writeFile(lease(name), '');
    await utimes(lease(name), old, old);
  }
  await folder.open({ KEEPER_SECONDS: '0.02', LEASE_LOOKS: '2' });
  const isFresh = async (name: string) => (await stat(lease(name))).mtimeMs > old.getTime() + 60_000;
  await until(async () => (await isFresh('a b.batch.machine')) && (await isFresh('c.batch.machine')));
  expect(await isFresh('c.other.machine')).toBe(false);
  await rm(lease('a b.batch.machine'));
  await utimes(lease('c.batch.machine'), old, old);
  await until(() => isFresh('c.batch.machine'));
  // What its batch has given up is not made again.
  expect((await readdir(join(folder.path, 'leases'))).sort()).toEqual(['c.batch.machine', 'c.other.machine']);
});

test('keeps the request beside the job, one line of JSON', async () => {
  await using folder = await SupervisorFolder.make();
  const one = await folder.open();
  const request = { job: `a'b\n"c"`, memoryMiB: 5 };
  const place = one.run('kept', 'true', { request });
  await one.report(place, 'ended');
  const text = await folder.read(place, 'request');
  expect(text.trim().split('\n').length).toBe(1);
  expect(JSON.parse(text)).toEqual(request);
});

test('waits for the memory of a GPU, and tells what is held when it does not come back in time', async () => {
  await using folder = await SupervisorFolder.make();
  const figures = join(folder.path, 'figures');
  await mkdir(join(folder.path, 'bin'));
  await writeFile(
    join(folder.path, 'bin', 'nvidia-smi'),
    `#!/bin/sh\necho asked >>${folder.path}/asked\ncat ${figures}\n`,
    {
      mode: 0o755,
    },
  );
  const one = await folder.open({ PATH: `${folder.path}/bin:${process.env.PATH}` });
  await writeFile(figures, '0, 900\n1, 400\n');
  expect(await one.supervisor.waitForGpuMemory([{ gpu: 1, freeMiB: 900 }], 500)).toEqual({
    type: 'held',
    gpu: 1,
    freeMiB: 400,
  });
  expect(await one.supervisor.waitForGpuMemory([{ gpu: 0, freeMiB: 900 }], 500)).toEqual({ type: 'free' });
  // What is not said is not free: no such GPU, no number, no answer at all.
  for (const answer of ['1, 900\n', '0, [N/A]\n', '']) {
    await writeFile(figures, answer);
    expect(await one.supervisor.waitForGpuMemory([{ gpu: 0, freeMiB: 900 }], 100)).toMatchObject({
      type: 'held',
      gpu: 0,
    });
  }

  await rm(join(folder.path, 'asked'));
  const both = one.supervisor.waitForGpuMemory(
    [
      { gpu: 0, freeMiB: 900 },
      { gpu: 1, freeMiB: 900 },
    ],
    15_000,
  );
  await until(() => stat(join(folder.path, 'asked')));
  await writeFile(figures, '0, 900\n1, 950\n');
  expect(await both).toEqual({ type: 'free' });
});

test('noise and nonsense from a machine are not taken for reports', async () => {
  await using folder = await SupervisorFolder.make();
  const one = await folder.open();
  one.supervisor.setJobEnvironment(Buffer.from('export FROM_LOGIN=yes'));
  const place = one.run('calm', 'echo $FROM_LOGIN; echo ended calm 1 0 1 2 0 - >&2');
  expect(await one.report(place, 'ended')).toMatchObject({ exitCode: 0, hasErrors: true });
  expect(await folder.read(place)).toBe('yes\n');
  expect(one.heard.map(({ report }) => report.type)).toEqual(['started', 'ended']);
});

test('a supervisor whose reader is gone writes the exit record all the same', async () => {
  await using folder = await SupervisorFolder.make();
  const preamble = `R=${shellQuote(join(folder.path, 'runs'))}\nT=x\nCOPY='cp -a'\n${await readFile(SCRIPT, 'utf8')}\n`;
  const child = spawn('bash', ['--norc', '--noprofile'], { stdio: ['pipe', 'pipe', 'ignore'] });
  child.stdin.write(
    `${preamble}job j 1 '' '' '' '{}' 'until [ -e ../gate ]; do sleep 0.02; done; exit 4' none '' 20 end\n`,
  );
  await once(child.stdout, 'data');
  child.stdout.destroy();
  child.stdin.end();
  await appendFile(join(folder.path, 'runs', 'j', '1', 'gate'), '');
  expect(await until(() => readFile(join(folder.path, 'runs', 'j', '1', 'exit'), 'utf8'))).toMatch(
    /^4 .*done *\n/,
  );
});
