// Real machines of the rig over ssh, and real programs on this machine, asked through a RemoteHost whose login shell
// does what each test needs.
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { RemoteError } from '../../src/lib/domain/errors.ts';
import { machineName } from '../../src/lib/domain/machine.ts';
import { withoutOwnUse } from '../../src/lib/machine/own-use.ts';
import { LocalHost } from '../../src/lib/remote/local-host.ts';
import { queryMachine } from '../../src/lib/remote/query.ts';
import type { RemoteHost } from '../../src/lib/remote/remote-host.ts';
import { connectSsh } from '../../src/lib/remote/ssh-host.ts';
import { shellQuote } from '../../src/lib/util/shell-quote.ts';
import type { TestHost } from '../rig/test-host.ts';
import { TestHosts } from '../rig/test-hosts.ts';
import { until } from '../rig/until.ts';
import { entry } from './run-over.ts';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'query-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

/** This machine, with a login that runs `loginShell` in place of what it is asked to run. */
function host(loginShell?: string): RemoteHost {
  const local = new LocalHost(machineName('here'), {
    env: { ...process.env, PATH: `${folder}:${process.env.PATH}` },
  });
  if (loginShell !== undefined) {
    const open = local.open.bind(local);
    local.open = () => open(loginShell);
  }
  return local;
}

function program(name: string, text: string): void {
  writeFileSync(join(folder, name), `#!/bin/sh\n${text}\n`, { mode: 0o755 });
}

async function refusal(loginShell: string, timeoutMs = 10_000): Promise<string> {
  const error: unknown = await queryMachine(host(loginShell), { timeoutMs, cpuIntervalMs: 20 }).catch(
    (e: unknown) => e,
  );
  expect(error).toBeInstanceOf(RemoteError);
  expect(error).toMatchObject({ machine: 'here', stage: 'query' });
  return (error as RemoteError).message;
}

test('a machine answers', async () => {
  expect(await queryMachine(host(), { now: () => 42 })).toMatchObject({ takenAt: 42, hostname: hostname() });
});

test('what a login prints first is ignored', async () => {
  const noisy = host("echo Welcome; echo '@@0123456789ab end'; printf 'and no line end'; exec /bin/sh");
  expect((await queryMachine(noisy, { cpuIntervalMs: 20 })).hostname).toBe(hostname());
});

test('a login that ends says why', async () => {
  expect(await refusal('echo This account is currently not available. >&2; exit 1')).toBe(
    'the probe ended early: the login shell exited 1 (This account is currently not available.)',
  );
  expect(await refusal('kill -9 $$')).toBe('the probe ended early: the login shell was ended by SIGKILL');
});

test('a machine that does not answer is given up', async () => {
  expect(await refusal('exec sleep 2', 300)).toBe(
    'no answer within 0.3 s: does its login shell wait for something?',
  );
  expect(await refusal("(sed 's/^ *section kernel/sleep 2/') | exec /bin/sh", 300)).toBe(
    'no answer within 0.3 s: the probe began but did not end',
  );
  const silent = host();
  silent.open = () => new Promise(() => undefined);
  await expect(queryMachine(silent, { timeoutMs: 50 })).rejects.toThrow('the machine opens no channel');
});

test('a host that refuses a channel passes its own error on', async () => {
  const closed = host();
  await closed.close();
  await expect(queryMachine(closed)).rejects.toThrow('this connection is closed');
});

test('endless output is cut', async () => {
  expect(await refusal('yes noise')).toBe('its answer to the probe is longer than 4 MiB');
});

test('GPUs that nvidia-smi never tells of are left out, with a warning', async () => {
  program('timeout', 'exit 127'); // as where there is none
  program('nvidia-smi', 'exec sleep 3');
  const machine = await queryMachine(host(), { timeoutMs: 1000, cpuIntervalMs: 20 });
  expect(machine.gpus).toEqual([]);
  expect(machine.warnings).toEqual([expect.stringMatching(/nvidia-smi did not answer in time/)]);
});

test('a machine without what jobs need is refused', async () => {
  expect(await refusal("sed 's/for tool in bash setsid/for tool in/' | /bin/sh")).toBe(
    'found no bash, no setsid there, expected bash, setsid and tar: jobs need them',
  );
  expect(await refusal("sed 's/uname -s/echo Darwin/' | /bin/sh")).toBe(
    'found the system Darwin, expected Linux: jobs run on nothing else',
  );
});

const BATCH = randomBytes(6).toString('hex');
const OTHER_BATCH = randomBytes(6).toString('hex');
// tail keeps all that it may have to print in memory of its own.
const HOLD_300_MIB = '{ head -c 314572800 /dev/zero; sleep 600; } | tail -c 314572800';

/** Starts shell lines on a host, each a session with a mark in its environment, until disposed of. */
async function startMarked(host: TestHost, mark: string, lines: readonly string[]): Promise<AsyncDisposable> {
  const starts = lines.map(
    (line) => `setsid bash -c ${shellQuote(line)} </dev/null >/dev/null 2>&1 & echo $!`,
  );
  const { stdout } = await host.exec(
    `export SSH_SCHEDULER_ATTEMPT=${shellQuote(mark)}\n${starts.join('\n')}`,
  );
  const groups = stdout.trim().split('\n');
  if (groups.length !== lines.length)
    throw new Error(`found ${stdout}, expected ${lines.length} process ids`);
  return {
    async [Symbol.asyncDispose]() {
      await host.exec(`kill -KILL -- ${groups.map((pid) => `-${pid}`).join(' ')}`);
    },
  };
}

describe('over ssh', () => {
  test('machines tell who they are and which GPUs they have', async () => {
    await using hosts = await TestHosts.start([
      {
        name: 'titan',
        bashrc: 'echo Welcome to titan; export OMP_NUM_THREADS=1\n',
        gpus: [
          { memoryTotalMiB: 8192, usedMiB: 1000, utilization: 30 },
          { memoryTotalMiB: 8192, mig: 'Enabled' },
        ],
      },
      { name: 'atlas', gpus: [{ memoryTotalMiB: 8192 }] },
    ]);
    const { ownIdentity, powerOff } = hosts.capabilities;
    const options = { configFile: hosts.sshConfigPath, env: { ...process.env, SSH_AUTH_SOCK: '' } };
    const ask = async (name: string) => {
      await using host = await connectSsh(entry(name), options);
      return await queryMachine(host);
    };

    const titan = await ask('titan');
    expect(titan.gpus).toMatchObject([
      { index: 0, memoryTotalMiB: 8192, memoryFreeMiB: 7192, utilization: 0.3, mig: false },
      { index: 1, mig: true, unplaceable: expect.stringMatching(/^MIG is on/) },
    ]);
    expect(titan.cpuCores).toBe((await queryMachine(host())).cpuCores);
    await hosts.get('atlas').setDriverFailure(true);
    const atlas = await ask('atlas');
    expect(atlas.gpus).toEqual([]);
    expect(atlas.warnings).toEqual([expect.stringMatching(/driver does not run/)]);
    expect((await ask('titan')).identity).toBe(titan.identity);
    expect(titan.identity !== atlas.identity).toBe(ownIdentity);

    if (!powerOff) return;
    await hosts.get('titan').powerOff();
    await hosts.get('titan').boot();
    const rebooted = await ask('titan');
    expect(rebooted.identity).toBe(titan.identity);
    expect(rebooted.bootId).not.toBe(titan.bootId);
  });

  test('a machine with busybox and bash is enough', async () => {
    await using hosts = await TestHosts.start([{ name: 'router', busyboxOnly: true }]);
    const options = { configFile: hosts.sshConfigPath, env: { ...process.env, SSH_AUTH_SOCK: '' } };
    await using router = await connectSsh(entry('router'), options);
    const machine = await queryMachine(router);
    expect(machine.memoryFreeMiB).toBeGreaterThan(10);
    expect(machine.tools.missing).toEqual([]);
    expect(machine.ownUse).toBeUndefined();
    await using _jobs = await startMarked(hosts.get('router'), `${BATCH}/a/1`, [HOLD_300_MIB]);
    await until(
      async () => ((await queryMachine(router, { ownBatch: BATCH })).ownUse?.memoryMiB ?? 0) >= 300,
      {
        deadlineMs: 30_000,
        describe: 'the memory of our job is seen',
      },
    );
  });

  test('what others use is the same with our jobs there and without', async () => {
    await using hosts = await TestHosts.start([
      {
        name: 'titan',
        gpus: [
          { memoryTotalMiB: 8192, usedMiB: 500, utilization: 40 },
          { memoryTotalMiB: 8192, utilization: 90 },
          { memoryTotalMiB: 8192 },
        ],
      },
    ]);
    const titan = hosts.get('titan');
    const options = { configFile: hosts.sshConfigPath, env: { ...process.env, SSH_AUTH_SOCK: '' } };
    await using host = await connectSsh(entry('titan'), options);
    const ask = () => queryMachine(host, { ownBatch: BATCH });
    const gpuJob = (gpu: number, memoryMiB: number) =>
      `CUDA_VISIBLE_DEVICES=${gpu} exec gpu-job --memory ${memoryMiB} --seconds 600`;
    await using _others = await startMarked(titan, `${OTHER_BATCH}/a/1`, [gpuJob(1, 1000)]);

    // Other programs come and go on the computer that runs the tests: asked again until it was calm for a moment.
    await until(
      async () => {
        const without = await ask();
        expect(without.ownUse).toEqual({ cpuCores: 0, memoryMiB: 0, gpus: [] });
        await using _jobs = await startMarked(titan, `${BATCH}/a%20b/2`, [
          'while :; do :; done',
          HOLD_300_MIB,
          gpuJob(0, 3000),
          gpuJob(1, 2000),
        ]);
        const measured = await until(
          async () => {
            const machine = await ask();
            const { cpuCores = 0, memoryMiB = 0, gpus = [] } = machine.ownUse ?? {};
            return cpuCores > 0.1 && memoryMiB >= 300 && gpus.length === 2 && machine;
          },
          { deadlineMs: 20_000, describe: 'our jobs are under way' },
        );
        expect(measured.ownUse?.memoryMiB).toBeLessThan(400);
        const others = withoutOwnUse(measured);
        expect(Math.abs(others.cpuCoresInUse - without.cpuCoresInUse)).toBeLessThan(0.6);
        expect(Math.abs(others.memoryFreeMiB - without.memoryFreeMiB)).toBeLessThan(150);
        expect(others.gpus.map(({ memoryFreeMiB }) => memoryFreeMiB)).toEqual([7692, 7192, 8192]);
        expect(others.gpus.map(({ utilization }) => utilization)).toEqual([0, 0.9, 0]);
        return true;
      },
      { deadlineMs: 100_000, describe: 'others use what they used without our jobs' },
    );
  }, 120_000);
});
