/** `export` and `import`: the whole state as JSON. */
import { randomBytes } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { open, rename, rm } from 'node:fs/promises';
import { UsageError } from '../../lib/domain/errors.ts';
import type { ImportAnswer, ImportRequest } from '../../lib/queue/requests.ts';
import { answer, rowsOf } from './door.ts';
import { type Surroundings, subcommand } from './subcommand.ts';
import { noMoreWords, quoted } from './words.ts';

/** As JSON, a piece may be six times as long. */
const PIECE_BYTES = 1024 * 1024;

interface StateText {
  readonly text: string;
}

async function exportState(
  { file }: { readonly file?: string },
  { door, outs }: Surroundings,
): Promise<number> {
  const pieces = rowsOf<StateText>(await door(), 'export', {}, { text: 'string' });
  if (file === undefined) {
    for await (const { text } of pieces) {
      outs.stdout.write(text);
      await outs.stdout.ready();
    }
    return 0;
  }
  // Beside it first: what stands there is good until the new text is whole.
  const fresh = `${file}.${process.pid}-${randomBytes(4).toString('hex')}`;
  try {
    const handle = await open(fresh, 'wx', 0o600); // variables of jobs may be secrets
    try {
      for await (const { text } of pieces) await handle.write(text);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(fresh, file);
  } catch (error) {
    await rm(fresh, { force: true }).catch(() => undefined);
    if ((error as NodeJS.ErrnoException).syscall === undefined) throw error;
    throw new UsageError(`cannot write ${quoted(file)}: ${(error as Error).message}`);
  }
  return 0;
}

async function importState(
  { file }: { readonly file: string },
  { door, print, warn }: Surroundings,
): Promise<number> {
  const pieces = textPieces(file);
  // A file that cannot be read is said before the service is asked.
  let next = await pieces.next();
  const client = await door();
  for (let index = 0; ; index++) {
    const isLast = next.done === true;
    const request: ImportRequest = { index, text: next.done === true ? '' : next.value, isLast };
    const reply = await client.call('import', request);
    if (isLast) {
      const { jobs = 0, machines, warnings = [] } = answer<ImportAnswer>(reply, {}, 'import');
      const counts = [
        countText(jobs, 'job'),
        ...(machines === undefined ? [] : [countText(machines, 'machine')]),
      ];
      print(`imported: ${counts.join(', ')}`);
      for (const warning of warnings) warn(warning);
      return 0;
    }
    next = await pieces.next();
  }
}

function countText(count: number, what: string): string {
  return `${count} ${what}${count === 1 ? '' : 's'}`;
}

/** A file's text in pieces that end with a character. @throws UsageError */
async function* textPieces(file: string): AsyncGenerator<string, void, void> {
  const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: false });
  try {
    for await (const chunk of createReadStream(file, { highWaterMark: PIECE_BYTES }))
      yield decoder.decode(chunk as Buffer, { stream: true });
    yield decoder.decode();
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    const reason =
      code === 'ENOENT'
        ? 'there is no such file'
        : code === 'ERR_ENCODING_INVALID_ENCODED_DATA'
          ? 'it is not UTF-8'
          : message;
    throw new UsageError(
      `cannot read the state ${quoted(file)}: ${reason}; expected what job_queue export wrote`,
    );
  }
}

export const COMMANDS = {
  export: subcommand({
    name: 'export',
    help: `job_queue export [FILE]

Writes the whole state as JSON, to standard output or to FILE. It may be edited by hand. The variables of
jobs are in it.

Example: job_queue export queue.json
`,
    flags: {},
    read: ({ words }) => {
      noMoreWords(words, 1, 'job_queue export [FILE]');
      const [file] = words;
      if (file === '') throw new UsageError('FILE is empty: expected job_queue export [FILE]');
      return file === undefined ? {} : { file };
    },
    run: exportState,
  }),
  import: subcommand({
    name: 'import',
    help: `job_queue import FILE

Replaces the whole state by what export wrote. It is checked first: a mistake is said with its place, and changes
nothing.

Example: job_queue import queue.json
`,
    flags: {},
    read: ({ words }) => {
      noMoreWords(words, 1, 'job_queue import FILE');
      const [file = ''] = words;
      if (file === '') throw new UsageError('no file is named: expected job_queue import FILE');
      return { file };
    },
    run: importState,
  }),
} as const;
