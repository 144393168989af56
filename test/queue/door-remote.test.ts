/** The door of a service on another machine, through a real sshd. */
import { readFile } from 'node:fs/promises';
import { dirname, join, relative, resolve } from 'node:path';
import ts from 'typescript';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { machineName } from '../../src/lib/domain/machine.ts';
import { connectDoor } from '../../src/lib/queue/door-remote.ts';
import { LocalHost } from '../../src/lib/remote/local-host.ts';
import type { RemoteHost } from '../../src/lib/remote/remote-host.ts';
import { connectSsh } from '../../src/lib/remote/ssh-host.ts';
import { entry } from '../remote/run-over.ts';
import { type TestHost, TestHosts } from '../rig/test-hosts.ts';
import { until } from '../rig/until.ts';

const SLOW = { deadlineMs: 25_000 };
const PIDS: { readonly host: TestHost; readonly pid: number }[] = [];

let hosts: TestHosts;
let files: ReadonlyMap<string, string>;

beforeAll(async () => {
  files = await programFiles();
  hosts = await TestHosts.start([
    { name: 'server' },
    { name: 'shut', sshd: ['AllowStreamLocalForwarding no'] },
    { name: 'elsewhere' },
  ]);
});
afterAll(async () => {
  for (const { host, pid } of PIDS) await host.exec(`kill -9 ${pid}`);
  await hosts.close();
});

/** The test's service as JavaScript, by its path: a host may not see the folder that the tests run from. */
async function programFiles(): Promise<ReadonlyMap<string, string>> {
  const found = new Map<string, string>();
  const options = {
    module: ts.ModuleKind.ESNext,
    target: ts.ScriptTarget.ES2022,
    rewriteRelativeImportExtensions: true,
    verbatimModuleSyntax: true,
  };
  const add = async (path: string): Promise<void> => {
    if (found.has(path)) return;
    const { outputText } = ts.transpileModule(await readFile(path, 'utf8'), { compilerOptions: options });
    found.set(path, outputText);
    for (const [, name = ''] of outputText.matchAll(/from ["'](\.[^"']*)\.js["']/g))
      await add(join(dirname(path), `${name}.ts`));
  };
  await add(resolve('test/queue/door-program.ts'));
  return new Map([...found].map(([path, text]) => [relative('.', path).replace(/\.ts$/, '.js'), text]));
}

/** Starts the service on a host, as its account. Returns the process id that `where` tells. */
async function serve(host: TestHost, dataFolder: string): Promise<number> {
  const lines = [...files].map(([path, text]) => ({
    path: `program/${path}`,
    text: Buffer.from(text).toString('base64'),
  }));
  lines.push({ path: 'program/package.json', text: Buffer.from('{"type":"module"}').toString('base64') });
  for (const { path, text } of lines)
    await host.exec(`mkdir -p "$(dirname ${path})" && echo ${text} | base64 -d >${path}`);
  const { stdout } = await host.exec(
    `rm -f said; '${process.execPath}' program/test/queue/door-program.js ${dataFolder} >said 2>&1 </dev/null & echo $!`,
  );
  const pid = Number(stdout);
  PIDS.push({ host, pid });
  const said = async () => (await host.exec('cat said')).stdout;
  await until(async () => (await said()).startsWith('ready'), { ...SLOW, describe: said });
  return pid;
}

const connect = (name: string): Promise<RemoteHost> =>
  connectSsh(entry(name), { configFile: hosts.sshConfigPath, env: { ...process.env, SSH_AUTH_SOCK: '' } });

test('is reached through ssh: calls, streams, its death, and the next service', async () => {
  const server = hosts.get('server');
  await using host = await connect('server');
  await expect(connectDoor(host, 'data')).rejects.toMatchObject({ code: 'no-service' });
  const pid = await serve(server, '"$HOME/data"');
  for (const name of ['data', '~/data', `${server.homeOnHost}/data`]) {
    await using client = await connectDoor(host, name);
    expect(await client.call('echo', { name })).toEqual({ name });
  }
  await using client = await connectDoor(host, 'data');
  const items: unknown[] = [];
  for await (const item of client.stream('count')) items.push(item);
  expect(items).toHaveLength(1000);
  const long = 'ä'.repeat(3_000_000);
  expect(await client.call('echo', long)).toBe(long);
  const waiting = client.call('long').catch((error: Error) => error.message);
  await server.exec(`kill -9 ${pid}`);
  expect(await waiting).toMatch(/the service on server:\S*\/data went away/);
  await expect(connectDoor(host, 'data')).rejects.toThrow(/no service runs on server:\S*\/data: start one/);
  await serve(server, '"$HOME/data"');
  await using again = await connectDoor(host, 'data');
  expect(await again.call('echo', 1)).toBe(1);
});

test('is found where the login of the server says, and goes with the connection', async () => {
  const host = await connect('elsewhere');
  const server = hosts.get('elsewhere');
  await serve(server, '"$HOME/.local/share/ssh-scheduler/queue"');
  const client = await connectDoor(host);
  expect(await client.call('echo', 1)).toBe(1);
  await host.close();
  await expect(client.call('echo', 2)).rejects.toMatchObject({ code: 'gone' });
});

test('the loss of the connection is told as such', async () => {
  const server = hosts.get('elsewhere');
  await serve(server, '"$HOME/cut"');
  await using host = await connectSsh(entry('elsewhere'), {
    ...{ configFile: hosts.sshConfigPath, env: { ...process.env, SSH_AUTH_SOCK: '' } },
    ...{ keepaliveIntervalMs: 200, keepaliveCountMax: 2 },
  });
  await using client = await connectDoor(host, 'cut');
  const waiting = client.call('long').catch((error: Error) => error);
  await server.cut();
  try {
    expect(await waiting).toMatchObject({
      code: 'gone',
      message: expect.stringMatching(/^the connection to elsewhere was lost \(nothing heard from /) as string,
    });
  } finally {
    await server.heal();
  }
});

test('a start file that sets XDG_DATA_HOME is heard', async () => {
  const server = hosts.get('shut');
  await server.exec(`echo 'export XDG_DATA_HOME=$HOME/share' >>.profile`);
  await server.restartSshd(['AllowStreamLocalForwarding yes']);
  await serve(server, '"$HOME/share/ssh-scheduler/queue"');
  await using host = await connect('shut');
  await using client = await connectDoor(host);
  expect(await client.call('echo', 1)).toBe(1);
});

test('a server that forbids it says so, and a socket that is not its owner alone is not used', async () => {
  const server = hosts.get('shut');
  await server.restartSshd(['AllowStreamLocalForwarding no']);
  await serve(server, '"$HOME/closed"');
  {
    await using host = await connect('shut');
    await expect(connectDoor(host, 'closed')).rejects.toThrow(
      /its sshd does not allow sockets to be forwarded/,
    );
  }
  await server.restartSshd(['AllowStreamLocalForwarding yes']);
  await using host = await connect('shut');
  expect(await (await connectDoor(host, 'closed')).call('echo', 1)).toBe(1);
  await server.exec('chmod 777 closed/door');
  await expect(connectDoor(host, 'closed')).rejects.toThrow('others than its owner may write there');
});

test('a way without forwarding says so', async () => {
  await using host = new LocalHost(machineName('local'));
  await expect(connectDoor(host)).rejects.toThrow('local: this way to the machine forwards no sockets');
});

test('a long path on the server is followed to where the socket is', async () => {
  const server = hosts.get('elsewhere');
  const name = 'l'.repeat(120);
  await serve(server, `"$HOME/${name}"`);
  await using host = await connect('elsewhere');
  await using client = await connectDoor(host, name);
  expect(await client.call('echo', 1)).toBe(1);
});
