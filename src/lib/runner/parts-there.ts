/** The source parts of one machine: brings what a job's tree is made of there, each part once, however many jobs wait. */
import type { SchedulerEvent } from '../domain/events.ts';
import { fromBytePath } from '../files/byte-path.ts';
import { largestFolders } from '../files/largest-folders.ts';
import { type PartStore, type PartThere, pruneStores, sendParts } from '../files/send.ts';
import type { SourceEntry, SourcePart, SourceTree } from '../files/source-part.ts';
import type { EventStream } from '../util/event-stream.ts';
import type { MachineLink } from './machine-link.ts';
import type { MachineSession } from './machine-session.ts';

/** What a job needs to know of the parts it starts from. */
export interface TreeThere {
  /** Bytes that crossed the network for this call. */
  readonly sentBytes: number;
  /** The links to shared inputs: places in the job's folder and absolute paths on the machine, both latin1. */
  readonly links: readonly { readonly path: string; readonly target: string }[];
  /** Names of the shared inputs' folders. While a job that names them runs, they are not pruned. */
  readonly shares: readonly string[];
}

/** How a machine keeps parts. */
export interface PartsThereOptions {
  readonly events: EventStream<SchedulerEvent>;
  /** What the stores of the machine may hold together before unused parts are removed. */
  readonly cacheLimitBytes: number;
  readonly now: () => number;
}

/** Brings parts to one machine and remembers which are there. */
export class PartsThere {
  readonly #link: MachineLink;
  readonly #options: PartsThereOptions;
  readonly #known = new Map<string, Promise<PartThere>>();

  constructor(link: MachineLink, options: PartsThereOptions) {
    this.#link = link;
    this.#options = options;
  }

  /** Makes sure that a tree's parts are there; every job that needs one waits for the same sending. */
  async bring(tree: SourceTree): Promise<TreeThere> {
    const shared = tree.shared.map(({ part }) => part);
    const [trees, shares] = [this.#ask('trees', tree, tree.parts), this.#ask('shares', tree, shared)];
    const all = await Promise.all([...trees.promises, ...shares.promises]);
    const brought = [...trees.brought, ...shares.brought];
    const sent = await Promise.all(brought.map((part) => this.#of(part)));
    const sentBytes = sent.reduce((sum, one) => sum + one.sentBytes, 0);
    if (brought.length > 0) {
      this.#options.events.publish({
        type: 'tree:sent',
        at: this.#options.now(),
        machine: this.#link.name,
        tree: tree.id,
        files: tree.files,
        bytes: tree.bytes,
        sentBytes,
        newFiles: sent.reduce((sum, one) => sum + one.newFiles, 0),
        newBytes: sent.reduce((sum, one) => sum + one.newBytes, 0),
      });
    }
    if (tree.shared.length === 0) return { sentBytes, links: [], shares: [] };
    const { folders } = await this.#link.session();
    const names = all.slice(tree.parts.length);
    return {
      sentBytes,
      shares: names.map(({ name }) => name),
      links: tree.shared.map(({ path }, i) => ({
        path,
        target: `${Buffer.from(folders.shares).toString('latin1')}/${names[i]?.name ?? ''}/${path}`,
      })),
    };
  }

  /** Takes note that a part is not there after all: it was pruned while nobody could say that we use it. */
  forget(part: string): void {
    this.#known.delete(`trees ${part}`);
  }

  #of({ kind, id }: AskedPart): Promise<PartThere> {
    const known = this.#known.get(`${kind} ${id}`);
    if (known === undefined) throw new Error('Internal error: a part that was not asked for');
    return known;
  }

  /** `promises`: of all these parts, in order. `brought`: those that this call is the first to ask for. */
  #ask(
    kind: PartStore['kind'],
    tree: SourceTree,
    parts: readonly SourcePart[],
  ): { readonly promises: readonly Promise<PartThere>[]; readonly brought: readonly AskedPart[] } {
    const lacking = parts.filter(({ id }) => !this.#known.has(`${kind} ${id}`));
    if (lacking.length > 0) {
      const bringing = this.#link.retrying((session) => this.#send(session, kind, tree, lacking));
      for (const { id } of lacking) {
        const one = bringing.then((there) => {
          const part = there.get(id);
          if (part === undefined) throw new Error('Internal error: a part was not sent');
          return part;
        });
        this.#known.set(`${kind} ${id}`, one);
        // The next job may try again: a full disk may have been cleared.
        one.catch(() => this.#known.delete(`${kind} ${id}`));
      }
    }
    const brought = lacking.map(({ id }) => ({ kind, id }));
    return { promises: parts.map(({ id }) => this.#of({ kind, id })), brought };
  }

  async #send(
    session: MachineSession,
    kind: PartStore['kind'],
    tree: SourceTree,
    parts: readonly SourcePart[],
  ): Promise<ReadonlyMap<string, PartThere>> {
    const { base, leases, leaseSuffix } = session.folders;
    const store = { kind, folder: session.folders[kind], leases, leaseSuffix };
    const onLacking = (_part: SourcePart, lacking: readonly SourceEntry[]) =>
      this.#tellLacking(tree, lacking);
    const send = async () => sendParts(session.host, await session.store(), store, parts, { onLacking });
    const there = await send().catch(async (error: Error) => {
      if (!error.message.includes('MaxSessions')) throw error;
      await session.mergeStore(); // leaves room for the send's own channel
      return await send();
    });
    const shell = await session.store();
    if ([...there.values()].some((part) => part.newBytes > 0)) {
      await pruneStores(shell, base, leases, this.#options.cacheLimitBytes);
    }
    return there;
  }

  /** What takes long deserves a word before it begins. */
  #tellLacking(tree: SourceTree, lacking: readonly SourceEntry[]): void {
    const files = lacking.filter(({ kind }) => kind === 'file');
    const newBytes = files.reduce((sum, { size }) => sum + size, 0);
    if (newBytes < TELL_FROM_BYTES) return;
    this.#options.events.publish({
      type: 'tree:sending',
      at: this.#options.now(),
      machine: this.#link.name,
      tree: tree.id,
      newFiles: files.length,
      newBytes,
      largest: largestFolders(files, LARGEST_TOLD).map(({ path, bytes }) => ({
        path: fromBytePath(path),
        bytes,
      })),
    });
  }
}

interface AskedPart {
  readonly kind: PartStore['kind'];
  readonly id: string;
}

const TELL_FROM_BYTES = 200e6;
const LARGEST_TOLD = 3;
