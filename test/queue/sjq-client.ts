/** For tests of the sjq door of a service: one who knows the protocol and nothing else. */
import { expect } from 'vitest';
import { until } from '../rig/until.ts';
import { RawClient } from './sjq-rig.ts';

/** A client that does what the document says. */
export class SjqClient implements Disposable {
  readonly raw: RawClient;

  private constructor(raw: RawClient) {
    this.raw = raw;
  }

  static async connect(path: string): Promise<SjqClient> {
    return new SjqClient(await RawClient.connect(path));
  }

  /** Sends a line; returns the line that is answered, without its CRLF. */
  async ask(line: string): Promise<string> {
    return await this.raw.ask(`${line}\r\n`);
  }

  async submit(script: string | Buffer, options: readonly string[] = []): Promise<string> {
    const lines = ['SUBMIT', ...options, `SRC ${Buffer.byteLength(script)}`];
    this.raw.send(lines.map((line) => `${line}\r\n`).join(''));
    return await this.raw.ask(script);
  }

  /** Submits what has no mistake; returns its id. */
  async job(script: string | Buffer, options: readonly string[] = []): Promise<number> {
    const answer = await this.submit(script, options);
    expect(answer).toMatch(/^OK \d+$/);
    return Number(answer.slice(3));
  }

  async status(id: number | '' = ''): Promise<string> {
    const head = await this.ask(`STATUS${id === '' ? '' : ` ${id}`}`);
    const [, count] = /^OK (\d+)$/.exec(head) ?? [];
    expect(count, head).toBeDefined();
    return (await this.raw.bytes(Number(count))).toString();
  }

  async state(id: number): Promise<string> {
    return (await this.status(id)).split('\t')[2] ?? '';
  }

  /** Waits until a job has this letter. */
  async reaches(id: number, letter: string): Promise<void> {
    let state = '';
    await until(
      async () => {
        state = await this.state(id);
        return state === letter;
      },
      { deadlineMs: 20_000, describe: () => `job ${id}: ${state}` },
    );
  }

  /** Waits until the server has closed the connection. */
  async closed(): Promise<void> {
    await until(() => this.raw.hasEnded, { deadlineMs: 15_000 });
  }

  [Symbol.dispose](): void {
    this.raw[Symbol.dispose]();
  }
}
