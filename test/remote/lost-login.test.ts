/** A server that goes away in the middle of a login: no reason to think that our key is refused. */
import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { RemoteError } from '../../src/lib/domain/errors.ts';
import { connectSsh } from '../../src/lib/remote/ssh-host.ts';
import { TestHosts } from '../rig/test-hosts.ts';
import { entry } from './run-over.ts';

let hosts: TestHosts;
beforeAll(async () => {
  hosts = await TestHosts.start([{ name: 'server' }]);
}, 60_000);
afterAll(() => hosts.close());

test('it is told as a connection that was lost, which is tried again', async () => {
  const host = hosts.get('server');
  let limitBytes = 0;
  const proxy = createServer((client) => {
    const server = connect(host.port, host.address);
    let passedBytes = 0;
    server.on('data', (chunk: Buffer) => {
      passedBytes += chunk.length;
      client.write(chunk);
      if (passedBytes > limitBytes) server.destroy();
    });
    client.on('data', (chunk: Buffer) => server.write(chunk));
    server.on('close', () => client.destroy());
    client.on('close', () => server.destroy());
    for (const one of [client, server]) one.on('error', () => {});
  });
  proxy.listen(0, '127.0.0.1');
  await once(proxy, 'listening');
  const { port } = proxy.address() as { port: number }; // of a TCP server
  const config = entry('127.0.0.1', {
    ...{ port, username: host.user, sshKeyPath: host.keyPath, hostKeyChecking: 'no' },
  });
  const failures: RemoteError[] = [];
  // Wherever the login is by so many bytes, that depends on the server's version.
  for (limitBytes = 1000; limitBytes < 6000; limitBytes += 100) {
    try {
      await (await connectSsh(config)).close();
      break;
    } catch (error) {
      expect(error).toBeInstanceOf(RemoteError);
      failures.push(error as RemoteError);
    }
  }
  proxy.close();
  const during = failures.filter(({ message }) => message.includes('during the login'));
  expect(during.length).toBeGreaterThan(0);
  expect(new Set(failures.map(({ stage }) => stage))).toEqual(new Set(['connect']));
});
