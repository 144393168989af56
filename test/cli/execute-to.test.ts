/** `execute_to` as a user runs it, on real hosts. */
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { TestHosts } from '../rig/test-hosts.ts';
import { until } from '../rig/until.ts';
import { linesOf, Project } from './run-command.ts';

const ALIKE = ['gpu01', 'gpu02', 'gpu03'];
let hosts: TestHosts;
let project: Project;

beforeAll(async () => {
  await using probe = await TestHosts.start([]);
  const hasBusybox = probe.capabilities.busyboxOnly;
  hosts = await TestHosts.start([
    ...ALIKE.map((name) => ({ name })),
    { name: 'odd' },
    { name: 'slow' },
    { name: 'noisy', bashrc: 'echo "welcome, you"; echo "mind the gap" >&2\n' },
    { name: 'tiny', loginShell: '/bin/sh', ...(hasBusybox && { busyboxOnly: true }) },
    { name: 'gone1' },
    { name: 'gone2' },
    { name: 'changed' },
  ]);
  await Promise.all(['gone1', 'gone2'].map((name) => hosts.get(name).refuse()));
  await hosts.get('changed').changeHostKey();
  // Busybox's sh and no other.
  if (hasBusybox) await hosts.get('tiny').exec('rm /usr/local/busybox/bash', { asRoot: true });
  project = await Project.start(hosts);
  const blocks = hosts.hosts.map((host) => {
    const lines = host
      .machineFile()
      .trim()
      .split('\n')
      .map((line) => `    ${line}\n`);
    return `  ${host.name}:\n${lines.join('')}`;
  });
  const groups = 'groups:\n  gpus: gpu[01-03]\n  others: [odd, slow]\n';
  await project.write('lab.yaml', `machines:\n${blocks.join('')}${groups}`);
});
afterAll(async () => {
  await project[Symbol.asyncDispose]();
  await hosts.close();
});

const on = (list: string, ...words: readonly string[]) =>
  project.to('--machines', 'lab.yaml', '--', list, ...words);
/** With flags before the list. */
const withFlags = (flags: readonly string[], list: string, command: string) =>
  project.to(...flags, '--machines', 'lab.yaml', '--', list, command);

/** What is said at the end: on a slow machine failures are also told before. */
const endLines = (stderr: string) => linesOf(stderr).filter((line) => !line.includes(': so far: '));

const ODD = 'if [ "$MACHINE_NAME" = odd ]; then echo other; exit 3; fi; echo same';

describe('who is meant', () => {
  test('machine files, names, ranges, groups and exclusions', async () => {
    const names = async (...args: readonly string[]) => {
      const { stdout, stderr, exitCode } = await project.to(...args, 'echo here');
      expect(exitCode, stderr).toBe(0);
      return linesOf(stdout).sort();
    };
    const lines = (...all: readonly string[]) => all.map((name) => `${name}: here`);
    expect(await names('--machines', 'lab.yaml', '--', 'gpu[01-02],odd')).toEqual(
      lines('gpu01', 'gpu02', 'odd'),
    );
    expect(await names('--machines', 'lab.yaml', '-x', 'gpu02', '--', '@gpus,@others,!slow')).toEqual(
      lines('gpu01', 'gpu03', 'odd'),
    );
    expect(await names('gpu01.yaml,odd.yaml')).toEqual(lines('gpu01.yaml', 'odd.yaml'));
    expect(await names('lab.yaml,!gone[1-2],!changed,!tiny,!noisy,!@others,!gpu03')).toEqual(
      lines('gpu01', 'gpu02'),
    );
    await project.write('list.txt', ['# my hosts', '', 'gpu01', 'gpu[02-03]']);
    expect(await names('--machines', 'lab.yaml', '--', '^list.txt,!gpu02')).toEqual(lines('gpu01', 'gpu03'));
  });

  test('--list names them and runs nothing', async () => {
    const { exitCode, stdout } = await project.to(
      '--list',
      '--machines',
      'lab.yaml',
      '--',
      '@gpus,slow,!gpu02',
    );
    expect([exitCode, stdout]).toEqual([0, 'gpu01\ngpu03\nslow\n']);
    const all = await project.to('--list', 'lab@10.0.0.[1-2]:22');
    expect(all.stdout).toBe('lab@10.0.0.1:22\nlab@10.0.0.2:22\n');
  });

  test('an ssh configuration that is not there is one mistake, not one per host', async () => {
    const line = 'node "$EXECUTE_TO" --ssh-config no-such-file gpu01,gpu02 true';
    const env = { EXECUTE_TO: join(import.meta.dirname, '../../dist/cli/execute-to.js') };
    const { exitCode, stderr } = await project.startShell(line, { env }).ended;
    expect(exitCode).toBe(255);
    expect(endLines(stderr)).toHaveLength(1);
    expect(stderr).toContain('no-such-file');
  });

  test('who was to be left out is left out, however it is named, or nothing runs', async () => {
    const destination = `lab@${hosts.get('gpu01').address}:${hosts.get('gpu01').port}`;
    const { stdout } = await project.to(
      '--list',
      '-x',
      hosts.get('gpu01').address,
      `${destination},gpu02.yaml`,
    );
    expect(stdout).toBe('gpu02.yaml\n');
    const mistyped = await project.to('--machines', 'lab.yaml', '-x', 'gpu10', '--', '@gpus', 'echo ran');
    expect([mistyped.exitCode, mistyped.stdout]).toEqual([255, '']);
    expect(mistyped.stderr).toMatch(/gpu10.*not among the hosts/);
    const rest = await project.to(
      '--list',
      '--machines',
      'lab.yaml',
      '--',
      '!gone[1-2],!changed,!noisy,!tiny',
    );
    expect(rest.stdout).toBe('gpu01\ngpu02\ngpu03\nodd\nslow\n');
  });

  test.each([
    [['gpu[3-1]', 'true'], /3-1/],
    [['@nobody', 'true'], /nobody/],
    [['gpu[1-99999999]', 'true'], /99,?999,?999|at most/],
    [['no/such.yaml', 'true'], /no\/such\.yaml/],
    [['--machines', 'lab.yaml', '--', 'gpu99', 'true'], /gpu99/],
    [['gpu01.yaml'], /command/],
    [['gpu01.yaml', 'ls', '-l'], /one quoted word/],
    [['--fanotu', '3', 'gpu01.yaml', 'true'], /did you mean --fanout/],
  ])('a mistake is one line that names it, and 255: %j', async (args, pattern) => {
    const { exitCode, stdout, stderr } = await project.to(...args);
    expect([exitCode, stdout]).toEqual([255, '']);
    expect(endLines(stderr)).toHaveLength(1);
    expect(stderr).toMatch(/^execute_to: /);
    expect(stderr).toMatch(pattern);
  });
});

describe('what is printed', () => {
  test('lines as they come, each with its host, errors on stderr', async () => {
    const command = 'echo one; echo two >&2; printf "10%%\\r50%%\\r100%%"; printf "\\nlast"';
    const { stdout, stderr, exitCode } = await on('gpu01,noisy,tiny', command);
    expect(exitCode, stderr).toBe(0);
    expect(linesOf(stdout).sort()).toEqual(
      ['gpu01', 'noisy', 'tiny'].flatMap((name) => [`${name}: 100%`, `${name}: last`, `${name}: one`]),
    );
    expect(endLines(stderr).sort()).toEqual(['gpu01: two', 'noisy: two', 'tiny: two']);
  });

  test('a line comes as soon as it is whole', async () => {
    const running = project.startTo(['--machines', 'lab.yaml', '--', 'gpu01,slow', 'echo begun; sleep 30']);
    await running.says(/^gpu01: begun$/m);
    await running.says(/^slow: begun$/m);
    expect(running.isRunning).toBe(true);
    running.signal('SIGINT');
    await running.says(/still|running on gpu01,slow/, 'stderr');
    await running.interruptAgain();
    expect((await running.ended).exitCode).toBe(130);
  });

  test('-b folds hosts with the same text and exit code; the rest is told apart at the end', async () => {
    const list = 'gpu[01-03],odd,noisy,tiny,gone[1-2],changed';
    const { stdout, stderr, exitCode } = await withFlags(['-b'], list, ODD);
    const rule = '---------------';
    expect(linesOf(stdout)).toEqual([
      rule,
      'gpu[01-03],noisy,tiny (5)',
      rule,
      'same',
      rule,
      'odd',
      rule,
      'other',
    ]);
    const lines = endLines(stderr);
    expect(lines[0]).toMatch(/^execute_to: changed: unreachable: host key of .* changed: .*ssh-keygen -R/);
    expect(lines[1]).toBe('execute_to: gone[1-2]: unreachable: connection refused');
    expect(lines.slice(2)).toEqual([
      'execute_to: odd: exit 3',
      'execute_to: 5 of 9 hosts done well, 4 failed',
    ]);
    expect(exitCode).toBe(4);
  });

  test('-L: lines, then the same gathered', async () => {
    const { stdout, exitCode } = await withFlags(['-L'], 'gpu[01-02]', 'echo same');
    expect(exitCode).toBe(0);
    const lines = linesOf(stdout);
    expect(lines.slice(0, 2).sort()).toEqual(['gpu01: same', 'gpu02: same']);
    expect(lines.slice(2)).toEqual(['---------------', 'gpu[01-02] (2)', '---------------', 'same']);
  });

  test('--diff shows what differs from the most common answer', async () => {
    const command = 'echo a; [ "$MACHINE_NAME" = odd ] && echo B || echo b; echo c';
    const { stdout } = await withFlags(['--diff'], 'gpu[01-03],odd', command);
    expect(linesOf(stdout)).toEqual([
      '--- gpu[01-03] (3)',
      '+++ odd',
      '@@ -1,3 +1,3 @@',
      ' a',
      '-b',
      '+B',
      ' c',
    ]);
    const alike = await withFlags(['--diff'], 'gpu[01-03]', 'echo a');
    expect(alike.stdout).toBe('');
    expect(alike.stderr).toBe('execute_to: all 3 hosts answer alike\n');
  });

  test('--json: an object per host', async () => {
    const { stdout, exitCode } = await withFlags(['--json'], 'gpu01,odd,gone1', ODD);
    expect(exitCode).toBe(2);
    const objects = linesOf(stdout).map((line) => JSON.parse(line) as Record<string, unknown>);
    const of = (host: string) => objects.find((one) => one.host === host);
    expect(of('gpu01')).toMatchObject({
      ok: true,
      outcome: 'exited',
      exitCode: 0,
      stdout: 'same\n',
      stderr: '',
    });
    expect(of('odd')).toMatchObject({ ok: false, outcome: 'exited', exitCode: 3, stdout: 'other\n' });
    expect(of('gone1')).toMatchObject({ ok: false, outcome: 'unreachable', reason: 'connection refused' });
    expect(objects).toHaveLength(3);
  });

  test('--outdir: a file per host, byte for byte', async () => {
    const flags = ['--outdir', 'out'];
    const { exitCode } = await withFlags(flags, 'gpu01,odd', 'printf "\\001\\377no newline"; echo oops >&2');
    expect(exitCode).toBe(0);
    expect(await project.list('out')).toEqual(['gpu01', 'gpu01.err', 'odd', 'odd.err']);
    expect(await project.read('out/gpu01.err')).toBe('oops\n');
    const { stdout } = await project.startShell('od -An -tx1 out/gpu01').ended;
    expect(stdout.replaceAll(/\s+/g, ' ').trim()).toBe('01 ff 6e 6f 20 6e 65 77 6c 69 6e 65');
  });
});

describe('how it runs', () => {
  test('a time limit ends the command there with its descendants', async () => {
    const command = 'sleep 5151 & setsid sleep 5151 & sleep 5151';
    const { exitCode, stderr } = await withFlags(['-u', '1'], 'gpu[01-02],tiny', command);
    expect(exitCode).toBe(3);
    expect(endLines(stderr)[0]).toBe('execute_to: gpu[01-02],tiny: timed out after 1s, ended');
    for (const name of ['gpu01', 'tiny']) {
      const left = (await hosts.get(name).processes()).filter(({ commandLine }) => /5151/.test(commandLine));
      expect(left).toEqual([]);
    }
  });

  test('--fail-fast and --batches stop where something fails', async () => {
    const fast = await withFlags(['--fail-fast', '-f', '1'], 'odd,gpu01', ODD);
    expect(fast.exitCode).toBe(2);
    expect(fast.stdout).toBe('odd: other\n');
    expect(fast.stderr).toContain('execute_to: gpu01: not started: odd failed');
    const rolling = await withFlags(['--batches', '50%'], 'gpu01,odd,gpu02,gpu03', ODD);
    expect(linesOf(rolling.stdout).sort()).toEqual(['gpu01: same', 'odd: other']);
    expect(rolling.stderr).toContain(
      'execute_to: gpu[02-03]: not started: 1 of the 2 machines before failed',
    );
  });

  test('exit codes: the number of failures, the largest with -S, 255 when no host was reached', async () => {
    expect((await on('gpu[01-02]', 'exit 7')).exitCode).toBe(2);
    expect((await withFlags(['-S'], 'gpu[01-02],odd', ODD)).exitCode).toBe(3);
    expect((await withFlags(['-S'], 'gpu01,gone1', 'true')).exitCode).toBe(255);
    expect((await withFlags(['-S'], 'gpu01', 'kill -9 $$')).exitCode).toBe(137);
    expect((await on('gone[1-2]', 'true')).exitCode).toBe(255);
  });

  test('standard input goes to every host, and -n keeps it out of loops', async () => {
    const lab = "--machines lab.yaml -- 'gpu[01-02],tiny'";
    const piped = await project.startShell(`seq 1 50000 | execute_to ${lab} 'sha256sum'`).ended;
    const expected = (await project.startShell('seq 1 50000 | sha256sum').ended).stdout;
    expect(linesOf(piped.stdout).sort()).toEqual(
      ['gpu01', 'gpu02', 'tiny'].map((name) => `${name}: ${expected.trim()}`),
    );
    await project.write('words.txt', ['first', 'second']);
    const file = await project.startShell(`execute_to ${lab} 'cat' <words.txt`).ended;
    expect(linesOf(file.stdout)).toHaveLength(6);
    const loop = await project.startShell(
      `while read -r word; do execute_to -n --machines lab.yaml -- gpu01 "echo $word; cat"; done <words.txt`,
    ).ended;
    expect(linesOf(loop.stdout)).toEqual(['gpu01: first', 'gpu01: second']);
    // An input that never ends holds nobody who does not read it.
    const endless = await project.startShell(
      `tail -f /dev/null | { execute_to ${lab} 'echo done'; echo over; kill $(jobs -p) 2>/dev/null; pkill -P $$ tail; }`,
    ).ended;
    expect(endless.stdout).toContain('over');
  });

  test('files go there first and come home to a folder per host, and results are never replaced', async () => {
    await project.write('script.sh', ['echo "made on $MACHINE_NAME" >made.txt', 'cat data/in.txt']);
    await project.write('data/in.txt', 'sent\n');
    const flags = [
      '--copy-forwards',
      'script.sh',
      'data',
      '--copy-backwards',
      'made.txt',
      '--job-name',
      'setup',
    ];
    const call = () => withFlags(flags, 'gpu[01-02],tiny', 'sh script.sh');
    const { exitCode, stdout, stderr } = await call();
    expect(exitCode, stderr).toBe(0);
    expect(linesOf(stdout).sort()).toEqual(['gpu01: sent', 'gpu02: sent', 'tiny: sent']);
    expect(await project.list('job_results/setup')).toEqual(['gpu01', 'gpu02', 'tiny']);
    expect(await project.read('job_results/setup/tiny/made.txt')).toBe('made on tiny\n');
    const again = await call();
    expect(again.exitCode).toBe(255);
    expect(again.stderr).toContain('job_results/setup');
    expect(linesOf(again.stderr)).toHaveLength(1);
    for (const name of ['gpu01', 'gpu02']) {
      const { stdout: left } = await hosts.get(name).exec('ls ~/.cache/ssh-scheduler/to');
      expect(left).toBe('');
    }
  });
});

describe('ways out', () => {
  test('Ctrl-C once says what runs where, twice ends it everywhere', async () => {
    const running = project.startTo([
      '--machines',
      'lab.yaml',
      '--',
      'gpu01,tiny,slow',
      'echo begun; sleep 5252',
    ]);
    for (const name of ['gpu01', 'tiny', 'slow']) await running.says(new RegExp(`^${name}: begun$`, 'm'));
    running.signal('SIGINT');
    await running.says(/Ctrl-C: running on gpu01,slow,tiny/, 'stderr');
    await running.says(/Ctrl-C again ends it everywhere/, 'stderr');
    expect(running.isRunning).toBe(true);
    await running.interruptAgain();
    const { exitCode, stderr } = await running.ended;
    expect(exitCode).toBe(130);
    expect(stderr).toContain('execute_to: gpu01,slow,tiny: cancelled: ended by Ctrl-C');
    for (const name of ['gpu01', 'tiny', 'slow']) {
      const left = (await hosts.get(name).processes()).filter(({ commandLine }) => /5252/.test(commandLine));
      expect(left).toEqual([]);
    }
  });

  test('Ctrl-C once also tells where it has failed by then', async () => {
    const running = project.startTo([
      '--machines',
      'lab.yaml',
      '--',
      'gone1,odd,gpu01',
      `${ODD}; echo begun; sleep 30`,
    ]);
    await running.says(/^gpu01: begun$/m);
    await running.says(/^odd: other$/m);
    await new Promise((resolve) => setTimeout(resolve, 300));
    running.signal('SIGINT');
    await running.says(/^execute_to: odd: exit 3$/m, 'stderr');
    await running.says(/^execute_to: gone1: unreachable: connection refused by/m, 'stderr');
    await running.interruptAgain();
    expect((await running.ended).exitCode).toBe(130);
  });

  test('one Ctrl-C under timeout is one', async () => {
    const line =
      'timeout 20 node "$EXECUTE_TO" --ssh-config "$SSH_CONFIG" --machines lab.yaml -- gpu01 "echo begun; sleep 1; echo done"';
    const env = {
      EXECUTE_TO: join(import.meta.dirname, '../../dist/cli/execute-to.js'),
      SSH_CONFIG: project.sshConfigPath,
    };
    // A group of its own, as a terminal's foreground job is one.
    const running = project.startShell(`exec setsid sh -c '${line}'`, { env });
    await running.says(/^gpu01: begun$/m);
    process.kill(-running.pid, 'SIGINT');
    const { stdout, stderr } = await running.ended;
    expect(stderr).not.toContain('twice');
    expect(stdout).toContain('gpu01: done');
  });

  test('SIGTERM leaves the command where it runs and says where that is', async () => {
    const running = project.startTo([
      '--machines',
      'lab.yaml',
      '--',
      'gpu01,slow',
      'echo begun; exec sleep 5353',
    ]);
    for (const name of ['gpu01', 'slow']) await running.says(new RegExp(`^${name}: begun$`, 'm'));
    running.signal('SIGTERM');
    const { exitCode, stderr } = await running.ended;
    expect(exitCode).toBe(143);
    expect(stderr).toContain('runs on where it is, on gpu01,slow');
    for (const name of ['gpu01', 'slow']) {
      const [left] = (await hosts.get(name).processes()).filter(({ commandLine }) =>
        /^sleep 5353/.test(commandLine),
      );
      expect(left).toBeDefined();
      await hosts.get(name).exec(`kill ${left?.pid}`);
    }
  });

  test('a reader that goes away ends it, as in any pipe', async () => {
    const line = `execute_to --machines lab.yaml -- gpu01 'while echo 5454; do sleep 0.05; done' | head -n 2; echo "\${PIPESTATUS[0]}"`;
    const { stdout } = await project.startShell(line).ended;
    expect(linesOf(stdout)).toEqual(['gpu01: 5454', 'gpu01: 5454', '141']);
    await until(async () =>
      (await hosts.get('gpu01').processes()).every(({ commandLine }) => !/5454/.test(commandLine)),
    );
  });
});
