/** Reads `user@host:port` and `ssh://user@host:port`, and says what a host or user name may be made of. */

// A leading `-` would be an option to ssh(1); letters of any script are for international names; `%` is for the zone
// of a link-local address.
const HOST = /^[\p{L}\p{N}_:][\p{L}\p{N}_.:%-]*$/u;
// The characters that OpenSSH refuses in a user name from the command line, and white space.
const USERNAME = /^(?!-)[^\s\p{Cc}'"`;&<>|(){}]*[^\s\p{Cc}'"`;&<>|(){}\\]$/u;
const WITH_PORT = /^(?:\[(?<bracketed>[^\]]+)\]|(?<plain>[^:[\]]+))(?::(?<port>\d+))?$/;
const HIGHEST_PORT = 65_535;

/** What an ssh destination says; what it leaves out is absent. */
export interface SshDestination {
  readonly host: string;
  readonly port?: number;
  readonly username?: string;
}

/** Whether the text can be a host name, an address (IPv6 without brackets) or an alias. */
export function isHost(text: string): boolean {
  return HOST.test(text) && text.length <= 255;
}

/** Whether the text can be a user name. */
export function isUsername(text: string): boolean {
  return USERNAME.test(text) && text.length <= 255;
}

/**
 * Reads `[user@]host[:port]` or `ssh://[user@]host[:port]`; undefined for anything else. An IPv6 address with a port
 * is in brackets.
 */
export function parseSshDestination(text: string): SshDestination | undefined {
  const rest = text.startsWith('ssh://') ? text.slice('ssh://'.length).replace(/\/$/, '') : text;
  const at = rest.lastIndexOf('@'); // a user name may hold one itself (`ann@corp@login1`)
  const username = at < 0 ? undefined : rest.slice(0, at);
  if (username !== undefined && !isUsername(username)) return undefined;
  const place = hostAndPort(rest.slice(at + 1));
  if (place === undefined) return undefined;
  return username === undefined ? place : { ...place, username };
}

function hostAndPort(text: string): SshDestination | undefined {
  if ((text.match(/:/g)?.length ?? 0) > 1 && isHost(text)) return { host: text }; // a bare IPv6 address
  const groups = WITH_PORT.exec(text)?.groups;
  const host = groups?.bracketed ?? groups?.plain;
  if (host === undefined || !isHost(host)) return undefined;
  if (groups?.port === undefined) return { host };
  const port = Number(groups.port);
  return port >= 1 && port <= HIGHEST_PORT ? { host, port } : undefined;
}
