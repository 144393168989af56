/** The door of the service: a Unix socket, through which its owner, or a group, asks it for things. Never a TCP port. */

import { once } from 'node:events';
import { chmodSync, chownSync, realpathSync, rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { UsageError } from '../domain/errors.ts';
import { isSocketLive } from '../util/live-socket.ts';
import { DoorConnection, type DoorHouse, type Verb } from './door-connection.ts';
import { closedTo, type DoorGroup, findGroup } from './door-group.ts';
import { announceDoor, factsOf, prepareDoor, removeDoor } from './door-place.ts';
import { DoorError } from './door-protocol.ts';

/** What a door is opened with. */
export interface DoorServerOptions {
  /** The data folder, which this process has taken: its lock keeps two services apart. */
  readonly dataFolder: string;
  readonly verbs: { readonly [verb: string]: Verb };
  /** A group whose members may use the door, and so run anything as its owner. */
  readonly group?: string;
  /** @default 256; then the one that has been idle for longest is let go */
  readonly maxConnections?: number;
  /** Requests of one connection that may be under way. @default 64 */
  readonly maxRequests?: number;
  /** What incomplete lines and requests under way may hold together. @default 256 MiB */
  readonly maxHeldBytes?: number;
}

const defaults = { maxConnections: 256, maxRequests: 64, maxHeldBytes: 256 * 1024 * 1024 } as const;
const BACKLOG = 511;

/** A service's door, open until `close`. */
export class DoorServer implements AsyncDisposable {
  readonly socketPath: string;
  /** What its owner should know, in whole sentences. */
  readonly notes: readonly string[];
  readonly #dataFolder: string;
  readonly #server: Server;
  readonly #house: DoorHouse;
  readonly #maxConnections: number;
  readonly #connections = new Set<DoorConnection>();
  #count = 0;
  #isClosed = false;

  private constructor(
    place: { readonly dataFolder: string; readonly socketPath: string; readonly notes: readonly string[] },
    server: Server,
    options: DoorServerOptions,
  ) {
    const filled = { ...defaults, ...options };
    this.#dataFolder = place.dataFolder;
    this.socketPath = place.socketPath;
    this.notes = place.notes;
    this.#server = server;
    this.#maxConnections = filled.maxConnections;
    this.#house = {
      verbs: filled.verbs,
      maxRequests: filled.maxRequests,
      maxHeldBytes: filled.maxHeldBytes,
      heldBytes: 0,
    };
    // Too many open files: the client sees its connection closed, and the next one may do better.
    server.on('error', () => undefined);
    server.on('connection', (socket) => this.#welcome(socket));
  }

  /**
   * Opens the door in a data folder. The socket of a service that died is taken over.
   * @throws UsageError when a service answers there, and when socket, folder or group cannot be used
   */
  static async open(options: DoorServerOptions): Promise<DoorServer> {
    const dataFolder = realpathSync(options.dataFolder);
    const group = options.group === undefined ? undefined : findGroup(options.group);
    const { socketPath, formerPaths } = prepareDoor(dataFolder, group);
    for (const path of [socketPath, ...formerPaths]) await removeDead(path, dataFolder);
    const server = createServer();
    try {
      server.listen({ path: socketPath, backlog: BACKLOG });
      await once(server, 'listening');
    } catch (error) {
      throw new UsageError(`cannot open the door at ${socketPath}: ${(error as Error).message}`);
    }
    const place = { dataFolder, socketPath, notes: group === undefined ? [] : groupNotes(group, socketPath) };
    const door = new DoorServer(place, server, options);
    try {
      if (group !== undefined) chownSync(socketPath, process.getuid?.() ?? 0, group.id);
      chmodSync(socketPath, group === undefined ? 0o600 : 0o660);
      announceDoor(dataFolder, socketPath, group);
    } catch (error) {
      await door.close();
      throw error;
    }
    return door;
  }

  /** How many clients there are. */
  get connectionCount(): number {
    return this.#connections.size;
  }

  /** Nobody comes in any more; requests under way are aborted and told so. Settles when all clients are gone. */
  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    removeDoor(this.#dataFolder, this.socketPath);
    const closed = new Promise((resolve) => this.#server.close(resolve));
    for (const connection of this.#connections) connection.end(new DoorError('closing', 'the service stops'));
    await closed;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #welcome(socket: Socket): void {
    const connection = new DoorConnection(socket, ++this.#count, this.#house);
    if (this.#isClosed) {
      connection.end(new DoorError('closing', 'the service stops'));
      return;
    }
    if (this.#connections.size >= this.#maxConnections && !this.#makeRoom()) {
      connection.end(
        new DoorError('busy', `${this.#maxConnections} others are connected to the service: try again later`),
      );
      return;
    }
    this.#connections.add(connection);
    void connection.closed.then(() => this.#connections.delete(connection));
  }

  /** Lets go whoever has asked for nothing for longest. */
  #makeRoom(): boolean {
    const idle = [...this.#connections].filter((connection) => connection.isIdle);
    const oldest = idle.reduce<DoorConnection | undefined>(
      (found, one) => (found === undefined || one.usedAt < found.usedAt ? one : found),
      undefined,
    );
    if (oldest === undefined) return false;
    this.#connections.delete(oldest);
    oldest.end(
      new DoorError('busy', 'too many are connected to the service, and this one asked for nothing'),
    );
    return true;
  }
}

/** Removes a socket that nobody listens at. @throws UsageError when somebody does, or it is something else */
async function removeDead(path: string, dataFolder: string): Promise<void> {
  const facts = factsOf(path);
  if (facts === undefined) return;
  if (facts.kind !== 'socket' || facts.uid !== process.getuid?.())
    throw new UsageError(`${path} is no socket of yours: remove it, the door of ${dataFolder} goes there`);
  if (await isSocketLive(path))
    throw new UsageError(`a service already answers on ${dataFolder}: job_queue stop ends it`);
  rmSync(path, { force: true });
}

function groupNotes(group: DoorGroup, socketPath: string): readonly string[] {
  const notes = [`Everybody in the group '${group.name}' can run anything as you, through ${socketPath}.`];
  const closed = closedTo(group, socketPath);
  if (closed !== undefined)
    notes.push(
      `The group '${group.name}' cannot get through ${closed}: choose a data folder where it can, or open that folder.`,
    );
  return notes;
}
