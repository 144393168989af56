/** The sjq door of a service: its socket, the jobs behind it, and the end of a service that nobody needs any more. */
import { homedir } from 'node:os';
import type { Job } from '../../domain/job.ts';
import { IN_PLACE_MACHINE } from '../in-place.ts';
import type { ServiceParts } from '../service-parts.ts';
import { Autoshutdown } from './autoshutdown.ts';
import { SjqJobs } from './sjq-jobs.ts';
import type { SjqOptions } from './sjq-options.ts';
import { SjqServer } from './sjq-server.ts';

/** What a door is opened for. */
export interface SjqDoorOptions {
  readonly service: ServiceParts;
  readonly options: SjqOptions;
  /** A group whose members may use it, and so run anything as the service's user. */
  readonly group?: string;
  /** Hears of what a person should know, one line each. */
  readonly onNote: (line: string) => void;
}

/** A door that is open until `close`. */
export class SjqDoor {
  readonly #server: SjqServer;
  readonly #autoshutdown: Autoshutdown | undefined;

  /** @throws UsageError when the socket cannot be used */
  static async open({ service, options, group, onNote }: SjqDoorOptions): Promise<SjqDoor> {
    // Whoever started the service for more than this door would miss it.
    const isAlone = () => service.machines.names().every((name) => name === IN_PLACE_MACHINE);
    let door: SjqDoor | undefined;
    const stop = (why: string) => {
      onNote(`${why}: stopping; jobs that run go on, and the next start takes them over`);
      service.stop({ how: 'leave' }).catch((error: Error) => onNote(`it goes on: ${error.message}`));
    };
    const jobs = new SjqJobs({
      ...{ service, options, home: homedir() },
      onShutdown: () => {
        if (isAlone()) return stop('SHUTDOWN through the sjq door');
        onNote('SHUTDOWN through the sjq door: it is closed; the service goes on, for it has other machines');
        void door?.close();
      },
    });
    const server = await SjqServer.open({
      ...{ socketPath: options.socketPath, queue: jobs, onNote },
      ...(group === undefined ? {} : { group }),
    });
    const { autoshutdown, waitTimeMs } = options;
    const end =
      autoshutdown && isAlone() ? `; the service ends after ${waitTimeMs / 1000} s without jobs` : '';
    onNote(`sjq door: ${options.socketPath}; ${managedText(options)}${end}`);
    const why = `no jobs for ${waitTimeMs / 1000} s (sjq.waittime)`;
    const watching = autoshutdown
      ? new Autoshutdown({
          ...{ store: service.store, waitTimeMs, canRun: (job) => canRun(service, job) },
          // One who is just submitting has a job.
          isUnneeded: () => isAlone() && server.unfinishedCount === 0,
          stop: () => stop(why),
        })
      : undefined;
    door = new SjqDoor(server, watching);
    return door;
  }

  private constructor(server: SjqServer, autoshutdown: Autoshutdown | undefined) {
    this.#server = server;
    this.#autoshutdown = autoshutdown;
  }

  async close(): Promise<void> {
    this.#autoshutdown?.close();
    await this.#server.close();
  }
}

/** Whether a job that waits could ever run here. */
function canRun(service: ServiceParts, job: Job): boolean {
  const spec = service.store.spec(job.id);
  if (spec === undefined || service.barOf(spec) !== undefined) return false;
  if (job.runHere === true) return true;
  const { fits, unknown } = service.machines.canEver(job.request, spec.machine);
  return fits || unknown.length > 0;
}

function managedText({ maxProcs, maxMemMiB }: SjqOptions): string {
  const cpus = `${maxProcs} CPU${maxProcs === 1 ? '' : 's'}`;
  return maxMemMiB === undefined
    ? `${cpus} are given to jobs, and memory is not counted`
    : `${cpus} and ${maxMemMiB}M of memory are given to jobs`;
}
