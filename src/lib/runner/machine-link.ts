/**
 * The lasting tie to one machine: keeps a session open and makes a new one when the connection goes, without the jobs
 * there noticing.
 *
 *     connecting -> up -> away -> (backoff) -> up ... -> closed
 *
 * When a new session is up, every attempt under way is adopted by its supervisor, so that no start or end is missed.
 */
import { RemoteError } from '../domain/errors.ts';
import type { MachineName } from '../domain/machine.ts';
import type { RemoteHost } from '../remote/remote-host.ts';
import { MachineSession, type SessionOptions } from './machine-session.ts';
import type { AttemptPlace, AttemptReport, StartCall } from './supervisor.ts';

/** How a link behaves. */
export interface LinkOptions extends Omit<SessionOptions, 'onReport'> {
  /** Makes a new connection. */
  readonly connect: () => Promise<RemoteHost>;
  /** The connection is gone. */
  readonly onAway: (reason: string) => void;
  /** A new one stands. */
  readonly onBack: () => void;
  /** First and longest pause between two tries to connect again. @default { firstMs: 500, longestMs: 30000 } */
  readonly backoff?: { readonly firstMs: number; readonly longestMs: number };
}

const defaultBackoff = { firstMs: 500, longestMs: 30_000 };

/** One machine's link. */
export class MachineLink {
  readonly #options: LinkOptions;
  readonly #attempts = new Map<
    string,
    { readonly place: AttemptPlace; readonly hear: (report: AttemptReport) => void }
  >();
  #session: Promise<MachineSession>;
  #up: MachineSession | undefined;
  #closed = false;
  #wake: () => void = () => {};

  /**
   * Opens the first session over a connection that stands already.
   * @throws RemoteError when the machine cannot serve.
   */
  static async open(name: MachineName, host: RemoteHost, options: LinkOptions): Promise<MachineLink> {
    const link = new MachineLink(name, host, options);
    await link.#session;
    return link;
  }

  private constructor(
    readonly name: MachineName,
    host: RemoteHost,
    options: LinkOptions,
  ) {
    this.#options = options;
    this.#session = this.#openSession(host);
  }

  /** The session, as soon as there is one. Rejects only once the link is closed or its first opening fails. */
  session(): Promise<MachineSession> {
    return this.#session;
  }

  /** Whether a session stands now. */
  get isUp(): boolean {
    return this.#up !== undefined;
  }

  /** Whether the machine was let go of: what fails then, fails since nobody waits for it. */
  get isClosed(): boolean {
    return this.#closed;
  }

  /** Runs a step that may be repeated; when the connection goes under it, again on the next one. */
  async retrying<T>(step: (session: MachineSession) => Promise<T>): Promise<T> {
    for (;;) {
      const session = await this.#session;
      try {
        return await step(session);
      } catch (error) {
        if (this.#closed || (session === this.#up && !session.isBroken)) throw error;
        // What a machine sent was refused: it would be the same again.
        if (error instanceof RemoteError && error.stage === 'fetch') throw error;
        this.#lose(session, (error as Error).message);
      }
    }
  }

  /** Starts an attempt and hears of it until `forget`. */
  start(place: AttemptPlace, call: StartCall, hear: (report: AttemptReport) => void): void {
    this.#attempts.set(key(place), { place, hear });
    // Without a session the attempt is adopted by the next one, which finds that it never started.
    this.#up?.supervisor.start(place, call);
  }

  /** Watches an attempt that an earlier controller started. */
  adopt(place: AttemptPlace, hear: (report: AttemptReport) => void): void {
    this.#attempts.set(key(place), { place, hear });
    this.#up?.supervisor.adopt(place);
  }

  /** Ends an attempt's processes; on a machine that is away, at the next contact. */
  cancel(place: AttemptPlace, graceMs: number): void {
    this.#cancelled.set(key(place), { place, graceMs });
    this.#up?.supervisor.cancel(place, graceMs);
  }
  /** The same for an attempt that has run for longer than it may. */
  expire(place: AttemptPlace, graceMs: number): void {
    this.#expired.set(key(place), { place, graceMs });
    this.#up?.supervisor.expire(place, graceMs);
  }
  readonly #expired = new Map<string, { readonly place: AttemptPlace; readonly graceMs: number }>();
  readonly #cancelled = new Map<string, { readonly place: AttemptPlace; readonly graceMs: number }>();

  /** Hears no more of an attempt. */
  forget(place: AttemptPlace): void {
    this.#attempts.delete(key(place));
    this.#cancelled.delete(key(place));
    this.#expired.delete(key(place));
  }

  /** Lets go of the machine. Jobs there run on. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#wake();
    const session = this.#up;
    this.#up = undefined;
    await session?.close();
    await session?.host.close();
  }

  async #openSession(host: RemoteHost): Promise<MachineSession> {
    const session = await MachineSession.open(host, {
      ...this.#options,
      onReport: (place, report) => this.#attempts.get(key(place))?.hear(report),
    });
    if (this.#closed) {
      await session.close();
      throw new Error(`${this.name}: the link was closed`);
    }
    this.#up = session;
    for (const { place } of this.#attempts.values()) session.supervisor.adopt(place);
    for (const { place, graceMs } of this.#expired.values()) session.supervisor.expire(place, graceMs);
    for (const { place, graceMs } of this.#cancelled.values()) session.supervisor.cancel(place, graceMs);
    void Promise.race([host.closed, session.supervisor.ended]).then((reason) => this.#lose(session, reason));
    return session;
  }

  #lose(session: MachineSession, reason: string): void {
    if (this.#closed || this.#up !== session) return;
    this.#up = undefined;
    this.#options.onAway(reason);
    this.#session = this.#reconnect(session);
    this.#session.catch(() => {}); // only closing ends the tries; whoever waits hears
  }

  async #reconnect(old: MachineSession): Promise<MachineSession> {
    await old.close().catch(() => {});
    await old.host.close().catch(() => {});
    const { firstMs, longestMs } = this.#options.backoff ?? defaultBackoff;
    let isSaid = false;
    for (let pauseMs = firstMs; !this.#closed; pauseMs = Math.min(pauseMs * 2, longestMs)) {
      // Jitter: the links of a whole lab must not knock at one gateway in step.
      await this.#pause(pauseMs * (0.5 + Math.random() / 2));
      if (this.#closed) break;
      const host = await this.#options.connect().catch(() => undefined); // still away: the next try is due
      if (host === undefined) continue;
      try {
        const session = await this.#openSession(host);
        this.#options.onBack();
        return session;
      } catch (error) {
        await host.close().catch(() => {});
        // Said once: it answers, and yet cannot be used.
        if (!isSaid && !this.#closed) this.#options.onWarning((error as Error).message);
        isSaid = true;
      }
    }
    throw new Error(`${this.name}: the link was closed`);
  }

  #pause(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, ms);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }
}

function key(place: AttemptPlace): string {
  return `${place.folder}/${place.number}`;
}
