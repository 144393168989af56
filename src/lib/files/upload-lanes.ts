/**
 * Several channels for one stream of bytes. A channel carries at most its window (2 MiB) per round trip, which over 20 ms
 * is 80 MB/s however fast the line is; four lanes carry four times that. Piece after piece of fixed length goes to the
 * lanes in turn. On the machine the first lane is the standard input of the receiver, the others write into pipes, and
 * `dd` takes the pieces from them in the same turn.
 */
import type { Writable } from 'node:stream';
import { RemoteError } from '../domain/errors.ts';
import type { Channel, RemoteHost } from '../remote/remote-host.ts';
import { runWithInput } from '../remote/remote-shell.ts';
import { PIECE_BYTES } from './tar-writer.ts';

/** One stream on its way. */
export interface Upload {
  /** Folder there that holds the named pipes `1`, `2` and so on; it stands between double quotes. */
  readonly folder: string;
  /** How many lanes at most; 1 needs no pipes. */
  readonly lanes: number;
  /** The stream: pieces of `PIECE_BYTES`, all but the last, and how many. */
  readonly pieces: () => AsyncIterable<Buffer>;
  readonly count: number;
  /** Shell text that reads the stream; it has to take all of it. It may stand between single quotes. */
  readonly reader: string;
  /** Lets go of what waits to write into a pipe there that nobody will read. */
  readonly letGo: () => Promise<void>;
}

/** The most lanes that a connection has room for beside what else is open on it. */
export const MOST_LANES = 4;

const BLOCK_BYTES = 65_536;
const RELEASE_PAUSE_MS = 50;
const RELEASE_TRIES = 40;

/**
 * Sends a stream to a program on a machine, over fewer lanes than asked for where the machine allows fewer channels.
 * Resolves to how the program ended; an error of `pieces` ends it half way and is thrown when it did not notice.
 */
export async function upload(host: RemoteHost, stream: Upload): ReturnType<typeof runWithInput> {
  if (stream.lanes === 1) return await runWithInput(host, stream.reader, (first) => feed(stream, first, []));
  let isBegun = false;
  let opening: Promise<readonly Channel[]> = Promise.resolve([]);
  // The receiver and the lanes open at once: with a round trip of 20 ms each takes 40 to open. So the receiver does not
  // know yet how many there will be, and is told first.
  const receiving = runWithInput(host, `${receiver(stream)} | { ${stream.reader}; }`, async (first) => {
    isBegun = true;
    const channels = await opening;
    first.write(`${channels.length + 1}\n`);
    const others = channels.map(({ stdin }) => stdin);
    await feed(stream, first, others).catch(async (error: unknown) => {
      await release(channels, stream); // the receiver may wait for a lane that is gone, and would hold us, too
      throw error;
    });
  });
  receiving.catch(() => {}); // awaited below
  opening = openLanes(host, stream);
  const channels = await opening;
  try {
    return await receiving;
  } catch (error) {
    if (isBegun || !(error instanceof RemoteError)) throw error;
  } finally {
    await release(channels, stream);
  }
  // A machine that allows few channels had none left for the receiver itself.
  return await upload(host, { ...stream, lanes: 1 });
}

/** Ends lanes. What begins to wait at a pipe only now has to be let go of as well: so again until all have ended. */
async function release(channels: readonly Channel[], { letGo }: Upload): Promise<void> {
  let isOver = false;
  const over = Promise.all(channels.map(({ ended }) => ended)).then(() => {
    isOver = true;
  });
  for (const { stdin } of channels) stdin.end();
  const pause = () => new Promise((resolve) => setTimeout(resolve, RELEASE_PAUSE_MS));
  await Promise.race([over, pause()]);
  for (let tries = 0; !isOver && tries < RELEASE_TRIES; tries++) {
    await letGo().catch(() => {}); // with the connection gone nobody can
    await Promise.race([over, pause()]);
  }
  for (const channel of channels) channel.close();
}

/** The lanes besides the first that the machine has room for. */
async function openLanes(host: RemoteHost, stream: Upload): Promise<readonly Channel[]> {
  const { folder, lanes } = stream;
  const opened = await Promise.all(
    Array.from({ length: lanes - 1 }, (_, i) => openLane(host, `${folder}/${i + 1}`)),
  );
  // The receiver counts through: what is behind a lane that could not be opened is of no use.
  const gap = opened.indexOf(undefined);
  const channels = opened.filter((channel) => channel !== undefined);
  const useful = gap < 0 ? channels.length : gap;
  void release(channels.slice(useful), stream);
  return channels.slice(0, useful);
}

async function openLane(host: RemoteHost, pipe: string): Promise<Channel | undefined> {
  try {
    const channel = await host.open(`exec /bin/sh -c 'exec cat >"${pipe}"'`, { isOptional: true });
    channel.stdin.on('error', () => {}); // `feed` hears of it
    channel.stdout.resume();
    channel.stderr.resume();
    return channel;
  } catch (error) {
    if (error instanceof RemoteError) return undefined; // a server with few sessions: fewer lanes will do
    throw error;
  }
}

async function feed({ pieces }: Upload, first: Writable, others: readonly Writable[]): Promise<void> {
  const lanes = [first, ...others];
  const sending = lanes.map(() => Promise.resolve());
  let turn = 0;
  for await (const piece of pieces()) {
    const lane = turn++ % lanes.length;
    const stream = lanes[lane];
    if (stream === undefined) throw new Error('Internal error: no such lane');
    await sending[lane];
    const sent = writeAll(stream, piece); // the next piece is read meanwhile
    sent.catch(() => {}); // awaited above or below
    sending[lane] = sent;
  }
  await Promise.all(sending);
  for (const lane of lanes) lane.end();
}

/** Writes, and settles when that is over: a stream that is gone never calls back a write that was waiting. */
export function writeAll(stream: Writable, bytes: Buffer): Promise<void> {
  return new Promise((resolve, reject) => {
    const onClose = () => reject(new Error('the channel is gone'));
    if (stream.destroyed) return onClose();
    stream.once('close', onClose);
    stream.write(bytes, (error) => {
      stream.off('close', onClose);
      if (error) reject(error);
      else resolve();
    });
  });
}

/** Reads how many lanes there are, a byte at a time as shells read lines, and then the pieces in turn. */
function receiver({ folder, lanes, count }: Upload): string {
  const piece = `dd bs=${BLOCK_BYTES} count=${PIECE_BYTES / BLOCK_BYTES} iflag=fullblock 2>/dev/null`;
  const pipes = Array.from({ length: lanes - 1 }, (_, i) => i + 1);
  const opens = pipes.map((pipe) => `if [ $n -gt ${pipe} ]; then exec ${pipe + 3}<"${folder}/${pipe}"; fi`);
  const turns = pipes.map((pipe) => `if [ $n -gt ${pipe} ]; then ${piece} <&${pipe + 3}; fi`);
  return [
    'read -r n; i=0',
    ...opens,
    `while [ $i -lt ${count} ]; do ${piece}`,
    ...turns,
    'i=$((i + n)); done',
  ].join('; ');
}
