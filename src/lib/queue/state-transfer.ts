/**
 * The whole state of a service as text that people can edit, and back: its jobs (one a line), its list of machines, and
 * the texts of scripts. Source trees are not in it.
 */
import { constants } from 'node:buffer';
import { createHash } from 'node:crypto';
import { type FileHandle, open, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { UsageError } from '../domain/errors.ts';
import { FINAL_STATES, type QueueJobId } from '../domain/queue.ts';
import type { KeptParts } from '../files/kept-parts.ts';
import * as check from '../stores/queue-check.ts';
import {
  checkStateFile,
  type QueueStateFile,
  STATE_FORMAT,
  STATE_VERSION,
} from '../stores/queue-state-file.ts';
import type { QueueStore } from '../stores/queue-store.ts';
import { formatBytes } from '../util/size.ts';
import type { ImportAnswer, ImportRequest } from './requests.ts';
import { checkScriptName, MAX_IN_PLACE_SCRIPT_BYTES } from './script-store.ts';

/** Where a state comes from and goes to. */
export interface StateTransferOptions {
  /** The data folder. */
  readonly folder: string;
  /** Names this service. */
  readonly serviceId: string;
  readonly store: Pick<QueueStore, 'nextId' | 'exportJobs' | 'importState' | 'get' | 'counts'>;
  readonly machines: {
    /** The list as JSON. */
    toJSON(): unknown;
    /** Whether a list could be taken in, and how many machines it has. @throws UsageError */
    check(json: unknown): number;
    /** Puts a list that was checked in the place of all machines. */
    replace(json: unknown): Promise<void>;
  };
  readonly scripts: {
    /** A script. @throws when it is not there */
    bytes(id: string): Promise<Buffer>;
    /** Keeps a script; resolves to its id. */
    keep(bytes: Buffer, maxBytes: number): Promise<string>;
  };
  readonly parts: Pick<KeptParts, 'tree'>;
}

type StateJob = QueueStateFile['jobs'][number];

const PIECE_CHARACTERS = 256 * 1024;
/** It is read as one text. */
const MAX_BYTES = Math.min(1024 ** 3, constants.MAX_STRING_LENGTH);
const IDS_SHOWN = 10;

/** Exports and imports of one service. */
export class StateTransfer {
  readonly #options: StateTransferOptions;
  readonly #path: string;
  /** What has come of an import, and which piece comes next. */
  #coming: { readonly file: FileHandle; next: number; bytes: number; rest: string } | undefined;
  #turn: Promise<unknown> = Promise.resolve();

  constructor(options: StateTransferOptions) {
    this.#options = options;
    this.#path = join(options.folder, 'import.partial');
  }

  /** The state as it is now, in pieces of text. @throws SchedulerError when the text of a script is not there */
  async *export(): AsyncGenerator<string, void, void> {
    const { store, serviceId, machines, scripts } = this.#options;
    const used = new Set<string>();
    // All at once, so that the jobs fit together; in pieces, since there may be more than one text can hold.
    const pieces: string[] = [];
    let piece = '';
    let separator = '\n';
    for (const job of store.exportJobs()) {
      if (job.spec.script !== undefined) used.add(job.spec.script.id);
      piece += `${separator}${JSON.stringify(job)}`;
      separator = ',\n';
      if (piece.length < PIECE_CHARACTERS) continue;
      pieces.push(piece);
      piece = '';
    }
    pieces.push(piece);
    const head = { format: STATE_FORMAT, version: STATE_VERSION, service: serviceId, nextId: store.nextId };
    const list = JSON.stringify(machines.toJSON());
    yield `${fieldsText(head)},\n"jobs": [`;
    for (const one of pieces) yield* inPieces(one);
    yield `\n],\n"machines": ${list},\n"scripts": {`;
    separator = '\n';
    for (const id of used) {
      yield* inPieces(
        `${separator}${JSON.stringify(id)}: ${JSON.stringify(scriptJson(await scripts.bytes(id)))}`,
      );
      separator = ',\n';
    }
    yield '\n}}\n';
  }

  /**
   * Takes one piece of a state; the last one puts it in the place of all that is here. Nothing changes before all of it
   * was checked.
   * @throws UsageError for a mistake, with its place, and while jobs run here
   */
  import(request: unknown): Promise<ImportAnswer> {
    const taken = this.#turn.then(() => this.#take(request));
    this.#turn = taken.catch(() => {});
    return taken;
  }

  /** Forgets an import that has not come to its end. */
  async close(): Promise<void> {
    await this.#turn;
    await this.#drop();
  }

  async #take(request: unknown): Promise<ImportAnswer> {
    check.fields({ index: check.wholeFrom(0), text: check.text, isLast: check.truth })(request, 'import');
    const { index, text, isLast } = request as ImportRequest; // as was checked
    this.#refuseRunning();
    if (index === 0) {
      await this.#drop();
      await rm(this.#path, { force: true });
      this.#coming = { file: await open(this.#path, 'wx', 0o600), next: 0, bytes: 0, rest: '' };
    }
    const coming = this.#coming;
    if (coming?.next !== index)
      throw new UsageError(
        `import: found piece ${index}, expected ${coming === undefined ? '0' : `0 or ${coming.next}`}: another import may be under way`,
      );
    try {
      // A piece may end within a character that takes two of JavaScript's.
      const whole = coming.rest + text;
      coming.rest = isLast ? '' : (/[\uD800-\uDBFF]$/.exec(whole)?.[0] ?? '');
      const bytes = Buffer.from(whole.slice(0, whole.length - coming.rest.length));
      coming.next += 1;
      coming.bytes += bytes.length;
      if (coming.bytes > MAX_BYTES)
        throw new UsageError(`import: the state has more than ${formatBytes(MAX_BYTES)}`);
      await coming.file.appendFile(bytes);
      if (!isLast) return {};
      return await this.#put(await readFile(this.#path, 'utf8'));
    } catch (error) {
      await this.#drop();
      throw error;
    } finally {
      if (isLast) await this.#drop();
    }
  }

  async #drop(): Promise<void> {
    const coming = this.#coming;
    this.#coming = undefined;
    if (coming === undefined) return;
    await coming.file.close();
    await rm(this.#path, { force: true });
  }

  #refuseRunning(): void {
    const { running } = this.#options.store.counts();
    if (running > 0) throw new UsageError(`nothing can be imported while jobs run: ${running} do`);
  }

  async #put(text: string): Promise<ImportAnswer> {
    const { store, machines, scripts } = this.#options;
    const state = checkStateFile(parsed(text));
    const machineCount = state.machines === undefined ? undefined : machines.check(state.machines);
    await this.#checkScripts(state);
    const { jobs, warnings } = this.#settled(state);
    await this.#checkTrees(jobs);
    this.#refuseRunning(); // one may have begun meanwhile
    // Texts first: no job may be there without its script, and one that nobody uses does no harm.
    for (const one of Object.values(state.scripts ?? {}))
      await scripts.keep(scriptBytes(one), MAX_IN_PLACE_SCRIPT_BYTES);
    const count = await store.importState({ ...state, jobs });
    if (state.machines !== undefined) await machines.replace(state.machines);
    return { jobs: count, ...(machineCount === undefined ? {} : { machines: machineCount }), warnings };
  }

  async #checkScripts({ jobs, scripts = {} }: QueueStateFile): Promise<void> {
    for (const [id, json] of Object.entries(scripts)) {
      const found = createHash('sha256').update(scriptBytes(json)).digest('hex');
      if (found !== id)
        throw new UsageError(`scripts.${id}: its text has the SHA-256 ${found}, expected that as its name`);
    }
    const known = new Set(Object.keys(scripts));
    for (const [index, { id, spec }] of jobs.entries()) {
      if (spec.script === undefined) continue;
      const { id: script, name } = spec.script;
      checkScriptName(name);
      if (known.has(script)) continue;
      await this.#options.scripts.bytes(script).catch(() => {
        throw new UsageError(
          `jobs[${index}].spec.script.id: job ${id} needs the script ${script}, expected its text in scripts`,
        );
      });
      known.add(script);
    }
  }

  /** Jobs that have ended need theirs only when they are run again. */
  async #checkTrees(jobs: readonly StateJob[]): Promise<void> {
    const isThere = new Map<string, boolean>();
    const without: QueueJobId[] = [];
    for (const { id, state, spec } of jobs) {
      if (FINAL_STATES.includes(state) || spec.treeParts.length === 0) continue;
      const key = spec.treeParts.join(' ');
      let found = isThere.get(key);
      if (found === undefined) {
        found = await this.#options.parts.tree(spec.treeParts).then(
          () => true,
          () => false,
        );
        isThere.set(key, found);
      }
      if (!found) without.push(id);
    }
    if (without.length === 0) return;
    throw new UsageError(
      `the source trees of ${idsText(without)} are not here: an export does not hold them; import it into the service that it ` +
        'comes from, or take these jobs out of it',
    );
  }

  /**
   * What the state calls running: where this service is looking for it, it stays so; elsewhere nobody can follow it, and
   * it waits again. Attempts that were made here already are not made a second time under the same number.
   */
  #settled({ service, jobs }: QueueStateFile): {
    readonly jobs: readonly StateJob[];
    readonly warnings: readonly string[];
  } {
    const { store, serviceId } = this.#options;
    const again: QueueJobId[] = [];
    const settled = jobs.map((job): StateJob => {
      const here = store.get(job.id);
      const attempt = Math.max(job.attempt, here?.attempt ?? 0);
      if (job.state !== 'running') return attempt === job.attempt ? job : { ...job, attempt };
      if (service === serviceId && here === undefined) return job;
      const { wanted, machine, machineKey, startedAt, ...rest } = job;
      if (wanted === 'killed') return { ...rest, attempt, state: 'killed', endedAt: Date.now() };
      again.push(job.id);
      return { ...rest, attempt, state: job.isHeld ? 'user-hold' : 'queued' };
    });
    const one = again.length === 1;
    const warning = `${idsText(again)} ${one ? 'was' : 'were'} running when the state was exported, and ${one ? 'waits' : 'wait'} again: if ${one ? 'it still runs' : 'they still run'} elsewhere, ${one ? 'it runs' : 'they run'} twice`;
    return { jobs: settled, warnings: again.length === 0 ? [] : [warning] };
  }
}

/** What goes through the door at once has a limit. */
function* inPieces(text: string): Generator<string, void, void> {
  for (let from = 0; from < text.length; ) {
    const end = from + PIECE_CHARACTERS;
    // A pair of surrogates is one character.
    const to = /[\uD800-\uDBFF]/.test(text[end - 1] ?? '') ? end + 1 : end;
    yield text.slice(from, to);
    from = to;
  }
}

type ScriptJson = NonNullable<QueueStateFile['scripts']>[string];

/** A text that people can edit, where the script is one. */
function scriptJson(bytes: Buffer): ScriptJson {
  const text = bytes.toString('utf8');
  return Buffer.from(text, 'utf8').equals(bytes) ? text : { base64: bytes.toString('base64') };
}

function scriptBytes(json: ScriptJson): Buffer {
  return typeof json === 'string' ? Buffer.from(json, 'utf8') : Buffer.from(json.base64, 'base64');
}

function fieldsText(fields: Readonly<Record<string, unknown>>): string {
  const lines = Object.entries(fields).map(([name, value]) => `"${name}": ${JSON.stringify(value)}`);
  return `{\n${lines.join(',\n')}`;
}

function idsText(ids: readonly QueueJobId[]): string {
  const shown = ids.slice(0, IDS_SHOWN).join(', ');
  if (ids.length === 1) return `job ${shown}`;
  return `jobs ${shown}${ids.length > IDS_SHOWN ? ` and ${ids.length - IDS_SHOWN} more` : ''}`;
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new UsageError(`the state is no JSON: ${(error as Error).message.slice(0, 300)}`);
  }
}
