/** The last line in files that grow: what a job printed last. */
import { stat } from 'node:fs/promises';
import { withPlainFile } from './plain-file.ts';
import { withTimeLimit } from './time-limit.ts';

const TAIL_BYTES = 4096;
const MOST_CHARACTERS = 500;

/**
 * The last line that is not blank, of the file that changed last; where that has none, of the one before. A progress bar,
 * which writes over its own line, counts as it stands. At most 500 characters, looked for in the last 4 KiB of each file.
 * Undefined when there is none: no file, one that may not be read, a pipe, a device. Never rejects.
 */
export async function lastLine(paths: readonly string[]): Promise<string | undefined> {
  const files = (await Promise.all(paths.map(changedAt))).filter((file) => file !== undefined);
  files.sort((one, other) => other.at - one.at);
  for (const { path } of files) {
    const line = lastLineOf(await tailOf(path));
    if (line !== undefined) return line;
  }
  return undefined;
}

async function changedAt(path: string): Promise<{ readonly path: string; readonly at: number } | undefined> {
  const facts = await stat(path).catch(() => undefined);
  // Even to open a pipe or a device would be noticed there.
  return facts?.isFile() === true ? { path, at: facts.mtimeMs } : undefined;
}

async function tailOf(path: string): Promise<Buffer> {
  const tail = withPlainFile(path, async (file) => {
    const from = Math.max(0, (await file.stat()).size - TAIL_BYTES);
    const { buffer, bytesRead } = await file.read(Buffer.alloc(TAIL_BYTES), 0, TAIL_BYTES, from);
    const bytes = buffer.subarray(0, bytesRead);
    return from === 0 ? bytes : bytes.subarray(bytes.findIndex((byte) => (byte & 0xc0) !== 0x80));
  });
  return (await tail.catch(() => undefined)) ?? Buffer.alloc(0);
}

function lastLineOf(tail: Buffer): string | undefined {
  // The last character may be there in part only: told that more may come, the decoder keeps it back.
  const text = new TextDecoder().decode(tail, { stream: true });
  const line = text.split(/[\r\n]/).findLast((part) => part.trim() !== '');
  return line === undefined ? undefined : [...line.trimEnd()].slice(0, MOST_CHARACTERS).join('');
}

/** Reads last lines again and again, also where a disk may hang. */
export class LastLines {
  readonly #limitMs: number;
  readonly #underWay = new Map<string, Promise<string | undefined>>();

  /** `limitMs`: files on a network disk may not answer; longer than that nobody waits for them. */
  constructor(limitMs = 1000) {
    this.#limitMs = limitMs;
  }

  /** As `lastLine`; undefined also when it does not come in time. Never rejects. */
  async of(paths: readonly string[]): Promise<string | undefined> {
    const key = paths.join('\0');
    let reading = this.#underWay.get(key);
    if (reading === undefined) {
      // One that hangs is not asked for once more with each look.
      reading = lastLine(paths).finally(() => this.#underWay.delete(key));
      this.#underWay.set(key, reading);
    }
    return await withTimeLimit(reading, this.#limitMs, () => new Error('too late')).catch(() => undefined);
  }
}
