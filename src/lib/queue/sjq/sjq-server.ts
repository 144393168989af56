/** The sjq door: a Unix socket that speaks the protocol of sjq, for its owner or a group. What is asked for is done by an `SjqQueue`. */
import { createServer, type Server, type Socket } from 'node:net';
import { resolve } from 'node:path';
import { UsageError } from '../../domain/errors.ts';
import { closedTo, type DoorGroup, findGroup } from '../door-group.ts';
import { SjqAnswerRoom } from './sjq-answer-room.ts';
import { SjqConnection, type SjqHouse } from './sjq-connection.ts';
import { clientsThatFit } from './sjq-descriptors.ts';
import { SjqIntake } from './sjq-intake.ts';
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
  /**
   * Then the one is let go that has been idle for longest; when none is, the one whose SUBMIT has stood still for longest.
   * @default 2048, or as many as leave the process 256 file descriptors, at least 16
   */
  readonly maxConnections?: number;
  /** Above what SUBMITs and lines that are not complete hold together so, they are read one after the other. @default 64 MiB */
  readonly maxHeldBytes?: number;
  /** Answers to STATUS that clients have not taken hold so much together, and one answer more. @default 64 MiB */
  readonly maxAnswerBytes?: number;
  /** While others wait for it, a SUBMIT is let go of which nothing came for so long. @default 5_000 */
  readonly sendGraceMs?: number;
  /** The same for a client that takes nothing of its answer. @default 2_000 */
  readonly takeGraceMs?: number;
  /** While others wait for it, whoever sends or takes less than this within `leastMs` is let go. @default 64 KiB */
  readonly leastBytes?: number;
  /** @default 10_000 */
  readonly leastMs?: number;
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
  maxHeldBytes: 64 * MIB,
  maxAnswerBytes: 64 * MIB,
  sendGraceMs: 5_000,
  takeGraceMs: 2_000,
  leastBytes: 64 * 1024,
  leastMs: 10_000,
  stallMs: 60_000,
  lastWordsMs: 2_000,
  onNote: () => undefined,
} as const satisfies Partial<SjqServerOptions>;

/** So many that were let go may still read why. */
const MOST_LEAVING = 128;
const MOMENT_MS = 1000;

/** An sjq door, open until `close`. */
export class SjqServer implements AsyncDisposable {
  readonly socketPath: string;
  readonly #server: Server;
  readonly #house: SjqHouse;
  readonly #maxConnections: number;
  readonly #takeGraceMs: number;
  readonly #connections = new Set<SjqConnection>();
  /** Let go, and still to read why. */
  readonly #leaving = new Set<SjqConnection>();
  #file: SjqSocketFile | undefined;
  #hasNoted = false;

  private constructor(server: Server, options: SjqServerOptions) {
    const filled = { ...SJQ_SERVER_DEFAULTS, ...options };
    this.socketPath = resolve(options.socketPath);
    this.#server = server;
    this.#maxConnections = filled.maxConnections ?? clientsThatFit();
    this.#takeGraceMs = filled.takeGraceMs;
    const { sendGraceMs, takeGraceMs, leastBytes, leastMs } = filled;
    const sendPace = { graceMs: sendGraceMs, leastBytes, leastMs };
    const takePace = { graceMs: takeGraceMs, leastBytes, leastMs };
    this.#house = {
      queue: filled.queue,
      limits: filled,
      room: new SjqAnswerRoom(() => filled.queue.status(), filled.maxAnswerBytes, takePace),
      intake: new SjqIntake(filled.maxHeldBytes, sendPace),
      sendPace,
      stallMs: filled.stallMs,
      lastWordsMs: filled.lastWordsMs,
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
    return this.#house.intake.heldBytes;
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
      this.#dismiss(connection, `${this.#maxConnections} others are connected: try again later`);
      return;
    }
    this.#connections.add(connection);
    void connection.closed.then(() => this.#connections.delete(connection));
  }

  /** One that did something a moment ago goes last. */
  #makeRoom(): boolean {
    const now = performance.now();
    const idle = this.#longestUnused(({ isIdle, isSending }) => isIdle && !isSending);
    const sending = this.#longestUnused(({ isSending }) => isSending);
    const reading = this.#longestUnused(({ isReading }) => isReading);
    const isStill = (one: SjqConnection | undefined, ms: number) =>
      one !== undefined && one.usedAt + ms <= now;
    const found = [idle, sending].find((one) => isStill(one, MOMENT_MS));
    if (found === undefined && isStill(reading, this.#takeGraceMs)) {
      if (reading !== undefined) this.#connections.delete(reading);
      reading?.destroy();
      return true;
    }
    const chosen = found ?? idle ?? sending;
    if (chosen === undefined) return false;
    const why = chosen === idle ? 'asked for nothing' : 'did not go on';
    this.#dismiss(chosen, `too many are connected, and this one ${why}`);
    return true;
  }

  #dismiss(connection: SjqConnection, reason: string): void {
    this.#connections.delete(connection);
    this.#leaving.add(connection);
    void connection.closed.then(() => this.#leaving.delete(connection));
    connection.letGo(reason);
    // Those take file descriptors, too.
    const [first] = this.#leaving;
    if (this.#leaving.size > Math.min(MOST_LEAVING, this.#maxConnections)) first?.destroy();
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
