/**
 * Brings source parts onto a machine, each byte once: what an earlier part there holds already is taken over on the
 * machine (tree-store.sh), and only the rest crosses the network, checked against its hashes on the way. A part is
 * whole or not there.
 */
import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { RemoteError } from '../domain/errors.ts';
import type { MachineName } from '../domain/machine.ts';
import type { RemoteHost } from '../remote/remote-host.ts';
import { type RequestShell, runWithInput } from '../remote/remote-shell.ts';
import { shellQuote } from '../util/shell-quote.ts';
import { formatBytes } from '../util/size.ts';
import { escaped, partListing } from './part-listing.ts';
import type { SourceEntry, SourcePart } from './source-part.ts';
import { archiveBytes, PIECE_BYTES, writeArchive } from './tar-writer.ts';
import { MOST_LANES, upload, writeAll } from './upload-lanes.ts';

/** A place for parts on a machine. */
export interface PartStore {
  /** `trees`: copied into jobs' folders. `shares`: linked into them, and looked at again before they are used again. */
  readonly kind: 'trees' | 'shares';
  /** Absolute. */
  readonly folder: string;
  /** Folder of the notes which batch uses what. Absolute. */
  readonly leases: string;
  /** Names this batch on this machine in such a note: letters, digits, dots. */
  readonly leaseSuffix: string;
}

/** A part that is on the machine. */
export interface PartThere {
  /** The name of its folder in the store. */
  readonly name: string;
  /** What crossed the network for it, listing and all; 0 when it was there. */
  readonly sentBytes: number;
  /** How many of its files were sent, and their bytes; the others were there. */
  readonly newFiles: number;
  readonly newBytes: number;
}

/** What a caller may want to know on the way. */
export interface SendOptions {
  /** What is about to be sent of a part. */
  readonly onLacking?: (part: SourcePart, lacking: readonly SourceEntry[]) => void;
}

/** What source parts may take up on a machine that says nothing about it, before unused ones are removed. */
export const CACHE_LIMIT_BYTES = 20 * 1024 ** 3;

/** What tree-store.sh says when a part does not have the entries that it should have. */
const WRONGLY = 'put together wrongly';

/** Smaller archives travel inside a request: opening a channel costs the machine a process and a login. */
const INLINE_BYTES = 24 * 1024;
/** A listing of more bytes than that gets a channel of its own. */
const LISTING_INLINE_BYTES = 256 * 1024;
/** What must stay free on the machine's disk, for the jobs. */
const ROOM_KEPT_BYTES = 1024 * 1024;
/** Bytes that a machine may answer with. */
const ANSWER_LIMIT_BYTES = 256 * 1024 * 1024;

const functions = readFileSync(new URL('./tree-store.sh', import.meta.url), 'utf8');
const loaded = new WeakMap<RequestShell, Promise<Loaded>>();

/**
 * Makes sure that parts are in a machine's store and marked as used by this batch.
 * @throws RemoteError (stage `send`) with the reason: disk full there, a file that changed or vanished here.
 */
export async function sendParts(
  host: RemoteHost,
  shell: RequestShell,
  store: PartStore,
  parts: readonly SourcePart[],
  options: SendOptions = {},
): Promise<ReadonlyMap<string, PartThere>> {
  const machine = new StoreOnMachine(host, shell, store);
  const there = new Map<string, PartThere>();
  const found = await machine.look(parts);
  for (const part of parts) {
    const name = found.have.get(part.id);
    there.set(
      part.id,
      name === undefined
        ? await machine.send(part, found, options)
        : { name, sentBytes: 0, newFiles: 0, newBytes: 0 },
    );
  }
  return there;
}

/**
 * Removes what no batch uses from a machine's stores, the least recently used first, until they hold at most
 * `limitBytes`. Goes on in the background there; nobody waits for it.
 */
export async function pruneStores(
  shell: RequestShell,
  base: string,
  leases: string,
  limitBytes: number,
): Promise<void> {
  await loadFunctions(shell);
  const call = `KIND=trees; S=${shellQuote(`${base}/trees`)}; L=${shellQuote(leases)}; prune ${Math.floor(limitBytes / 1024)} ${shellQuote(base)}`;
  await shell.run(`(${call}) </dev/null >/dev/null 2>&1 &`);
}

/** What was learnt of a machine while the functions were loaded. */
interface Loaded {
  readonly roundTripMs: number;
  /** Whether `dd` there reads whole pieces from pipes, which busybox's may not. */
  readonly canTakeTurns: boolean;
}

/** Loads the functions into a shell that has not got them. Nobody has to wait for it: what is sent after it runs after it. */
function loadFunctions(shell: RequestShell): Promise<Loaded> {
  const known = loaded.get(shell);
  if (known !== undefined) return known;
  const began = performance.now();
  const loading = Promise.all([
    shell.run(functions).then(() => performance.now() - began), // runs no program there: a round trip and little more
    shell.text('dd bs=1 count=1 iflag=fullblock </dev/null >/dev/null 2>&1 && echo can'),
  ]).then(([roundTripMs, { output }]) => ({ roundTripMs, canTakeTurns: output.includes('can') }));
  loading.catch(() => {}); // whoever asks the shell next hears of it
  loaded.set(shell, loading);
  return loading;
}

interface Found {
  /** Names of folders by the ids of parts. */
  readonly have: ReadonlyMap<string, string>;
  /** Whether there are listings of other parts, with which something may be shared. */
  readonly hasListings: boolean;
  /** Undefined where the machine does not say. */
  readonly roomBytes: number | undefined;
}

class StoreOnMachine {
  readonly #host: RemoteHost;
  readonly #shell: RequestShell;
  readonly #store: PartStore;

  constructor(host: RemoteHost, shell: RequestShell, store: PartStore) {
    this.#host = host;
    this.#shell = shell;
    this.#store = store;
  }

  async look(parts: readonly SourcePart[]): Promise<Found> {
    const { leaseSuffix } = this.#store;
    const answer = await this.#call(`look ${leaseSuffix} ${parts.map(({ id }) => id).join(' ')}`);
    const have = new Map<string, string>();
    let hasListings = false;
    let roomBytes: number | undefined;
    for (const line of answer.split('\n')) {
      const [word, first = '', second = ''] = line.split(' ');
      if (word === 'have' && /^[0-9a-f]+(-[0-9a-f]+)?$/.test(second)) have.set(first, second);
      if (word === 'listed') hasListings = true;
      if (word === 'room' && /^\d{1,15}$/.test(first)) roomBytes = Number(first) * 1024;
    }
    if (parts.some(({ id }) => !have.has(id) && !answer.includes(`lack ${id}`))) {
      throw this.#failure(answer.trim().split('\n')[0] || `cannot look into ${this.#store.folder}`);
    }
    return { have, hasListings, roomBytes };
  }

  async send(part: SourcePart, found: Found, options: SendOptions): Promise<PartThere> {
    try {
      return await this.#send(part, found, options);
    } catch (error) {
      // What was taken over is not what its listing says: somebody has been at the store.
      if (!found.hasListings || !(error instanceof Error) || !error.message.includes(WRONGLY)) throw error;
      return await this.#send(part, { ...found, hasListings: false }, options);
    }
  }

  async #send(part: SourcePart, found: Found, options: SendOptions): Promise<PartThere> {
    const salt = randomBytes(6).toString('hex');
    const partial = `${part.id}.${salt}.partial`;
    const name = this.#store.kind === 'trees' ? part.id : `${part.id}-${salt}`;
    const whole = archiveBytes(part.entries);
    const isInline = whole <= INLINE_BYTES;
    try {
      let lacking = part.entries;
      let sentBytes = 0;
      if (isInline) {
        await this.#check(`begin ${partial} 0`);
      } else {
        const listing = partListing(part.entries);
        sentBytes += listing.bytes.length;
        const answer = await this.#begin(partial, listing.bytes, found.hasListings);
        lacking = lackingEntries(part.entries, listing.lines, answer);
      }
      const isTakenOver = lacking.length < part.entries.length;
      await this.#checkRoom(lacking, found);
      options.onLacking?.(part, lacking);
      const packed = opened(lacking);
      if (isInline) sentBytes += await this.#sendInline(partial, part.root, packed);
      else if (packed.length > 0) sentBytes += await this.#sendLacking(partial, part.root, packed);
      // busybox's tar leaves a folder that is there already as it is.
      const folders = isTakenOver ? lacking.filter(({ kind }) => kind === 'folder') : [];
      await this.#setModes(partial, [...new Set([...part.entries.filter(isClosed), ...folders])]);
      await this.#check(`publish ${partial} ${name} ${isTakenOver ? part.entries.length : 0}`);
      const files = lacking.filter(({ kind }) => kind === 'file');
      return {
        name,
        sentBytes,
        newFiles: files.length,
        newBytes: files.reduce((sum, { size }) => sum + size, 0),
      };
    } catch (error) {
      if (!this.#shell.isBroken) await this.#call(`give_up ${partial}`).catch(() => {}); // the reason matters more
      throw error;
    }
  }

  /** Refuses what does not fit before it is sent; room may be made out of what nobody uses. */
  async #checkRoom(lacking: readonly SourceEntry[], { roomBytes }: Found): Promise<void> {
    // A file takes whole blocks.
    const needed = lacking.reduce((sum, { size }) => sum + size + 4096, ROOM_KEPT_BYTES);
    if (roomBytes === undefined || needed <= roomBytes) return;
    const answer = await this.#call(
      `used "$S/../trees" "$S/../shares"; prune $((kib - ${Math.ceil((needed - roomBytes) / 1024)})) "$S/.."; room`,
    );
    const [, kib] = /^room (\d{1,15})$/m.exec(answer) ?? [];
    const room = kib === undefined ? roomBytes : Number(kib) * 1024;
    if (needed <= room) return;
    throw this.#failure(
      `No space left on device: ${formatBytes(needed - ROOM_KEPT_BYTES)} are to be sent, and the disk of ${this.#store.folder} has ${formatBytes(room)} free`,
    );
  }

  /** Makes the partial folder with the listing in it, and has taken over what there is. Returns what is lacking. */
  async #begin(partial: string, listing: Buffer, takeOver: boolean): Promise<string> {
    const path = `${this.#store.folder}/${partial}/list`;
    const then = takeOver ? `take_over ${partial}` : 'echo all';
    if (listing.length > LISTING_INLINE_BYTES) {
      await this.#check(`begin ${partial} ${MOST_LANES - 1}`);
      const sent = await runWithInput(this.#host, `exec cat >"${this.#plain(path)}"`, async (stdin) => {
        await writeAll(stdin, listing);
        stdin.end();
      });
      if (sent.exitCode !== 0) throw this.#failure(reasonThere(sent.stderr) || 'the connection broke off');
      return await this.#check(then, 'latin1');
    }
    const mark = `end-${randomBytes(12).toString('hex')}`;
    const quoted = Buffer.from(shellQuote(path)).toString('latin1');
    const script = `begin ${partial} ${MOST_LANES - 1} && cat >${quoted} <<'${mark}' && ${then}\n${listing.toString('latin1')}${mark}\n`;
    return await this.#check(script, 'latin1');
  }

  async #setModes(partial: string, folders: readonly SourceEntry[]): Promise<void> {
    if (folders.length === 0) return;
    // From the deepest up: what a closed folder holds could not be reached any more.
    const deepestFirst = [...folders].sort((a, b) => (a.path < b.path ? 1 : -1));
    const lines = deepestFirst.map(({ path, mode }) => `${mode.toString(8)} ${escaped(path)}\n`);
    const mark = `end-${randomBytes(12).toString('hex')}`;
    await this.#check(`set_modes ${partial} <<'${mark}'\n${lines.join('')}${mark}\n`);
  }

  async #sendInline(partial: string, root: string, packed: readonly SourceEntry[]): Promise<number> {
    const pieces: Buffer[] = [];
    try {
      for await (const piece of writeArchive(root, packed)) pieces.push(piece);
    } catch (error) {
      throw this.#failure((error as Error).message);
    }
    const archive = Buffer.concat(pieces);
    const lines = archive.toString('base64').replace(/.{76}/g, '$&\n');
    const tree = Buffer.from(shellQuote(`${this.#store.folder}/${partial}/tree`)).toString('latin1');
    await this.#check(`{ umask 000; base64 -d | tar -xof - -C ${tree}; } <<'end'\n${lines}\nend\n`);
    return lines.length;
  }

  async #sendLacking(partial: string, root: string, packed: readonly SourceEntry[]): Promise<number> {
    const bytes = archiveBytes(packed);
    const folder = this.#plain(`${this.#store.folder}/${partial}`);
    let problemHere: Error | undefined;
    async function* pieces() {
      try {
        yield* writeArchive(root, packed);
      } catch (error) {
        problemHere = error as Error; // the archive there breaks off
        throw error;
      }
    }
    const sent = await upload(this.#host, {
      folder,
      lanes: await this.#lanesFor(bytes),
      pieces,
      count: Math.ceil(bytes / PIECE_BYTES),
      // tar ends at the archive's own end; `cat` then waits for the end of our sending, which would else seem broken off.
      // Modes come as they are, whatever the umask there.
      reader: `umask 000; tar -xof - -C "${folder}/tree" && exec cat >/dev/null`,
      letGo: async () => {
        if (!this.#shell.isBroken) await this.#call(`let_go ${partial}`);
      },
    }).catch((error: unknown) => {
      throw this.#failure((error as Error).message);
    });
    if (sent.exitCode === 0) return bytes;
    // When the machine gave up first, our writing failed too, and only its reason tells why.
    if (problemHere !== undefined) throw this.#failure(problemHere.message);
    throw this.#failure(reasonThere(sent.stderr) || 'the connection broke off');
  }

  /** More than one channel only where a channel's window, not the line, is the limit. */
  async #lanesFor(bytes: number): Promise<number> {
    if (bytes < LANES_FROM_BYTES) return 1;
    const { roundTripMs, canTakeTurns } = await loadFunctions(this.#shell);
    return roundTripMs > LANES_FROM_MS && canTakeTurns ? MOST_LANES : 1;
  }

  /** Runs functions of tree-store.sh and returns what they say. The script is latin1: a character per byte. */
  async #call(script: string, encoding: 'utf8' | 'latin1' = 'utf8'): Promise<string> {
    void loadFunctions(this.#shell);
    const { kind, folder, leases } = this.#store;
    const setting = `KIND=${kind}; S=${shellQuote(folder)}; L=${shellQuote(leases)}`;
    const chunks: Buffer[] = [];
    let size = 0;
    await this.#shell.run(
      Buffer.concat([
        Buffer.from(`(${setting}\n`),
        Buffer.from(script, 'latin1'),
        Buffer.from('\n) 2>&1; :'),
      ]),
      (chunk) => {
        size += chunk.length;
        if (size > ANSWER_LIMIT_BYTES) throw this.#failure('the machine answers without end');
        chunks.push(Buffer.from(chunk));
      },
    );
    return Buffer.concat(chunks).toString(encoding);
  }

  /** Runs what must succeed, and returns what it said. */
  async #check(script: string, encoding: 'utf8' | 'latin1' = 'utf8'): Promise<string> {
    const answer = await this.#call(`if ${script}\nthen echo; echo all-well; fi`, encoding);
    if (answer.trimEnd().endsWith('\nall-well')) return answer;
    throw this.#failure(reasonThere(answer.trim()) || `cannot write to ${this.#store.folder} (disk full?)`);
  }

  /** A path that stands between double quotes in a line which the login shell reads. */
  #plain(path: string): string {
    if (/["$`'\\!\n\r]/.test(path))
      throw this.#failure(`the folder ${path} there has a name that cannot be used`);
    return path;
  }

  #failure(reason: string): RemoteError {
    return sendError(this.#host.name, reason);
  }
}

/** Fewer bytes are over one channel before another is open. */
const LANES_FROM_BYTES = 4 * 1024 * 1024;
/** From this round trip on a window of 2 MiB holds a fast line back: 2 MiB / 4 ms = 500 MiB/s. */
const LANES_FROM_MS = 4;

function sendError(machine: MachineName, reason: string): RemoteError {
  return new RemoteError(machine, 'send', `${machine}: cannot send files: ${reason}`, { brief: reason });
}

/** What the machine said is lacking. */
function lackingEntries(
  entries: readonly SourceEntry[],
  lines: readonly string[],
  answer: string,
): readonly SourceEntry[] {
  const said = new Set(answer.split('\n'));
  return said.has('all') ? entries : entries.filter((_entry, i) => said.has(lines[i] ?? ''));
}

/**
 * The entries as they are packed: a folder that its owner may not write into comes writable, since busybox's tar sets
 * modes at once and could not write what it holds. `set_modes` gives it its mode.
 */
function opened(entries: readonly SourceEntry[]): readonly SourceEntry[] {
  return entries.map((entry) => (isClosed(entry) ? { ...entry, mode: entry.mode | 0o700 } : entry));
}

function isClosed({ kind, mode }: SourceEntry): boolean {
  return kind === 'folder' && (mode & 0o300) !== 0o300;
}

/** The line of tar's that tells why; GNU tar says `Wrote only` of a file that no longer fitted. */
function reasonThere(stderr: string): string {
  const lines = stderr.split('\n');
  const line = lines.find((one) => /No space|[Qq]uota/.test(one)) ?? lines[0] ?? '';
  return line.includes('Wrote only') ? `No space left on device there (${line})` : line.slice(0, 1000);
}
