import { randomBytes } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { expect, test } from 'vitest';
import { machineName } from '../../src/lib/domain/machine.ts';
import { LocalHost } from '../../src/lib/remote/local-host.ts';
import { until } from '../rig/until.ts';
import { runOver, scratch } from './run-over.ts';

test('runs a program in the home folder with its streams apart', async () => {
  await using host = new LocalHost(machineName('local'));
  expect(await runOver(host, 'pwd; echo oops >&2; exit 7')).toEqual({
    stdout: `${homedir()}\n`,
    stderr: 'oops\n',
    end: { type: 'exited', exitCode: 7 },
  });
  expect((await runOver(host, 'kill -TERM $$')).end).toEqual({ type: 'signalled', signal: 'SIGTERM' });
  expect(host.traffic).toEqual({ sentBytes: 0, receivedBytes: 0 });
});

test('carries 64 MiB of any bytes both ways', async () => {
  await using host = new LocalHost(machineName('local'));
  const data = randomBytes(64 << 20);
  const channel = await host.open('exec cat');
  channel.stdin.end(data);
  channel.stderr.resume();
  expect((await buffer(channel.stdout)).equals(data)).toBe(true);
  expect(await channel.ended).toEqual({ type: 'exited', exitCode: 0 });
});

test('a program leads a session of its own, so that a Ctrl-C here does not reach it', async () => {
  await using host = new LocalHost(machineName('local'));
  const { stdout } = await runOver(host, 'echo $$; cat /proc/$$/stat');
  const [pid, status] = stdout.split('\n');
  expect(status?.split(' ').slice(4, 6)).toEqual([pid, pid]); // process group and session, proc(5)
});

test('closing gives programs up without ending them', async () => {
  await using folder = await scratch();
  const host = new LocalHost(machineName('local'), { home: folder.path });
  const channel = await host.open('cat >/dev/null; echo done >end');
  await host.close();
  expect(await host.closed).toBe('closed');
  expect(await channel.ended).toEqual({ type: 'unknown', reason: 'the channel was closed here' });
  await until(() => readFile(join(folder.path, 'end'), 'utf8'));
  await expect(host.open('true')).rejects.toThrow('this connection is closed');
});

test('a program that ends without reading its input hurts nobody', async () => {
  await using host = new LocalHost(machineName('local'));
  expect((await runOver(host, 'true', 'x'.repeat(1 << 20))).end).toEqual({ type: 'exited', exitCode: 0 });
});

test('a missing home folder is one clear error', async () => {
  await using host = new LocalHost(machineName('local'), { home: '/nonexistent/home' });
  await expect(host.open('true')).rejects.toMatchObject({
    stage: 'run',
    message: expect.stringContaining('/nonexistent/home'),
  });
});
