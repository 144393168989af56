/** Two files that grow while they are read: what a program prints on its two streams. */
import { withPlainFile } from './plain-file.ts';

/** Where each stream goes; one file where both go to it. */
export interface GrowingPaths {
  readonly out: string;
  readonly err?: string;
}

/** A piece of one of the streams. */
export interface GrowingPiece {
  readonly type: 'chunk';
  readonly stream: 'out' | 'err';
  readonly base64: string;
}

const PIECE_BYTES = 256 * 1024;
const STREAMS = ['out', 'err'] as const;

/** Remembers how far the files were read. */
export class GrowingFiles {
  #offsets = { out: 0, err: 0 };

  /** The files begin anew: what is read next is read from their start. */
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
        const left = ends[stream] - this.#offsets[stream];
        if (path === undefined || left <= 0) continue;
        const piece = await readPiece(path, this.#offsets[stream], Math.min(left, PIECE_BYTES));
        if (piece.length === 0) continue;
        isAny = true;
        this.#offsets[stream] += piece.length;
        yield { type: 'chunk', stream, base64: piece.toString('base64') };
      }
    }
  }
}

async function sizeOf(path: string | undefined): Promise<number> {
  if (path === undefined) return 0;
  return (await withPlainFile(path, async (file) => (await file.stat()).size)) ?? 0;
}

async function readPiece(path: string, from: number, bytes: number): Promise<Buffer> {
  const piece = await withPlainFile(path, async (file) => {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(bytes), 0, bytes, from);
    return buffer.subarray(0, bytesRead);
  });
  return piece ?? Buffer.alloc(0);
}
