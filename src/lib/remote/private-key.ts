/** Reads private key files and says what stands in the way of using one. */
import { readFile, stat } from 'node:fs/promises';
import ssh2, { type ParsedKey } from 'ssh2';
import { publicKeyType } from './known-hosts.ts';

/** What a key file turned out to be. */
export type KeyFile =
  | { readonly type: 'usable'; readonly key: ParsedKey; readonly publicKey: Buffer }
  | { readonly type: 'missing' }
  /** `publicKey` where it can be had without the passphrase: an agent may hold its private half. */
  | { readonly type: 'locked'; readonly publicKey?: Buffer; readonly reason: string }
  /** On a security token; the ssh library cannot use it. */
  | { readonly type: 'fido' }
  | { readonly type: 'unusable'; readonly reason: string };

/** Reads a private key. The passphrase is used only when the key needs one. */
export async function readKeyFile(path: string, passphrase?: string): Promise<KeyFile> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? error.code : undefined;
    if (code === 'ENOENT' || code === 'ENOTDIR') return { type: 'missing' };
    return {
      type: 'unusable',
      reason: code === 'EACCES' ? 'may not be read' : `cannot be read (${String(code)})`,
    };
  }
  const publicKey = publicHalf(text) ?? (await besides(path));
  if (publicKey !== undefined && publicKeyType(publicKey).startsWith('sk-')) return { type: 'fido' };
  const open = parse(text);
  if (!(open instanceof Error)) return usable(open);
  if (!/passphrase/i.test(open.message)) {
    return { type: 'unusable', reason: 'is not a private key that the ssh library knows' };
  }
  const half = publicKey === undefined ? {} : { publicKey };
  if (passphrase === undefined) return { type: 'locked', reason: 'needs a passphrase', ...half };
  const opened = parse(text, passphrase);
  return opened instanceof Error
    ? { type: 'locked', reason: 'does not open with the passphrase given', ...half }
    : usable(opened);
}

/** The certificate that ssh would use with a key, if there is one beside it. */
export async function certificateOf(path: string): Promise<string | undefined> {
  const certificate = `${path}-cert.pub`;
  return (await stat(certificate).catch(() => undefined)) === undefined ? undefined : certificate;
}

function usable(key: ParsedKey): KeyFile {
  if (!key.isPrivateKey()) return { type: 'unusable', reason: 'is a public key; the private key is needed' };
  return { type: 'usable', key, publicKey: key.getPublicSSH() };
}

function parse(text: string, passphrase?: string): ParsedKey | Error {
  const parsed: unknown = ssh2.utils.parseKey(text, passphrase);
  // A file of several keys gives a list, which the library's types leave out.
  const first: unknown = Array.isArray(parsed) ? parsed[0] : parsed;
  return first instanceof Error || (typeof first === 'object' && first !== null)
    ? (first as ParsedKey | Error) // one of the two that parseKey documents
    : new Error('no key found');
}

/** The public key in OpenSSH's own private key format, readable without the passphrase (PROTOCOL.key). */
function publicHalf(text: string): Buffer | undefined {
  const body = /-----BEGIN OPENSSH PRIVATE KEY-----([A-Za-z0-9+/=\s]+)-----END/.exec(text)?.[1];
  const data = Buffer.from(body ?? '', 'base64');
  const magic = 'openssh-key-v1\0';
  if (data.toString('latin1', 0, magic.length) !== magic) return undefined;
  let at = magic.length;
  const next = (): Buffer | undefined => {
    if (at + 4 > data.length) return undefined;
    const end = at + 4 + data.readUInt32BE(at);
    const field = end <= data.length ? data.subarray(at + 4, end) : undefined;
    at = end;
    return field;
  };
  if (next() === undefined || next() === undefined || next() === undefined) return undefined; // cipher, kdf, its options
  at += 4; // number of keys
  return next();
}

/** The public key in the `.pub` file beside a private one. */
async function besides(path: string): Promise<Buffer | undefined> {
  const words = (await readFile(`${path}.pub`, 'utf8').catch(() => '')).trim().split(/\s+/);
  const key = Buffer.from(words[1] ?? '', 'base64');
  return publicKeyType(key) === '' ? undefined : key;
}
