/** The sjq door: a Unix socket that speaks the protocol of sjq, for its owner or a group. What is asked for is done by an `SjqQueue`. */
import { createServer, type Server, type Socket } from 'node:net';
import { resolve } from 'node:path';
import { UsageError } from '../../domain/errors.ts';
import { closedTo, type DoorGroup, findGroup } from '../door-group.ts';
import { SjqAnswerRoom } from './sjq-answer-room.ts';
import { SjqConnection, type SjqHouse } from './sjq-connection.ts';
import type { SjqQueue } from './sjq-queue.ts';
import type { SjqReaderLimits } from './sjq-reader.ts';
import { listenAt, removeSocket, type SjqSocketFile } from './sjq-socket.ts';

const MIB = 1024 * 1024;

/** What an sjq door is opened with. */
export interface SjqServerOptions extends Partial<SjqReaderLimits> {
  readonly socketPath: string;
  readonly queue: SjqQueue;
  /** A group, by name or number, whose members may use the door, and so run anything as its owner. */
  readonly group?: string;
  /** @default 2048; then the one that has been idle for longest is let go */
  readonly maxConnections?: number;
  /** What SUBMITs and lines that are not complete hold together; above that those that have stood still for longest are let go. @default 64 MiB */
  readonly maxHeldBytes?: number;
  /** Answers to STATUS that clients have not taken hold so much together, and one answer more. @default 64 MiB */
  readonly maxAnswerBytes?: number;
  /** A SUBMIT that does not go on, and an answer that is not taken, are given up after so long. @default 60_000 */
  readonly stallMs?: number;
  /** How long a client that is let go may take to read why. @default 2_000 */
  readonly lastWordsMs?: number;
  /** Hears what the owner should know, in whole sentences. */
  readonly onNote?: (note: string) => void;
}

/** What an sjq door allows unless told. */
export const SJQ_SERVER_DEFAULTS = {
  maxLineBytes: MIB,
  maxOptionsBytes: 2 * MIB,
  maxOptions: 1000,
  maxScriptBytes: 4 * MIB,
  maxDroppedBytes: 64 * MIB,
  maxConnections: 2048,
  maxHeldBytes: 64 * MIB,
  maxAnswerBytes: 64 * MIB,
  stallMs: 60_000,
  lastWordsMs: 2_000,
  onNote: () => undefined,
} as const satisfies Partial<SjqServerOptions>;

/** An sjq door, open until `close`. */
export class SjqServer implements AsyncDisposable {
  readonly socketPath: string;
  readonly #server: Server;
  readonly #house: SjqHouse;
  readonly #maxConnections: number;
  readonly #connections = new Set<SjqConnection>();
  #file: SjqSocketFile | undefined;
  #hasNoted = false;

  private constructor(server: Server, options: SjqServerOptions) {
    const filled = { ...SJQ_SERVER_DEFAULTS, ...options };
    this.socketPath = resolve(options.socketPath);
    this.#server = server;
    this.#maxConnections = filled.maxConnections;
    this.#house = {
      queue: filled.queue,
      limits: filled,
      room: new SjqAnswerRoom(filled.maxAnswerBytes),
      stallMs: filled.stallMs,
      lastWordsMs: filled.lastWordsMs,
      heldBytes: 0,
      onHeld: () => this.#limitHeld(filled.maxHeldBytes),
      onNote: filled.onNote,
    };
    server.on('connection', (socket) => this.#welcome(socket));
  }

  /**
   * Opens the door. The socket of a server that died is taken over.
   * @throws UsageError when another server answers there, and when path or group cannot be used
   */
  static async open(options: SjqServerOptions): Promise<SjqServer> {
    if (options.socketPath.includes('\0')) throw new UsageError('sjq.socket: the path has a NUL character');
    const group = options.group === undefined ? undefined : findGroup(options.group);
    const server = createServer({ allowHalfOpen: true });
    const door = new SjqServer(server, options);
    door.#file = await listenAt(server, door.socketPath, group);
    // Too many open files: the client sees its connection closed, and the next one may do better.
    server.on('error', (error) => door.#noteOnce(error));
    if (group !== undefined) door.#noteGroup(group);
    return door;
  }

  /** How many clients there are. */
  get connectionCount(): number {
    return this.#connections.size;
  }

  /** What SUBMITs and lines that are not complete hold now. */
  get heldBytes(): number {
    return this.#house.heldBytes;
  }

  /** How many clients have begun a request that is not answered yet. */
  get unfinishedCount(): number {
    return [...this.#connections].filter(({ isIdle }) => !isIdle).length;
  }

  /** Nobody comes in any more; requests under way may be answered within the time for last words. Settles when all clients are gone. */
  async close(): Promise<void> {
    if (this.#file === undefined) return;
    removeSocket(this.#file);
    this.#file = undefined;
    const closed = new Promise((settle) => this.#server.close(settle));
    for (const connection of this.#connections) connection.close();
    await closed;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #welcome(socket: Socket): void {
    const connection = new SjqConnection(socket, this.#house);
    if (this.#connections.size >= this.#maxConnections && !this.#makeRoom()) {
      connection.letGo(`${this.#maxConnections} others are connected: try again later`);
      return;
    }
    this.#connections.add(connection);
    void connection.closed.then(() => this.#connections.delete(connection));
  }

  #makeRoom(): boolean {
    const oldest = this.#longestUnused(({ isIdle }) => isIdle);
    if (oldest === undefined) return false;
    this.#connections.delete(oldest);
    oldest.letGo('too many are connected, and this one asked for nothing');
    return true;
  }

  #limitHeld(maxHeldBytes: number): void {
    while (this.#house.heldBytes > maxHeldBytes) {
      const oldest = this.#longestUnused(({ isHolding }) => isHolding);
      if (oldest === undefined) return;
      oldest.letGo('too much is being sent to the server at once, and this came to a stand: try again');
    }
  }

  #longestUnused(isMeant: (connection: SjqConnection) => boolean): SjqConnection | undefined {
    let found: SjqConnection | undefined;
    for (const one of this.#connections)
      if (isMeant(one) && (found === undefined || one.usedAt < found.usedAt)) found = one;
    return found;
  }

  #noteOnce(error: Error): void {
    if (this.#hasNoted) return;
    this.#hasNoted = true;
    this.#house.onNote(`Clients cannot connect to ${this.socketPath}: ${error.message}.`);
  }

  #noteGroup(group: DoorGroup): void {
    const { onNote } = this.#house;
    onNote(`Everybody in the group '${group.name}' can run anything as you, through ${this.socketPath}.`);
    const closed = closedTo(group, this.socketPath);
    if (closed !== undefined)
      onNote(
        `The group '${group.name}' cannot get through ${closed}: open it, or choose another sjq.socket.`,
      );
  }
}
