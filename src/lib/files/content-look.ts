/**
 * What the content of a file tells about it: a private key or a password that a person should know of before it goes to
 * other machines, or a machine file, which has no business there at all. The look is a part of hashing, when the bytes
 * are at hand anyway, and is remembered with the hash.
 */
import { dirname, resolve } from 'node:path';

/** What a file looks like by its content. */
export type ContentLook = 'plain' | 'secret' | 'machine-file';

/** So much of a file's beginning is looked at. */
export const LOOK_BYTES = 64 * 1024;

const PRIVATE_KEY =
  /^\s*(?:-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----|PuTTY-User-Key-File-\d|SSH PRIVATE KEY FILE FORMAT)/;
const NPM_LOGIN = /^[^#;\n]*(?:_authToken|_auth|_password)\s*=\s*\S/m;

/** What a file's name says alone. Names of examples that are meant to be shared are no secrets. */
export function isSecretName(name: string): boolean {
  if (/^\.env(?:\..*)?$/.test(name)) return !/\.(?:example|sample|template|dist)$/.test(name);
  return name === '.netrc' || name === '.pgpass';
}

/** What the first bytes of a file say (all of them, when the file has no more). `path`: absolute. */
export async function lookAt(path: string, head: Buffer, isWhole: boolean): Promise<ContentLook> {
  if (PRIVATE_KEY.test(head.subarray(0, 200).toString('latin1'))) return 'secret';
  if (path.endsWith('/.npmrc')) return NPM_LOGIN.test(head.toString('latin1')) ? 'secret' : 'plain';
  if (isWhole && /\.ya?ml$/i.test(path)) return await lookAtYaml(path, head.toString('utf8'));
  return 'plain';
}

const KEY_PATH = /(ssh_key_path["']?\s*:\s*)(?:"([^"\n]+)"|'([^'\n]+)'|([^\s"',}#][^"',}#\n]*))/g;

/**
 * The keys that the text of a machine file names, absolute. Read by pattern: no YAML parser has to be loaded for a file
 * that is known, and one key more than the file means does no harm.
 */
export function keysNamedIn(text: string, path: string, home: string): readonly string[] {
  return [...text.matchAll(KEY_PATH)].map(([, , double, single, plain]) => {
    const written = (double ?? single ?? plain ?? '').trim();
    return resolve(
      dirname(path),
      written.replace(/^~(?=\/)/, () => home),
    );
  });
}

const HAS_HOST = /(?:^|[\s{,])["']?(?:ip|host)["']?\s*:/m;
const HAS_LOGIN = /(?:^|[\s{,])["']?(?:ssh_key_path|username|password|passphrase)["']?\s*:/m;
/** Keys that files about other things than machines do not have beside those above. */
const IS_ABOUT_MACHINES =
  /(?:^|[\s{,])["']?(?:ip|ssh_key_path|passphrase|proxy_jump|host_key_checking|max_jobs|gpus|remote_dir|start_spacing|cache_limit)["']?\s*:/m;
const HAS_PASSWORD = /(?:^|[\s{,])["']?(?:password|passphrase)["']?\s*:/m;

/**
 * The whole text must be a machine file for the reader of machine files, which refuses every key that it does not know.
 * What has only `host`, `port`, `username` and `password` may as well be the settings of a database, which the jobs need:
 * it is sent, with a word about the password.
 */
async function lookAtYaml(path: string, text: string): Promise<ContentLook> {
  if (!HAS_HOST.test(text) || !HAS_LOGIN.test(text)) return 'plain'; // spares most files the YAML parser
  // A key that is not on this computer makes it no less a machine file: a file that is here stands in for it.
  const withKey = text.replace(KEY_PATH, (_all, key: string) => key + JSON.stringify(process.execPath));
  if (!(await isMachineFile(path, withKey))) return 'plain';
  if (IS_ABOUT_MACHINES.test(text)) return 'machine-file';
  return HAS_PASSWORD.test(text) ? 'secret' : 'plain';
}

async function isMachineFile(path: string, text: string): Promise<boolean> {
  const { parseMachineFile } = await import('../machine/machine-file.ts');
  try {
    parseMachineFile(text, path);
    return true;
  } catch {
    return false; // whatever is wrong with it: it is the file of somebody else
  }
}
