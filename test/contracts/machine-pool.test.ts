import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe } from 'vitest';
import { MachinePool } from '../../src/lib/allocator/machine-pool.ts';
import { openPool } from '../../src/lib/allocator/open-pool.ts';
import type { SchedulerEvent } from '../../src/lib/domain/events.ts';
import { DEFAULT_REQUEST } from '../../src/lib/domain/request-defaults.ts';
import { SourceTrees } from '../../src/lib/files/source-trees.ts';
import { EventStream } from '../../src/lib/util/event-stream.ts';
import { entry } from '../remote/run-over.ts';
import { TestHosts } from '../rig/test-hosts.ts';
import { type BackendUnderTest, executionBackendContract } from './execution-backend.ts';
import { openLocalPool } from './local-pool.ts';

describe('a pool on this machine', () =>
  executionBackendContract(async () => {
    const local = await openLocalPool([{ name: 'one' }, { name: 'two' }]);
    const [one, two] = local.runners;
    if (one === undefined || two === undefined) throw new Error('two machines were asked for');
    // Both machines write into the first one's results: a backend has one results folder.
    const shared = await openLocalPool([
      { name: 'one', folder: one.folder },
      { name: 'two', folder: two.folder, resultsFolder: one.result() },
    ]);
    let latest = shared;
    return {
      backend: shared.pool,
      machineCount: 2,
      results: one.result(),
      signals: { pathThere: one.folder, pathsHere: [one.folder] },
      async reopen() {
        latest = await openLocalPool([
          { name: 'one', folder: one.folder },
          { name: 'two', folder: two.folder, resultsFolder: one.result() },
        ]);
        return latest.pool;
      },
      async [Symbol.asyncDispose]() {
        await latest[Symbol.asyncDispose]();
        await shared.pool.close();
        await local[Symbol.asyncDispose]();
      },
    };
  }));

describe('a pool of machines reached by ssh', () => {
  let hosts: TestHosts;
  beforeAll(async () => {
    hosts = await TestHosts.start([{ name: 'one' }, { name: 'two' }]);
  });
  afterAll(() => hosts.close());

  executionBackendContract(async (): Promise<BackendUnderTest> => {
    const folder = await mkdtemp(join(tmpdir(), 'pool-test-'));
    // Without namespaces all hosts are this machine, and a pool takes each machine once.
    const usable = hosts.capabilities.ownIdentity ? hosts.hosts : hosts.hosts.slice(0, 1);
    const batch = { id: `b${Math.random().toString(36).slice(2)}`, toolVersion: 'test' };
    const trees = new SourceTrees({ cwd: folder });
    const open = async () => {
      const pool = new MachinePool();
      await openPool(pool, {
        machines: usable.map(({ name }) => ({ kind: 'ssh', config: entry(name) })),
        events: new EventStream<SchedulerEvent>(),
        typicalRequest: DEFAULT_REQUEST,
        ssh: { configFile: hosts.sshConfigPath, env: { ...process.env, SSH_AUTH_SOCK: '' } },
        query: { cpuIntervalMs: 50 },
        runner: { batch, resultsFolder: folder, treeOf: (job) => trees.of(job), outputPollMs: 50 },
      });
      for (const { name } of pool.machines) pool.setReady(name);
      return pool;
    };
    const backend = await open();
    let latest = backend;
    return {
      backend,
      machineCount: usable.length,
      results: folder,
      signals: { pathThere: usable[0]?.homeOnHost ?? '', pathsHere: usable.map(({ homeDir }) => homeDir) },
      async reopen() {
        latest = await open();
        return latest;
      },
      async [Symbol.asyncDispose]() {
        await latest.close();
        await rm(folder, { recursive: true });
      },
    };
  });
});
