/** Two files that grow while they are read: what a program prints on its two streams. */
import { withPlainFile } from './plain-file.ts';

/** Where each stream goes; one file where both go to it. */
export interface GrowingPaths {
  readonly out: string;
  readonly err?: string;
}

/** A piece of one of the streams, or that its beginning is left out. */
export type GrowingPiece =
  | { readonly type: 'chunk'; readonly stream: 'out' | 'err'; readonly base64: string }
  | { readonly type: 'left-out'; readonly stream: 'out' | 'err' };

const PIECE_BYTES = 256 * 1024;
const STREAMS = ['out', 'err'] as const;

/** How they are read. */
export interface GrowingFilesOptions {
  /**
   * Of what is there already when a stream is read first, only the last so many bytes are read, beginning with a whole
   * line: what came long ago is worth no traffic to whoever wants to see how it goes on. @default everything is read
   */
  readonly tailBytes?: number;
}

/** A line that is longer is not looked through for its end: reading begins in its midst. */
const LONGEST_LINE_BYTES = 64 * 1024;

/** Remembers how far the files were read. */
export class GrowingFiles {
  readonly #tailBytes: number | undefined;
  /** Undefined for a stream in which nothing was found yet, of which the beginning may be left out. */
  #offsets: { out: number | undefined; err: number | undefined };

  constructor({ tailBytes }: GrowingFilesOptions = {}) {
    this.#tailBytes = tailBytes;
    const start = tailBytes === undefined ? 0 : undefined;
    this.#offsets = { out: start, err: start };
  }

  /** The files begin anew: what is read next is read from their start, whole. */
  restart(): void {
    this.#offsets = { out: 0, err: 0 };
  }

  /**
   * What has come since, piece by piece, both streams in turn. A file that is not there, or is no plain file, is empty.
   * @throws what the system says of a file that cannot be read
   */
  async *read(paths: GrowingPaths): AsyncGenerator<GrowingPiece, void, void> {
    // What comes while this is read waits for the next time: one that prints without end must not hold us here.
    const ends = { out: await sizeOf(paths.out), err: await sizeOf(paths.err) };
    for (let isAny = true; isAny; ) {
      isAny = false;
      for (const stream of STREAMS) {
        const path = paths[stream];
        const end = ends[stream];
        if (path === undefined || end === 0) continue;
        let offset = this.#offsets[stream];
        if (offset === undefined) {
          offset = await tailStart(path, end, this.#tailBytes);
          this.#offsets[stream] = offset;
          if (offset > 0) yield { type: 'left-out', stream };
        }
        if (end <= offset) continue;
        const piece = await readPiece(path, offset, Math.min(end - offset, PIECE_BYTES));
        if (piece.length === 0) continue;
        isAny = true;
        this.#offsets[stream] = offset + piece.length;
        yield { type: 'chunk', stream, base64: piece.toString('base64') };
      }
    }
  }
}

async function sizeOf(path: string | undefined): Promise<number> {
  if (path === undefined) return 0;
  return (await withPlainFile(path, async (file) => (await file.stat()).size)) ?? 0;
}

/** Where the last so many bytes of a file of `size` bytes begin; from there on to where a line begins. */
async function tailStart(path: string, size: number, tailBytes = size): Promise<number> {
  const from = size - tailBytes;
  if (from <= 0) return 0;
  // With the byte before: a line may begin just there.
  const window = await readPiece(path, from - 1, Math.min(tailBytes + 1, LONGEST_LINE_BYTES));
  const newline = window.indexOf(0x0a);
  if (newline >= 0) return from + newline;
  // Not in the midst of a character.
  const rest = window.subarray(1, 5).findIndex((byte) => (byte & 0xc0) !== 0x80);
  return from + Math.max(0, rest);
}

async function readPiece(path: string, from: number, bytes: number): Promise<Buffer> {
  const piece = await withPlainFile(path, async (file) => {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(bytes), 0, bytes, from);
    return buffer.subarray(0, bytesRead);
  });
  return piece ?? Buffer.alloc(0);
}
