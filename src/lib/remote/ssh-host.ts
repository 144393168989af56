/** Connects to machines over ssh, through jump hosts where needed. */
import type { MachineConfig } from '../machine/config.ts';
import type { Credentials } from './auth.ts';
import type { RemoteHost } from './remote-host.ts';
import type { SshTarget } from './ssh-config.ts';
import { SshConnection } from './ssh-connection.ts';
import type { SshConfigOptions } from './ssh-g.ts';
import { connectHop, type Hop } from './ssh-hop.ts';
import type { LoginOptions } from './ssh-login.ts';
import { resolveRoute } from './ssh-route.ts';

/** How connections are made and watched. */
export interface SshOptions extends SshConfigOptions {
  /** Told of each host key that was added, or accepted although it differs. */
  readonly onNewHostKey?: (message: string) => void;
  /** For each hop's TCP connection and login together. @default ssh's ConnectTimeout, else 10000 */
  readonly connectTimeoutMs?: number;
  /** Between two pings, and between two looks whether anything came back. @default 3500 */
  readonly keepaliveIntervalMs?: number;
  /** Looks in a row that may find nothing heard: a cut is found after at most 2 more, 14 s. @default 2 */
  readonly keepaliveCountMax?: number;
  /** Programs at a time; further calls of `open` wait for one to end. @default 9: sshd allows 10, and counts those that just ended */
  readonly maxChannels?: number;
  /** How long a machine may refuse a program because it has not yet noticed that others ended. @default 5000 */
  readonly openRetryMs?: number;
}

const defaults = {
  keepaliveIntervalMs: 3_500,
  keepaliveCountMax: 2,
  maxChannels: 9,
  openRetryMs: 5_000,
} as const satisfies SshOptions;

type FilledOptions = SshOptions & { readonly [K in keyof typeof defaults]: number };

const CONNECT_TIMEOUT_MS = 10_000;

/**
 * Connects to a machine and logs in.
 * @throws RemoteError whose stage and message say what failed, and what to do
 */
export async function connectSsh(config: MachineConfig, options: SshOptions = {}): Promise<RemoteHost> {
  const filled = { ...defaults, ...options };
  const route = await resolveRoute(config, options);
  const hops: Hop[] = [];
  try {
    for (const target of route) {
      const isMachine = target === route.at(-1);
      const hop = isMachine ? target : withKey(target, config.sshKeyPath);
      hops.push(await connectHop(hop, hops.at(-1), loginOptions(config, target, isMachine, filled)));
    }
  } catch (error) {
    hops[0]?.stream.destroy();
    throw error;
  }
  return new SshConnection(config.name, hops, filled);
}

/** The machine's key often opens its jump host too; there it is one more key beside the jump host's own. */
function withKey(target: SshTarget, keyPath: string | undefined): SshTarget {
  return keyPath === undefined ? target : { ...target, identityFiles: [...target.identityFiles, keyPath] };
}

function loginOptions(
  config: MachineConfig,
  target: SshTarget,
  isMachine: boolean,
  options: FilledOptions,
): LoginOptions {
  const password = isMachine ? config.password?.reveal() : undefined; // never for a jump host
  const passphrase = config.passphrase?.reveal();
  const credentials: Credentials = {
    ...(isMachine && config.sshKeyPath !== undefined && { keyPath: config.sshKeyPath }),
    ...(password !== undefined && { password }),
    ...(passphrase !== undefined && { passphrase }),
  };
  const isStrict = config.hostKeyChecking === 'strict'; // holds for the whole way; `no` is for the machine alone
  return {
    credentials,
    hostKeyChecking: isStrict ? 'strict' : (target.hostKeyChecking ?? 'accept-new'),
    timeoutMs: options.connectTimeoutMs ?? target.connectTimeoutMs ?? CONNECT_TIMEOUT_MS,
    pingIntervalMs: isMachine ? options.keepaliveIntervalMs : 0,
    ...(options.onNewHostKey !== undefined && { onNewHostKey: options.onNewHostKey }),
  };
}
