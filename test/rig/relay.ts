/** A TCP relay in front of a server: adds delay, and can go silent, for hosts whose network the rig cannot control. */

import { once } from 'node:events';
import { connect, createServer, type Server, type Socket } from 'node:net';

/** Bytes that may be on their way in one direction before the sender is held up. */
const MAX_IN_FLIGHT_BYTES = 16 * 1024 * 1024;

/** Where a relay listens, where it leads, and how slow it is. */
export interface RelayOptions {
  readonly listenAddress: string;
  readonly target: { readonly address: string; readonly port: number };
  /** One-way delay in milliseconds; a round trip takes twice this. @default 0 */
  readonly delayMs?: number;
}

/** One listening relay. While cut it accepts connections and data as before, but nothing passes and nobody is told. */
export class Relay {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  readonly #waiting = new Set<() => void>();
  #isCut = false;

  private constructor(private readonly options: RelayOptions) {
    this.#server = createServer((client) => this.#join(client));
    this.#server.unref();
  }

  static async listen(options: RelayOptions): Promise<Relay> {
    const relay = new Relay(options);
    relay.#server.listen(0, options.listenAddress);
    await once(relay.#server, 'listening');
    return relay;
  }

  get port(): number {
    const address = this.#server.address();
    if (address === null || typeof address === 'string') throw new Error('Internal error: relay has no port');
    return address.port;
  }

  /** Nothing passes any more, in either direction; no connection is closed. */
  cut(): void {
    this.#isCut = true;
  }

  /** All that waited passes now, in order. */
  heal(): void {
    this.#isCut = false;
    const waiting = [...this.#waiting];
    this.#waiting.clear();
    for (const pass of waiting) pass();
  }

  close(): void {
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
  }

  #join(client: Socket): void {
    const { target, delayMs = 0 } = this.options;
    this.#own(client);
    // The handshake of a real connection crosses the network twice before the server sees it.
    this.#later(2 * delayMs, () => {
      const server = connect({ host: target.address, port: target.port });
      this.#own(server);
      this.#pass(client, server);
      this.#pass(server, client);
    });
  }

  #own(socket: Socket): void {
    this.#sockets.add(socket);
    socket.setNoDelay(true);
    socket.on('error', () => {}); // followed by `close`, where it is handled
    socket.on('close', () => this.#sockets.delete(socket));
  }

  #pass(from: Socket, to: Socket): void {
    const { delayMs = 0 } = this.options;
    let inFlightBytes = 0;
    from.on('data', (chunk: Buffer) => {
      inFlightBytes += chunk.length;
      if (inFlightBytes > MAX_IN_FLIGHT_BYTES) from.pause();
      this.#later(delayMs, () => {
        if (to.destroyed) return;
        to.write(chunk, () => {
          inFlightBytes -= chunk.length;
          from.resume();
        });
      });
    });
    from.on('end', () => this.#later(delayMs, () => to.end()));
    from.on('close', (hadError) => {
      if (hadError) this.#later(delayMs, () => to.resetAndDestroy());
    });
  }

  /** Timers of equal length fire in the order they were set, which keeps the bytes in order. */
  #later(delayMs: number, pass: () => void): void {
    const whenDue = () => {
      if (this.#isCut) this.#waiting.add(pass);
      else pass();
    };
    if (delayMs === 0) whenDue();
    else setTimeout(whenDue, delayMs).unref();
  }
}
