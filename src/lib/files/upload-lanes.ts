/**
 * Several channels for one stream of bytes. A channel carries at most its window (2 MiB) per round trip, which over 20 ms
 * is 80 MB/s however fast the line is; three lanes carry three times that. Piece after piece of fixed length goes to the
 * lanes in turn. On the machine the first lane is the standard input of the receiver, the others write into pipes, and
 * `dd` takes the pieces from them in the same turn.
 */
import type { Writable } from 'node:stream';
import { RemoteError } from '../domain/errors.ts';
import type { Channel, RemoteHost } from '../remote/remote-host.ts';
import { PIECE_BYTES } from './tar-writer.ts';

/** Open lanes. Disposing closes all but the first. */
export interface UploadLanes extends AsyncDisposable {
  /** How many there are, the first included. */
  readonly count: number;
  /** Shell text to put in front of the command that reads the stream. It may stand between single quotes. */
  readonly receiver: string;
  /** Sends the stream over `first`, the receiver's standard input, and the other lanes, and ends them all. */
  feed(first: Writable, pieces: AsyncIterable<Buffer>): Promise<void>;
}

const BLOCK_BYTES = 65_536;

/**
 * Opens up to `wanted` lanes (fewer when the machine refuses more channels) for a stream of `count` pieces of
 * `PIECE_BYTES`. `folder` there holds the named pipes `1`, `2` and so on; it stands between double quotes.
 */
export async function openLanes(
  host: RemoteHost,
  folder: string,
  wanted: number,
  count: number,
): Promise<UploadLanes> {
  // All at once: with a round trip of 20 ms each takes 40 to open.
  const opened = await Promise.all(
    Array.from({ length: wanted - 1 }, (_, i) => openLane(host, `${folder}/${i + 1}`)),
  );
  const channels = opened.filter((channel) => channel !== undefined);
  const pipes = opened.flatMap((channel, i) => (channel === undefined ? [] : i + 1));
  return {
    count: pipes.length + 1,
    receiver: pipes.length === 0 ? '' : receiverOf(folder, pipes, count),
    async feed(first, pieces) {
      const lanes = [first, ...channels.map(({ stdin }) => stdin)];
      const sending = lanes.map(() => Promise.resolve());
      let turn = 0;
      for await (const piece of pieces) {
        const lane = turn++ % lanes.length;
        const stream = lanes[lane];
        if (stream === undefined) throw new Error('Internal error: no such lane');
        await sending[lane];
        const sent = write(stream, piece); // the next piece is read meanwhile
        sent.catch(() => {}); // awaited above or below
        sending[lane] = sent;
      }
      await Promise.all(sending);
      for (const lane of lanes) lane.end();
    },
    async [Symbol.asyncDispose]() {
      for (const channel of channels) channel.close();
    },
  };
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

function receiverOf(folder: string, pipes: readonly number[], count: number): string {
  const piece = `dd bs=${BLOCK_BYTES} count=${PIECE_BYTES / BLOCK_BYTES} iflag=fullblock 2>/dev/null`;
  const opens = pipes.map((pipe) => `exec ${pipe + 3}<"${folder}/${pipe}"`).join('; ');
  const turns = [piece, ...pipes.map((pipe) => `${piece} <&${pipe + 3}`)].join('; ');
  const step = pipes.length + 1;
  return `${opens}; i=0; while [ $i -lt ${count} ]; do ${turns}; i=$((i + ${step})); done |`;
}

function write(stream: Writable, piece: Buffer): Promise<void> {
  return new Promise((resolve, reject) => {
    stream.write(piece, (error) => (error ? reject(error) : resolve()));
  });
}
