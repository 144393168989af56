/** The hosts of a run, the disk of its results, and what strikes them. Keeps account of what can explain a second attempt. */
import { existsSync } from 'node:fs';
import { open, readdir, rm, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import { type SmallDisk, smallDisk } from '../files/small-disk.ts';
import { type TestHost, TestHosts } from '../rig/test-hosts.ts';
import { type ControllerFaultKind, type Fault, type FaultKind, HOSTS } from './plan.ts';

/** Where everything of ours lies on a host. */
export const OUR_FOLDER = '.cache/ssh-scheduler';
const RESULTS_DISK_MIB = 64;
const DATA_DISK_MIB = 64;
const HOST_DISK_MIB = 32;

/** A host lost its power. */
export interface PowerOff {
  readonly host: string;
  /** Epoch milliseconds just before and just after. */
  readonly fromAt: number;
  readonly toAt: number;
  /** The attempts (`JOB/NUMBER`) that had begun and had no exit record then: only these may count as lost. */
  readonly unended: ReadonlySet<string>;
}

/** A host's disk was full, from and to epoch milliseconds. */
export interface FullDisk {
  readonly host: string;
  readonly fromAt: number;
  toAt: number;
}

/** Four hosts, and small disks for results and for a service's data. All of it goes with `close`. */
export class Fleet implements AsyncDisposable {
  readonly powerOffs: PowerOff[] = [];
  readonly fullDisks: FullDisk[] = [];
  /** One fault at a time on a host: on a busy machine one may take longer than planned. */
  readonly #last = new Map<TestHost, Promise<void>>();

  static async start(): Promise<Fleet> {
    const specs = Array.from({ length: HOSTS }, (_, index) => ({
      name: `host${index}`,
      diskMiB: HOST_DISK_MIB,
    }));
    const hosts = await TestHosts.start(specs);
    return new Fleet(hosts, await smallDisk(RESULTS_DISK_MIB), await smallDisk(DATA_DISK_MIB));
  }

  private constructor(
    readonly hosts: TestHosts,
    readonly resultsDisk: SmallDisk | undefined,
    readonly dataDisk: SmallDisk | undefined,
  ) {}

  /** What can be done on this machine. */
  get kinds(): readonly FaultKind[] {
    const { cutNetwork, powerOff, limitedDisk, ownIdentity } = this.hosts.capabilities;
    const kinds: FaultKind[] = ['kill', 'interrupt', 'hang-up', 'terminate'];
    if (cutNetwork) kinds.push('cut');
    if (ownIdentity) kinds.push('reset');
    if (powerOff) kinds.push('power-off');
    if (limitedDisk) kinds.push('full-disk');
    if (this.resultsDisk !== undefined) kinds.push('full-results-disk');
    if (this.dataDisk !== undefined) kinds.push('full-data-disk');
    return kinds;
  }

  /** The hosts that are machines of their own to a controller: in loopback mode all are one. */
  get machines(): readonly TestHost[] {
    const { hosts, capabilities } = this.hosts;
    return capabilities.ownIdentity ? hosts : hosts.slice(0, 1);
  }

  /** Has a fault come and go. Resolves when all is well again. */
  async strike(fault: Fault & { readonly kind: Exclude<FaultKind, ControllerFaultKind> }): Promise<void> {
    if (fault.kind === 'full-results-disk') return await fillDisk(this.resultsDisk, fault.forMs);
    if (fault.kind === 'full-data-disk') return await fillDisk(this.dataDisk, fault.forMs);
    const { machines } = this;
    const host = machines[(fault.host ?? 0) % machines.length];
    if (host === undefined) return;
    const before = this.#last.get(host) ?? Promise.resolve();
    const struck = before.then(() => this.#strikeHost(host, fault.kind, fault.forMs));
    this.#last.set(
      host,
      struck.catch(() => {}),
    );
    await struck;
  }

  async #strikeHost(host: TestHost, kind: FaultKind, forMs: number): Promise<void> {
    if (kind === 'cut') {
      await host.cut();
      await pause(forMs);
      await host.heal();
    } else if (kind === 'reset') {
      // The processes of open connections alone: the one that listens is called otherwise.
      await host.exec('pkill -KILL -f "^sshd: lab"', { asRoot: true });
    } else if (kind === 'power-off') {
      const fromAt = Date.now();
      await host.powerOff();
      const unended = await unendedAttempts(host);
      this.powerOffs.push({ host: host.name, fromAt, toAt: Date.now(), unended });
      await pause(forMs);
      await host.boot();
    } else if (kind === 'full-disk') {
      const full = { host: host.name, fromAt: Date.now(), toAt: Number.POSITIVE_INFINITY };
      this.fullDisks.push(full);
      await host.fillDisk();
      await pause(forMs);
      await host.freeDisk();
      full.toAt = Date.now();
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.hosts.close();
    await this.resultsDisk?.[Symbol.asyncDispose]();
    await this.dataDisk?.[Symbol.asyncDispose]();
  }
}

/** Fills a disk, and makes room again after a while. */
async function fillDisk(disk: SmallDisk | undefined, forMs: number): Promise<void> {
  if (disk === undefined) return;
  const filler = join(disk.path, 'filler');
  const file = await open(filler, 'a');
  try {
    const { bavail, bsize } = await statfs(disk.path);
    await file.appendFile(Buffer.alloc(bavail * bsize + 1)).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'ENOSPC') throw error;
    });
  } finally {
    await file.close();
  }
  await pause(forMs);
  await rm(filler, { force: true });
}

/** `JOB/NUMBER` of the attempts on a host that have begun and have not ended. */
async function unendedAttempts(host: TestHost): Promise<ReadonlySet<string>> {
  const runs = join(host.homeDir, OUR_FOLDER, 'runs');
  const found = new Set<string>();
  for (const machine of await namesIn(runs)) {
    for (const batch of await namesIn(join(runs, machine))) {
      for (const job of await namesIn(join(runs, machine, batch))) {
        if (job.startsWith('.')) continue;
        for (const number of await namesIn(join(runs, machine, batch, job))) {
          const attempt = join(runs, machine, batch, job, number);
          if (existsSync(join(attempt, 'started')) && !existsSync(join(attempt, 'exit')))
            found.add(`${job}/${number}`);
        }
      }
    }
  }
  return found;
}

async function namesIn(folder: string): Promise<string[]> {
  return await readdir(folder).catch(() => []);
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
