/** The protocol of the sjq document, byte for byte, over a socket. */
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { SjqServer, type SjqServerOptions } from '../../src/lib/queue/sjq/sjq-server.ts';
import { until } from '../rig/until.ts';
import { scratch } from './programs.ts';
import { KeptQueue, RawClient, WAIT } from './sjq-rig.ts';

const SCRIPT = '#!/bin/sh\necho grün 日本\r\n\0PING\r\n';
const SCRIPT_BYTES = Buffer.byteLength(SCRIPT);

let folder: Awaited<ReturnType<typeof scratch>>;
let queue: KeptQueue;
let path: string;
let server: SjqServer;
beforeEach(async () => {
  folder = await scratch();
  path = join(folder.path, '.sjq.sock');
  queue = new KeptQueue();
  await open({});
});
afterEach(async () => {
  await server.close();
  await folder[Symbol.asyncDispose]();
});

async function open(options: Partial<SjqServerOptions>): Promise<void> {
  await server?.close();
  server = await SjqServer.open({ socketPath: path, queue, lastWordsMs: 10_000, ...options });
}

const enter = () => RawClient.connect(path);
const submit = (...lines: string[]) => ['SUBMIT', ...lines, `SRC ${SCRIPT_BYTES}`, SCRIPT].join('\r\n');

test('the transcripts of the document', async () => {
  using client = await enter();
  expect(await client.ask('PING\r\n')).toBe('OK jobs:0');
  expect(await client.ask(submit('MEM 2G', 'PROCS 4', 'NAME Größe', 'HOLD'))).toBe('OK 1');
  expect(await client.ask(submit('DEPENDS 1:7', 'ENV A=1:B= 2 ', 'CWD /tmp/a b'))).toBe('OK 2');
  expect(await client.ask('RELEASE 1\r\n')).toBe('OK');
  expect(await client.ask('KILL 2\r\n')).toBe('OK');
  expect(await client.ask('KILL 77\r\n')).toBe('OK');
  expect(await client.ask('RELEASE 99999999999999999999\r\n')).toBe('OK');
  const lines = '1\tGröße\tQ\t\r\n2\t\tK\t1:7\r\n';
  expect(await client.ask('STATUS\r\n')).toBe(`OK ${Buffer.byteLength(lines)}`);
  expect(String(await client.bytes(Buffer.byteLength(lines)))).toBe(lines);
  expect(await client.ask('STATUS 2\r\n')).toBe('OK 10');
  expect(String(await client.bytes(10))).toBe('2\t\tK\t1:7\r\n');
  expect(await client.ask('STATUS 3\r\n')).toBe('OK 0');
  expect(await client.ask('STATUS 99999999999999999999\r\n')).toBe('OK 0');
  client.send('EXIT\r\n');
  expect(await client.rest()).toBe('OK BYE\r\n');
  expect(queue.jobs.get(1)?.script.toString()).toBe(SCRIPT);
  expect(queue.jobs.get(2)?.options).toEqual([
    { word: 'DEPENDS', value: '1:7' },
    { word: 'ENV', value: 'A=1:B= 2 ' },
    { word: 'CWD', value: '/tmp/a b' },
  ]);
});

test('any whole number is the number of a job, and the queue is asked for possible ones only', async () => {
  const asked: unknown[] = [];
  queue.kill = async (id) => void asked.push(id);
  queue.release = async (id) => void asked.push(id);
  queue.status = async (id) => {
    asked.push(id);
    return [];
  };
  using client = await enter();
  for (const id of [
    '0',
    '-1',
    '-3',
    '-0',
    '00',
    '9'.repeat(400),
    '-99999999999999999999',
    '9007199254740992',
  ]) {
    expect(await client.ask(`KILL ${id}\r\n`)).toBe('OK');
    expect(await client.ask(`RELEASE ${id}\r\n`)).toBe('OK');
    expect(await client.ask(`STATUS ${id}\r\n`)).toBe('OK 0');
  }
  expect(asked).toEqual([]);
  expect(await client.ask('KILL +7\r\n')).toBe('OK');
  expect(await client.ask('STATUS 007\r\n')).toBe('OK 0');
  expect(asked).toEqual([7, 7]);
  for (const id of ['1e3', '0x10', '--1', '-', '1,2', '½', '1.0'])
    for (const word of ['KILL', 'RELEASE', 'STATUS'])
      expect(await client.ask(`${word} ${id}\r\n`)).toMatch(/^ERROR .*, expected .*the number of a job$/);
});

test('SHUTDOWN answers and closes before the queue hears of it', async () => {
  using client = await enter();
  client.send('SHUTDOWN\r\nPING\r\n');
  expect(await client.rest()).toBe('OK\r\n');
  await until(() => queue.isShutDown, WAIT);
});

test('letters of any case, LF alone, empty lines, blanks around', async () => {
  using client = await enter();
  expect(await client.ask('\n\r\n  \nping\n')).toBe('OK jobs:0');
  expect(await client.ask('Submit \n\nname  x\nhold\nHold\nsrc  4\n#!/a')).toBe('OK 1');
  expect(queue.jobs.get(1)?.options).toEqual([
    { word: 'NAME', value: ' x' },
    { word: 'HOLD', value: '' },
    { word: 'HOLD', value: '' },
  ]);
  expect(await client.ask(' kill   1  \n')).toBe('OK');
  expect(queue.jobs.get(1)?.state).toBe('K');
});

test('a whole transcript, cut at every byte, gets the same answers', async () => {
  const all = Buffer.from(
    `PING\r\n${submit('NAME ü', 'hold')}STATUS 1\r\nKILL x\r\nnonsense\r\nSUBMIT\r\nPING\r\nSRC 0\r\nEXIT\r\n`,
  );
  const answers =
    'OK jobs:0\r\nOK 1\r\nOK 9\r\n1\tü\tU\t\r\n' +
    `ERROR KILL: found 'x', expected the number of a job\r\nERROR unknown command 'nonsense'\r\n` +
    'ERROR unknown option PING; the script does not begin with #!\r\nOK BYE\r\n';
  for (let at = 0; at <= all.length; at++) {
    queue = new KeptQueue();
    await open({});
    using client = await enter();
    client.send(all.subarray(0, at));
    await new Promise((resolve) => setImmediate(resolve));
    client.send(all.subarray(at));
    expect(await client.rest(), `cut at ${at}`).toBe(answers);
    expect(queue.jobs.get(1)?.script.toString()).toBe(SCRIPT);
  }
  queue = new KeptQueue();
  await open({});
  using client = await enter();
  for (const byte of all) {
    client.send(Buffer.of(byte));
    await new Promise((resolve) => setImmediate(resolve));
  }
  expect(await client.rest()).toBe(answers);
}, 120_000);

test('no answer before the script has come, and commands inside a SUBMIT are option lines', async () => {
  using client = await enter();
  client.send('SUBMIT\r\nPING\r\nSTATUS 1\r\nSRC 3\r\n#!');
  using other = await enter();
  expect(await other.ask('PING\r\n')).toBe('OK jobs:0');
  expect(queue.submitCount).toBe(0);
  expect(await client.ask('x')).toBe('ERROR unknown option PING; unknown option STATUS');
});

test('requests that come together are answered in their order, one at a time', async () => {
  let open: () => void = () => undefined;
  queue.gate = new Promise((resolve) => {
    open = resolve;
  });
  using client = await enter();
  client.send(`${submit()}PING\r\n${submit()}STATUS\r\n`);
  await until(() => queue.submitCount === 1, WAIT);
  using other = await enter();
  expect(await other.ask('PING\r\n')).toBe('OK jobs:0');
  expect(queue.submitCount).toBe(1);
  open();
  expect([await client.line(), await client.line(), await client.line(), await client.line()]).toEqual([
    'OK 1',
    'OK jobs:1',
    'OK 2',
    'OK 14',
  ]);
});

test('a client that closes its side has its answers still', async () => {
  using client = await enter();
  client.socket.end(`${submit()}STATUS\r\nPING\r\nPI`);
  expect(await client.rest()).toBe('OK 1\r\nOK 7\r\n1\t\tQ\t\r\nOK jobs:1\r\n');
  using half = await enter();
  half.socket.end('SUBMIT\r\nSRC 7\r\n#!');
  expect(await half.rest()).toBe('ERROR the input ends within a SUBMIT\r\n');
  expect(queue.jobs.size).toBe(1);
});

test('mistakes are answered on one line, and the connection goes on', async () => {
  using client = await enter();
  expect(await client.ask('KILL\r\n')).toBe("ERROR KILL: found '', expected the number of a job");
  expect(await client.ask('RELEASE -x\r\n')).toBe("ERROR RELEASE: found '-x', expected the number of a job");
  expect(await client.ask('KILL 1.5\r\n')).toBe("ERROR KILL: found '1.5', expected the number of a job");
  expect(await client.ask('STATUS 1 2\r\n')).toBe(
    "ERROR STATUS: found '1 2', expected nothing or the number of a job",
  );
  expect(await client.ask(`${'x'.repeat(5000)}\r\n`)).toBe(`ERROR unknown command '${'x'.repeat(60)}'`);
  expect(await client.ask('\x1b[31m\0 a\r\n')).toBe("ERROR unknown command '\\x1b[31m\\x00'");
  expect(await client.ask(submit('COLOUR red', 'SIZE'))).toBe(
    'ERROR unknown option COLOUR; unknown option SIZE',
  );
  queue.trouble = new Error('the disk is full\nreally');
  for (const command of ['KILL 1', 'RELEASE 1', 'STATUS'])
    expect(await client.ask(`${command}\r\n`)).toBe('ERROR the disk is full\\nreally');
  queue.stats = () => {
    throw new Error('x'.repeat(10_000));
  };
  expect(await client.ask('PING\r\n')).toBe(`ERROR ${'x'.repeat(4096)}...`);
});

test('option lines that are no UTF-8 refuse the SUBMIT, and the script passes', async () => {
  using client = await enter();
  const lines = Buffer.concat([
    Buffer.from('SUBMIT\r\nSTDOUT a\r\nCWD /tmp/'),
    Buffer.from([0xc3, 0x28]),
    Buffer.from('\r\nSRC 6\r\nEXIT\r\nPING\r\n'),
  ]);
  expect(await client.ask(lines)).toBe('ERROR CWD: its line is no UTF-8');
  expect(await client.line()).toBe('OK jobs:0');
  expect(queue.submitCount).toBe(0);
});

test('SRC without SUBMIT: its script is not taken for commands', async () => {
  using client = await enter();
  expect(await client.ask('SRC 10\r\nSHUTDOWN\r\nPING\r\n')).toBe('ERROR SRC comes without SUBMIT');
  expect(await client.line()).toBe('OK jobs:0');
  expect(queue.isShutDown).toBe(false);
});

test('a script that is too long is dropped, and the connection goes on', async () => {
  await open({ maxScriptBytes: 20, maxDroppedBytes: 200_000 });
  using client = await enter();
  const long = `SUBMIT\r\nSRC 200000\r\n${'x'.repeat(199_994)}EXIT\r\nPING\r\n`;
  expect(await client.ask(long)).toBe('ERROR SRC: the script has 200000 bytes, at most 20 are taken');
  expect(await client.line()).toBe('OK jobs:0');
  expect(await client.ask(`SUBMIT\r\nSRC 20\r\n#!${'x'.repeat(18)}`)).toBe('OK 1');
});

for (const length of ['200001', '10000000000', '-1', '1e10', 'abc', '', '0x10', '+5', '5 5', '9'.repeat(400)])
  test(`SRC ${length.slice(0, 20)}: an ERROR that can be read, then the end`, async () => {
    await open({ maxScriptBytes: 20, maxDroppedBytes: 200_000 });
    using client = await enter();
    // It sends more than a socket holds, and reads only then: an end in the middle of it would take the answer away.
    client.socket.pause();
    const all = `SUBMIT\r\nSRC ${length}\r\n${'SHUTDOWN\r\n'.repeat(100_000)}`;
    await new Promise<void>((resolve, reject) => {
      client.socket.write(all, (error) => (error ? reject(error) : resolve()));
    });
    client.socket.resume();
    const shown = length.length > 60 ? `${length.slice(0, 60)}...` : length;
    expect(await client.rest()).toBe(
      `ERROR SRC: found '${shown}', expected how many bytes the script has, at most 20\r\n`,
    );
    expect(queue.isShutDown).toBe(false);
  });
