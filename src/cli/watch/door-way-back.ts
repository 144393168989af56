/** The way to a service for one who stays when the service goes: it can be taken again and again. */
import { UsageError } from '../../lib/domain/errors.ts';
import type { MachineEntry } from '../../lib/machine/find-machines.ts';
import { defaultDataFolder } from '../../lib/queue/data-folder.ts';
import { DoorClient } from '../../lib/queue/door-client.ts';
import type { RemoteHost } from '../../lib/remote/remote-host.ts';
import type { DoorWay } from '../queue/subcommand.ts';
import { checkSshConfig } from '../ssh-config-file.ts';

/** Keeps the connection to the service's host while the service is away, and opens another one only when that is gone, too. */
export class DoorWayBack implements AsyncDisposable {
  readonly #way: DoorWay;
  readonly #warn: (message: string) => void;
  #host: RemoteHost | undefined;
  #isLeft = false;

  /** `warn` hears what a person should know, one line each. */
  constructor(way: DoorWay, warn: (message: string) => void) {
    this.#way = way;
    this.#warn = warn;
  }

  /** Connects to the service, not twice at the same time. @throws DoorError, RemoteError, UsageError */
  async connect(): Promise<DoorClient> {
    const { dataFolder, host: name } = this.#way;
    const entry = name === undefined ? undefined : await this.#entryOf(name);
    if (entry === undefined || entry.kind === 'local')
      return await DoorClient.connect(dataFolder ?? defaultDataFolder());
    this.#host ??= await this.#connectHost(entry);
    const { connectDoor } = await import('../../lib/queue/door-remote.ts');
    return await connectDoor(this.#host, dataFolder);
  }

  async #entryOf(name: string): Promise<MachineEntry | undefined> {
    const { findMachines } = await import('../../lib/machine/find-machines.ts');
    const { machines, warnings } = await findMachines([name]);
    if (this.#host === undefined) for (const warning of warnings) this.#warn(warning);
    const [entry, second] = machines;
    if (entry === undefined || second !== undefined)
      throw new UsageError(
        `--host names ${machines.length} machines, expected the one that the service runs on`,
      );
    return entry;
  }

  async #connectHost(entry: MachineEntry): Promise<RemoteHost> {
    const { sshConfig } = this.#way;
    checkSshConfig(sshConfig);
    const { connectMachine } = await import('../../lib/remote/connect.ts');
    const ssh = { onNewHostKey: this.#warn, ...(sshConfig !== undefined && { configFile: sshConfig }) };
    const host = await connectMachine(entry, { ssh });
    if (this.#isLeft) {
      void host.close();
      throw new Error('nobody waits for it any more');
    }
    void host.closed.then(() => {
      if (this.#host === host) this.#host = undefined;
    });
    return host;
  }

  /** Does not wait for a connection that is still to come: it is closed when it is there. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#isLeft = true;
    await this.#host?.close();
  }
}
