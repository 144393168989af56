/**
 * A link of the bench's own in front of a server: a TCP proxy on loopback that counts bytes and holds each direction up
 * by a fixed time, without limiting its rate. A process of its own, so that what is measured does not share its core's
 * time with it more than it has to, and so that it never waits behind the event loop of either end.
 */
import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';
import type { Readable, Writable } from 'node:stream';
import { fileURLToPath, pathToFileURL } from 'node:url';

/** Bytes that may be on their way in one direction: 1 GiB/s over 32 ms. */
const MOST_ON_THE_WAY_BYTES = 32 * 1024 * 1024;

/** What crossed a link so far, of all its connections. */
export interface LinkTraffic {
  /** From the clients to the server. */
  readonly upBytes: number;
  readonly downBytes: number;
}

/** A running link. Ends with `close`, or with the process that opened it. */
export class FarLink implements AsyncDisposable {
  readonly #process: ChildProcessByStdio<Writable, Readable, null>;
  readonly #lines: AsyncIterator<string>;

  /** Starts a link to a server; `delayMs` is one way, a round trip takes twice that. */
  static async open(target: { address: string; port: number }, delayMs: number): Promise<FarLink> {
    const child = spawn(
      process.execPath,
      [
        '--import',
        import.meta.resolve('tsx'),
        fileURLToPath(import.meta.url),
        target.address,
        `${target.port}`,
        `${delayMs}`,
      ],
      { stdio: ['pipe', 'pipe', 'inherit'] },
    );
    child.stdin.on('error', () => {}); // it may end first, which the next answer shows
    const lines = linesOf(child.stdout);
    const { value } = (await lines.next()) as IteratorResult<string, undefined>;
    if (value === undefined) throw new Error('the link of the bench does not start');
    return new FarLink(child, lines, Number(value));
  }

  private constructor(
    child: ChildProcessByStdio<Writable, Readable, null>,
    lines: AsyncIterator<string>,
    /** Where it listens, on 127.0.0.1. */
    readonly port: number,
  ) {
    this.#process = child;
    this.#lines = lines;
  }

  /** Asks what crossed it so far. */
  async traffic(): Promise<LinkTraffic> {
    this.#process.stdin.write('\n');
    const { value } = (await this.#lines.next()) as IteratorResult<string, undefined>;
    const [upBytes = Number.NaN, downBytes = Number.NaN] = (value ?? '').split(' ').map(Number);
    return { upBytes, downBytes };
  }

  async close(): Promise<void> {
    if (this.#process.exitCode !== null || this.#process.signalCode !== null) return;
    const ended = once(this.#process, 'exit');
    this.#process.stdin.end();
    await ended;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

async function* linesOf(stream: Readable): AsyncGenerator<string, undefined> {
  let text = '';
  for await (const chunk of stream) {
    text += String(chunk);
    for (let end = text.indexOf('\n'); end >= 0; end = text.indexOf('\n')) {
      yield text.slice(0, end);
      text = text.slice(end + 1);
    }
  }
}

/** The process: says its port, then for each line on its input what crossed; ends with its input. */
function serve(address: string, port: number, delayMs: number): void {
  const traffic = { upBytes: 0, downBytes: 0 };
  const server = createServer({ allowHalfOpen: true, noDelay: true }, (client) => {
    client.on('error', () => {}); // `close` follows
    // The handshake of a far connection crosses the link twice before the server sees it.
    setTimeout(() => {
      const far = connect({ host: address, port, allowHalfOpen: true, noDelay: true });
      far.on('error', () => {});
      carry(client, far, delayMs, (bytes) => {
        traffic.upBytes += bytes;
      });
      carry(far, client, delayMs, (bytes) => {
        traffic.downBytes += bytes;
      });
    }, 2 * delayMs);
  });
  server.listen(0, '127.0.0.1', () => {
    const at = server.address();
    console.log(at === null || typeof at === 'string' ? '' : at.port);
  });
  process.stdin.on('data', () => console.log(`${traffic.upBytes} ${traffic.downBytes}`));
  process.stdin.on('end', () => process.exit());
}

/** Passes on what comes, each piece so long after it came, in order. */
function carry(from: Socket, to: Socket, delayMs: number, count: (bytes: number) => void): void {
  const waiting: { readonly due: number; readonly chunk: Buffer | 'end' }[] = [];
  let onTheWay = 0;
  let isTimed = false;
  // One timer for the oldest piece: order does not depend on timers, and a timer that comes late delays nothing twice.
  const pass = () => {
    isTimed = false;
    for (
      let next = waiting[0];
      next !== undefined && next.due <= performance.now() + 0.5;
      next = waiting[0]
    ) {
      waiting.shift();
      if (to.destroyed) continue;
      const { chunk } = next;
      if (chunk === 'end') to.end();
      else
        to.write(chunk, () => {
          onTheWay -= chunk.length;
          if (onTheWay < MOST_ON_THE_WAY_BYTES) from.resume();
        });
    }
    const [next] = waiting;
    if (next !== undefined) passAfter(next.due - performance.now());
  };
  const passAfter = (milliseconds: number) => {
    if (isTimed) return;
    isTimed = true;
    setTimeout(pass, milliseconds);
  };
  const later = (chunk: Buffer | 'end') => {
    waiting.push({ due: performance.now() + delayMs, chunk });
    if (delayMs === 0) pass();
    else passAfter(delayMs);
  };
  from.on('data', (chunk: Buffer) => {
    count(chunk.length);
    onTheWay += chunk.length;
    if (onTheWay >= MOST_ON_THE_WAY_BYTES) from.pause();
    later(chunk);
  });
  from.on('end', () => later('end'));
  from.on('close', (hadError) => {
    if (hadError) to.destroy();
  });
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const [address = '', port = '', delayMs = ''] = process.argv.slice(2);
  serve(address, Number(port), Number(delayMs));
}
