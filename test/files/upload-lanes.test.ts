import { randomBytes } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import { expect, test } from 'vitest';
import { RemoteError } from '../../src/lib/domain/errors.ts';
import { machineName } from '../../src/lib/domain/machine.ts';
import { PIECE_BYTES } from '../../src/lib/files/tar-writer.ts';
import { MOST_LANES, upload, writeAll } from '../../src/lib/files/upload-lanes.ts';
import { LocalHost } from '../../src/lib/remote/local-host.ts';
import type { Channel, OpenOptions } from '../../src/lib/remote/remote-host.ts';
import { RequestShell } from '../../src/lib/remote/remote-shell.ts';
import { scratch } from '../remote/run-over.ts';
import { runOrThrow } from '../rig/command.ts';
import { until } from '../rig/until.ts';

/** A host that refuses programs as a server with a low MaxSessions does. */
class NarrowHost extends LocalHost {
  readonly #refuses: (isOptional: boolean, number: number) => boolean;
  #count = 0;

  constructor(folder: string, refuses: (isOptional: boolean, number: number) => boolean) {
    super(machineName('here'), { home: folder });
    this.#refuses = refuses;
  }

  override async open(commandLine: string, { isOptional = false }: OpenOptions = {}): Promise<Channel> {
    if (this.#refuses(isOptional, ++this.#count)) throw new RemoteError(this.name, 'run', 'refused');
    return await super.open(commandLine);
  }
}

/** Sends data over so many lanes, and returns what came. */
async function carried(
  host: LocalHost,
  folder: string,
  data: Buffer,
  lanes: number,
  pieces = async function* () {
    for (let i = 0; i < data.length; i += PIECE_BYTES) yield data.subarray(i, i + PIECE_BYTES);
  },
): Promise<Buffer> {
  const own = new LocalHost(machineName('own'), { home: folder });
  await using shell = await RequestShell.open(own);
  for (let pipe = 1; pipe < MOST_LANES; pipe++) await runOrThrow('mkfifo', [join(folder, String(pipe))]);
  try {
    const { exitCode } = await upload(host, {
      folder,
      lanes,
      pieces,
      count: Math.ceil(data.length / PIECE_BYTES),
      reader: `cat >"${folder}/came"`,
      letGo: async () => void (await shell.run(`for p in ${folder}/[1-9]; do : <>$p; done`)),
    });
    expect(exitCode).toBe(0);
    return await readFile(join(folder, 'came'));
  } finally {
    // Nobody is left waiting at a pipe.
    await until(async () => !(await runOrThrow('ps', ['-eo', 'args'])).includes(`cat >"${folder}/`));
    await own.close();
  }
}

test.each([1, 2, 3, 4])('over %i lanes the bytes come as they were sent', async (lanes) => {
  for (const pieces of [0.1, 1, 2, 6.5]) {
    await using folder = await scratch();
    await using host = new LocalHost(machineName('here'), { home: folder.path });
    const data = randomBytes(Math.round(pieces * PIECE_BYTES));
    expect((await carried(host, folder.path, data, lanes)).equals(data)).toBe(true);
  }
});

test.each([
  ['one more lane', (isOptional: boolean, number: number) => isOptional && number > 2],
  ['no second lane', (isOptional: boolean, number: number) => isOptional && number === 3],
  ['no lanes at all', (isOptional: boolean) => isOptional],
  ['the receiver only without lanes', (isOptional: boolean, number: number) => !isOptional && number === 1],
])('where the machine allows %s, the bytes come all the same', async (_what, refuses) => {
  await using folder = await scratch();
  await using host = new NarrowHost(folder.path, refuses);
  const data = randomBytes(5 * PIECE_BYTES + 7);
  expect((await carried(host, folder.path, data, 4)).equals(data)).toBe(true);
});

test('a source that fails half way ends all lanes', async () => {
  await using folder = await scratch();
  await using host = new LocalHost(machineName('here'), { home: folder.path });
  const data = randomBytes(9 * PIECE_BYTES);
  const failing = carried(host, folder.path, data, 3, async function* () {
    for (let i = 0; i < 4; i++) yield data.subarray(0, PIECE_BYTES);
    throw new Error('the file was changed');
  });
  await expect(failing).rejects.toThrow();
});

test('a write that waits when its channel goes is over, as an error', async () => {
  const stuck = new Writable({ write: () => {} }); // as ssh2's, which waits for the window
  stuck.on('error', () => {});
  const writing = writeAll(stuck, Buffer.from('x'));
  stuck.destroy();
  await expect(writing).rejects.toThrow('the channel is gone');
  await expect(writeAll(stuck, Buffer.from('x'))).rejects.toThrow();
});
