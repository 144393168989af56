/** What a machine tells of a fetch besides the archive: what failed, what is missing, what the job deleted. */
import { cutToWidth, visibleText } from '../util/terminal-text.ts';

/** The beginning and the end of a text whose length is unknown. */
export class Ends {
  #first = Buffer.alloc(0);
  #last = Buffer.alloc(0);

  take(chunk: Buffer): void {
    if (this.#first.length < 65_536) this.#first = Buffer.concat([this.#first, chunk]);
    else this.#last = Buffer.concat([this.#last, chunk]).subarray(-1024);
  }

  text(): string {
    return Buffer.concat([this.#first, this.#last]).toString('utf8');
  }
}

/** What `fetch_home` told. */
export interface FetchReport {
  /** What tar or find could not do there. */
  readonly problem: string | undefined;
  /** SHA-256 in hex; undefined where the machine cannot tell it. */
  readonly sum: string | undefined;
  readonly missing: readonly number[];
  readonly leftOut: readonly string[];
}

const PROBLEMS_SHOWN = 3;
/** tar has a line for each of a hundred thousand files that it cannot read. */
export const COMPLAINTS_LIMIT_BYTES = 64 * 1024 * 1024;

/** Reads what `fetch_home` told. Only the last two lines are surely its own: names may hold newlines. */
export function readReport(text: string): FetchReport {
  const lines = text.replace(/\n+$/, '').split('\n');
  const sumLine = lines.at(-1) ?? '';
  const sum = /(?:^|[ =])([0-9a-f]{64})(?: |$)/.exec(sumLine)?.[1];
  const exit = /^exit (\d+)$/.exec(lines.at(-2) ?? '')?.[1];
  const isDone = exit === '0' && (sum !== undefined || sumLine === 'none') && !lines.includes('unlisted');
  const complaints = lines
    .slice(0, exit === undefined ? undefined : -2)
    .filter(
      (line) =>
        !/^(missing \d+|left-out .*|unlisted|)$|Removing leading|Exiting with failure|error exit delayed/.test(
          line,
        ),
    )
    .map((line) => cutToWidth(visibleText(line.replace(/^(tar|find|xargs): /, '')), 300));
  const more = complaints.length - PROBLEMS_SHOWN;
  const shown = complaints.slice(0, PROBLEMS_SHOWN).join('; ') + (more > 0 ? `; and ${more} more` : '');
  return {
    problem: isDone ? undefined : `there: ${shown || `tar ended with ${exit ?? 'no exit code'}`}`,
    sum,
    missing: lines.flatMap((line) => /^missing (\d{1,6})$/.exec(line)?.[1] ?? []).map(Number),
    leftOut: [...new Set(lines.flatMap((line) => /^left-out (.*)$/.exec(line)?.[1] ?? []))],
  };
}

/** What people should know of a fetch that succeeded, a line each. */
export function warningsOf(
  paths: readonly string[] | 'changed',
  { missing, leftOut, sum }: FetchReport,
): string[] {
  const warnings = missing.map((number) => {
    const path = paths[number] ?? '?';
    const where = path.startsWith('/') ? 'on the machine' : "in the job's folder";
    return `--copy-backwards: ${visibleText(path)} does not exist ${where}`;
  });
  for (const name of leftOut.slice(0, 10))
    warnings.push(
      `--copy-backwards: ${visibleText(name.replace(/^\.\//, ''))} is a socket, a FIFO or a device and stays`,
    );
  if (leftOut.length > 10) warnings.push(`--copy-backwards: and ${leftOut.length - 10} more such files stay`);
  if (sum === undefined)
    warnings.push('the results were checked by size only: there is no sha256sum, shasum or openssl there');
  return warnings;
}

/** So much of the list of deletions is asked for. */
export const DELETED_LIMIT_BYTES = 4 * 1024 * 1024;
const DELETED_LIMIT = 10_000;

/** Takes the list of what is gone. */
export class DeletedPaths {
  readonly #chunks: Buffer[] = [];
  #bytes = 0;

  take(chunk: Buffer): void {
    this.#chunks.push(Buffer.from(chunk));
    this.#bytes += chunk.length;
  }

  paths(): readonly string[] {
    return this.#all().slice(0, DELETED_LIMIT);
  }

  warnings(): readonly string[] {
    const isCut = this.#bytes >= DELETED_LIMIT_BYTES || this.#all().length > DELETED_LIMIT;
    return isCut
      ? [`the job deleted more than the ${this.paths().length} paths that the manifest lists`]
      : [];
  }

  #all(): string[] {
    const names = Buffer.concat(this.#chunks).toString('utf8').split('\0');
    names.pop(); // behind the last NUL stands nothing, or a name that was cut off
    return names.map((name) => visibleText(name.replace(/^\.\//, '')));
  }
}
