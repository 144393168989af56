/**
 * Reads a tar archive as it comes, in pieces of any size, and hands its entries on. Pure: it touches no file and decides
 * nothing about names. Names are bytes, held as latin1. Understood are v7, ustar, GNU's long names and binary numbers,
 * and pax headers; all else is refused by name, for the sender is not trusted.
 *
 * Formats: POSIX.1-2017, `pax`, "ustar Interchange Format"; GNU tar manual, "Basic Tar Format".
 */
import { visibleText } from '../util/terminal-text.ts';
import { decimal, number, octal, paxRecords, seconds, text } from './tar-fields.ts';

/** One thing in an archive. */
export interface TarEntry {
  /** As it stands in the archive, unchecked. latin1: a character per byte. */
  readonly path: string;
  readonly kind: 'file' | 'folder' | 'symlink' | 'hardlink';
  /** All mode bits as they were sent. */
  readonly mode: number;
  /** Bytes of content that follow; 0 for all but files. */
  readonly size: number;
  /** Seconds since 1970, possibly with a fraction. */
  readonly modifiedAtSeconds: number;
  /** Where a link leads; for a hard link the path of an earlier entry. latin1. */
  readonly target: string;
}

/** Takes what an archive holds, in its order. What it throws ends the reading. */
export interface TarSink {
  entry(entry: TarEntry): void;
  /** A piece of the content of the entry before; it is only valid during the call. */
  content(piece: Buffer): void;
  /** The entry has come whole. */
  entryEnd(): void;
}

/** Something is wrong with one entry; the message begins with its name, fit for a terminal. */
export class EntryError extends Error {
  constructor(path: string, reason: string, options?: ErrorOptions) {
    super(`${nameText(path)}: ${reason}`, options);
  }
}

const NAME_SHOWN = 300;

/** A latin1 path as a person reads it. */
export function nameText(path: string): string {
  const text = visibleText(Buffer.from(path, 'latin1').toString('utf8'));
  return text.length > NAME_SHOWN ? `${text.slice(0, NAME_SHOWN)}...` : text;
}

const BLOCK = 512;
const ZEROS = Buffer.alloc(BLOCK);
const LONGEST_EXTRA_HEADER_BYTES = 1024 * 1024;
// Long names and pax headers before one entry. More is a stream that never comes to the point.
const MOST_EXTRA_HEADERS = 8;
// Archives one behind the other (xargs may call tar twice) have zeros between them, but not without end.
const MOST_ZERO_BLOCKS = 2048;
const REFUSED_TYPES: Readonly<Record<string, string>> = {
  '3': 'a character device',
  '4': 'a block device',
  '6': 'a FIFO',
  D: 'a GNU folder listing',
  M: "a later volume's part of a file",
  N: 'an old GNU long name',
  S: 'a sparse file',
  V: 'a volume label',
};

type PaxRecords = ReadonlyMap<string, string>;

/** An archive on its way in. */
export class TarReader {
  readonly #sink: TarSink;
  readonly #block = Buffer.alloc(BLOCK);
  #filled = 0;
  #left = 0;
  #padding = 0;
  #zeroBlocks = 0;
  #hasBegun = false;
  /** The entry that was met last, for messages. */
  #last = '';
  /** A long name or pax header on its way in; undefined while a file's content comes. */
  #extra: { readonly type: string; readonly body: Buffer; filled: number } | undefined;
  #extraHeaders = 0;
  #longName: string | undefined;
  #longTarget: string | undefined;
  #pax: PaxRecords = new Map();
  #paxForAll: PaxRecords = new Map();

  constructor(sink: TarSink) {
    this.#sink = sink;
  }

  /** Reads on. @throws EntryError for what is not understood, and whatever the sink throws */
  push(chunk: Buffer): void {
    for (let at = 0; at < chunk.length; ) {
      const room = chunk.length - at;
      if (this.#left > 0) {
        const length = Math.min(room, this.#left);
        this.#body(chunk.subarray(at, at + length));
        at += length;
      } else if (this.#padding > 0) {
        const length = Math.min(room, this.#padding);
        this.#padding -= length;
        at += length;
      } else if (this.#filled === 0 && room >= BLOCK) {
        this.#header(chunk.subarray(at, at + BLOCK));
        at += BLOCK;
      } else {
        const length = chunk.copy(this.#block, this.#filled, at);
        this.#filled += length;
        at += length;
        if (this.#filled < BLOCK) return;
        this.#filled = 0;
        this.#header(this.#block);
      }
    }
  }

  /** Nothing more comes. An archive of no bytes is one of no entries. @throws EntryError when it breaks off */
  end(): void {
    if (!this.#hasBegun && this.#filled === 0) return;
    if (this.#left > 0) throw this.#error(`the archive breaks off ${this.#left} bytes before the end of it`);
    if (this.#padding > 0 || this.#filled > 0 || this.#zeroBlocks < 2)
      throw this.#error('the archive breaks off behind it');
  }

  #error(reason: string): EntryError {
    return new EntryError(this.#last || 'the first entry', reason);
  }

  #body(piece: Buffer): void {
    this.#left -= piece.length;
    const extra = this.#extra;
    if (extra === undefined) {
      this.#sink.content(piece);
      if (this.#left === 0) this.#sink.entryEnd();
      return;
    }
    extra.filled += piece.copy(extra.body, extra.filled);
    if (this.#left > 0) return;
    this.#extra = undefined;
    // Old tars end a long name with a NUL; one inside it is for the sink to refuse.
    if (extra.type === 'L') this.#longName = extra.body.toString('latin1').replace(/\0+$/, '');
    else if (extra.type === 'K') this.#longTarget = extra.body.toString('latin1').replace(/\0+$/, '');
    else if (extra.type === 'x') this.#pax = this.#readPax(extra.body);
    else this.#paxForAll = new Map([...this.#paxForAll, ...this.#readPax(extra.body)]);
  }

  #readPax(body: Buffer): PaxRecords {
    const records = paxRecords(body);
    if (records === undefined) throw this.#error('behind it stands a malformed pax header');
    return records;
  }

  #header(block: Buffer): void {
    this.#hasBegun = true;
    if (block.equals(ZEROS)) {
      if (this.#extraHeaders > 0) throw this.#error('behind it stands a long name that belongs to nothing');
      this.#zeroBlocks += 1;
      if (this.#zeroBlocks > MOST_ZERO_BLOCKS) throw this.#error('behind it come zeros without end');
      return;
    }
    if (this.#zeroBlocks === 1) throw this.#error('behind it stands a single block of zeros');
    this.#zeroBlocks = 0;
    this.#checkSum(block);
    const type = block[156] === 0 ? '0' : String.fromCharCode(block[156] ?? 0);
    if (type === 'L' || type === 'K' || type === 'x' || type === 'g') this.#beginExtra(type, block);
    else this.#beginEntry(type, block);
  }

  #checkSum(block: Buffer): void {
    let sum = 8 * 0x20; // the field of the sum itself counts as blanks
    for (let i = 0; i < BLOCK; i++) if (i < 148 || i >= 156) sum += block[i] ?? 0;
    if (octal(block, 148, 8) !== sum) throw this.#error('behind it stands a header with a wrong checksum');
  }

  #beginExtra(type: string, block: Buffer): void {
    const size = number(block, 124, 12);
    if (size === undefined || size < 0 || size > LONGEST_EXTRA_HEADER_BYTES)
      throw this.#error(`behind it stands a header of ${size ?? 'no known number of'} bytes`);
    this.#extraHeaders += 1;
    if (this.#extraHeaders > MOST_EXTRA_HEADERS)
      throw this.#error('behind it come headers that belong to nothing, without end');
    this.#extra = { type, body: Buffer.alloc(size), filled: 0 };
    this.#expect(size);
    if (size === 0) this.#extra = undefined;
  }

  #beginEntry(type: string, block: Buffer): void {
    const told = (key: string) => {
      const value = this.#pax.get(key) ?? this.#paxForAll.get(key);
      return value === '' ? undefined : value; // POSIX: an empty value takes an earlier one back
    };
    const prefix = block.toString('latin1', 257, 263) === 'ustar\0' ? text(block, 345, 155) : '';
    const short = text(block, 0, 100);
    const path =
      this.#pax.get('path') ??
      this.#longName ??
      told('path') ??
      (prefix === '' ? short : `${prefix}/${short}`);
    this.#last = path;
    const fail = (reason: string) => new EntryError(path, reason);
    const target = this.#pax.get('linkpath') ?? this.#longTarget ?? told('linkpath') ?? text(block, 157, 100);
    for (const key of this.#pax.keys())
      if (key.startsWith('GNU.sparse.')) throw fail('is a sparse file, which is not taken');
    const toldSize = told('size');
    const size = toldSize === undefined ? number(block, 124, 12) : decimal(toldSize);
    if (size === undefined || size < 0) throw fail('its size is no number');
    const kind = kindOf(type, path);
    if (kind === undefined)
      throw fail(`is ${REFUSED_TYPES[type] ?? `of the unknown type ${nameText(type)}`}, which is not taken`);
    if (kind !== 'file' && size !== 0) throw fail(`is a ${kind} and yet has ${size} bytes`);
    const mode = number(block, 100, 8);
    if (mode === undefined || mode < 0) throw fail('its mode is no number');
    const toldTime = told('mtime');
    const modifiedAtSeconds = toldTime === undefined ? number(block, 136, 12) : seconds(toldTime);
    if (modifiedAtSeconds === undefined) throw fail('its time is no number');
    this.#pax = new Map();
    this.#longName = undefined;
    this.#longTarget = undefined;
    this.#extraHeaders = 0;
    this.#sink.entry({ path, kind, mode, size, modifiedAtSeconds, target });
    this.#expect(size);
    if (size === 0) this.#sink.entryEnd();
  }

  #expect(size: number): void {
    this.#left = size;
    this.#padding = (BLOCK - (size % BLOCK)) % BLOCK;
  }
}

function kindOf(type: string, path: string): TarEntry['kind'] | undefined {
  if (type === '0' || type === '7') return path.endsWith('/') ? 'folder' : 'file'; // v7 knows no type for folders
  if (type === '1') return 'hardlink';
  if (type === '2') return 'symlink';
  return type === '5' ? 'folder' : undefined;
}
