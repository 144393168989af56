/**
 * What one job leaves in the results folder: `NAME.out` and `NAME.err` as they grow, `NAME/` with the files that it
 * made, by one rename, and last `NAME.json`, whose presence says that the result is whole. Nothing that is finished is
 * ever replaced.
 *
 * Writes are synchronous: pieces are small, their order matters, and a slow disk then holds the machine's output back
 * instead of filling our memory.
 */
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  renameSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { SchedulerError } from '../domain/errors.ts';

/** Folder below the results folder for what is not whole yet. */
export const PARTIAL_FOLDER = '.partial';

/** The files of one job's result. */
export class ResultFiles {
  readonly #folder: string;
  readonly #name: string;
  #fds: { readonly out: number; readonly err: number } | undefined;

  /** `folder`: the results folder, which exists. */
  constructor(folder: string, name: string) {
    this.#folder = folder;
    this.#name = name;
  }

  /** Starts `.out` and `.err` anew. */
  openOutputs(): void {
    this.#fds ??= {
      out: openSync(join(this.#folder, `${this.#name}.out`), 'w'),
      err: openSync(join(this.#folder, `${this.#name}.err`), 'w'),
    };
  }

  /** Appends to `.out` or `.err`. */
  append(stream: 'out' | 'err', chunk: Buffer): void {
    this.openOutputs();
    const fd = this.#fds?.[stream];
    if (fd === undefined) return;
    for (let at = 0; at < chunk.length; ) at += writeSync(fd, chunk, at);
  }

  /** A fresh folder to receive the job's files in. */
  makePartialFolder(): string {
    const partial = this.#partialFolder();
    rmSync(partial, { recursive: true, force: true });
    mkdirSync(partial, { recursive: true });
    return partial;
  }

  /** Throws away a partial folder. */
  dropPartialFolder(): void {
    rmSync(this.#partialFolder(), { recursive: true, force: true });
  }

  /** Makes the received files the result's folder, whole, at once. Without received files an empty folder is made. */
  publishFolder(received: boolean): void {
    const final = join(this.#folder, this.#name);
    if (existsSync(final)) throw new SchedulerError(`${final} exists already; results are never replaced`);
    if (received) renameSync(this.#partialFolder(), final);
    else mkdirSync(final);
  }

  /** Writes the manifest, last of all. */
  publishManifest(manifest: object): void {
    const final = join(this.#folder, `${this.#name}.json`);
    if (existsSync(final)) throw new SchedulerError(`${final} exists already; results are never replaced`);
    const partial = join(this.#folder, `.${this.#name}.json.partial`);
    writeFileSync(partial, `${JSON.stringify(manifest, null, 2)}\n`);
    renameSync(partial, final);
  }

  /** Closes `.out` and `.err`. */
  close(): void {
    if (this.#fds === undefined) return;
    closeSync(this.#fds.out);
    closeSync(this.#fds.err);
    this.#fds = undefined;
  }

  #partialFolder(): string {
    return join(this.#folder, PARTIAL_FOLDER, this.#name);
  }
}
