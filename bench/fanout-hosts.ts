/** Many hosts for one command: 64 loopback addresses over eight sshd, known to ssh as node01 to node64. */

import { writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { TestHosts } from '../test/rig/test-hosts.ts';

const SERVERS = 8;
const ADDRESSES_PER_SERVER = 8; // sshd listens on 16 at most

/** The hosts, and the file for `ssh -F` that knows them. */
export interface FanoutHosts extends AsyncDisposable {
  readonly names: readonly string[];
  readonly sshConfigPath: string;
}

/** Starts the servers. Linux answers on all of 127.0.0.0/8 without being told to; other systems do not. */
export async function startFanoutHosts(): Promise<FanoutHosts> {
  const port = await freePort();
  const addressesOf = (server: number) =>
    Array.from(
      { length: ADDRESSES_PER_SERVER },
      (_, i) => `127.0.77.${server * ADDRESSES_PER_SERVER + i + 1}`,
    );
  const hosts = await TestHosts.start(
    Array.from({ length: SERVERS }, (_, server) => ({
      name: `server${server}`,
      sshd: [
        ...addressesOf(server).map((address) => `ListenAddress ${address}:${port}`),
        'MaxStartups 200', // one server has the logins of eight hosts
      ],
    })),
    { mode: 'loopback' },
  );
  try {
    const names: string[] = [];
    let config = '';
    let known = '';
    for (const [server, host] of hosts.hosts.entries()) {
      const [, type, key] = host.knownHostsLine.split(' ');
      for (const address of addressesOf(server)) {
        const name = `node${String(names.length + 1).padStart(2, '0')}`;
        names.push(name);
        known += `[${address}]:${port} ${type} ${key}\n`;
        config += `Host ${name}\n  HostName ${address}\n  Port ${port}\n  User ${host.user}\n  IdentityFile ${host.keyPath}\n`;
      }
    }
    const knownHostsPath = join(hosts.folder, 'fanout_known_hosts');
    const sshConfigPath = join(hosts.folder, 'fanout_config');
    const common = `Host *\n  IdentitiesOnly yes\n  UserKnownHostsFile ${knownHostsPath}\n  GlobalKnownHostsFile none\n  StrictHostKeyChecking yes\n  BatchMode yes\n`;
    await writeFile(knownHostsPath, known);
    await writeFile(sshConfigPath, config + common);
    return { names, sshConfigPath, [Symbol.asyncDispose]: () => hosts.close() };
  } catch (error) {
    await hosts.close();
    throw error;
  }
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(0, '127.0.77.1', resolve);
  });
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  if (address === null || typeof address === 'string') throw new Error('no port was given out');
  return address.port;
}
