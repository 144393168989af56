/**
 * Puts source trees on a machine: each once, streamed by tar into a folder beside its place, which it takes by rename.
 * A tree is whole or not there.
 */
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { basename } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { RemoteError } from '../domain/errors.ts';
import type { RemoteHost } from '../remote/remote-host.ts';
import { type RequestShell, runWithInput } from '../remote/remote-shell.ts';
import { shellQuote } from '../util/shell-quote.ts';
import type { SourceTree, TreeGroup } from './source-tree.ts';

/** How a send went. */
export interface SendResult {
  /** 0 when the machine had the tree already. */
  readonly sentBytes: number;
}

/**
 * Makes sure that a tree is in the machine's folder of trees.
 * @throws RemoteError (stage `send`) with the reason: disk full there, a file that changed or vanished here.
 */
export async function sendTree(
  host: RemoteHost,
  shell: RequestShell,
  trees: string,
  tree: SourceTree,
): Promise<SendResult> {
  const fail = (reason: string) =>
    new RemoteError(host.name, 'send', `${host.name}: cannot send files: ${reason}`);
  const place = `${trees}/${tree.id}`;
  // The time stamp tells a later clean-up when the tree was last wanted.
  if ((await shell.run(`[ -d ${shellQuote(place)} ] && touch -c ${shellQuote(place)}`)) === 0)
    return { sentBytes: 0 };
  const partial = `${place}.${randomBytes(6).toString('hex')}.partial`;
  if (/["$`]/.test(partial)) throw fail(`the folder ${trees} there has a name that cannot be used`);
  const made = await shell.text(`mkdir ${shellQuote(partial)} 2>&1`);
  if (made.exitCode !== 0) throw fail(made.output.trim());
  let sentBytes = 0;
  for (const group of tree.groups) {
    // tar ends at the archive's own end; `cat` then waits for the end of our sending, which would else seem broken off.
    const script = `tar -xof - -C "${partial}" && exec cat >/dev/null`;
    let problemHere: string | undefined;
    const sent = await runWithInput(host, script, async (stdin) => {
      const packed = await packInto(group, stdin);
      sentBytes += packed.bytes;
      problemHere = packed.problem;
      if (problemHere !== undefined) throw new Error(problemHere); // the archive there breaks off
    }).catch((error: unknown) => {
      throw fail((error as Error).message);
    });
    if (sent.exitCode !== 0) {
      await shell.run(`rm -rf ${shellQuote(partial)}`).catch(() => {});
      throw fail(problemHere ?? (reasonThere(sent.stderr) || 'the connection broke off'));
    }
  }
  // When another controller was first, its tree is the same. Without -T, which not all have, `mv` would then move inside.
  const [from, to] = [shellQuote(partial), shellQuote(place)];
  const nested = shellQuote(`${place}/${basename(partial)}`);
  const published = await shell.run(
    `chmod u+rwx ${from}; if mv -T ${from} ${to} 2>/dev/null; then :; elif [ -d ${to} ]; then rm -rf ${from}; else mv ${from} ${to} && rm -rf ${nested}; fi`,
  );
  if (published !== 0) throw fail(`could not rename ${partial}`);
  return { sentBytes };
}

/** The line of tar's that tells why; GNU tar says `Wrote only` of a file that no longer fitted. */
function reasonThere(stderr: string): string {
  const lines = stderr.split('\n');
  const line = lines.find((one) => /No space|[Qq]uota/.test(one)) ?? lines[0] ?? '';
  return line.includes('Wrote only') ? `No space left on device there (${line})` : line;
}

/** Streams a group of files as a tar archive. Tells the archive's length, and what tar could not read here. */
async function packInto(
  group: TreeGroup,
  stdin: NodeJS.WritableStream,
): Promise<{ readonly bytes: number; readonly problem?: string }> {
  // LC_ALL=C: names are bytes. COPYFILE_DISABLE: macOS's tar would add a `._` file beside each.
  const tar = spawn('tar', ['-cf', '-', '--null', '--no-recursion', '-T', '-'], {
    cwd: group.root,
    stdio: ['pipe', 'pipe', 'pipe'],
    env: { ...process.env, LC_ALL: 'C', COPYFILE_DISABLE: '1' },
  });
  let stderr = '';
  tar.stderr.on('data', (chunk: Buffer) => {
    if (stderr.length < 4096) stderr += chunk.toString('utf8');
  });
  const exited = new Promise<number | null>((resolve, reject) => {
    tar.once('error', reject);
    tar.once('close', resolve);
  });
  exited.catch(() => {}); // awaited below; the pipeline may fail first
  let bytes = 0;
  tar.stdout.on('data', (chunk: Buffer) => {
    bytes += chunk.length;
  });
  tar.stdin.on('error', () => {});
  // `./` before each name: one that begins with a dash is no option.
  tar.stdin.end(Buffer.from(group.paths.map((path) => `./${path}\0`).join(''), 'latin1'));
  try {
    await pipeline(tar.stdout, stdin, { end: false });
  } catch (error) {
    tar.kill();
    throw error;
  }
  if ((await exited) !== 0) {
    const lines = stderr
      .trim()
      .split('\n')
      .filter((line) => !line.includes('Exiting with failure'));
    return { bytes, problem: lines[0] ?? 'tar failed here' };
  }
  stdin.end();
  return { bytes };
}
