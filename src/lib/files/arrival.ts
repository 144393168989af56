/**
 * What a machine sends home, as it comes: the announcement of how much it will be, then the archive, which goes into a
 * folder. Everything is checked: against the room on the disk, the announcement, and the sum that the machine tells.
 */
import { createHash } from 'node:crypto';
import { formatBytes } from '../util/size.ts';
import { visibleText } from '../util/terminal-text.ts';
import { ResultWriter } from './result-writer.ts';
import { EntryError, type TarEntry, TarReader, type TarSink } from './tar-reader.ts';

/** Why results do not come home; the message needs only the machine's name before it. */
export class FetchProblem extends Error {}

/** What a disk can take. */
export interface Room {
  /** Undefined where the file system does not tell. */
  readonly freeBytes: number | undefined;
  readonly blockBytes: number;
}

/** Takes the stream: the announcement, then the archive. */
export class Arrival implements TarSink {
  bytes = 0;
  readonly #room: Room;
  readonly #writer: ResultWriter;
  readonly #reader = new TarReader(this);
  readonly #hash = createHash('sha256');
  #line = '';
  #announced: { readonly entries: number; readonly bytes: number } | undefined;
  #entries = 0;
  #contentBytes = 0;

  constructor(into: string, room: Room) {
    this.#room = room;
    this.#writer = new ResultWriter(into);
  }

  get files(): number {
    return this.#writer.files;
  }

  take(chunk: Buffer): void {
    const archive = this.#announced === undefined ? this.#takeAnnouncement(chunk) : chunk;
    if (archive.length === 0) return;
    this.bytes += archive.length;
    this.#hash.update(archive);
    this.#reader.push(archive);
  }

  entry(entry: TarEntry): void {
    const { entries, bytes } = this.#announced ?? { entries: 0, bytes: 0 };
    this.#entries += 1;
    this.#contentBytes += entry.size;
    if (this.#entries > entries)
      throw new EntryError(entry.path, `comes though only ${entries} entries were announced`);
    if (this.#contentBytes > bytes)
      throw new EntryError(entry.path, `is larger than announced: more than ${bytes} bytes in all`);
    this.#writer.entry(entry);
  }

  content(piece: Buffer): void {
    this.#writer.content(piece);
  }

  entryEnd(): void {
    this.#writer.entryEnd();
  }

  /** Everything has come: makes it whole. @throws EntryError or FetchProblem when it is not */
  finish(sum: string | undefined): void {
    this.#reader.end();
    const announced = this.#announced;
    if (announced === undefined) throw new FetchProblem('the machine does not say what will come');
    if (this.#entries < announced.entries)
      throw new FetchProblem(`${announced.entries} entries were announced and ${this.#entries} came`);
    const received = this.#hash.digest('hex');
    if (sum !== undefined && sum !== received)
      throw new FetchProblem(
        `what came (${this.bytes} bytes, SHA-256 ${received}) is not what was sent (SHA-256 ${sum})`,
      );
    this.#writer.finish();
  }

  abort(): void {
    this.#writer.abort();
  }

  /** Reads `FILES BYTES`; returns what stands behind it. */
  #takeAnnouncement(chunk: Buffer): Buffer {
    const end = chunk.indexOf(0x0a);
    this.#line += chunk.toString('latin1', 0, Math.min(end < 0 ? chunk.length : end, 100));
    const [, entries, bytes] = /^(\d{1,15}) (\d{1,15})$/.exec(this.#line) ?? [];
    if (end < 0 && this.#line.length < 40) return chunk.subarray(chunk.length);
    if (end < 0 || entries === undefined || bytes === undefined)
      throw new FetchProblem(
        `expected the number of files and bytes, found ${visibleText(this.#line.slice(0, 40))}`,
      );
    this.#announced = { entries: Number(entries), bytes: Number(bytes) };
    const { freeBytes, blockBytes } = this.#room;
    const neededBytes = this.#announced.bytes + this.#announced.entries * blockBytes;
    if (freeBytes !== undefined && neededBytes > freeBytes)
      throw new FetchProblem(
        `no space left on device here: they need ${formatBytes(neededBytes)}, ${formatBytes(freeBytes)} are free`,
      );
    return chunk.subarray(end + 1);
  }
}
