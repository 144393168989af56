/** `--verbose`: what the jobs print, line by line as it comes, each line with its job's name before it. */
import { StringDecoder } from 'node:string_decoder';
import type { SchedulerEvent } from '../../lib/domain/events.ts';
import type { Job } from '../../lib/domain/job.ts';
import { visibleText } from '../../lib/util/terminal-text.ts';
import type { TextOut } from './text-out.ts';

// A job that never ends its line must not fill our memory.
const LINE_LIMIT = 16 * 1024;

interface Pending {
  readonly decoder: StringDecoder;
  text: string;
}

/** Prefixes lines. Output to stdout goes to stdout, output to stderr to stderr. */
export class LiveOutput {
  readonly #outs: Readonly<Record<'out' | 'err', TextOut>>;
  readonly #pending = new Map<string, Pending>();

  constructor(stdout: TextOut, stderr: TextOut) {
    this.#outs = { out: stdout, err: stderr };
  }

  /** Takes bytes as they come, split anywhere. */
  write(job: Pick<Job, 'name'>, stream: 'out' | 'err', chunk: Buffer): void {
    const key = `${stream} ${job.name}`;
    const pending = this.#pending.get(key) ?? { decoder: new StringDecoder('utf8'), text: '' };
    this.#pending.set(key, pending);
    const lines = (pending.text + pending.decoder.write(chunk)).split('\n');
    pending.text = lines.pop() ?? '';
    if (pending.text.length > LINE_LIMIT) lines.push(pending.text.slice(0, LINE_LIMIT));
    if (pending.text.length > LINE_LIMIT) pending.text = pending.text.slice(LINE_LIMIT);
    if (lines.length > 0) this.#print(job.name, stream, lines);
  }

  /** Prints a last line without its newline when its job has ended. */
  report(event: SchedulerEvent): void {
    if (event.type !== 'job:ended') return;
    for (const stream of ['out', 'err'] as const) {
      const key = `${stream} ${event.name}`;
      const pending = this.#pending.get(key);
      this.#pending.delete(key);
      if (pending !== undefined && pending.text !== '') this.#print(event.name, stream, [pending.text]);
    }
  }

  #print(name: string, stream: 'out' | 'err', lines: readonly string[]): void {
    const prefix = visibleText(name);
    this.#outs[stream].write(
      lines.map((line) => `${prefix}: ${visibleText(line.replace(/\r$/, ''))}\n`).join(''),
    );
  }
}
