/** The hosts that a connection goes through: jump hosts first, the machine last, each resolved as ssh would. */
import { RemoteError } from '../domain/errors.ts';
import type { MachineConfig } from '../machine/config.ts';
import { parseDestination, resolveDestination, resolveSsh, type SshTarget } from './ssh-config.ts';
import type { SshConfigOptions } from './ssh-g.ts';

const MAX_HOPS = 8;

/**
 * All hops of the way to a machine. As with ssh, a jump host that has jump hosts of its own in ssh's configuration
 * is reached through those, unless the list itself says what comes before it.
 * @throws RemoteError when a hop cannot be resolved, needs a ProxyCommand, or the way goes round in a circle
 */
export async function resolveRoute(config: MachineConfig, options: SshConfigOptions): Promise<SshTarget[]> {
  const target = await resolveSsh(config, options);
  const route = [...(await hopsBefore(target, options, 1)), target];
  for (const hop of route) {
    if (hop.proxyCommand === undefined) continue;
    throw new RemoteError(
      config.name,
      'connect',
      `${hop.host} is to be reached through a ProxyCommand (${hop.proxyCommand}), which the ssh library cannot use; ` +
        `expected a direct way or proxy_jump`,
    );
  }
  return route;
}

async function hopsBefore(target: SshTarget, options: SshConfigOptions, depth: number): Promise<SshTarget[]> {
  const text = target.jumps.at(-1);
  if (text === undefined) return [];
  if (depth > MAX_HOPS) {
    throw new RemoteError(
      target.machine,
      'resolve',
      `more than ${MAX_HOPS} jump hosts before ${target.host}: does ProxyJump go in a circle?`,
    );
  }
  const found = await resolveDestination(target.machine, parseDestination(target.machine, text), options);
  const before = target.jumps.slice(0, -1);
  const { proxyCommand, ...direct } = found;
  const hop: SshTarget =
    before.length > 0
      ? { ...direct, jumps: before }
      : { ...direct, ...(proxyCommand !== undefined && { proxyCommand }) };
  return [...(await hopsBefore(hop, options, depth + 1)), hop];
}
