/**
 * What one attempt leaves in the results folder: `NAME.out` and `NAME.err` as they grow, `NAME/` with the files that it
 * made, by one rename, and last `NAME.json`, whose presence says that the result is whole. Nothing that is finished is
 * ever replaced.
 *
 * What a crash leaves tells how far it came, and the next run completes or clears it (`PartialResult`):
 *
 *     1  files arrive in `.partial/NAME/`            cleared
 *     2  the manifest is written, whole or in part,
 *        to `.partial/NAME.json`                     cleared
 *     3  `.partial/NAME/` is renamed to `NAME/`      completed: `.partial/NAME.json` is whole and needs only its rename
 *     4  `.partial/NAME.json` becomes `NAME.json`    finished
 *
 * An attempt that another one follows is put beside, as `NAME.attempt-N`, and leaves `NAME` free. There the manifest
 * comes first, so that whoever fetches the attempt again after a crash knows the name for its own and moves what is
 * missing.
 *
 * Two attempts of one job may be under way here, one of them given up. It leaves at once what the other one owns now:
 * `.out` and `.err`, and, when nothing is being written into it, `.partial/NAME/`.
 *
 * Writes are synchronous: pieces are small, their order matters, and a slow disk then holds the machine's output back
 * instead of filling our memory.
 */
import { createHash } from 'node:crypto';
import {
  closeSync,
  constants,
  copyFileSync,
  createReadStream,
  existsSync,
  fstatSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readFileSync,
  readSync,
  renameSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { SchedulerError } from '../domain/errors.ts';
import { makeFolder } from '../util/make-folder.ts';
import type { OutputStream } from './output-reader.ts';
import { clearPartial, findPartial, PARTIAL_FOLDER, partialPaths, writeBeside } from './partial-result.ts';

export {
  clearPartial,
  completePartial,
  findPartial,
  PARTIAL_FOLDER,
  type PartialResult,
  removeEmptyPartialFolder,
} from './partial-result.ts';

/** Who fills `.partial/NAME/`, by its path, and when that ends: one attempt at a time. */
const receiving = new Map<string, Promise<void>>();

/** The files of one attempt's result. */
export class ResultFiles {
  readonly #folder: string;
  readonly #name: string;
  readonly #outputs: { readonly out?: string; readonly err?: string };
  readonly #lengths = { out: 0, err: 0 };
  #isLeft = false;
  #isFilling = false;
  /** Lets the next attempt have `.partial/NAME/`, while this one has it. */
  #release: (() => void) | undefined;

  /** `folder`: the results folder, which exists. `outputs`: files in the place of `.out` and `.err` there. */
  constructor(folder: string, name: string, outputs: { readonly out?: string; readonly err?: string } = {}) {
    this.#folder = folder;
    this.#name = name;
    this.#outputs = outputs;
  }

  /** Starts `.out` and `.err` anew. */
  openOutputs(): void {
    for (const stream of STREAMS) {
      const path = this.#path(stream);
      if (this.#outputs[stream] !== undefined) makeFolder(dirname(path));
      closeSync(openOutput(path, constants.O_TRUNC));
      this.#lengths[stream] = 0;
    }
  }

  /**
   * Goes on where `.out` and `.err` stop; one that is missing begins empty. Returns their lengths in bytes, at most
   * `limitBytes`: what is beyond is cut off, an earlier mark of a cut perhaps.
   */
  resumeOutputs(limitBytes = Number.POSITIVE_INFINITY): { readonly out: number; readonly err: number } {
    for (const stream of STREAMS) {
      const fd = openOutput(this.#path(stream));
      try {
        const { size } = fstatSync(fd);
        if (size > limitBytes) ftruncateSync(fd, limitBytes);
        this.#lengths[stream] = Math.min(size, limitBytes);
      } finally {
        closeSync(fd);
      }
    }
    return { ...this.#lengths };
  }

  /** Appends to `.out` or `.err`. Opened for each piece: a thousand running jobs must not need as many descriptors. */
  append(stream: OutputStream, chunk: Buffer): void {
    if (this.#isLeft) throw new Error('Internal error: these files belong to another attempt now');
    // At explicit positions: a write that failed half-way (disk full) may be made again and doubles nothing.
    writeAt(this.#path(stream), chunk, this.#lengths[stream]);
    this.#lengths[stream] += chunk.length;
  }

  /** The last bytes of `.out` or `.err`. */
  endOf(stream: OutputStream, lastBytes: number): Buffer {
    const length = Math.min(this.#lengths[stream], lastBytes);
    const end = Buffer.alloc(length);
    if (length === 0) return end;
    const fd = openSync(this.#path(stream), 'r');
    try {
      return end.subarray(0, readSync(fd, end, 0, length, this.#lengths[stream] - length));
    } finally {
      closeSync(fd);
    }
  }

  /** The SHA-256 of `.out` or `.err` as far as it was written here, in hex. */
  async hashOf(stream: OutputStream): Promise<string> {
    const hash = createHash('sha256');
    const length = this.#lengths[stream];
    if (length > 0)
      for await (const chunk of createReadStream(this.#path(stream), { end: length - 1 }))
        hash.update(chunk as Buffer); // no encoding is set
    return hash.digest('hex');
  }

  /** Replaces `.out` or `.err` by what `fill` brings, when that is whole. */
  async replaceOutput(
    stream: OutputStream,
    fill: (append: (chunk: Buffer) => void) => Promise<unknown>,
  ): Promise<void> {
    await this.receive(async (folder) => {
      const path = join(folder, stream);
      let length = 0;
      writeFileSync(path, '');
      await fill((chunk) => {
        writeAt(path, chunk, length);
        length += chunk.length;
      });
      if (this.#isLeft) return;
      moveFile(path, this.#path(stream));
      this.#lengths[stream] = length;
    });
    await this.drop();
  }

  #path(stream: OutputStream): string {
    return this.#outputs[stream] ?? join(this.#folder, `${this.#name}.${stream}`);
  }

  /**
   * Lets `fill` put the attempt's files into a fresh folder, where they stay until they are published or dropped. Waits
   * while another attempt, which was given up, still writes there.
   */
  async receive<T>(fill: (folder: string) => Promise<T>): Promise<T> {
    const { folder } = partialPaths(this.#folder, this.#name);
    if (this.#release === undefined) {
      for (let other = receiving.get(folder); other !== undefined; other = receiving.get(folder)) await other;
      const { promise, release } = turn();
      receiving.set(folder, promise);
      this.#release = () => {
        receiving.delete(folder);
        release();
      };
    }
    this.#isFilling = true;
    try {
      if (this.#isLeft) throw new Error('another attempt counts');
      await this.#clear(); // an earlier try may have left some
      makeFolder(folder);
      return await fill(folder);
    } finally {
      this.#isFilling = false;
      if (this.#isLeft) await this.drop();
    }
  }

  /** Throws away what is not published. What lacks only its last rename stays for the next run to complete. */
  async drop(): Promise<void> {
    try {
      await this.#clear();
    } finally {
      this.#release?.();
      this.#release = undefined;
    }
  }

  async #clear(): Promise<void> {
    if (this.#release === undefined && receiving.has(partialPaths(this.#folder, this.#name).folder)) return;
    const partial = findPartial(this.#folder, { name: this.#name, hasFolder: true });
    if (partial.type === 'incomplete') await clearPartial(this.#folder, this.#name);
  }

  /** Another attempt owns these names from now on: nothing is written, made or removed there any more. */
  leave(): void {
    this.#isLeft = true;
    if (!this.#isFilling && this.#release !== undefined) void this.drop().catch(() => {}); // the next one clears it, too
  }

  /**
   * Makes the result whole: its folder (the received files, or an empty one, or none), then its manifest. All that
   * needs room on the disk is done first; what is left are two renames.
   */
  publish(manifest: object, folder: ResultFolder): void {
    const finalFolder = join(this.#folder, this.#name);
    const finalManifest = join(this.#folder, `${this.#name}.json`);
    for (const path of folder === 'none' ? [finalManifest] : [finalFolder, finalManifest]) {
      if (existsSync(path)) throw new SchedulerError(`${path} exists already; results are never replaced`);
    }
    const partial = partialPaths(this.#folder, this.#name);
    writeBeside(partial.manifest, manifestText(manifest));
    if (folder === 'empty') mkdirSync(finalFolder);
    if (folder === 'received') renameSync(partial.folder, finalFolder);
    renameSync(partial.manifest, finalManifest);
    this.#release?.();
    this.#release = undefined;
  }

  /**
   * Puts the attempt's result beside, as `NAME.attempt-N`; where another result has that name, under the next free
   * number. What a crash left of the same attempt there is completed; what was received once more then, `drop` removes.
   */
  publishBeside(manifest: AttemptManifest, folder: ResultFolder): void {
    const { base, isOurs } = this.#placeBeside(manifest);
    const partial = partialPaths(this.#folder, this.#name);
    if (!isOurs) {
      // Not `.partial/NAME.json`, which the next run would take for a result that lacks only its last rename.
      const path = join(this.#folder, PARTIAL_FOLDER, `.${this.#name}.attempt`);
      writeBeside(path, manifestText(manifest));
      renameSync(path, `${base}.json`);
    }
    if (folder === 'empty') makeFolder(base);
    else if (folder === 'received' && !existsSync(base)) renameSync(partial.folder, base);
    for (const stream of STREAMS)
      if (existsSync(this.#path(stream))) moveFile(this.#path(stream), `${base}.${stream}`);
  }

  /** Where an attempt's result goes that is not the job's last. */
  #placeBeside(manifest: AttemptManifest): { readonly base: string; readonly isOurs: boolean } {
    for (let number = manifest.attempt; ; number++) {
      const base = join(this.#folder, `${this.#name}.attempt-${number}`);
      const isOurs = isOfSameAttempt(`${base}.json`, manifest);
      if (isOurs || ['.json', '', '.out', '.err'].every((ending) => !existsSync(`${base}${ending}`)))
        return { base, isOurs };
    }
  }
}

/** What stands for the files that a job made: those received, an empty folder, or none where none were asked for. */
export type ResultFolder = 'received' | 'empty' | 'none';

/** What tells an attempt from all others, in its manifest. */
export interface AttemptManifest {
  readonly batch: string;
  readonly attempt: number;
}

const STREAMS = ['out', 'err'] as const;

function manifestText(manifest: object): string {
  return `${JSON.stringify(manifest, null, 2)}\n`;
}

/** Output may have its place on another disk than the results. */
function moveFile(from: string, to: string): void {
  try {
    renameSync(from, to);
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'EXDEV')) throw error;
    copyFileSync(from, to);
    rmSync(from);
  }
}

function isOfSameAttempt(path: string, { batch, attempt }: AttemptManifest): boolean {
  try {
    const other = JSON.parse(readFileSync(path, 'utf8')) as Partial<AttemptManifest> | null;
    return other?.batch === batch && other.attempt === attempt;
  } catch {
    return false;
  }
}

/** A plain file, made where it is missing. What waits for somebody at its other end (a FIFO) would stop all that we do. */
function openOutput(path: string, flags = 0): number {
  const fd = openSync(path, constants.O_RDWR | constants.O_CREAT | constants.O_NONBLOCK | flags, 0o666);
  if (fstatSync(fd).isFile()) return fd;
  closeSync(fd);
  throw new SchedulerError(`${path} is no plain file`);
}

function writeAt(path: string, chunk: Buffer, position: number): void {
  const fd = openSync(path, 'r+');
  try {
    for (let at = 0; at < chunk.length; ) at += writeSync(fd, chunk, at, chunk.length - at, position + at);
  } finally {
    closeSync(fd);
  }
}

function turn(): { readonly promise: Promise<void>; readonly release: () => void } {
  let release = () => {};
  const promise = new Promise<void>((resolve) => {
    release = resolve;
  });
  return { promise, release };
}
