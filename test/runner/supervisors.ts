/** For tests of the supervisor: real ones on this machine, in folders of their own, and what they say. */
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { machineName } from '../../src/lib/domain/machine.ts';
import { LocalHost } from '../../src/lib/remote/local-host.ts';
import {
  type AttemptPlace,
  type AttemptReport,
  type StartCall,
  Supervisor,
} from '../../src/lib/runner/supervisor.ts';
import { runOrThrow } from '../rig/command.ts';
import { until } from '../rig/until.ts';

/** What a supervisor said of one attempt. */
export interface Heard {
  readonly place: AttemptPlace;
  readonly report: AttemptReport;
}

/** One open supervisor. */
export interface OpenSupervisor {
  readonly supervisor: Supervisor;
  readonly host: LocalHost;
  readonly heard: Heard[];
  /** Starts a command in an empty folder. */
  run(folder: string, script: string, more?: Partial<StartCall>): AttemptPlace;
  /** The first report of this type about the attempt. */
  report<T extends AttemptReport['type']>(
    place: AttemptPlace,
    type: T,
  ): Promise<Extract<AttemptReport, { type: T }>>;
}

/** A folder that plays a machine's home, with supervisors on it. Everything goes with it. */
export class SupervisorFolder implements AsyncDisposable {
  readonly #open: OpenSupervisor[] = [];

  private constructor(readonly path: string) {}

  /** Makes one, in an existing folder. */
  static async make(within = tmpdir()): Promise<SupervisorFolder> {
    const path = await mkdtemp(join(within, 'supervisor-test-'));
    await mkdir(join(path, 'runs'));
    await mkdir(join(path, 'trees'));
    await mkdir(join(path, 'leases'));
    return new SupervisorFolder(path);
  }

  /** Opens one more supervisor on the same folder, with these variables set, which may change its ways. */
  async open(env: NodeJS.ProcessEnv = {}, copyCommand?: string): Promise<OpenSupervisor> {
    const host = new LocalHost(machineName('local'), { home: this.path, env: { ...process.env, ...env } });
    const heard: Heard[] = [];
    const folders = {
      runs: join(this.path, 'runs'),
      trees: join(this.path, 'trees'),
      leases: join(this.path, 'leases'),
      leaseSuffix: 'batch.machine',
      copyCommand: copyCommand ?? 'cp -a --reflink=auto',
    };
    const supervisor = await Supervisor.open(host, Promise.resolve(folders), (place, report) =>
      heard.push({ place, report }),
    );
    const opened: OpenSupervisor = {
      supervisor,
      host,
      heard,
      run(folder, script, more = {}) {
        const place = { folder, number: 1 };
        supervisor.start(place, {
          parts: [],
          isSmallTree: false,
          links: [],
          env: {},
          request: {},
          script,
          back: 'none',
          killGraceMs: 2000,
          ...more,
        });
        return place;
      },
      report: (place, type) =>
        until(() => heard.map((one) => reportOf(one, place, type)).find((report) => report !== undefined), {
          deadlineMs: 15_000,
          describe: () => ({ place, type, heard }),
        }),
    };
    this.#open.push(opened);
    return opened;
  }

  /** A file of an attempt. */
  file(place: AttemptPlace, name: string): string {
    return join(this.path, 'runs', place.folder, String(place.number), name);
  }

  /** The paths in a list of an attempt, sorted, a character per byte; none where there is no list. */
  async paths(place: AttemptPlace, name: 'changed' | 'deleted'): Promise<string[]> {
    const list = await readFile(this.file(place, name), 'latin1').catch(() => '');
    return list.split('\0').slice(0, -1).sort();
  }

  /** Makes a source part with a bash script that runs in its folder. Its times are old and whole seconds, as after an archive. */
  async part(name: string, script: string): Promise<void> {
    const path = join(this.path, 'trees', name);
    await mkdir(path);
    await runOrThrow('bash', ['-ec', `${script}\nfind . -exec touch -h -d 2020-02-02 {} +`], { cwd: path });
  }

  /** What a file of an attempt holds. */
  read(place: AttemptPlace, name = 'out'): Promise<string> {
    return readFile(this.file(place, name), 'utf8');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const { supervisor, host } of this.#open) {
      supervisor.close();
      await host.close();
    }
    await this.#killJobs();
    await rm(this.path, { recursive: true, force: true, maxRetries: 3 });
  }

  /** A test that fails half-way must not leave its jobs behind. */
  async #killJobs(): Promise<void> {
    // Not by a recursive readdir, which follows the links in a job's folder.
    const jobs = await readdir(join(this.path, 'runs')).catch((): string[] => []);
    for (const job of jobs.filter((one) => !one.startsWith('.'))) {
      const path = join(job, '1', 'pid');
      if (!existsSync(join(this.path, 'runs', path))) continue;
      const [pid = '', start] = (await readFile(join(this.path, 'runs', path), 'utf8')).trim().split(' ');
      const fields = await statFields(Number(pid));
      if (fields[19] === start && fields[0] !== 'Z') process.kill(Number(pid), 'SIGKILL');
    }
  }
}

function reportOf<T extends AttemptReport['type']>(
  { place, report }: Heard,
  wanted: AttemptPlace,
  type: T,
): Extract<AttemptReport, { type: T }> | undefined {
  if (place.folder !== wanted.folder || place.number !== wanted.number || report.type !== type)
    return undefined;
  return report as Extract<AttemptReport, { type: T }>; // as checked on the line above
}

/** Whether a process is there and is no zombie. */
export async function isAlive(pid: number): Promise<boolean> {
  const [state = 'X'] = await statFields(pid);
  return state !== 'Z' && state !== 'X';
}

/** The process that started a process. */
export async function parentOf(pid: number): Promise<number> {
  return Number((await statFields(pid))[1]);
}

/** The fields of proc_pid_stat(5) from the third, the state, on; none when the process is gone. */
async function statFields(pid: number): Promise<string[]> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '');
  return stat === '' ? [] : stat.slice(stat.lastIndexOf(')') + 2).split(' ');
}
