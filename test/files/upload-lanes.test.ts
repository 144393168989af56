import { randomBytes } from 'node:crypto';
import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { machineName } from '../../src/lib/domain/machine.ts';
import { PIECE_BYTES } from '../../src/lib/files/tar-writer.ts';
import { openLanes } from '../../src/lib/files/upload-lanes.ts';
import { LocalHost } from '../../src/lib/remote/local-host.ts';
import type { Channel } from '../../src/lib/remote/remote-host.ts';
import { runWithInput } from '../../src/lib/remote/remote-shell.ts';
import { scratch } from '../remote/run-over.ts';
import { runOrThrow } from '../rig/command.ts';
import { until } from '../rig/until.ts';

/** A host that opens only so many channels. */
class NarrowHost extends LocalHost {
  opened = 0;

  constructor(
    folder: string,
    readonly most: number,
  ) {
    super(machineName('here'), { home: folder });
  }

  override async open(commandLine: string): Promise<Channel> {
    this.opened += 1;
    // The tool that fails to start is what a refused channel looks like from here: a RemoteError.
    if (this.opened > this.most) await this.close();
    return await super.open(commandLine);
  }
}

/** Sends data over so many lanes, and returns what came. */
async function carried(host: LocalHost, folder: string, data: Buffer, wanted: number): Promise<Buffer> {
  await mkdir(join(folder, 'pipes'));
  for (const pipe of ['1', '2']) await runOrThrow('mkfifo', [join(folder, 'pipes', pipe)]);
  await using lanes = await openLanes(
    host,
    join(folder, 'pipes'),
    wanted,
    Math.ceil(data.length / PIECE_BYTES),
  );
  async function* pieces() {
    for (let i = 0; i < data.length; i += PIECE_BYTES) yield data.subarray(i, i + PIECE_BYTES);
  }
  const script = `${lanes.receiver} cat >"${folder}/came"`;
  const end = await runWithInput(host, script, (stdin) => lanes.feed(stdin, pieces()));
  expect(end.exitCode).toBe(0);
  return await readFile(join(folder, 'came'));
}

test.each([1, 2, 3])('over %i lanes the bytes come as they were sent', async (wanted) => {
  for (const pieces of [0.1, 1, 2, 6.5]) {
    await using folder = await scratch();
    await using host = new LocalHost(machineName('here'), { home: folder.path });
    const data = randomBytes(Math.round(pieces * PIECE_BYTES));
    expect((await carried(host, folder.path, data, wanted)).equals(data)).toBe(true);
  }
});

test('a source that fails half way ends the receiver with a part of the bytes', async () => {
  await using folder = await scratch();
  await using host = new LocalHost(machineName('here'), { home: folder.path });
  for (const pipe of ['1', '2']) await runOrThrow('mkfifo', [join(folder.path, pipe)]);
  const lanes = await openLanes(host, folder.path, 3, 9);
  async function* pieces() {
    for (let i = 0; i < 4; i++) yield randomBytes(PIECE_BYTES);
    throw new Error('the file was changed');
  }
  const receiving = runWithInput(host, `${lanes.receiver} cat >"${folder.path}/came"`, async (stdin) => {
    try {
      await lanes.feed(stdin, pieces());
    } finally {
      await lanes[Symbol.asyncDispose]();
    }
  });
  await receiving.catch((error: Error) => expect(error.message).toBe('the file was changed'));
  await until(async () => (await readFile(join(folder.path, 'came'))).length < 9 * PIECE_BYTES);
});

test('where the machine refuses more channels, fewer lanes carry the same', async () => {
  await using folder = await scratch();
  const narrow = new NarrowHost(folder.path, 1);
  for (const pipe of ['1', '2']) await runOrThrow('mkfifo', [join(folder.path, pipe)]);
  const lanes = await openLanes(narrow, folder.path, 3, 1);
  expect(lanes.receiver).toContain('"'.concat(folder.path, '/1"'));
  expect(lanes.receiver).not.toContain('/2"');
  await lanes[Symbol.asyncDispose]();
});
