/** Sending to real machines: as an ordinary user, where there is only busybox, and where sshd allows few channels. */
import { randomBytes } from 'node:crypto';
import { chmod, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type PartStore, pruneStores, sendParts } from '../../src/lib/files/send.ts';
import type { SourcePart } from '../../src/lib/files/source-part.ts';
import { SourceTrees } from '../../src/lib/files/source-trees.ts';
import { RequestShell } from '../../src/lib/remote/remote-shell.ts';
import { connectSsh } from '../../src/lib/remote/ssh-host.ts';
import { entry, scratch } from '../remote/run-over.ts';
import { runOrThrow } from '../rig/command.ts';
import { TestHosts } from '../rig/test-hosts.ts';
import { until } from '../rig/until.ts';
import { contents, editOddProject, makeOddProject } from './odd-project.ts';

let hosts: TestHosts;
beforeAll(async () => {
  hosts = await TestHosts.start([
    { name: 'plain' },
    { name: 'busy', busyboxOnly: true },
    { name: 'narrow', sshd: ['MaxSessions 3'] },
  ]);
});
afterAll(() => hosts.close());

const connect = (name: string) =>
  connectSsh(entry(name), {
    configFile: hosts.sshConfigPath,
    env: { ...process.env, SSH_AUTH_SOCK: '' },
  });

/** Makes the stores in the user's home there. */
async function storesIn(
  shell: RequestShell,
): Promise<{ base: string; store: (kind: PartStore['kind']) => PartStore }> {
  const { output } = await shell.text('mkdir -p .base/trees .base/shares .base/leases; cd .base; pwd');
  const base = output.trim();
  return {
    base,
    store: (kind) => ({
      kind,
      folder: `${base}/${kind}`,
      leases: `${base}/leases`,
      leaseSuffix: 'batch.machine',
    }),
  };
}

async function wholeOf(project: string): Promise<SourcePart> {
  const trees = new SourceTrees({ cwd: project, home: '/nowhere', cacheFolder: `${project}-hashes` });
  const [part] = (await trees.of({ copyForwards: 'working-directory', shareForwards: [] })).parts;
  if (part === undefined) throw new Error('nothing to send');
  return part;
}

for (const name of ['plain', 'busy']) {
  test(`on the machine ${name} odd trees arrive, are reused, shared and pruned`, async () => {
    await using folder = await scratch();
    const project = join(folder.path, 'project');
    await mkdir(project);
    await using host = await connect(name);
    await using shell = await RequestShell.open(host);
    const { base, store } = await storesIn(shell);
    const there = (...path: string[]) => join(hosts.get(name).homeDir, '.base', ...path);
    await makeOddProject(project);
    const first = await wholeOf(project);
    await sendParts(host, shell, store('trees'), [first]);
    expect(await contents(there('trees', first.id))).toEqual(await contents(project));
    await editOddProject(project);
    const second = await wholeOf(project);
    const sent = (await sendParts(host, shell, store('trees'), [second])).get(second.id);
    expect(sent).toMatchObject({ newFiles: 4 });
    expect(sent?.sentBytes).toBeLessThan(20_000);
    expect(await contents(there('trees', second.id))).toEqual(await contents(project));

    const shared = (await sendParts(host, shell, store('shares'), [second])).get(second.id);
    const again = (await sendParts(host, shell, store('shares'), [second])).get(second.id);
    expect(again).toEqual({ name: shared?.name, sentBytes: 0, newFiles: 0, newBytes: 0 });
    await shell.run(`chmod u+w ${base}/shares/*/plain; echo x >>${base}/shares/${shared?.name}/plain`);
    const healed = (await sendParts(host, shell, store('shares'), [second])).get(second.id);
    expect(healed?.name).not.toBe(shared?.name);

    await shell.run(`touch -d '1999-01-01 00:00' ${base}/leases/*`);
    await pruneStores(shell, base, `${base}/leases`, 0);
    await until(
      async () => (await shell.text(`ls ${base}/trees ${base}/shares | grep -v :`)).output.trim() === '',
    );
    await chmod(join(project, 'read-only'), 0o755);
  });
}

test('a machine that allows few programs at a time gets its files all the same', async () => {
  await using folder = await scratch();
  await writeFile(join(folder.path, 'large'), randomBytes(6_000_000));
  await using host = await connect('narrow');
  await using shell = await RequestShell.open(host);
  const { store } = await storesIn(shell);
  const other = await host.open('cat');
  const part = await wholeOf(folder.path);
  await sendParts(host, shell, store('trees'), [part]);
  await runOrThrow('cmp', [
    join(folder.path, 'large'),
    join(hosts.get('narrow').homeDir, '.base/trees', part.id, 'large'),
  ]);
  other.close();
});
