/**
 * What ssh itself would do for a destination: asks `ssh -G`, so aliases, Include, Match, ProxyJump and agents mean
 * what they mean on the command line. Where there is no ssh configuration, or no ssh, OpenSSH's defaults hold.
 */
import { userInfo } from 'node:os';
import { join } from 'node:path';
import { RemoteError } from '../domain/errors.ts';
import type { MachineName } from '../domain/machine.ts';
import type { HostKeyChecking, MachineConfig } from '../machine/config.ts';
import { askSsh, type SshConfigOptions, type SshDestination } from './ssh-g.ts';

/** Where to log in and how, all names resolved. */
export interface SshTarget {
  readonly machine: MachineName;
  readonly host: string;
  readonly port: number;
  readonly user: string;
  /** Destinations to go through, the one nearest to us first. */
  readonly jumps: readonly string[];
  /** A command that would carry the connection; the ssh library cannot use one. */
  readonly proxyCommand?: string;
  /** Private keys in the order of the configuration; they need not exist. */
  readonly identityFiles: readonly string[];
  /** Use no key that is not named, even if the agent has more. */
  readonly identitiesOnly: boolean;
  /** The agent's socket; absent for none. */
  readonly agentSocket?: string;
  readonly certificateFiles: readonly string[];
  readonly gssapi: boolean;
  /** The name in known_hosts when it is not the host's. */
  readonly hostKeyAlias?: string;
  /** Absent when the configuration leaves it to a question (`ask`). */
  readonly hostKeyChecking?: HostKeyChecking;
  readonly userKnownHosts: readonly string[];
  readonly globalKnownHosts: readonly string[];
  readonly hashKnownHosts: boolean;
  readonly connectTimeoutMs?: number;
}

/** OpenSSH's list, so that one can tell a key somebody named from one that ssh would try anyway. */
const DEFAULT_KEYS = ['rsa', 'ecdsa', 'ecdsa_sk', 'ed25519', 'ed25519_sk', 'xmss', 'dsa'].map(
  (name) => `id_${name}`,
);

/** Whether ssh tries this key without being told to. */
export function isDefaultKey(path: string, home: string = userInfo().homedir): boolean {
  return DEFAULT_KEYS.some((name) => path === join(home, '.ssh', name));
}

/**
 * Where a machine's entry leads. What the entry says stands; ssh is asked for the rest.
 * @throws RemoteError (`resolve`)
 */
export async function resolveSsh(config: MachineConfig, options: SshConfigOptions = {}): Promise<SshTarget> {
  const { name, host, username, port, proxyJump, hostKeyChecking } = config;
  const destination = {
    host,
    ...(username !== undefined && { user: username }),
    ...(port !== undefined && { port }),
  };
  const found = await resolveDestination(name, destination, options);
  const target = { ...found, ...(hostKeyChecking !== undefined && { hostKeyChecking }) };
  if (proxyJump === undefined) return target;
  const { proxyCommand: _replaced, ...direct } = target;
  return { ...direct, jumps: jumpList(proxyJump) };
}

/**
 * Reads `[user@]host[:port]`, `[user@][v6::address]:port` or `ssh://user@host:port`, the forms ProxyJump takes.
 * @throws RemoteError (`resolve`) on anything else
 */
export function parseDestination(machine: MachineName, text: string): SshDestination {
  const match =
    /^(?:ssh:\/\/)?(?:([^@]+)@)?(?:\[([^\]]+)\]|([^:@/[\]]+)|([0-9a-f]*:[0-9a-f:.]+))(?::(\d{1,5}))?\/?$/i.exec(
      text.trim(),
    );
  const host = match?.[2] ?? match?.[3] ?? match?.[4];
  const port = match?.[5] === undefined ? undefined : Number(match[5]);
  if (host === undefined || (port !== undefined && (port < 1 || port > 65535))) {
    throw new RemoteError(machine, 'resolve', `bad ssh destination '${text}': expected [user@]host[:port]`);
  }
  return { host, ...(match?.[1] !== undefined && { user: match[1] }), ...(port !== undefined && { port }) };
}

/**
 * Fills in what the destination leaves out.
 * @throws RemoteError (`resolve`) when ssh refuses its own configuration
 */
export async function resolveDestination(
  machine: MachineName,
  destination: SshDestination,
  options: SshConfigOptions = {},
): Promise<SshTarget> {
  const home = options.home ?? userInfo().homedir;
  const env = options.env ?? process.env;
  const settings = (await askSsh(machine, destination, options)) ?? new Map<string, string[]>();
  const one = (key: string) => settings.get(key)?.[0];
  const host = one('hostname') ?? destination.host;
  const port = destination.port ?? Number(one('port') ?? 22);
  const user = destination.user ?? one('user') ?? userInfo().username;
  const tokens = {
    d: home,
    h: host,
    n: destination.host,
    p: String(port),
    r: user,
    u: userInfo().username,
    '%': '%',
  };
  const path = (text: string) => expandPath(text, tokens, home, env);
  const agentSocket = agentPath(one('identityagent'), env, path);
  const checking = checkingOf(one('stricthostkeychecking'));
  const timeout = Number(one('connecttimeout'));
  const proxyCommand = one('proxycommand');
  const alias = one('hostkeyalias');
  return {
    machine,
    host,
    port,
    user,
    jumps: jumpList(one('proxyjump') ?? 'none'),
    ...(proxyCommand !== undefined && proxyCommand !== 'none' && { proxyCommand }),
    identityFiles: (settings.get('identityfile') ?? DEFAULT_KEYS.map((name) => `~/.ssh/${name}`)).map(path),
    identitiesOnly: one('identitiesonly') === 'yes',
    ...(agentSocket !== undefined && { agentSocket }),
    certificateFiles: (settings.get('certificatefile') ?? []).map(path),
    gssapi: one('gssapiauthentication') === 'yes',
    ...(alias !== undefined && alias !== 'none' && { hostKeyAlias: alias }),
    ...(checking !== undefined && { hostKeyChecking: checking }),
    userKnownHosts: pathList(one('userknownhostsfile') ?? '~/.ssh/known_hosts ~/.ssh/known_hosts2').map(path),
    globalKnownHosts: pathList(
      one('globalknownhostsfile') ?? '/etc/ssh/ssh_known_hosts /etc/ssh/ssh_known_hosts2',
    ).map(path),
    hashKnownHosts: one('hashknownhosts') === 'yes',
    ...(timeout > 0 && { connectTimeoutMs: timeout * 1000 }),
  };
}

function jumpList(setting: string): string[] {
  return setting === 'none' ? [] : setting.split(',').map((jump) => jump.trim());
}

function checkingOf(value: string | undefined): HostKeyChecking | undefined {
  if (value === 'yes' || value === 'true') return 'strict';
  if (value === 'no' || value === 'off' || value === 'false') return 'no';
  return value === 'accept-new' ? 'accept-new' : undefined;
}

function agentPath(
  setting: string | undefined,
  env: NodeJS.ProcessEnv,
  path: (text: string) => string,
): string | undefined {
  if (setting === 'none') return undefined;
  if (setting === undefined || setting === 'SSH_AUTH_SOCK') return env.SSH_AUTH_SOCK || undefined;
  return (
    (setting.startsWith('$') && !setting.startsWith('${') ? env[setting.slice(1)] : path(setting)) ||
    undefined
  );
}

/** `ssh -G` prints several paths on one line without quoting; a path with a space in it is kept whole. */
function pathList(text: string): string[] {
  return text.split(/\s+(?=[/~%$]|none$)/).filter((file) => file !== 'none');
}

/** `ssh -G` leaves `~`, `%d` and `${NAME}` in the names of keys (ssh_config(5), TOKENS). */
function expandPath(
  text: string,
  tokens: Readonly<Record<string, string>>,
  home: string,
  env: NodeJS.ProcessEnv,
): string {
  const expanded = text
    .replace(/\$\{(\w+)\}/g, (_all, name: string) => env[name] ?? '')
    .replace(/%(.)/g, (all, token: string) => tokens[token] ?? all);
  return expanded.replace(/^~(?=\/|$)/, () => home);
}
