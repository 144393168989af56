/** Where the output of `execute_to` goes: pipes, slow readers, readers that leave, full disks. */
import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { SAME_PRESS_MS } from '../../src/cli/interrupts.ts';
import { TestHosts } from '../rig/test-hosts.ts';
import { until } from '../rig/until.ts';
import { linesOf, Project, type RunningCommand } from './run-command.ts';

let hosts: TestHosts;
let project: Project;

beforeAll(async () => {
  hosts = await TestHosts.start(['gpu01', 'gpu02', 'gpu03'].map((name) => ({ name })));
  project = await Project.start(hosts);
});
afterAll(async () => {
  await project[Symbol.asyncDispose]();
  await hosts.close();
});

const ONE = 'gpu01.yaml';
const ALL = 'gpu01.yaml,gpu02.yaml,gpu03.yaml';
const shell = (line: string) => project.startShell(line).ended;
/** What a slow reader does before it reads. */
const LATE = 'sleep 1';

describe('nothing is lost at the end', () => {
  test('on stderr', async () => {
    const { stdout } = await shell(
      `{ execute_to ${ONE} 'seq 300000 >&2; exit 2' 2>&1 >/dev/null; echo "code $?"; } | { ${LATE}; cat; } | md5sum;
       { seq 300000 | sed 's/^/gpu01.yaml: /'; echo 'execute_to: gpu01.yaml: exit 2'; echo 'code 1'; } | md5sum`,
    );
    const [found, expected] = linesOf(stdout);
    expect(found).toBe(expected);
  });

  test.each(['-b', '-N'])('on stdout, with %s', async (flag) => {
    const { stdout } = await shell(
      `execute_to ${flag} ${ONE} 'seq 300000' | { ${LATE}; cat; } | grep '^[0-9]' | md5sum; seq 300000 | md5sum`,
    );
    const [found, expected] = linesOf(stdout);
    expect(found).toBe(expected);
  });

  test('of a wrong call', async () => {
    const { stdout } = await shell(`execute_to 2>&1 | { ${LATE}; cat; }; echo "\${PIPESTATUS[0]}"`);
    expect(stdout).toMatch(/^execute_to: no machines.*\n255\n$/);
  });
});

describe('a disk that is full', () => {
  test.each([
    ['-b', ONE],
    ['--json', ONE],
    ['--diff', ALL],
    ['-N', ONE],
    ['--help', ''],
  ])('is told in one line, and is a failure: %s', async (flag, list) => {
    const command = list === '' ? '' : `'echo "$MACHINE_NAME"'`;
    const { stderr, exitCode } = await shell(`execute_to ${flag} ${list} ${command} >/dev/full`);
    const lines = linesOf(stderr).filter((line) => !line.includes('cancelled'));
    expect(lines).toEqual([
      'execute_to: cannot write standard output: ENOSPC: no space left on device, write',
    ]);
    expect(exitCode).toBe(255);
  });

  test('ends what runs', async () => {
    const { stderr, exitCode } = await shell(`execute_to ${ALL} 'echo begun; sleep 1000' >/dev/full`);
    expect(stderr).toMatch(/^execute_to: cannot write standard output: ENOSPC/);
    expect(stderr).toContain(': cancelled: its output cannot be written\n');
    expect(exitCode).toBe(255);
  });

  test('for errors is a failure too', async () => {
    expect((await shell(`execute_to ${ONE} 'echo e >&2; sleep 1000' 2>/dev/full`)).exitCode).toBe(255);
  });
});

describe('a reader that leaves', () => {
  test.each(['', '2>&1'])('ends the command everywhere: %s', async (both) => {
    const run = await shell(
      `execute_to ${ALL} 'while :; do echo line; sleep 0.1; done' ${both} | head -n 1; echo "\${PIPESTATUS[0]}"`,
    );
    expect(linesOf(run.stdout)).toEqual([expect.stringMatching(/^gpu0[1-3].yaml: line$/), '141']);
    if (both === '') expect(run.stderr).toContain('cancelled: nobody reads its output any more');
  });

  test('of errors alone does so too', async () => {
    const { stdout } = await shell(
      `{ execute_to ${ONE} 'while :; do echo line >&2; sleep 0.1; done' 2>&1 >&3 | head -n 1; echo "\${PIPESTATUS[0]}"; } 3>&1`,
    );
    expect(linesOf(stdout)).toEqual(['gpu01.yaml: line', '141']);
  });

  test('before the end is told when gathered output is printed', async () => {
    const { stdout } = await shell(
      `execute_to -b ${ONE} 'seq 1000000' | head -n 1; echo "\${PIPESTATUS[0]}"`,
    );
    expect(linesOf(stdout)).toEqual(['---------------', '141']);
  });

  test('closed stderr is no reason to stop', async () => {
    const { stdout, exitCode } = await shell(`execute_to ${ONE} 'echo out; echo err >&2; exit 3' 2>&-`);
    expect([stdout, exitCode]).toEqual(['gpu01.yaml: out\n', 1]);
  });
});

test('both streams in one pipe are never mixed within a line', async () => {
  const long = 'x'.repeat(300);
  const command = `for i in $(seq 5000); do echo "out $i ${long}"; echo "err $i ${long}" >&2; done`;
  const { stdout } = await shell(
    `execute_to ${ALL} '${command}' 2>&1 | { ${LATE}; cat; } | grep -cE '^gpu0[1-3].yaml: (out|err) [0-9]+ ${long}$'`,
  );
  expect(stdout).toBe('30000\n');
});

test('what is said meanwhile does not land in a long line of JSON', async () => {
  const { stdout } = await shell(
    `execute_to --json --verbose ${ALL} 'head -c 9000000 /dev/zero | tr "\\0" y' 2>&1 | { ${LATE}; cat; } | cut -c 1-30`,
  );
  const lines = linesOf(stdout);
  expect(lines.filter((line) => line.startsWith('{"host":"gpu0'))).toHaveLength(3);
  for (const line of lines) expect(line).toMatch(/^(\{"host"|execute_to: gpu0)/);
});

/** The process of `execute_to`, as the system sees it. */
interface Seen {
  /** The most memory it has had. */
  readonly peakMiB: number;
  /** All that it has read, its own program included. */
  readonly readMiB: number;
}

function look(id: string): Seen {
  const status = readFileSync(`/proc/${id}/status`, 'utf8');
  const io = readFileSync(`/proc/${id}/io`, 'utf8');
  return {
    peakMiB: Number(/VmHWM:\s+(\d+) kB/.exec(status)?.[1]) / 1024,
    readMiB: Number(/rchar: (\d+)/.exec(io)?.[1]) / 1024 / 1024,
  };
}

describe.runIf(process.platform === 'linux')('a reader that stalls', () => {
  /** Starts a run that nobody reads, and waits until it has taken so much from the hosts and takes no more. */
  async function untilHeldBack(
    args: string,
    leastMiB: number,
  ): Promise<{ seen: Seen; id: number; run: RunningCommand }> {
    const run = project.startShell(
      `mkfifo pipe; { execute_to ${args}; echo "code $?" >&2; } >pipe & exec 3<pipe; rm pipe
       read -r id _ </proc/$!/task/$!/children; echo "id $id"; wait`,
    );
    await run.says(/^id \d+$/m);
    const id = /id (\d+)/.exec(run.stdout)?.[1] ?? '';
    let seen = look(id);
    let readAt = Date.now();
    await until(
      () => {
        const now = look(id);
        if (now.readMiB > seen.readMiB) readAt = Date.now();
        seen = now;
        return now.readMiB > leastMiB && Date.now() - readAt > 2000;
      },
      { deadlineMs: 45_000, describe: () => JSON.stringify(seen) + run.stderr },
    );
    return { seen, id: Number(id), run };
  }
  const print = (mib: number) => `'yes a line of some length | head -c ${mib * 1024 * 1024}'`;

  test.each([
    ['lines', `${ALL} 'yes a line of some length'`, 10],
    ['gathered', `-b ${ONE} ${print(300)}`, 300],
    ['JSON', `--json ${ALL} ${print(100)}`, 300],
  ])('holds the hosts back, and memory stays small: %s', async (_, args, leastMiB) => {
    const { seen, id, run } = await untilHeldBack(args, leastMiB);
    expect(seen.peakMiB).toBeLessThan(270);
    process.kill(id, 'SIGKILL');
    await run.ended;
  });

  test('does not keep Ctrl-C from working', async () => {
    const { id, run } = await untilHeldBack(`${ALL} 'yes a line of some length'`, 10);
    process.kill(id, 'SIGINT');
    const says = (text: RegExp) => run.says(text, 'stderr', 40_000); // what is held back keeps two cores busy
    await says(/Ctrl-C again ends it everywhere/);
    await new Promise((resolve) => setTimeout(resolve, 2 * SAME_PRESS_MS));
    process.kill(id, 'SIGINT');
    await says(/ending it everywhere/);
    await says(/cancelled: ended by Ctrl-C/);
    await new Promise((resolve) => setTimeout(resolve, 2 * SAME_PRESS_MS));
    process.kill(id, 'SIGINT');
    await says(/code 130/);
    await run.ended;
  }, 120_000);

  test('does not keep SIGTERM from ending it', async () => {
    const { id, run } = await untilHeldBack(`-b ${ONE} ${print(20)}`, 20);
    process.kill(id, 'SIGTERM');
    await run.says(/code 143/, 'stderr');
    await run.ended;
  });
});
