import { spawnSync } from 'node:child_process';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { checkSshConfig } from '../../src/cli/ssh-config-file.ts';
import { parseToArguments, type ToArguments, type ToList } from '../../src/cli/to-arguments.ts';
import { UsageError } from '../../src/lib/domain/errors.ts';

/** Words of a line, for the tables; what has blanks stands in single quotes, as in a shell. */
function words(line: string): string[] {
  return [...line.matchAll(/'([^']*)'|(\S+)/g)].map(([, quoted, plain]) => quoted ?? plain ?? '');
}

function parse(line: string): ToArguments | ToList {
  const parsed = parseToArguments(words(line));
  if ('help' in parsed || 'version' in parsed) throw new Error('help or version');
  return parsed;
}

function read(line: string): ToArguments {
  const parsed = parse(line);
  if ('list' in parsed) throw new Error('a list');
  return parsed;
}

const DEFAULTS = {
  hosts: 'gpu1',
  machineFiles: [],
  exclude: [],
  command: 'uptime',
  output: { form: 'lines', diff: false, names: true },
  fanout: 64,
  connectTimeoutMs: 10_000,
  failFast: false,
  verbose: false,
  forwardStdin: true,
  largestExitCode: false,
};

test('HOSTS and a command alone: all the rest is at its default', () => {
  expect(read('gpu1 uptime')).toEqual(DEFAULTS);
});

describe('each flag', () => {
  const output = (more: object) => ({ output: { ...DEFAULTS.output, ...more } });
  test.each<[string, object]>([
    ['-x gpu2 -x @lab --exclude=^off', { exclude: ['gpu2', '@lab', '^off'] }],
    ['-xgpu2', { exclude: ['gpu2'] }],
    ['-b', output({ form: 'gathered' })],
    ['--gather --gather', output({ form: 'gathered' })],
    ['-L', output({ form: 'both' })],
    ['--lines-and-gather', output({ form: 'both' })],
    ['-bL', output({ form: 'both' })],
    ['-L -b', output({ form: 'both' })],
    ['--gather --lines-and-gather --diff', output({ form: 'both', diff: true })],
    ['-N', output({ names: false })],
    ['--no-names', output({ names: false })],
    ['-NL', output({ form: 'both', names: false })],
    ['--diff', output({ form: 'gathered', diff: true })],
    ['-b --diff', output({ form: 'gathered', diff: true })],
    ['-L --diff', output({ form: 'both', diff: true })],
    ['--json', output({ form: 'json' })],
    ['--json --outdir out', output({ form: 'json', outdir: 'out' })],
    ['--verbose', { verbose: true }],
    ['-f 8', { fanout: 8 }],
    ['-f8', { fanout: 8 }],
    ['--fanout=8', { fanout: 8 }],
    ['--fanout 9999', { fanout: 9999 }],
    ['-t 2.5', { connectTimeoutMs: 2500 }],
    ['--connect-timeout 1m', { connectTimeoutMs: 60_000 }],
    ['-u 90', { timeoutMs: 90_000 }],
    ['-u1h30m', { timeoutMs: 5_400_000 }],
    ['--timeout 24d', { timeoutMs: 24 * 86_400_000 }],
    ['--fail-fast --batches 4', { failFast: true, batches: { count: 4 } }],
    ['--batches 10%', { batches: { percent: 10 } }],
    ['--batches=100%', { batches: { percent: 100 } }],
    ['-n', { forwardStdin: false }],
    ['--no-stdin', { forwardStdin: false }],
    ['-S', { largestExitCode: true }],
    ['--largest-exit-code', { largestExitCode: true }],
    ['-bSf8', { ...output({ form: 'gathered' }), largestExitCode: true, fanout: 8 }],
    ['-bf 8', { ...output({ form: 'gathered' }), fanout: 8 }],
    ['--ssh-config cfg', { sshConfig: 'cfg' }],
    ['--copy-forwards a b --', { copyForwards: ['a', 'b'] }],
    ['--copy-forwards a b --copy-forwards c -n', { copyForwards: ['a', 'b', 'c'], forwardStdin: false }],
    ['--copy-forwards=a', { copyForwards: ['a'] }],
    ['--copy-backwards *.log x --job-name j', { copyBackwards: ['*.log', 'x'], jobName: 'j' }],
    [
      '--copy-backwards /var/log/x a~ ./~/x ~x --job-name j',
      { copyBackwards: ['/var/log/x', 'a~', './~/x', '~x'], jobName: 'j' },
    ],
    ['--outdir=-odd', output({ outdir: '-odd' })],
    ['--', {}],
  ])('%s', (flags, meaning) => {
    expect(read(`${flags} gpu1 uptime`)).toEqual({ ...DEFAULTS, ...meaning });
  });
});

describe('HOSTS and the command', () => {
  test.each<[string, object]>([
    ["gpu1 'ls -l | wc'", { hosts: 'gpu1', command: 'ls -l | wc' }],
    ['gpu1 -b ls', { hosts: 'gpu1', command: 'ls' }],
    ['gpu1 -- ls', { hosts: 'gpu1', command: 'ls' }],
    ['-b -- -odd-host ls', { hosts: '-odd-host', command: 'ls' }],
    ['--machines a.yaml b.yaml -- ls', { machineFiles: ['a.yaml', 'b.yaml'], command: 'ls' }],
    ['--machines lab.yaml -- gpu1 ls', { machineFiles: ['lab.yaml'], hosts: 'gpu1', command: 'ls' }],
    ['--machines a --machines b -b ls', { machineFiles: ['a', 'b'], command: 'ls' }],
    ['--machines=lab.yaml gpu1 ls', { machineFiles: ['lab.yaml'], hosts: 'gpu1', command: 'ls' }],
  ])('%s', (line, meaning) => {
    const { hosts, machineFiles, command } = read(line);
    expect({ hosts, machineFiles, command }).toEqual({ hosts: undefined, machineFiles: [], ...meaning });
  });

  test('several lines are one command', () => {
    expect(parseToArguments(['gpu1', 'cd /\nls\n'])).toMatchObject({ command: 'cd /\nls\n' });
  });
});

describe('--list', () => {
  test.each<[string, object]>([
    ['--list gpu1,@lab', { hosts: 'gpu1,@lab' }],
    ['gpu1 --list', { hosts: 'gpu1' }],
    ['--list -x gpu3 -x @off @lab', { hosts: '@lab', exclude: ['gpu3', '@off'] }],
    ['--list --machines a.yaml b.yaml', { machineFiles: ['a.yaml', 'b.yaml'] }],
    ['--machines a.yaml --list gpu1', { machineFiles: ['a.yaml'], hosts: 'gpu1' }],
    ['--list --machines a.yaml -- gpu1', { machineFiles: ['a.yaml'], hosts: 'gpu1' }],
    ['--list -b -f 8 -- -odd', { hosts: '-odd' }],
  ])('%s', (line, meaning) => {
    expect(parse(line)).toEqual({ list: true, machineFiles: [], exclude: [], ...meaning });
  });
});

test.each([['--help'], ['-h'], ['-bh'], ['-f 8 --help x y z'], ['gpu1 --help']])(
  '%s gives the help',
  (line) => {
    expect(parseToArguments(words(line))).toEqual({ help: expect.stringContaining("HOSTS 'command'") });
  },
);

test('--version says so', () => {
  expect(parseToArguments(['--version'])).toEqual({ version: true });
});

test('the help names every flag, on lines that fit', () => {
  const parsed = parseToArguments(['--help']);
  if (!('help' in parsed)) throw new Error('no help');
  for (const flag of [
    ...[
      '--machines',
      '-x, --exclude',
      '-b, --gather',
      '-L, --lines-and-gather',
      '--list',
      '--diff',
      '-N, --no-names',
      '--json',
      '--outdir',
    ],
    ...['--verbose', '-f, --fanout', '-t, --connect-timeout', '-u, --timeout', '--fail-fast', '--batches'],
    ...['-n, --no-stdin', '--ssh-config', '--copy-forwards', '--copy-backwards', '--job-name'],
    ...['-S, --largest-exit-code', '-h, --help', '--version'],
  ]) {
    expect(parsed.help).toMatch(new RegExp(`(^| )${flag}[ ,\n]`, 'm'));
  }
  expect(parsed.help.split('\n').filter((line) => line.length > 115)).toEqual([]);
});

describe('each mistake is refused with', () => {
  const quotes = 'expected the command as one quoted word, such as execute_to';
  const before = 'flags stand before HOSTS, such as execute_to';
  const commas = 'hosts are separated by commas, such as execute_to';
  test.each<[string, string]>([
    ['', "no machines and no command: expected execute_to HOSTS 'command'"],
    ['gpu1', `no command: found only "gpu1", expected execute_to HOSTS 'command'`],
    ['-f 8 gpu1', `no command: found only "gpu1"`],
    ["'' ls", 'HOSTS is empty'],
    ["' ' ls", 'HOSTS is empty'],
    ["gpu1 ''", 'the command is empty'],
    ["gpu1 '  '", 'the command is empty'],
    ['gpu1 -- -ls', 'found the command "-ls": no command begins with a dash'],
    // Forgotten quotes.
    ['gpu1 ls -l /tmp', `found "-l" behind the command: ${quotes} gpu1 'ls -l /tmp'`],
    ['gpu1 rm -f x', `found "-f" behind the command: ${quotes} gpu1 'rm -f x'`],
    ['gpu1 df -h', `found "-h" behind the command: ${quotes} gpu1 'df -h'`],
    ['gpu1 sudo reboot now', `found "reboot" behind the command: ${quotes} gpu1 'sudo reboot now'`],
    ["'gpu[1-2]' ls -l", `found "-l" behind the command: ${quotes} 'gpu[1-2]' 'ls -l'`],
    ["gpu1 'ls -l' -b now", `found "-b" behind the command: ${quotes} gpu1 'ls -l -b now'`],
    ["gpu1 'ls -l' -b -q", `found "-b" behind the command: ${quotes} gpu1 'ls -l -b -q'`],
    ["gpu1 'ls -l' -b -f", `found "-b" behind the command: ${quotes} gpu1 'ls -l -b -f'`],
    // Flags of ours behind the command.
    ["'gpu[01-02]' 'uname -r' -b", `found "-b" behind the command: ${before} -b 'gpu[01-02]' 'uname -r'`],
    ["gpu1 'ls -l' -bf 8 -x '!a'", `${before} -bf 8 -x '!a' gpu1 'ls -l'`],
    ["gpu1 'ls -l' --copy-forwards a b", `${before} --copy-forwards a b -- gpu1 'ls -l'`],
    ["gpu1 'ls -l' --list", `${before} --list gpu1`],
    ["--machines a -- 'ls -l' -b", `${before} --machines F... -b -- 'ls -l'`],
    ["--machines a -- gpu1 'ls -l' -f8", `${before} --machines F... -f8 -- gpu1 'ls -l'`],
    ['gpu1 uptime -b', `${quotes} gpu1 'uptime -b'; ${before} -b gpu1 'uptime'`],
    ['gpu1 uptime --fanout 8', `${quotes} gpu1 'uptime --fanout 8'; ${before} --fanout 8 gpu1 'uptime'`],
    // Blanks between hosts.
    ['gpu01 gpu02 uname', `found "uname" behind the command: ${commas} gpu01,gpu02 'uname'`],
    ['gpu01, gpu02 uname -r', `${commas} gpu01,gpu02 'uname -r'`],
    [
      'gpu01 gpu02 gpu03 -b uname',
      `found "gpu03" behind the command: ${commas} -b gpu01,gpu02,gpu03 'uname'`,
    ],
    ["'gpu[1-2]' 'gpu[4-5]' gpu9", `${commas} 'gpu[1-2],gpu[4-5],gpu9' 'command'`],
    ['titan @lab root@x lab.yaml uname', `${commas} titan,@lab,root@x,lab.yaml 'uname'`],
    ['--machines a -- gpu1 gpu2 ls', `${commas} --machines F... -- gpu1,gpu2 'ls'`],
    ['gpu1 ls --', 'found "--" behind the command'],
    ['gpu1 -- ls -l', `found "-l" behind the command: ${quotes} gpu1 'ls -l'`],
    ['--machines a -- ls -l', `found "-l" behind the command: ${quotes} --machines F... -- 'ls -l'`],
    ['--machines a -b ls -n', `found "-n" behind the command: ${quotes} --machines F... -- 'ls -n'`],
    [
      '--machines a -- gpu1 ls -l',
      `found "-l" behind the command: ${quotes} --machines F... -- gpu1 'ls -l'`,
    ],
    // Lists that took too much.
    ['--machines a ls', "[HOSTS] 'command'; --machines takes all words up to the next flag or --"],
    ['--copy-forwards a gpu1 ls', '; --copy-forwards takes all words up to the next flag or --'],
    ['gpu1 --machines a ls', '--machines stands behind "gpu1": expected it before HOSTS'],
    // Flags that are none.
    ['--fanuot 3 gpu1 ls', 'unknown flag --fanuot (did you mean --fanout?)'],
    ['--copy-forward a -- gpu1 ls', 'unknown flag --copy-forward (did you mean --copy-forwards?)'],
    ['--frobnicate gpu1 ls', 'unknown flag --frobnicate (see --help)'],
    ['-timeout 3 gpu1 ls', 'unknown flag -timeout (did you mean --timeout?)'],
    ['-w gpu1 ls', 'unknown flag -w (machines stand without a flag before the command)'],
    ['-l root gpu1 ls', 'user@host'],
    ['-g lab ls', '@NAME'],
    ['-bq gpu1 ls', 'unknown flag -q (nothing but output and failures is printed without --verbose'],
    ['-a ls', 'unknown flag -a (all machines of a file or a group are meant by its name: lab.yaml, @lab)'],
    ['-bz gpu1 ls', 'unknown flag -z (see --help)'],
    ['--no-name gpu1 ls', 'unknown flag --no-name (did you mean --no-names?)'],
    // Lists.
    ['--list gpu1 ls', '--list runs nothing: found "ls" behind HOSTS, expected no command'],
    ['--list --machines a -- gpu1 ls', '--list runs nothing: found "ls" behind HOSTS'],
    ['--list', 'no machines: expected execute_to --list HOSTS'],
    ["--list ' '", 'HOSTS is empty'],
    ['--list --copy-forwards a gpu1', '; --copy-forwards takes all words up to the next flag or --'],
    ["'--\x1b[2J' gpu1 ls", 'unknown flag --\\x1b[2J'],
    ['--constructor gpu1 ls', 'unknown flag --constructor'],
    // Values.
    ['gpu1 -f', '-f needs a value, found nothing behind it'],
    ['-f -b gpu1 ls', '-f needs a value, found "-b"'],
    ['--fanout= gpu1 ls', '--fanout needs a value, found ""'],
    ["--outdir '' gpu1 ls", '--outdir needs a value, found ""'],
    ['--gather=yes gpu1 ls', '--gather takes no value, found "yes"'],
    ['-f 8 --fanout 9 gpu1 ls', '--fanout is given twice: expected once'],
    ['-u 8 -u 8 gpu1 ls', '-u is given twice: expected once'],
    ['--machines -- ls', '--machines needs at least one value, found none'],
    ['--copy-forwards -b gpu1 ls', '--copy-forwards needs at least one value, found none'],
    ["--copy-forwards '' -- gpu1 ls", '--copy-forwards: found an empty value'],
    ['-f 0 gpu1 ls', '--fanout: found "0", expected a whole number from 1 to 9999'],
    ['-f=8 gpu1 ls', '--fanout: found "=8", expected a whole number'],
    ['-f 1e3 gpu1 ls', '--fanout: found "1e3", expected a whole number'],
    ['-f 10000 gpu1 ls', '--fanout: found "10000", expected a whole number from 1 to 9999'],
    ['-t soon gpu1 ls', '--connect-timeout: found the time "soon", expected seconds such as 90'],
    ['-t 0 gpu1 ls', '--connect-timeout: found "0", expected more than no time at all'],
    ['-u 25d gpu1 ls', '--timeout: found "25d", expected at most 24 days'],
    [
      '--batches 0 gpu1 ls',
      '--batches: found "0", expected a number of machines from 1 to 9999, or 1% to 100%',
    ],
    ['--batches 101% gpu1 ls', '--batches: found "101%"'],
    ['--batches 0% gpu1 ls', '--batches: found "0%"'],
    ['--batches % gpu1 ls', '--batches: found "%"'],
    ['--batches 2.5 gpu1 ls', '--batches: found "2.5"'],
    // Contradictions.
    ['--json -b gpu1 ls', '--json and --gather contradict each other'],
    ['--json -L gpu1 ls', '--json and --lines-and-gather contradict each other'],
    ['--json --diff gpu1 ls', '--json and --diff contradict each other'],
    ['--copy-backwards x -- gpu1 ls', '--copy-backwards needs --job-name NAME'],
    [
      '--copy-backwards x ~/y --job-name j gpu1 ls',
      '--copy-backwards: found "~/y": ~ is not expanded there, expected a path in the command\'s folder, or an absolute',
    ],
    ['--copy-backwards ~ --job-name j gpu1 ls', '--copy-backwards: found "~": ~ is not expanded'],
    ['--job-name j gpu1 ls', '--job-name says nothing without --copy-backwards'],
    ['--job-name ../j --copy-backwards x -- gpu1 ls', 'contains a slash'],
  ])('%s: %s', (line, message) => {
    expect(() => read(line)).toThrow(UsageError);
    expect(() => read(line)).toThrow(message);
  });
});

test('a list of many hosts behind the command makes no endless message', () => {
  const line = Array.from({ length: 500 }, (_, i) => `gpu${i}`).join(' ');
  expect(() => read(`${line} ls`)).toThrow(/^.{1,320}$/);
});

describe('an ssh configuration file', () => {
  const missing = join(tmpdir(), 'no', 'such', 'file');

  test('that cannot be read is refused', () => {
    expect(() => checkSshConfig(missing)).toThrow(
      new UsageError(
        `--ssh-config: found "${missing}", which does not exist, expected an ssh configuration file`,
      ),
    );
    expect(() => checkSshConfig(tmpdir())).toThrow(/found ".*", which is a folder, expected/);
    expect(() => checkSshConfig('/dev/null/x')).toThrow(/which cannot be read \(ENOTDIR\), expected/);
  });

  test('may be a file, a device, none at all or not given', () => {
    for (const path of ['package.json', '/dev/null', 'none', undefined]) checkSshConfig(path);
  });

  test('that is missing ends execute_remote before it asks for a machine', () => {
    const { status, stderr } = spawnSync(
      process.execPath,
      [
        '--import',
        'tsx',
        'src/cli/execute-remote.ts',
        '--ssh-config',
        missing,
        '--machine',
        'nobody',
        'true',
      ],
      { encoding: 'utf8' },
    );
    expect(stderr).toContain(`execute_remote: --ssh-config: found "${missing}", which does not exist`);
    expect(status).toBe(255);
  });
});
