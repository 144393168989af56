/**
 * Transfers between a folder here and a host, ours and those of others, each from nothing to files there (or here). What
 * arrived is counted after each, and removed when the next one is to begin with nothing.
 */
import { randomBytes } from 'node:crypto';
import { mkdir, readdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { runOrThrow } from '../test/rig/command.ts';
import type { TestHost } from '../test/rig/test-hosts.ts';
import type { TransferFigures, TransferRequest } from './one-transfer.ts';
import type { Bench } from './project.ts';
import { secondsOf } from './timing.ts';

const ONE_TRANSFER = fileURLToPath(new URL('./one-transfer.ts', import.meta.url));
const TIMEOUT_MS = 90_000;
const FILES_PER_FOLDER = 100;

/** A host and the way there. */
export interface End {
  readonly host: TestHost;
  /** Its name in `sshConfig`. */
  readonly name: string;
  readonly sshConfig: string;
}

/** Makes a folder of files with random content: some small ones in folders of a hundred, and at most one large one. */
export async function makeFiles(
  folder: string,
  { small, smallBytes = 4096, largeBytes = 0 }: { small: number; smallBytes?: number; largeBytes?: number },
): Promise<string> {
  for (let i = 0; i < small; i += FILES_PER_FOLDER) {
    const sub = join(folder, `folder-${i / FILES_PER_FOLDER}`);
    await mkdir(sub, { recursive: true });
    const count = Math.min(FILES_PER_FOLDER, small - i);
    const files = Array.from({ length: count }, (_, n) => join(sub, `file-${i + n}.dat`));
    await Promise.all(files.map((file) => writeFile(file, randomBytes(smallBytes))));
  }
  await mkdir(folder, { recursive: true });
  if (largeBytes > 0) await writeFile(join(folder, 'large.dat'), randomBytes(largeBytes));
  return folder;
}

/** Transfers of one bench. Its folders on the host are below `bench` in the account's home. */
export class Transfers {
  readonly #bench: Bench;
  readonly #hashes: string;
  #count = 0;

  constructor(bench: Bench) {
    this.#bench = bench;
    this.#hashes = join(bench.folder, 'hashes');
  }

  /** A folder on a host that nobody has used. */
  fresh({ host }: End): string {
    this.#count += 1;
    return `${host.homeOnHost}/bench/${this.#count}`;
  }

  /** Remembers the hashes of a folder, as the batch before this one would have. Its files must be some seconds old. */
  async warm(from: string): Promise<void> {
    await this.#one({ type: 'list', host: '', sshConfig: '', from, hashes: this.#hashes });
  }

  /** Sends a folder into a store of ours on the host. */
  async send(
    end: End,
    from: string,
    store: string,
    { files, clock = 'all' }: { readonly files: number; readonly clock?: 'all' | 'sending' },
  ): Promise<TransferFigures> {
    const { name, sshConfig } = end;
    const figures = await this.#one({
      type: 'send',
      host: name,
      sshConfig,
      from,
      hashes: this.#hashes,
      store,
      clock,
    });
    if (figures.files !== files) throw new Error(`we sent ${figures.files} files, expected ${files}`);
    return figures;
  }

  /** Brings home what a job made. `attempt`: a folder that `makeAttempt` made. */
  async fetch(end: End, attempt: string, files: number): Promise<TransferFigures> {
    const into = join(this.#bench.folder, 'home');
    const { name, sshConfig } = end;
    const figures = await this.#one({ type: 'fetch', host: name, sshConfig, attempt, into });
    await expectHere(into, files);
    return figures;
  }

  /** `tar | ssh host tar`. Resolves to its seconds. */
  async tarThere(end: End, from: string, to: string): Promise<number> {
    const line = `tar -cf - . | ${this.#ssh(end)} 'mkdir -p ${to} && cd ${to} && tar -xf -'`;
    return await this.#line(line, from);
  }

  /** `ssh host tar | tar`. Resolves to its seconds. */
  async tarHere(end: End, from: string, files: number): Promise<number> {
    const into = join(this.#bench.folder, 'home');
    await mkdir(into);
    const seconds = await this.#line(`${this.#ssh(end)} 'cd ${from} && tar -cf - .' | tar -xf -`, into);
    await expectHere(into, files);
    return seconds;
  }

  /** `rsync -a` over ssh. Resolves to its seconds. */
  async rsync({ name, sshConfig }: End, from: string, to: string): Promise<number> {
    const rsync = ['-a', '-e', `ssh -F ${sshConfig}`, `${from}/`, `${name}:${to}/`];
    return await secondsOf({ program: 'rsync', args: rsync });
  }

  /** A file into `cat >/dev/null` on a connection of ssh's that is open already. Resolves to its seconds. */
  async catThere(end: End, file: string): Promise<number> {
    const control = `-o ControlPath=${join(this.#bench.folder, 'control-%n')}`;
    const ssh = `${this.#ssh(end)} ${control}`;
    await this.#line(`${this.#ssh(end, `${control} -o ControlMaster=yes -o ControlPersist=60 -fN`)}`, '/');
    try {
      return await this.#line(`${ssh} 'cat >/dev/null' <${file}`, '/');
    } finally {
      await this.#line(`${this.#ssh(end, `${control} -q -O exit`)}`, '/');
    }
  }

  /** Copies a folder on the host as a job's start does. Resolves to its seconds. */
  async copyThere({ host }: End, from: string, to: string): Promise<number> {
    const began = performance.now();
    const { exitCode, stderr } = await host.exec(`cp -a ${from} ${to}`);
    if (exitCode !== 0) throw new Error(`cp on the host: ${stderr}`);
    return (performance.now() - began) / 1000;
  }

  /** Makes the folder of an ended job on the host, with so many result files of 4 KB. */
  async makeAttempt(end: End, files: number): Promise<string> {
    const attempt = this.fresh(end);
    await this.on(
      end,
      `mkdir -p ${attempt}/work && cd ${attempt}/work &&
      head -c ${files * 4096} /dev/urandom | split -b 4096 -a 4 - result- && find . -type f -print0 >../changed`,
    );
    return attempt;
  }

  /** Removes a folder on the host; first counts its files, where their number is given. */
  async removeThere(end: End, folder: string, files?: number): Promise<void> {
    if (files !== undefined) {
      const found = Number(await this.on(end, `find ${folder} -type f | wc -l`));
      if (found !== files) throw new Error(`found ${found} files in ${folder}, expected ${files}`);
    }
    await this.on(end, `rm -rf ${folder}`);
  }

  /** Runs a shell line on the host, without ssh. Resolves to what it printed. */
  async on({ host }: End, line: string): Promise<string> {
    const { exitCode, stdout, stderr } = await host.exec(line);
    if (exitCode !== 0) throw new Error(`on ${host.name}: ${line}: ${stderr}`);
    return stdout;
  }

  #ssh({ name, sshConfig }: End, options = ''): string {
    return `ssh -F ${sshConfig} ${options} ${name}`;
  }

  async #line(line: string, cwd: string): Promise<number> {
    return await secondsOf({ program: 'bash', args: ['-o', 'pipefail', '-c', line], cwd });
  }

  async #one(request: TransferRequest): Promise<TransferFigures> {
    const args = ['--import', import.meta.resolve('tsx'), ONE_TRANSFER, JSON.stringify(request)];
    return JSON.parse(await runOrThrow(process.execPath, args, { timeoutMs: TIMEOUT_MS })) as TransferFigures; // ours
  }
}

/** Counts the files in a folder here, and removes it. */
async function expectHere(folder: string, files: number): Promise<void> {
  const found = (await readdir(folder, { recursive: true, withFileTypes: true })).filter((entry) =>
    entry.isFile(),
  );
  if (found.length !== files) throw new Error(`${found.length} files came, expected ${files}`);
  await rm(folder, { recursive: true });
}
