import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test, vi } from 'vitest';
import { COMMANDS as FOLLOW } from '../../src/cli/queue/follow.ts';
import { COMMANDS as JOBS } from '../../src/cli/queue/jobs.ts';
import { COMMANDS as LOOK } from '../../src/cli/queue/look.ts';
import { COMMANDS as MACHINES } from '../../src/cli/queue/machines.ts';
import { COMMANDS as SERVICE } from '../../src/cli/queue/service.ts';
import { unitText } from '../../src/cli/queue/service-file.ts';
import { inForeground, startWords } from '../../src/cli/queue/start-arguments.ts';
import { COMMANDS as STATE } from '../../src/cli/queue/state.ts';
import type { TypedSubcommand } from '../../src/cli/queue/subcommand.ts';
import { COMMANDS as SUBMIT } from '../../src/cli/queue/submit.ts';
import { readSubmit, SUBMIT_FLAGS } from '../../src/cli/queue/submit-arguments.ts';
import { inRequests, planSubmit } from '../../src/cli/queue/submit-requests.ts';
import { parseArray, parseBegin, parseEnv, parseIds } from '../../src/cli/queue/values.ts';
import { COMMANDS as WATCH } from '../../src/cli/queue/watch.ts';
import { DOOR_FLAGS, HelpAsked, readWords } from '../../src/cli/queue/words.ts';
import { UsageError } from '../../src/lib/domain/errors.ts';
import { DEFAULT_REQUEST } from '../../src/lib/domain/request-defaults.ts';

const folder = mkdtempSync(join(tmpdir(), 'queue-arguments-'));
afterAll(() => rmSync(folder, { recursive: true }));

function file(name: string, content: string | Buffer): string {
  const path = join(folder, name);
  writeFileSync(path, content);
  return path;
}

/** Words of a line, as a shell reads single quotes. */
function words(line: string): string[] {
  return [...line.matchAll(/'([^']*)'|(\S+)/g)].map(([, quoted, plain]) => quoted ?? plain ?? '');
}

const ALL = new Map<string, TypedSubcommand<unknown>>(
  [SERVICE, MACHINES, SUBMIT, LOOK, JOBS, FOLLOW, STATE, WATCH].flatMap((group) => Object.entries(group)),
);

/** What a whole call means. */
function parse(line: string): unknown {
  const [name = '', ...rest] = words(line);
  return ALL.get(name)?.parse(rest);
}

const NOW = new Date(2026, 9, 3, 12, 30).getTime();
const HERE = { cwd: '/here', env: { TOKEN: 'secret' }, now: NOW };

function submit(line: string) {
  const table = { ...SUBMIT_FLAGS, ...DOOR_FLAGS };
  return readSubmit(readWords(words(line), table, { command: 'job_queue submit', endsAtWord: true }), HERE);
}

const PLAIN = { request: DEFAULT_REQUEST, machine: 'any', cwd: '/here' };

describe('submit', () => {
  test('all behind SCRIPT is the script’s own, flags and -- too', () => {
    expect(submit('--quiet train.sh --name x -- --help')).toEqual({
      work: { type: 'script', path: 'train.sh', args: ['--name', 'x', '--', '--help'] },
      common: PLAIN,
      quiet: true,
    });
    expect(submit('--copy-forwards a b -- train.sh c')).toMatchObject({
      work: { path: 'train.sh', args: ['c'] },
      common: { copyForwards: ['a', 'b'] },
    });
  });

  test.each<[string, object]>([
    ['--machine all', { machine: 'all' }],
    ['--name train', { name: 'train' }],
    ['--env A=1 --env TOKEN --env B=', { env: { A: '1', TOKEN: 'secret', B: '' } }],
    ['--cwd sub', { cwd: '/here/sub' }],
    ['--cwd ~/x', { cwd: '~/x' }],
    ['--cwd ~', { cwd: '~' }],
    ['--host a@b --cwd ~', { cwd: '~' }],
    ['--host a@b', { cwd: undefined }],
    ['--host a@b --cwd /x', { cwd: '/x' }],
    ['--results out', { results: 'out' }],
    ['--stdout %j.out --stderr %j.err', { stdout: '%j.out', stderr: '%j.err' }],
    ['--share-forwards=data --copy-backwards', { shareForwards: ['data'], copyBackwards: [] }],
    ['--num-cpus 2 --memory-required 3G', { request: { ...DEFAULT_REQUEST, cpuCores: 2, memoryMiB: 3072 } }],
    [
      '--num-gpus 2 --gpu-memory-required 9000 --gpu-utilization .5 --no-reserve-gpu --reserve',
      {
        request: {
          ...DEFAULT_REQUEST,
          gpus: 2,
          gpuMemoryMiB: 9000,
          gpuUtilization: 0.5,
          reserveGpu: false,
          reserveMachine: true,
        },
      },
    ],
    ['--no-gpu-required', { request: { ...DEFAULT_REQUEST, gpus: 0 } }],
    ['--wait-for-machine', { waitForMachine: true }],
    ['--priority -5', { priority: -5 }],
    ['--hold', { hold: true }],
    ['--depends-on 3:4:3', { dependsOn: [3, 4] }],
    ['--depends-on 3 --depends-on-any', { dependsOn: [3], dependsOnAny: true }],
    ['--begin now+2h', { beginAt: NOW + 7_200_000 }],
    ['--array 1-100%5', { array: { first: 1, last: 100, step: 1, atOnce: 5 } }],
    ['--timeout 5m', { timeoutMs: 300_000 }],
    ['--timeout 300%', { timeoutPercent: 300 }],
    ['--kill-after 0', { killAfterMs: 0 }],
    [
      '--retries 2 --retry-on oom,exit:3 --oom-grow 2',
      { retries: 2, retryOn: [{ type: 'oom' }, { type: 'exit', exitCode: 3 }], oomGrow: 2 },
    ],
    ['--max-output 1', { maxOutputBytes: 1024 * 1024 }],
  ])('%s', (flags, expected) => {
    // Strict where a field is expected to be absent, which `undefined` stands for.
    expect(submit(`${flags} --command 'echo a; echo b'`)).toEqual({
      work: { type: 'command', command: 'echo a; echo b' },
      common: { ...PLAIN, ...expected },
      quiet: false,
    });
  });

  test('a script that runs here', () => {
    expect(submit('--run-here --machine w1 job.sh a').common).toEqual({
      ...PLAIN,
      machine: 'w1',
      runHere: true,
    });
  });

  test.each([
    ['', "nothing to run: expected SCRIPT ARGS..., --command 'CMD' or --command-file FILE"],
    ['--copy-forwards a train.sh', '--copy-forwards takes all words up to the next flag or --'],
    ["--command ''", '--command needs a value, found ""'],
    ["--command ' '", '--command: the command is empty'],
    ['--command echo hi', 'found "hi" behind --command: expected the whole command as one quoted word'],
    ['--command a --command-file b', '--command and --command-file contradict each other'],
    ['--command-file b c', 'found "c" besides --command-file'],
    ['--run-here --command x', '--run-here runs a script'],
    [
      '--run-here --num-gpus 1 job.sh',
      "--num-gpus says nothing with --run-here: the script runs on the service's",
    ],
    ['--run-here --stdout x job.sh', '--stdout says nothing with --run-here'],
    ['--machin all x', 'unknown flag --machin (did you mean --machine?)'],
    ['-q x', 'unknown flag -q (see job_queue submit --help)'],
    ['--hold=1 x', '--hold takes no value, found "1"'],
    ['--name', '--name needs a value, found nothing behind it'],
    ['--name --hold x', '--name needs a value, found "--hold" (if that is the value: --name=VALUE)'],
    ['--name a --name b x', '--name is given twice'],
    ['--name a/b x', "the job name 'a/b' contains a slash"],
    ['--env 1=2 x', '--env: found the name "1", expected NAME=VALUE'],
    ['--env NOTHERE x', '--env: NOTHERE is not set here'],
    ['--host a --cwd sub x', '--cwd: found "sub", expected an absolute path on the host'],
    ['--num-cpus lots x', "--num-cpus: found 'lots'"],
    ['--priority 1.5 x', '--priority: found "1.5", expected a whole number'],
    ['--depends-on 3,4 x', '--depends-on: found "3,4", expected ids of jobs such as 17, 17:18 or 17-20'],
    ['--depends-on 0 x', '--depends-on: found "0"'],
    ['--depends-on-any x', '--depends-on-any says nothing without --depends-on'],
    ['--begin soon x', '--begin: found "soon", expected @SECONDS'],
    ['--array 9-1 x', '--array: found "9-1", expected FIRST-LAST[:STEP][%AT_ONCE]'],
    ['--array 1-3 --machine all x', '--array and --machine all contradict each other'],
    ['--timeout 0 x', '--timeout: found "0", expected more than no time at all'],
    ['--retry-on oom x', '--retry-on says nothing without --retries'],
    ["--copy-forwards '' --hold x", '--copy-forwards: found an empty value'],
  ])('refuses %s', (line, message) => {
    expect(() => submit(line)).toThrow(UsageError);
    expect(() => submit(line)).toThrow(message);
  });

  test('--help among the flags, not behind SCRIPT', () => {
    expect(() => SUBMIT.submit.parse(['--name', 'x', '--help'])).toThrow(HelpAsked);
    expect(SUBMIT.submit.parse(['x.sh', '--help']).work).toEqual({
      type: 'script',
      path: 'x.sh',
      args: ['--help'],
    });
  });
});

describe('what a submit sends', () => {
  const plan = (line: string) => planSubmit(submit(line));

  test('a script’s text and its name without folders', async () => {
    const path = file('job.sh', '#!/bin/sh\necho "ä"\n');
    const { requests } = await plan(`${path} a 'b c'`);
    expect(requests).toEqual([
      { ...PLAIN, script: { name: 'job.sh', text: '#!/bin/sh\necho "ä"\n', args: ['a', 'b c'] } },
    ]);
  });

  test('the lines of a command file, with what each says for itself alone', async () => {
    const path = file(
      'b.sh',
      "# first\necho 1\n\nexecute_remote --num-cpus 3 --copy-forwards x -- 'echo 2'\nexecute_remote --job-name me 'echo 3'\n",
    );
    const { requests, warnings } = await plan(`--no-gpu-required --copy-forwards y --command-file ${path}`);
    const request = { ...DEFAULT_REQUEST, gpus: 0 };
    expect(requests).toEqual([
      {
        ...PLAIN,
        request,
        copyForwards: ['y'],
        jobs: [
          { command: 'echo 1' },
          { command: 'echo 2', request: { ...request, cpuCores: 3 }, copyForwards: ['x'] },
          { command: 'echo 3', name: 'me' },
        ],
      },
    ]);
    expect(warnings).toEqual([]);
  });

  test('as few requests as hold the lines, in their order', () => {
    const jobs = Array.from({ length: 10 }, (_, i) => ({ command: `echo ${i}` })); // 21 bytes each, with a comma
    const requests = inRequests(jobs, submit('x').common, 105);
    expect(requests.map((one) => one.jobs?.length)).toEqual([5, 5]);
    expect(requests.flatMap((one) => one.jobs)).toEqual(jobs);
    expect(inRequests(jobs, submit('x').common, 5)).toHaveLength(10); // one that is too long alone is for the door to refuse
    expect(inRequests(jobs, submit('x').common)).toHaveLength(1);
  });

  test.each([
    [
      'no-such.sh',
      'cannot read the script "no-such.sh": there is no such file here; expected SCRIPT ARGS...',
    ],
    [folder, 'it is a folder'],
    [file('empty', ''), 'it is empty'],
    [file('binary', Buffer.from([0x7f, 0, 1])), 'it is no text (a NUL byte is in it)'],
    [file('latin1', Buffer.from([0xe4, 0x0a])), 'it is not UTF-8'],
    [file('long', 'x'.repeat(1024 * 1024 + 1)), 'it has 1048577 bytes, at most 1048576 are sent'],
  ])('refuses the script %s', async (path, message) => {
    await expect(plan(path)).rejects.toThrow(message);
  });

  test('refuses commands that bash cannot read, and an array of several', async () => {
    await expect(plan("--command 'echo ('")).rejects.toThrow(UsageError);
    await expect(plan(`--command-file ${file('bad.sh', 'echo 1\necho (\n')}`)).rejects.toThrow('bad.sh:2');
    const two = file('two.sh', 'echo 1\necho 2\n');
    await expect(plan(`--array 1-2 --command-file ${two}`)).rejects.toThrow('two.sh has 2');
  });
});

describe('values', () => {
  const at = (text: string) => parseBegin(text, '--begin', NOW);
  const local = (...parts: [number, number, number, number, number]) => new Date(...parts).getTime();

  test.each<[string, number]>([
    ['@1700000000', 1_700_000_000_000],
    ['@1700000000.5', 1_700_000_000_500],
    ['now', NOW],
    ['now+90', NOW + 90_000],
    ['+1h30m', NOW + 5_400_000],
    ['12:31', local(2026, 9, 3, 12, 31)],
    ['12:30', local(2026, 9, 4, 12, 30)],
    ['9:05', local(2026, 9, 4, 9, 5)],
    ['2026-12-24', local(2026, 11, 24, 0, 0)],
    ['2026-12-24 18:00', local(2026, 11, 24, 18, 0)],
    ['2026-12-24T18:00:00Z', Date.UTC(2026, 11, 24, 18)],
    ['2026-12-24T18:00+0130', Date.UTC(2026, 11, 24, 16, 30)],
  ])('begin %s', (text, expected) => {
    expect(at(text)).toBe(expected);
  });

  test.each([
    '24:00',
    '12:60',
    '2026-02-30',
    '2026-13-01',
    '2026-12-24T25:00',
    '@',
    '@1e9',
    '17',
    '+soon',
    '@999999999999',
  ])('no begin: %s', (text) => {
    expect(() => at(text)).toThrow(UsageError);
  });

  test.each<[string, object]>([
    ['0-90:10', { first: 0, last: 90, step: 10 }],
    ['5-5', { first: 5, last: 5, step: 1 }],
    ['1-9:2%3', { first: 1, last: 9, step: 2, atOnce: 3 }],
  ])('array %s', (text, expected) => {
    expect(parseArray(text, '--array')).toEqual(expected);
  });

  test.each(['1', '1-', '-1-2', '1-2:0', '1-2%0', '1-2%', '1-2%3:4', '1-9999999999'])(
    'no array: %s',
    (text) => {
      expect(() => parseArray(text, '--array')).toThrow(UsageError);
    },
  );

  test('a variable named __proto__ is one', () => {
    expect(Object.entries(parseEnv(['__proto__=1', 'A=b=c'], {}))).toEqual([
      ['__proto__', '1'],
      ['A', 'b=c'],
    ]);
  });
});

test('a variable whose name is mistaken is refused without its value', () => {
  expect(() => parseEnv(['1BAD=secret'])).toThrow(/^--env: found the name "1BAD", (?!.*secret)/);
});

describe('start and service-file', () => {
  const start = (line: string) => SERVICE.start.parse(words(line));

  test('every flag', () => {
    const line =
      '--data-dir /d --log-dir /l --machines a b --group lab --order strict --starvation-limit 5m ' +
      '--machine-lost-after 1h --placement pack --ssh-config none --daemon';
    const expected = {
      dataFolder: '/d',
      logFolder: '/l',
      machines: ['a', 'b'],
      group: 'lab',
      order: 'strict',
      starvationLimitMs: 300_000,
      machineLostAfterMs: 3_600_000,
      placement: 'pack',
      sshConfig: 'none',
    };
    expect(start(line)).toEqual({ start: expected, isDaemon: true });
    // What another process is started with says the same.
    expect(SERVICE.start.parse(startWords(start(line).start))).toEqual({ start: expected, isDaemon: false });
  });

  test('~/.sjqrc and --sjq open the sjq door, --no-sjq does not', () => {
    const home = mkdtempSync(join(tmpdir(), 'sjqrc-'));
    vi.stubEnv('HOME', home);
    try {
      const sjq = {
        socketPath: join(home, '.sjq.sock'),
        pidFile: join(home, '.sjq.pid'),
        isDaemon: false,
        autoshutdown: true,
        waitTimeMs: 60_000,
        maxProcs: cpus().length,
        defaultProcs: 1,
        defaultMemMiB: 2048,
        allowsUid: false,
      };
      expect(start('--data-dir /d')).toEqual({ start: { dataFolder: '/d' }, isDaemon: false });
      const asked = start('--data-dir /d --sjq');
      expect(asked).toEqual({ start: { dataFolder: '/d', sjq }, isDaemon: false });
      expect(SERVICE.start.parse(startWords(asked.start))).toEqual(asked);
      writeFileSync(join(home, '.sjqrc'), 'sjq.daemon=T\nsjq.maxmem=8M\n');
      const own = { ...sjq, isDaemon: true, maxMemMiB: 8 };
      const filed = start('--data-dir /d');
      expect(filed).toEqual({ start: { dataFolder: '/d', sjq: own }, isDaemon: true });
      // The process in the background must not send itself there.
      const again = [...startWords(filed.start), ...inForeground(filed.start)];
      expect(SERVICE.start.parse(again)).toEqual({ start: { dataFolder: '/d', sjq: own }, isDaemon: false });
      const none = start('--data-dir /d --no-sjq');
      expect(none).toEqual({ start: { dataFolder: '/d', isWithoutSjq: true }, isDaemon: false });
      expect(SERVICE.start.parse(startWords(none.start))).toEqual(none);
    } finally {
      vi.unstubAllEnvs();
      rmSync(home, { recursive: true });
    }
  });

  test('alone it has its folders and nothing else', () => {
    expect(start('--data-dir /d')).toEqual({
      start: { dataFolder: '/d' },
      isDaemon: false,
    });
  });

  test.each([
    ['lab.yaml', 'found "lab.yaml": machines stand behind --machines'],
    ['--machines --daemon', '--machines needs at least one value'],
    ['--sjq --no-sjq', '--sjq and --no-sjq contradict each other'],
    ['--daemon --no-daemon', '--daemon and --no-daemon contradict each other'],
    ['--allow-uid', '--allow-uid is for the sjq door: add --sjq'],
    ['--order any', '--order: found "any", expected skip or strict'],
    ['--placement any', '--placement: found "any", expected spread or pack'],
    ['--starvation-limit x', '--starvation-limit: found the time "x"'],
    [
      '--host a',
      '--host is for a service that runs: log in there for this (ssh HOST job_queue start --daemon)',
    ],
    ['--ssh-config /no/such', '--ssh-config: found "/no/such", which does not exist'],
  ])('refuses %s', (line, message) => {
    expect(() => start(line)).toThrow(message);
  });

  test('ids may be ranges', () => {
    expect(parseIds(['3', '5-7', '6'], 'x')).toEqual([3, 5, 6, 7]);
    expect(() => parseIds(['7-5'], 'x')).toThrow('expected FIRST-LAST');
    expect(() => parseIds(['1-9999999'], 'x')).toThrow('at most 1000000');
  });

  test('a unit leaves jobs alone and quotes what systemd would expand', () => {
    const text = unitText(SERVICE['service-file'].parse(['--data-dir', '/d a"t\\a/$x%h']), {
      node: '/usr/bin/node',
      nodeFlags: [],
      program: '/opt/q/job-queue.js',
      cwd: '/home/100%',
    });
    expect(text).toContain(
      'ExecStart="/usr/bin/node" "/opt/q/job-queue.js" "start" "--data-dir=/d a\\"t\\\\a/$$x%%h"\n',
    );
    expect(text).toContain('\nWorkingDirectory=/home/100%%\n');
    expect(text).toContain('\nRestart=on-failure\n');
    expect(text).toContain('\nKillMode=process\n');
  });

  test('a unit for another host is made there', () => {
    expect(() => parse('service-file --host a')).toThrow('(ssh HOST job_queue service-file)');
  });

  test.each(['/a\nExecStartPre=/x', '/a\rb', '/a\\', '/a '])('no unit in the folder %j', (cwd) => {
    const args = SERVICE['service-file'].parse(['--data-dir', '/d']);
    const unit = { node: '/usr/bin/node', nodeFlags: [], program: '/opt/q/job-queue.js', cwd };
    expect(() => unitText(args, unit)).toThrow(UsageError);
  });
});

describe('the other commands', () => {
  test.each<[string, unknown]>([
    ['stop', { how: 'leave' }],
    ['stop --when-idle', { how: 'when-idle' }],
    ['stop --kill --data-dir /d --host h --ssh-config f', { how: 'kill' }],
    ['machines --json', { json: true }],
    [
      'add-machine a --skip-ssh-auth-check --env A=1 b --host h',
      { names: ['a', 'b'], env: { A: '1' }, skipCheck: true },
    ],
    ['add-machine lab.yaml', { names: ['lab.yaml'], cwd: process.cwd() }],
    ['remove-machine a', { name: 'a', how: 'refuse' }],
    ['remove-machine --wait a', { name: 'a', how: 'wait' }],
    ['remove-machine a --kill --drop', { name: 'a', how: 'kill', drop: true }],
    ['configure all --max-jobs-running 0', { machine: 'all', maxJobs: 0 }],
    ['status', { of: { type: 'all' }, json: false }],
    ['status all --json', { of: { type: 'all' }, json: true }],
    ['status 17', { of: { type: 'job', id: 17 }, json: false }],
    ['status gpu1', { of: { type: 'machine', name: 'gpu1' }, json: false }],
    ['list --state queued,user-hold --json', { states: ['queued', 'user-hold'], json: true }],
    ['explain 17', { id: 17, json: false }],
    ['hold 1 2 1', { ids: [1, 2] }],
    ['release all', { ids: 'all' }],
    ['kill 3', { ids: [3] }],
    ['rerun 3', { ids: [3] }],
    ['rerun --failed', { ids: 'failed' }],
    ['priority 3 -7', { ids: [3], priority: -7 }],
    ['clean', { request: { olderThanMs: 604_800_000 }, json: false, isDefaultAge: true }],
    [
      'clean --older-than 0 --state fail --json',
      { request: { olderThanMs: 0, states: ['fail'] }, json: true, isDefaultAge: false },
    ],
    ['log 1', { id: 1, follow: false }],
    ['follow 1', { id: 1, follow: true }],
    ['wait 1 2 --json', { ids: [1, 2], json: true }],
    ['events --after 7 --no-follow --json', { request: { after: 7, follow: false }, json: true }],
    ['events', { request: {}, json: false }],
    ['export', {}],
    ['export x.json', { file: 'x.json' }],
    ['import x.json', { file: 'x.json' }],
    ['remove-job dir/x.sh --name a', { script: 'x.sh', args: ['--name', 'a'] }],
  ])('%s', (line, expected) => {
    expect(parse(line)).toEqual(expected);
  });

  test.each([
    ['stop --kill --when-idle', '--when-idle and --kill contradict each other'],
    ['stop now', 'found "now" besides what is expected: job_queue stop'],
    ['add-machine --env A=1', 'no machine is named: expected job_queue add-machine'],
    ['remove-machine', 'no machine is named'],
    ['remove-machine a --wait --kill', '--wait and --kill contradict each other'],
    ['remove-machine a --drop', '--drop says nothing without --kill'],
    ['configure a', 'nothing to configure'],
    ['configure a --max-jobs-running -1', '--max-jobs-running: found "-1", expected a whole number from 0'],
    ['status 1 2', 'found "2" besides what is expected'],
    ['status 0', 'found "0", expected the id of a job'],
    ['list --state runing', 'did you mean running?'],
    ['explain', 'no job is named'],
    ['kill', 'no job is named: expected job_queue kill ID... | all'],
    ['kill all 1', 'found "all", expected the id of a job'],
    ['hold 1 x', 'found "x", expected the id of a job such as 17'],
    ['rerun --failed 3', 'found "3" besides'],
    ['priority 3', 'expected a job and its priority'],
    ['priority 3 high', 'priority: found "high", expected a whole number'],
    ['clean --state running', '--state: found "running", expected states of ended jobs with commas between'],
    ['clean --older-than week', '--older-than: found the time "week"'],
    ['log', 'no job is named'],
    ['wait', 'no job is named'],
    ['events --after -1', '--after: found "-1"'],
    ['events --no-follow', '--no-follow says nothing without --after N'],
    ['import', 'no file is named'],
    ['export a b', 'found "b" besides'],
    ['remove-job', 'no script is named'],
  ])('refuse %s', (line, message) => {
    expect(() => parse(line)).toThrow(UsageError);
    expect(() => parse(line)).toThrow(message);
  });

  test('each tells its use and one example', () => {
    for (const [name, command] of ALL) {
      expect(command.help).toMatch(new RegExp(`^job_queue ${name}\\b`));
      expect(command.help.match(/^Example: job_queue .*\b(\S+)/gm)).toHaveLength(1);
      expect(Math.max(...command.help.split('\n').map((line) => line.length))).toBeLessThanOrEqual(120);
    }
  });
});

describe('job_queue', () => {
  const run = (...args: string[]) => {
    const { status, stdout, stderr } = spawnSync(
      process.execPath,
      ['--import', 'tsx', 'src/cli/job-queue.ts', ...args],
      { encoding: 'utf8' },
    );
    return { status, stdout, stderr };
  };

  test('takes the common flags before its command', () => {
    const nothing = join(folder, 'nothing');
    expect(run('--data-dir', nothing, 'status')).toEqual({
      status: 255,
      stdout: '',
      stderr: `job_queue: no service runs on ${nothing}: start one with job_queue start\n`,
    });
  });

  test('says what it does not know', () => {
    expect(run('staus')).toMatchObject({
      status: 255,
      stderr: 'job_queue: unknown command "staus" (did you mean status?)\n',
    });
    expect(run('--hots', 'x')).toMatchObject({
      status: 255,
      stderr: 'job_queue: unknown flag --hots (did you mean --host?)\n',
    });
    expect(run()).toMatchObject({ status: 255, stdout: '' });
  });

  test('helps', () => {
    expect(run('help', 'submit')).toEqual({ status: 0, stdout: SUBMIT.submit.help, stderr: '' });
    expect(run('list', '--json', '-h')).toEqual({ status: 0, stdout: LOOK.list.help, stderr: '' });
    const overview = run('--help');
    expect(overview.status).toBe(0);
    for (const name of ALL.keys()) expect(overview.stdout).toContain(name);
  });
});
