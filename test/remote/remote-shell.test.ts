import { randomBytes } from 'node:crypto';
import { mkdir, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { machineName } from '../../src/lib/domain/machine.ts';
import { LocalHost } from '../../src/lib/remote/local-host.ts';
import type { Channel } from '../../src/lib/remote/remote-host.ts';
import { openShell, RequestShell, runWithInput } from '../../src/lib/remote/remote-shell.ts';
import { until } from '../rig/until.ts';
import { scratch } from './run-over.ts';

const SLOW = { deadlineMs: 20_000 };

let folder: Awaited<ReturnType<typeof scratch>>;
let host: LocalHost;
let shell: RequestShell;
beforeEach(async () => {
  folder = await scratch();
  host = new LocalHost(machineName('here'), { home: folder.path });
  shell = await RequestShell.open(host);
});
afterEach(async () => {
  shell.close();
  await host.close();
  await folder[Symbol.asyncDispose]();
});

/** Runs a script and collects its output as bytes. */
async function output(script: string): Promise<Buffer> {
  const chunks: Buffer[] = [];
  await shell.run(script, (chunk) => void chunks.push(Buffer.from(chunk)));
  return Buffer.concat(chunks);
}

test('gives each script its exit code and its output, whatever it is', async () => {
  expect(await shell.text('echo a; echo b >&2; false')).toEqual({ exitCode: 1, output: 'a\n' });
  expect(await shell.text('(exit 77)')).toEqual({ exitCode: 77, output: '' });
  expect(await shell.text('printf "no newline"')).toEqual({ exitCode: 0, output: 'no newline' });
  expect(await shell.text('printf "\\n\\nblank lines\\n\\n"')).toEqual({
    exitCode: 0,
    output: '\n\nblank lines\n\n',
  });
  expect(await shell.text("cat <<'END'\n$x `y`\nEND")).toEqual({ exitCode: 0, output: '$x `y`\n' });
  expect(await shell.text('x=1; cd /')).toEqual({ exitCode: 0, output: '' });
  expect(await shell.text('echo $x; pwd')).toEqual({ exitCode: 0, output: '1\n/\n' }); // one shell for all
});

test('runs requests that are sent ahead one after the other', async () => {
  const scripts = Array.from({ length: 200 }, (_, i) => `echo ${i} >>order; printf ${i}; (exit ${i % 7})`);
  const answers = await Promise.all(scripts.map((script) => shell.text(script)));
  expect(answers).toEqual(scripts.map((_, i) => ({ exitCode: i % 7, output: String(i) })));
  expect((await shell.text('cat order')).output).toBe(scripts.map((_, i) => `${i}\n`).join(''));
});

test('carries any bytes, also such as look like the end of an answer', async () => {
  const data = Buffer.concat([
    randomBytes(3_000_000),
    Buffer.from('\n0123456789abcdef0123456789abcdef 0\n\n'),
  ]);
  await writeFile(join(folder.path, 'data'), data);
  expect((await output('cat data')).equals(data)).toBe(true);
  expect((await output('cat data; printf "\\n"')).equals(Buffer.concat([data, Buffer.from('\n')]))).toBe(
    true,
  );
});

test('nothing that runs there can read the requests behind it', async () => {
  const [first, second] = await Promise.all([shell.text('cat'), shell.text('echo still here')]);
  expect(first).toEqual({ exitCode: 0, output: '' });
  expect(second.output).toBe('still here\n');
});

test('a slow taker holds the machine back', async () => {
  let release: () => void = () => {};
  const gate = new Promise<void>((resolve) => {
    release = resolve;
  });
  let taken = 0;
  const running = shell.run(
    'i=0; while [ $i -lt 64 ]; do head -c 1000000 /dev/zero; i=$((i+1)); echo $i >progress; done',
    async (chunk) => {
      taken += chunk.length;
      await gate;
    },
  );
  const other = await RequestShell.open(host);
  let last = '';
  let same = 0;
  await until(async () => {
    const { output: now } = await other.text('cat progress 2>/dev/null');
    same = now === last ? same + 1 : 0;
    last = now;
    return same > 20; // no step any more
  }, SLOW);
  expect(taken).toBeLessThan(1_000_000);
  expect(Number(last)).toBeLessThan(10);
  release();
  expect(await running).toBe(0);
  expect(taken).toBe(64_000_000);
  other.close();
});

test('a taker that fails gets its error, and the shell stays usable', async () => {
  const failing = shell.run('head -c 5000000 /dev/zero', () => {
    throw new Error('no more');
  });
  await expect(failing).rejects.toThrow('no more');
  expect((await shell.text('echo fine')).output).toBe('fine\n');
  await expect(shell.text('head -c 2000 /dev/zero', 1000)).rejects.toThrow(/more than 1000 bytes/);
  expect((await shell.text('echo fine')).output).toBe('fine\n');
});

test('a shell that ends breaks every request that waits, and says so', async () => {
  const waiting = [shell.text('echo one; exit 3'), shell.text('echo two')];
  for (const one of waiting) await expect(one).rejects.toThrow(/here: the shell there ended/);
  expect(shell.isBroken).toBe(true);
  await expect(shell.text('echo three')).rejects.toThrow(/ended/);
});

/** A host whose login shell prints and does things before it obeys. */
function noisy(before: string): LocalHost {
  const loud = new LocalHost(machineName('loud'), { home: folder.path });
  const open = loud.open.bind(loud);
  loud.open = (line: string): Promise<Channel> => open(`${before}; ${line}`);
  return loud;
}

test('skips what a login prints, and gives up on one without end, one that hangs and one that leaves', async () => {
  const banner = await RequestShell.open(noisy('echo Welcome; printf "ready-no newline"'));
  expect((await banner.text('echo fine')).output).toBe('fine\n');
  banner.close();
  await expect(openShell(noisy('yes'))).rejects.toThrow(/prints without end/);
  await expect(openShell(noisy('exit 9'))).rejects.toThrow(/ended at once \(exit 9\)/);
  const hanging = noisy('cat >/dev/null');
  await expect(openShell(hanging, { timeoutMs: 200 })).rejects.toThrow(/no answer within 0.2 s/);
});

test('feeds a program, and tells how it ended', async () => {
  await mkdir(join(folder.path, 'a b'));
  const ok = await runWithInput(host, 'cat >"a b/file"', async (stdin) => void stdin.end('text'));
  expect(ok).toEqual({ exitCode: 0, stderr: '' });
  expect((await shell.text('cat "a b/file"')).output).toBe('text');
  const failed = await runWithInput(
    host,
    'cat >/dev/null; echo why >&2; exit 5',
    async (stdin) => void stdin.end(),
  );
  expect(failed).toEqual({ exitCode: 5, stderr: 'why' });
  await expect(
    runWithInput(host, 'cat >/dev/null', async () => {
      throw new Error('cannot read it here');
    }).then(({ exitCode }) => {
      if (exitCode !== 0) throw new Error(`ended with ${exitCode}`);
    }),
  ).rejects.toThrow();
  await expect(runWithInput(host, "echo 'quoted'", async () => {})).rejects.toThrow(
    /unsafe for a login shell/,
  );
  expect(await readdir(folder.path)).toEqual(['a b']);
});
