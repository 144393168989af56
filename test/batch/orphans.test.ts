/** Which jobs on a machine surely are orphans, and which may belong to a batch that somebody goes on with. */
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { listOrphans } from '../../src/lib/batch/orphans.ts';
import { DEFAULT_REQUEST } from '../../src/lib/domain/request-defaults.ts';
import { findMachines } from '../../src/lib/machine/find-machines.ts';
import { queryMachine } from '../../src/lib/remote/query.ts';
import type { RemoteHost } from '../../src/lib/remote/remote-host.ts';
import { connectSsh } from '../../src/lib/remote/ssh-host.ts';
import { isFromHere, originOf } from '../../src/lib/runner/batch-origin.ts';
import { machineKey } from '../../src/lib/runner/job-folder.ts';
import { type BatchOrigin, MachineSession } from '../../src/lib/runner/machine-session.ts';
import { entry } from '../remote/run-over.ts';
import { TestHosts } from '../rig/test-hosts.ts';

let hosts: TestHosts;
let folder: string;

beforeAll(async () => {
  hosts = await TestHosts.start([{ name: 'lab' }]);
  folder = await mkdtemp(join(tmpdir(), 'orphans-'));
  await writeFile(join(folder, 'lab.yaml'), hosts.get('lab').machineFile('host_key_checking: no'));
});

afterAll(async () => {
  await hosts.close();
  await rm(folder, { recursive: true, force: true });
});

/** A batch's id. */
const idOf = (number: number) => String(number).padStart(12, '0');

/** Leaves one attempt of a batch that was controlled from there. */
async function leaveAttempt(host: RemoteHost, key: string, batch: string, origin: BatchOrigin) {
  const session = await MachineSession.open(host, {
    machineKey: key,
    batch,
    origin,
    loginEnvironment: false,
    onReport: () => {},
    onWarning: () => {},
  });
  const { runs } = session.folders;
  await session.close();
  // The supervisor may take a moment to end, and nobody controls the batch after this.
  await hosts.get('lab').exec(`mkdir -p ${runs}/job/1/started && rm -f ${runs}/.controller`);
}

test('only what a folder that can be read does not know is surely an orphan', {
  timeout: 60_000,
}, async () => {
  const results = (name: string) => join(folder, name, 'job_results');
  for (const name of ['knows', 'lacks', 'torn', 'new'])
    await mkdir(join(results(name), '.batches'), { recursive: true });
  await mkdir(results('bare'), { recursive: true });
  await mkdir(results('no-folder'), { recursive: true });
  await writeFile(join(results('no-folder'), '.batches'), '');
  await mkdir(join(folder, 'deleted'));
  await writeFile(join(folder, 'deleted', 'batch.sh'), '');
  await mkdir(join(folder, 'unmounted'));
  const { machineId } = originOf('', '');
  const cases = [
    { name: 'knows', wanted: undefined },
    { name: 'lacks', wanted: 'certain' },
    { name: 'deleted', wanted: 'certain' },
    { name: 'torn', wanted: 'cannot be read' },
    { name: 'bare', wanted: 'cannot be read' },
    { name: 'no-folder', wanted: 'cannot be read' },
    { name: 'unmounted', wanted: 'cannot be read' },
    { name: 'nowhere', wanted: 'cannot be read' },
    {
      name: 'lacks',
      by: { machineId: 'f'.repeat(16) },
      wanted: machineId === '' ? 'certain' : 'another computer',
    },
    { name: 'lacks', by: { machineId: '' }, wanted: 'certain' },
    { name: 'lacks', by: { host: 'elsewhere' }, wanted: 'another computer' },
  ];
  await writeFile(join(results('knows'), '.batches', 'a.id'), `${idOf(0)}\n`);
  await writeFile(join(results('lacks'), '.batches', 'a.id'), `${idOf(99)}\n`);
  await writeFile(join(results('torn'), '.batches', 'a.id'), '');
  await writeFile(join(results('new'), '.batches', 'a.id'), `${idOf(50)}\n`);

  await using host = await connectSsh(entry('lab'), {
    configFile: hosts.sshConfigPath,
    env: { ...process.env, SSH_AUTH_SOCK: '' },
  });
  const key = machineKey((await queryMachine(host)).identity);
  for (const [number, { name, by }] of cases.entries())
    await leaveAttempt(host, key, idOf(number), { ...originOf(results(name), 'batch.sh'), ...by });
  // A project that was moved, and went on from there.
  for (const name of ['deleted', 'new'])
    await leaveAttempt(host, key, idOf(50), originOf(results(name), 'batch.sh'));

  const { orphans, unreachable } = await listOrphans({
    machines: await findMachines(['./lab.yaml'], { cwd: folder }),
    defaults: {
      request: { ...DEFAULT_REQUEST, gpus: 0 },
      copyForwards: [],
      shareForwards: [],
      copyBackwards: [],
    },
    cwd: folder,
    ssh: { configFile: '/dev/null' },
  });
  expect(unreachable).toEqual([]);
  const found = new Map(orphans.map((one) => [one.batch, one]));
  for (const [number, { wanted }] of cases.entries()) {
    const one = found.get(idOf(number));
    const about = { number, ...cases[number] };
    expect({ ...about, isCertain: one?.isCertain }).toEqual({
      ...about,
      isCertain: wanted === undefined ? undefined : wanted === 'certain',
    });
    if (wanted !== undefined && wanted !== 'certain') expect(one?.because).toContain(wanted);
  }
  expect(found.has(idOf(50))).toBe(false);
});

test('a computer is told by its name and by its id, where both are known', () => {
  const own = originOf('/results', '/batch.sh');
  expect(own).toMatchObject({ folder: '/results', file: '/batch.sh' });
  expect(own.machineId).toMatch(/^(?:[0-9a-f]{16})?$/);
  expect(isFromHere(own)).toBe(true);
  expect(isFromHere({ host: own.host, folder: '', file: '' })).toBe(true);
  expect(isFromHere({ ...own, host: `${own.host}x` })).toBe(false);
  expect(isFromHere({ ...own, machineId: 'f'.repeat(16) })).toBe(own.machineId === '');
});
