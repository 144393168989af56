/** The keys of one machine in a machine file: what each may hold and what it means. */
import { existsSync, statSync } from 'node:fs';
import { basename, dirname, resolve } from 'node:path';
import { machineName } from '../domain/machine.ts';
import { visibleText } from '../util/terminal-text.ts';
import { DEFAULT_START_SPACING_MS, type MachineConfig, Secret } from './config.ts';
import { isHost, isUsername, parseSshDestination } from './ssh-destination.ts';
import { describe, mistakeAt, positionOf, type YamlBlock } from './yaml-block.ts';

const HIGHEST_PORT = 65_535;
const MOST_JOBS = 1_000_000;
const HIGHEST_GPU = 1023;
const LONGEST_SPACING_MS = 3_600_000;
const KNOWN_KEYS: readonly string[] = [
  'name',
  'ip',
  'host',
  'port',
  'username',
  'ssh_key_path',
  'password',
  'passphrase',
  'proxy_jump',
  'host_key_checking',
  'setup',
  'env',
  'max_jobs',
  'gpus',
  'remote_dir',
  'cache_limit',
  'start_spacing',
];

/** Where a block stands. */
export interface BlockPlace {
  /** The block's key in `machines:`. */
  readonly key: string | undefined;
  /** The block is the whole file. */
  readonly alone: boolean;
  /** What `~` means in `ssh_key_path`. */
  readonly home: string;
}

/**
 * Reads one machine's block.
 * @throws MachineConfigError at the first mistake.
 */
export function readMachine(block: YamlBlock, { key, alone, home }: BlockPlace): MachineConfig {
  block.refuseUnknownKeys(alone ? [...KNOWN_KEYS, 'machines'] : KNOWN_KEYS);
  const { path } = block.file;
  const hostText = 'an address, a host name or an alias of your ssh configuration';
  const ip = block.text('ip', hostText, isHost);
  const hostKey = block.text('host', hostText, isHost);
  if (ip !== undefined && hostKey !== undefined) {
    throw block.mistake('host', describe(block.at('host')), 'either `ip` or `host`: they mean the same');
  }
  const host = ip ?? hostKey;
  if (host === undefined)
    throw mistakeAt(block.file, block.node, 'a machine without `ip`', `\`ip:\` with ${hostText}`);
  const name = block.text('name', 'a name without spaces and slashes', isName) ?? key;
  if (name !== undefined && !isName(name)) {
    throw mistakeAt(
      block.file,
      block.node,
      `the machine name "${visibleText(name)}"`,
      'one without spaces and slashes',
    );
  }
  const optional = present({
    port: block.wholeNumber('port', 1, HIGHEST_PORT),
    username: block.text('username', 'a user name', isUsername),
    sshKeyPath: readKeyPath(block, home),
    proxyJump: block.text('proxy_jump', '[user@]host[:port], several with commas, or none', isProxyJump),
    hostKeyChecking: block.oneOf('host_key_checking', ['accept-new', 'strict', 'no']),
    password: readSecret(block, 'password'),
    passphrase: readSecret(block, 'passphrase'),
    setup: block.text('setup', 'a line of shell', (text) => text.trim() !== '' && !text.includes('\0')),
    maxJobs: block.wholeNumber('max_jobs', 1, MOST_JOBS),
    gpus: block.wholeNumbers('gpus', 0, HIGHEST_GPU),
    remoteDir: block.text(
      'remote_dir',
      'a folder that begins with / or ~/, without quotes, backslashes, `!`, `..` and line breaks',
      isRemoteDir,
    ),
    cacheLimitMiB: block.sizeMiB('cache_limit'),
  });
  return {
    ...optional,
    name: machineName(name ?? (alone ? basename(path) : host)),
    host,
    env: block.texts('env', isVariableName, 'letters, digits and _, no digit first') ?? {},
    startSpacingMs: block.wholeNumber('start_spacing', 0, LONGEST_SPACING_MS) ?? DEFAULT_START_SPACING_MS,
    source: { type: 'file', path: resolve(path), line: positionOf(block.file, block.node).line },
  };
}

function readKeyPath(block: YamlBlock, home: string): string | undefined {
  const expected = 'the path of a private key, which may begin with ~/';
  const written = block.text('ssh_key_path', expected, (text) => /^(?!~[^/])[^\0\n]+$/.test(text));
  if (written === undefined) return undefined;
  const path = resolve(
    dirname(resolve(block.file.path)),
    written.replace(/^~(?=\/|$)/, () => home),
  );
  const found = `"${visibleText(written)}"`;
  if (!existsSync(path))
    throw block.mistake('ssh_key_path', found, `a private key that exists: there is no ${path}`);
  if (!statSync(path).isFile()) throw block.mistake('ssh_key_path', `${found}, which is no file,`, expected);
  if (path.endsWith('.pub'))
    throw block.mistake('ssh_key_path', `the public key ${found}`, 'the private one beside it');
  return path;
}

function readSecret(block: YamlBlock, key: string): Secret | undefined {
  const text = block.secret(key);
  return text === undefined ? undefined : new Secret(text);
}

function isName(text: string): boolean {
  return /^[^\s\p{Cc}/\\]+$/u.test(text) && text.length <= 100;
}

function isProxyJump(text: string): boolean {
  return text === 'none' || text.split(',').every((hop) => parseSshDestination(hop.trim()) !== undefined);
}

function isVariableName(text: string): boolean {
  return /^[A-Za-z_][A-Za-z0-9_]*$/.test(text);
}

/** It goes through login shells of any kind, and folders below it are removed. */
function isRemoteDir(text: string): boolean {
  return (
    /^~?\/[^'"`\\!\p{Cc}]*[^'"`\\!\p{Cc}/][^'"`\\!\p{Cc}]*$/u.test(text) && !text.split('/').includes('..')
  );
}

/** Without the keys that hold undefined. */
function present<T extends object>(fields: T): { [K in keyof T]?: Exclude<T[K], undefined> } {
  const entries = Object.entries(fields).filter(([, value]) => value !== undefined);
  return Object.fromEntries(entries) as { [K in keyof T]?: Exclude<T[K], undefined> }; // just filtered
}
