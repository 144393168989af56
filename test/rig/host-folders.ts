/** Lays out what a host is made of on disk, before it starts: keys, sshd configuration, accounts, tools. */

import { randomBytes } from 'node:crypto';
import { chmod, chown, copyFile, mkdir, readFile, symlink, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { runCommand, runOrThrow } from './command.ts';
import { findProgram } from './find-program.ts';
import { installGpuStandIns, writeGpus } from './gpu-files.ts';
import type { HostSpec } from './host-spec.ts';
import { makeKey, withAddedLines } from './test-host.ts';

/** User and group id of the account `lab`, which exists only inside hosts. */
export const LAB_ID = 1000;

const SFTP_SERVERS = ['/usr/lib/openssh', '/usr/libexec/openssh', '/usr/lib/ssh', '/usr/libexec'];

/** What makeLocal made. `folder` is the host's /usr/local. */
export interface LocalFolder {
  readonly folder: string;
  readonly hostKeyPath: string;
  readonly sshdConfigPath: string;
  readonly gpuStateDir: string;
}

/** Makes a host's /usr/local: tools, GPU stand-ins, host key and sshd configuration. */
export async function makeLocal(
  folder: string,
  spec: HostSpec,
  configLines: readonly string[],
): Promise<LocalFolder> {
  await Promise.all(['bin', 'etc', 'lib'].map((name) => mkdir(join(folder, name), { recursive: true })));
  const hostKeyPath = join(folder, 'etc', 'host_key');
  const sshdConfigPath = join(folder, 'etc', 'sshd_config');
  const sftp = findProgram('sftp-server', SFTP_SERVERS);
  const config = [
    ...configLines,
    'UsePAM no',
    'UseDNS no',
    `Subsystem sftp ${sftp}`,
    ...(await penaltyLines()),
  ];
  const [gpuStateDir] = await Promise.all([
    installGpuStandIns(folder, spec.gpus !== undefined),
    makeKey(hostKeyPath, spec.name),
    writeFile(sshdConfigPath, withAddedLines(spec.sshd ?? [], `${config.join('\n')}\n`)),
    ...Object.entries(spec.tools ?? {}).map(([name, text]) =>
      writeFile(join(folder, 'bin', basename(name)), text, { mode: 0o755 }),
    ),
  ]);
  await writeGpus(gpuStateDir, spec.name, spec.gpus ?? []);
  return { folder, hostKeyPath, sshdConfigPath, gpuStateDir };
}

/** Where a host finds the shell that was asked for; `localFolder` is its /usr/local as the host sees it. */
export function shellPath(spec: HostSpec, localFolder: string): string {
  const { loginShell = '/bin/bash' } = spec;
  return loginShell.includes('/') ? loginShell : join(localFolder, 'bin', loginShell);
}

/** Makes a home folder that accepts the client's key. `owner` only where the rig runs as root. */
export async function makeHome(
  home: string,
  spec: HostSpec,
  authorizedKey: string,
  owner?: number,
): Promise<void> {
  await mkdir(join(home, '.ssh'), { recursive: true });
  const keys = join(home, '.ssh', 'authorized_keys');
  const bashrc = join(home, '.bashrc');
  await writeFile(keys, authorizedKey, { mode: 0o600 });
  if (spec.bashrc !== undefined) await writeFile(bashrc, spec.bashrc);
  await chmod(home, 0o755);
  await chmod(join(home, '.ssh'), 0o700);
  if (owner === undefined) return;
  const made = [home, join(home, '.ssh'), keys, ...(spec.bashrc === undefined ? [] : [bashrc])];
  await Promise.all(made.map((path) => chown(path, owner, owner)));
}

/** Makes the files of /etc that say who a host is and whom it knows. `neighbours`: lines for its hosts file. */
export async function makeEtc(etc: string, spec: HostSpec, neighbours: readonly string[]): Promise<void> {
  await mkdir(etc, { recursive: true });
  const shell = shellPath(spec, '/usr/local');
  const user = spec.user ?? 'lab';
  // System accounts stay as they are (sshd needs its own); people's accounts are not the host's.
  const system = async (path: string) =>
    (await readFile(path, 'utf8')).split('\n').filter((line) => {
      const [name, , id] = line.split(':');
      return name !== 'root' && name !== 'lab' && Number(id) > 0 && Number(id) < 1000;
    });
  const passwd = [
    `root:x:0:0:root:/root:${user === 'root' ? shell : '/bin/bash'}`,
    ...(await system('/etc/passwd')),
    `lab:x:${LAB_ID}:${LAB_ID}:lab:/home/lab:${user === 'lab' ? shell : '/bin/bash'}`,
    'nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin',
  ];
  if (!passwd.some((line) => line.startsWith('sshd:'))) passwd.push('sshd:x:999:65534::/run/sshd:/bin/false');
  const group = ['root:x:0:', ...(await system('/etc/group')), `lab:x:${LAB_ID}:`, 'nogroup:x:65534:'];
  const hash = spec.password === undefined ? '*' : await hashPassword(spec.password);
  const shadow = ['root', 'lab'].map((name) => `${name}:${name === user ? hash : '*'}:19700:0:99999:7:::`);
  const hosts = ['127.0.0.1 localhost', '::1 localhost', ...neighbours];
  const files = { passwd, group, shadow, hosts, hostname: [spec.name], 'machine-id': [randomHex(32)] };
  await Promise.all(
    Object.entries(files).map(([name, lines]) => writeFile(join(etc, name), `${lines.join('\n')}\n`)),
  );
  await chmod(join(etc, 'shadow'), 0o600);
}

/** Makes a folder of programs that holds bash, sshd and busybox's applets: what a host has in place of /usr/bin. */
export async function makeBusyboxFolder(folder: string): Promise<void> {
  await mkdir(folder);
  const busybox = findProgram('busybox');
  for (const program of [busybox, findProgram('bash'), findProgram('sshd')]) {
    await copyFile(program, join(folder, basename(program)));
  }
  const applets = (await runOrThrow(busybox, ['--list'])).split('\n').filter((name) => name !== '');
  const links = applets.filter((name) => name !== 'busybox' && name !== 'bash');
  await Promise.all(links.map((name) => symlink('busybox', join(folder, name))));
}

/** Newer servers punish clients whose logins fail, which tests do on purpose; older ones do not know the word. */
async function penaltyLines(): Promise<string[]> {
  const { stderr } = await runCommand('ssh', ['-V']);
  const [, major = '0', minor = '0'] = /OpenSSH_(\d+)\.(\d+)/.exec(stderr) ?? [];
  return Number(major) * 100 + Number(minor) >= 908 ? ['PerSourcePenalties no'] : [];
}

/** Perl is part of every Debian; Node has no crypt(3). */
async function hashPassword(password: string): Promise<string> {
  const salt = `$6$${randomHex(12)}$`;
  return runOrThrow('perl', ['-e', 'print crypt($ARGV[0], $ARGV[1])', password, salt]);
}

function randomHex(digits: number): string {
  return randomBytes(digits / 2).toString('hex');
}
