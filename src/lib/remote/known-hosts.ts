/**
 * Reads OpenSSH's known_hosts files (sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT") and adds to them. What a key means for a
 * connection is decided in host-key-check.ts.
 */
import { createHash, createHmac, randomBytes } from 'node:crypto';
import { mkdir, open, readFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { withFileLock } from './file-lock.ts';

/** One usable line of a known_hosts file. */
export interface KnownHost {
  readonly file: string;
  /** From 1. */
  readonly line: number;
  readonly marker: 'none' | 'revoked' | 'cert-authority';
  /** Comma list of names and patterns, or one hashed name `|1|salt|hash`. */
  readonly names: string;
  readonly keyType: string;
  /** The public key as it goes over the wire. */
  readonly key: Buffer;
}

const markers = { '@revoked': 'revoked', '@cert-authority': 'cert-authority' } as const;

/** The key type that a public key's bytes begin with, e.g. `ssh-ed25519`; empty when they are no key. */
export function publicKeyType(key: Buffer): string {
  if (key.length < 4) return '';
  const length = key.readUInt32BE(0);
  return length > 64 || key.length < 4 + length ? '' : key.toString('latin1', 4, 4 + length);
}

/** A public key's fingerprint as `ssh-keygen -l` prints it: `SHA256:` and unpadded base64. */
export function keyFingerprint(key: Buffer): string {
  return `SHA256:${createHash('sha256').update(key).digest('base64').replace(/=+$/, '')}`;
}

/** The name that a host is listed under: `host`, or `[host]:port` when the port is not 22. */
export function knownHostName(host: string, port: number): string {
  const name = host.toLowerCase();
  return port === 22 ? name : `[${name}]:${port}`;
}

/** Parses one file's text. Lines that OpenSSH would skip too (comments, malformed ones) are left out. */
export function parseKnownHosts(text: string, file: string): KnownHost[] {
  const found: KnownHost[] = [];
  for (const [index, row] of text.split('\n').entries()) {
    const words = row.trim().split(/\s+/);
    let marker: KnownHost['marker'] = 'none';
    if (words[0]?.startsWith('@')) {
      const known = markers[words.shift() as keyof typeof markers]; // an unknown marker gives undefined
      if (known === undefined) continue;
      marker = known;
    }
    const [names, keyType, base64] = words;
    if (names === undefined || names.startsWith('#') || keyType === undefined || base64 === undefined)
      continue;
    const key = Buffer.from(base64, 'base64');
    if (publicKeyType(key) !== keyType) continue;
    found.push({ file, line: index + 1, marker, names, keyType, key });
  }
  return found;
}

/** Reads files in the order given; one that does not exist or cannot be read counts as empty, as with OpenSSH. */
export async function readKnownHosts(files: readonly string[]): Promise<KnownHost[]> {
  const texts = await Promise.all(files.map((file) => readFile(file, 'utf8').catch(() => '')));
  return files.flatMap((file, index) => parseKnownHosts(texts[index] ?? '', file));
}

/** Whether a line's names mean this host. `name` is from knownHostName. */
export function meansHost(names: string, name: string): boolean {
  if (names.startsWith('|1|')) {
    const [, , salt, hash] = names.split('|');
    return salt !== undefined && hash !== undefined && hashOf(name, Buffer.from(salt, 'base64')) === hash;
  }
  let matched = false;
  for (const part of names.toLowerCase().split(',')) {
    const negated = part.startsWith('!');
    if (!matchesPattern(negated ? part.slice(1) : part, name)) continue;
    if (negated) return false; // one negated match outweighs all others
    matched = true;
  }
  return matched;
}

/** A new line for a host, without the newline; `hashed` hides its name as `HashKnownHosts yes` does. */
export function knownHostLine(name: string, key: Buffer, hashed: boolean): string {
  const salt = randomBytes(20);
  const shown = hashed ? `|1|${salt.toString('base64')}|${hashOf(name, salt)}` : name;
  return `${shown} ${publicKeyType(key)} ${key.toString('base64')}`;
}

/**
 * Adds a host's key to a file, making file (0600) and folder (0700) where they are missing. Nothing is added when
 * the file knows that key for that host by now, e.g. from another connection of the same moment.
 * @throws the file system's error
 */
export async function addKnownHost(file: string, name: string, key: Buffer, hashed: boolean): Promise<void> {
  await mkdir(dirname(file), { recursive: true, mode: 0o700 });
  await withFileLock(file, async () => {
    const handle = await open(file, 'a+', 0o600);
    try {
      const text = await handle.readFile('utf8');
      const known = parseKnownHosts(text, file).some(
        (host) => host.marker === 'none' && host.key.equals(key) && meansHost(host.names, name),
      );
      if (known) return;
      const gap = text === '' || text.endsWith('\n') ? '' : '\n';
      await handle.appendFile(`${gap}${knownHostLine(name, key, hashed)}\n`);
    } finally {
      await handle.close();
    }
  });
}

/** HMAC-SHA1 of the name with the salt as key, base64: the last part of a hashed name. */
function hashOf(name: string, salt: Buffer): string {
  return createHmac('sha1', salt).update(name).digest('base64');
}

/** `*` is any run of characters, `?` any one. Goes back only to the last `*`, so no pattern is slow. */
function matchesPattern(pattern: string, text: string): boolean {
  let p = 0;
  let t = 0;
  let star = -1;
  let resumeAt = 0;
  while (t < text.length) {
    if (pattern[p] === '*') {
      star = p++;
      resumeAt = t;
    } else if (p < pattern.length && (pattern[p] === '?' || pattern[p] === text[t])) {
      p++;
      t++;
    } else if (star >= 0) {
      p = star + 1;
      t = ++resumeAt;
    } else {
      return false;
    }
  }
  while (pattern[p] === '*') p++;
  return p === pattern.length;
}
