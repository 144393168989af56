/** What is asked of a machine about output files, with the tools that it may or may not have. */
import { createHash, randomBytes } from 'node:crypto';
import { appendFile, mkdir, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { machineName } from '../../src/lib/domain/machine.ts';
import { LocalHost } from '../../src/lib/remote/local-host.ts';
import { RequestShell } from '../../src/lib/remote/remote-shell.ts';
import { OutputReader, type OutputSinks } from '../../src/lib/runner/output-reader.ts';
import { scratch } from '../remote/run-over.ts';
import { findProgram } from '../rig/find-program.ts';
import { until } from '../rig/until.ts';

const PLACE = { folder: 'job', number: 1 };
const BOTH = { hasOutput: true, hasErrors: true };

let folder: Awaited<ReturnType<typeof scratch>>;
beforeEach(async () => {
  folder = await scratch();
  await mkdir(join(folder.path, 'job/1'), { recursive: true });
});
afterEach(() => folder[Symbol.asyncDispose]());

const file = (stream: 'out' | 'err') => join(folder.path, 'job/1', stream);

/** A reader of the folder over a shell here. */
async function open(env: NodeJS.ProcessEnv = process.env) {
  const host = new LocalHost(machineName('here'), { home: folder.path, env });
  const shell = await RequestShell.open(host);
  const reader = new OutputReader((step) => step(shell), folder.path, 20);
  return {
    reader,
    async [Symbol.asyncDispose]() {
      reader.close();
      shell.close();
      await host.close();
    },
  };
}

/** Sinks that remember. */
function memory(): OutputSinks & { readonly got: { out: string; err: string } } {
  const got = { out: '', err: '' };
  return {
    got,
    out: (chunk) => {
      got.out += chunk.toString();
    },
    err: (chunk) => {
      got.err += chunk.toString();
    },
  };
}

test('goes on at the given offsets', async () => {
  await using here = await open();
  await writeFile(file('out'), '0123456789');
  await writeFile(file('err'), 'abc');
  const sinks = memory();
  here.reader.follow(PLACE, sinks, { from: { out: 4, err: 3 } });
  await until(() => sinks.got.out === '456789');
  await appendFile(file('err'), 'def');
  expect(await here.reader.finish(PLACE, BOTH)).toEqual({
    out: { bytes: 10, fetchedBytes: 10 },
    err: { bytes: 6, fetchedBytes: 6 },
  });
  expect(sinks.got).toEqual({ out: '456789', err: 'def' });
});

test('fetches nothing beyond the limit, and tells how much there is', async () => {
  await using here = await open();
  await writeFile(file('out'), 'x'.repeat(1_500_000));
  await writeFile(file('err'), 'exactly so');
  const sinks = memory();
  here.reader.follow(PLACE, sinks, { limitBytes: 10 });
  await until(() => sinks.got.out.length > 0);
  await appendFile(file('out'), 'more');
  expect(await here.reader.finish(PLACE, BOTH)).toEqual({
    out: { bytes: 1_500_004, fetchedBytes: 10 },
    err: { bytes: 10, fetchedBytes: 10 },
  });
  expect(sinks.got).toEqual({ out: 'x'.repeat(10), err: 'exactly so' });
});

test('fetches a file again from its beginning, and its end alone', async () => {
  await using here = await open();
  const text = randomBytes(800_000).toString('hex');
  await writeFile(file('err'), text);
  let got = '';
  const sink = (chunk: Buffer) => {
    got += chunk.toString();
  };
  const whole = { bytes: 1_600_000, fetchedBytes: 1_600_000 };
  expect(await here.reader.fetchAgain(PLACE, 'err', { sink, limitBytes: undefined })).toEqual(whole);
  expect(got === text).toBe(true);
  expect((await here.reader.tail(PLACE, 'err', 100)).toString()).toBe(text.slice(-100));
  await expect(here.reader.fetchAgain(PLACE, 'out', { sink, limitBytes: 5 })).rejects.toThrow(
    /cannot be read there/,
  );
});

/** A folder of tools that holds these alone. */
async function toolsOf(names: readonly string[]): Promise<string> {
  const bin = join(folder.path, 'bin');
  await mkdir(bin);
  for (const name of names) await symlink(findProgram(name), join(bin, name));
  return bin;
}

const COMMON = ['sh', 'head', 'wc', 'cat'];
for (const tool of ['sha256sum', 'shasum', 'openssl']) {
  test(`compares by ${tool} where that is there`, async () => {
    const bin = await toolsOf(tool === 'shasum' ? COMMON : [...COMMON, tool]);
    // perl's program, in the words that it prints.
    if (tool === 'shasum')
      await writeFile(
        join(bin, 'shasum'),
        `#!/bin/sh\n[ "$*" = '-a 256' ] && exec ${findProgram('sha256sum')}`,
        {
          mode: 0o755,
        },
      );
    await using here = await open({ PATH: bin });
    await writeFile(file('out'), 'hello world');
    expect(await here.reader.hash(PLACE, 'out', 5)).toEqual({
      bytes: 11,
      sha256: createHash('sha256').update('hello').digest('hex'),
    });
    expect(await here.reader.hash(PLACE, 'err', 5)).toMatchObject({ bytes: 0 });
  });
}

test('tells no hash where nothing can, or something else answers', async () => {
  const bin = await toolsOf(COMMON);
  await using here = await open({ PATH: bin });
  await writeFile(file('out'), 'hello');
  expect(await here.reader.hash(PLACE, 'out', 5)).toEqual({ bytes: 5, sha256: undefined });
  await writeFile(join(bin, 'sha256sum'), '#!/bin/sh\necho "$(evil) ffff"\n', { mode: 0o755 });
  expect(await here.reader.hash(PLACE, 'out', 5)).toEqual({ bytes: 5, sha256: undefined });
});
