/** Is this the machine we know? Judges the key that a server shows against the known_hosts files. */
import type { ServerHostKeyAlgorithm } from 'ssh2';
import { RemoteError } from '../domain/errors.ts';
import type { HostKeyChecking } from '../machine/config.ts';
import {
  addKnownHost,
  type KnownHost,
  keyFingerprint,
  knownHostName,
  meansHost,
  publicKeyType,
  readKnownHosts,
} from './known-hosts.ts';
import type { SshTarget } from './ssh-config.ts';

/** How each key type may be asked for, best first. Types that are not here the ssh library cannot check. */
const algorithmsOf: Readonly<Record<string, readonly ServerHostKeyAlgorithm[]>> = {
  'ssh-ed25519': ['ssh-ed25519'],
  'ecdsa-sha2-nistp256': ['ecdsa-sha2-nistp256'],
  'ecdsa-sha2-nistp384': ['ecdsa-sha2-nistp384'],
  'ecdsa-sha2-nistp521': ['ecdsa-sha2-nistp521'],
  'ssh-rsa': ['rsa-sha2-512', 'rsa-sha2-256', 'ssh-rsa'],
};

const CHANGED = 'host key changed';

/** The check of one connection. */
export class HostKeyCheck {
  /** To ask the server for: the types known for it, since a host with several keys looks changed otherwise. */
  readonly algorithms: ServerHostKeyAlgorithm[];
  /** Whether other types than those known are not even asked for. */
  readonly isLimited: boolean;
  readonly #target: SshTarget;
  readonly #checking: HostKeyChecking;
  readonly #name: string;
  /** Lines that mean this host, or, when there are none, its name without the port (as OpenSSH does). */
  readonly #known: readonly KnownHost[];
  readonly #isPortless: boolean;
  #accepted: Buffer | undefined;
  #refusal: RemoteError | undefined;
  #message: string | undefined;
  /** The key differs from the known one and is accepted only because checking is off: no password may be sent. */
  isMismatchAccepted = false;
  #isNew = false;

  private constructor(target: SshTarget, checking: HostKeyChecking, all: readonly KnownHost[]) {
    this.#target = target;
    this.#checking = checking;
    this.#name = target.hostKeyAlias?.toLowerCase() ?? knownHostName(target.host, target.port);
    const exact = all.filter((host) => meansHost(host.names, this.#name));
    const portless = target.host.toLowerCase();
    this.#isPortless = exact.length === 0 && target.hostKeyAlias === undefined && portless !== this.#name;
    this.#known = this.#isPortless ? all.filter((host) => meansHost(host.names, portless)) : exact;
    const types = new Set(this.#plain().map((host) => host.keyType));
    const preferred = Object.keys(algorithmsOf).filter((type) => types.has(type));
    const others = Object.keys(algorithmsOf).filter((type) => !types.has(type));
    this.isLimited = preferred.length > 0 && !this.#isPortless && checking !== 'no';
    this.algorithms = (this.isLimited ? preferred : [...preferred, ...others]).flatMap(
      (type) => algorithmsOf[type] ?? [],
    );
  }

  /** Reads the files that count for a target. */
  static async prepare(target: SshTarget, checking: HostKeyChecking): Promise<HostKeyCheck> {
    const files = [...target.userKnownHosts, ...target.globalKnownHosts];
    return new HostKeyCheck(target, checking, await readKnownHosts(files));
  }

  /** Why the key was refused. */
  get refusal(): RemoteError | undefined {
    return this.#refusal;
  }

  /** Whether to go on with a server that shows this key. Asked again at each key exchange of a connection. */
  verify(key: Buffer): boolean {
    if (this.#accepted !== undefined) {
      if (this.#accepted.equals(key)) return true;
      return this.#refuse(`${this.#where()} changed its host key in the middle of a connection`, CHANGED);
    }
    const shown = `${publicKeyType(key)} ${keyFingerprint(key)}`;
    const revoked = this.#known.find((host) => host.marker === 'revoked' && host.key.equals(key));
    if (revoked !== undefined) {
      return this.#refuse(
        `host key ${shown} of ${this.#where()} is revoked by ${at(revoked)}`,
        'host key revoked',
      );
    }
    const plain = this.#plain();
    if (!plain.some((host) => host.key.equals(key)) && !this.#acceptUnlisted(key, shown, plain)) return false;
    this.#accepted = key;
    return true;
  }

  /** The server has none of the key types known for it. */
  noKnownType(): RemoteError {
    const [old] = this.#plain();
    const types = [...new Set(this.#plain().map((host) => host.keyType))].join(', ');
    const known = old === undefined ? '' : `: ${types} ${at(old)}; ${this.#removal(old)}`;
    return this.#error(
      `${this.#where()} no longer shows a host key of the kind known for it${known}`,
      CHANGED,
    );
  }

  /**
   * Adds a new host's key to the user's file. To be called after the key exchange: only then has the server proved
   * that the key is its own. Returns what to tell the user; never rejects.
   */
  async record(): Promise<string | undefined> {
    const [file] = this.#target.userKnownHosts;
    const key = this.#accepted;
    if (!this.#isNew || key === undefined || file === undefined || file === '/dev/null') return this.#message;
    const shown = `new host key of ${this.#where()}: ${publicKeyType(key)} ${keyFingerprint(key)}`;
    try {
      await addKnownHost(file, this.#name, key, this.#target.hashKnownHosts);
      return `${shown}, added to ${file}${this.#authorityHint()}`;
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      return `${shown}, accepted but not added to ${file}: ${reason}`;
    }
  }

  #acceptUnlisted(key: Buffer, shown: string, plain: readonly KnownHost[]): boolean {
    const old = this.#isPortless
      ? undefined
      : (plain.find((host) => host.keyType === publicKeyType(key)) ?? plain[0]);
    if (this.#checking === 'no') {
      if (old !== undefined) {
        this.isMismatchAccepted = true;
        this.#message = `host key of ${this.#where()} differs from ${at(old)}; accepted, as host key checking is off`;
      }
      return true;
    }
    if (old !== undefined) {
      const known = `known ${old.keyType} ${keyFingerprint(old.key)} (${at(old)})`;
      return this.#refuse(
        `host key of ${this.#where()} changed: ${known}, now ${shown}; somebody may be in between; ${this.#removal(old)}`,
        CHANGED,
      );
    }
    if (this.#checking === 'strict') {
      return this.#refuse(
        `unknown host key of ${this.#where()}: ${shown}; host key checking is strict, so log in once with ssh, ` +
          `or add it to ${this.#target.userKnownHosts[0] ?? 'known_hosts'}${this.#authorityHint()}`,
        'host key unknown',
      );
    }
    this.#isNew = true;
    return true;
  }

  #plain(): KnownHost[] {
    return this.#known.filter((host) => host.marker === 'none');
  }

  #where(): string {
    const { host, port, hostKeyAlias } = this.#target;
    return `${host} port ${port}${hostKeyAlias === undefined ? '' : ` (${hostKeyAlias})`}`;
  }

  #removal(old: KnownHost): string {
    return `if the machine was installed anew, run: ssh-keygen -R '${this.#name}' -f '${old.file}'`;
  }

  #authorityHint(): string {
    const authority = this.#known.find((host) => host.marker === 'cert-authority');
    return authority === undefined
      ? ''
      : ` (the ssh library cannot use the host certificate authority of ${at(authority)})`;
  }

  #refuse(message: string, brief: string): false {
    this.#refusal = this.#error(message, brief);
    return false;
  }

  #error(message: string, brief: string): RemoteError {
    return new RemoteError(this.#target.machine, 'host-key', message, { brief });
  }
}

function at(host: KnownHost): string {
  return `${host.file}:${host.line}`;
}
