/** Opens the way to a machine, whichever kind it is. */
import type { MachineEntry } from '../machine/find-machines.ts';
import { LocalHost } from './local-host.ts';
import type { RemoteHost } from './remote-host.ts';
import type { SshOptions } from './ssh-host.ts';

/** How connections are made. */
export interface ConnectOptions {
  readonly ssh?: SshOptions;
}

/** Connects to a machine. @throws RemoteError saying why not */
export async function connectMachine(entry: MachineEntry, options: ConnectOptions = {}): Promise<RemoteHost> {
  if (entry.kind === 'local') return new LocalHost(entry.config.name);
  const { connectSsh } = await import('./ssh-host.ts'); // 45 ms of loading that `local` does without
  return await connectSsh(entry.config, options.ssh);
}
