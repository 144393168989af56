import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { jobNameStem, readBatch, readBatchFile } from '../../src/lib/batch/batch-file.ts';
import { UsageError } from '../../src/lib/domain/errors.ts';
import { DEFAULT_REQUEST } from '../../src/lib/domain/request-defaults.ts';

const defaults = {
  request: DEFAULT_REQUEST,
  copyForwards: ['.'],
  shareForwards: ['shared'],
  copyBackwards: 'changed',
} as const;
const options = { path: './example/batch.sh', defaults };
const read = (content: string | Uint8Array) => readBatch(content, options);
const warningsOf = (content: string) =>
  read(content).warnings.map(({ line, message }) => `${line}: ${message}`);

describe('readBatch', () => {
  it('makes one job of each line, and counts blank lines and comments', () => {
    const { lines, warnings } = read('#!/bin/bash\n\necho "a" && b # c\n  \t\n  # note\n  echo ü \n');
    expect(lines.map(({ job }) => job)).toEqual([
      {
        id: 'example_batch.sh.3',
        name: 'example_batch.sh.3',
        line: 3,
        command: 'echo "a" && b # c',
        request: DEFAULT_REQUEST,
        copyForwards: ['.'],
        shareForwards: ['shared'],
        copyBackwards: 'changed',
      },
      expect.objectContaining({ name: 'example_batch.sh.6', line: 6, command: '  echo ü ' }),
    ]);
    expect(warnings).toEqual([]);
  });

  it('tolerates a byte order mark, CRLF and a missing last newline', () => {
    const text = '\uFEFF# x\r\necho a\r\n\r\necho b';
    for (const content of [text, Buffer.from(text)]) {
      expect(read(content).lines.map(({ job }) => [job.line, job.command])).toEqual([
        [2, 'echo a'],
        [4, 'echo b'],
      ]);
    }
  });

  it('parses execute_remote lines; what they say wins', () => {
    const { lines } = read(
      [
        "execute_remote --copy-forwards example1 test.py --copy-backwards example1 --job-name example1 'python test.py example1'",
        "  \texecute_remote --memory-required 2G --no-reserve-gpu 'a; b'",
        "execute_remote --copy-forwards -- 'c'",
        "execute_remote --share-forwards data models --job-name s 'd'",
        "execute_remote --share-forwards -- 'e'",
      ].join('\n'),
    );
    expect(lines.map(({ job }) => job)).toEqual([
      {
        id: 'example1',
        name: 'example1',
        line: 1,
        command: 'python test.py example1',
        request: DEFAULT_REQUEST,
        copyForwards: ['example1', 'test.py'],
        shareForwards: ['shared'],
        copyBackwards: ['example1'],
      },
      {
        id: 'example_batch.sh.2',
        name: 'example_batch.sh.2',
        line: 2,
        command: 'a; b',
        request: { ...DEFAULT_REQUEST, memoryMiB: 2048, reserveGpu: false },
        copyForwards: ['.'],
        shareForwards: ['shared'],
        copyBackwards: 'changed',
      },
      expect.objectContaining({ copyForwards: [], copyBackwards: 'changed', command: 'c' }),
      expect.objectContaining({ copyForwards: ['.'], shareForwards: ['data', 'models'], command: 'd' }),
      expect.objectContaining({ copyForwards: ['.'], shareForwards: [], command: 'e' }),
    ]);
    expect(lines[1]?.text).toBe("  \texecute_remote --memory-required 2G --no-reserve-gpu 'a; b'");
  });

  it('leaves other commands alone whose names only look like it', () => {
    const commands = [
      './execute_remote x',
      'execute_remote_all x',
      'execute_remote=1 x',
      'echo execute_remote "x',
    ];
    expect(read(commands.join('\n')).lines.map(({ job }) => job.command)).toEqual(commands);
  });

  it('warns about a machine in a line', () => {
    expect(warningsOf("true\nexecute_remote --machine m.yaml 'x'")).toEqual([
      "2: the machine 'm.yaml' is ignored: execute_batch chooses the machine of every line",
    ]);
  });

  it.each([
    [
      "execute_remote 'a' && execute_remote 'b'",
      '1:20: found `&&` outside of quotes: an execute_remote line is parsed',
    ],
    ["execute_remote 'a' > out", '1:20: found `>`'],
    ['execute_remote; a', '1:15: found `;`'],
    ["execute_remote 'a' \\", '1:20: found a backslash at the end of the line'],
    ["\n execute_remote --num-cpu 2 'a'", '2: unknown flag --num-cpu: did you mean --num-cpus?'],
    ["execute_remote --job-name a/b 'a'", "1: the job name 'a/b' contains a slash"],
    ["execute_remote --copy-forwards a 'b c'", '1: the command is missing: --copy-forwards takes every word'],
    [
      "execute_remote --job-name x 'a'\nexecute_remote --job-name x 'b'",
      "2: the job name 'x' is taken by line 1",
    ],
    [
      "true\nexecute_remote --job-name example_batch.sh.1 'a'",
      "2: the job name 'example_batch.sh.1' is taken by line 1",
    ],
    ["true\nexecute_remote --job-name example_batch.sh.1.out 'a'", '2: the job name'],
    ['echo a\0b', '1:7: found a NUL byte'],
  ])('refuses %j', (content, message) => {
    expect(() => read(content)).toThrow(UsageError);
    expect(() => read(content)).toThrow(`./example/batch.sh:${message}`);
  });

  it('reports the mistakes of all lines at once, in their order', () => {
    const content = [
      "execute_remote --job-name x 'a'",
      'execute_remote',
      "execute_remote --job-name x 'b'",
      'execute_remote |',
    ];
    expect(() => read(content.join('\n'))).toThrow(
      /^\.\/example\/batch\.sh:2: .*missing.*\n\.\/example\/batch\.sh:3: .*taken by line 1\n\.\/example\/batch\.sh:4:16: found `\|`/,
    );
  });

  it('names the line that is not UTF-8', () => {
    expect(() => read(Buffer.concat([Buffer.from('echo ü\necho '), Buffer.from([0xff, 0x0a])]))).toThrow(
      './example/batch.sh:2: found bytes that are not UTF-8: save the file as UTF-8',
    );
    expect(() => read(Buffer.from('\uFEFFecho a\n', 'utf16le'))).toThrow(
      './example/batch.sh:1: found UTF-16',
    );
  });

  it.each(['', '\n \n', '\uFEFF'])('refuses the empty file %j', (content) => {
    expect(() => read(content)).toThrow(
      'the batch file ./example/batch.sh is empty: expected one command per line',
    );
  });

  it('refuses a file of comments only', () => {
    expect(() => read('# a\n\n')).toThrow('has only blank lines and comments');
  });

  it.each([
    'cd x',
    'cd "my folder" && export A=1',
    'export A=1',
    'A=1',
    'A=1 B="2 3"',
    'set -e',
    'set -euo pipefail; cd x',
    'source venv/bin/activate',
    '. ./env.sh',
    'conda activate torch # the environment',
    'module load cuda',
  ])('warns that %j only sets something', (command) => {
    expect(warningsOf(`true\n${command}\n`)).toEqual([
      expect.stringMatching(/^2: this line only sets something for later lines/),
    ]);
  });

  it.each([
    'cd x && python a.py',
    'A=1 python a.py',
    'export A=1; python a.py',
    'source env.sh && run',
    'settle -e',
    'echo "a; cd x"',
    'A=$(python a.py)b c',
    'cd x | y',
    'echo a \\\\',
    'echo "; execute_remote x"',
  ])('does not warn about %j', (command) => {
    expect(warningsOf(command)).toEqual([]);
  });

  it('warns about a backslash at the end, and about a call that does not begin its line', () => {
    expect(warningsOf('echo a \\')).toEqual([
      '1: the line ends with a backslash, but lines are not joined: each line is a job of its own',
    ]);
    for (const command of ["cd x && execute_remote 'a'", "A=1 execute_remote 'a'"]) {
      expect(warningsOf(command)).toEqual([
        expect.stringContaining('understood only where a line begins with it'),
      ]);
    }
  });

  it('reads long and hostile lines fast', () => {
    const content = [
      `${'A=1'.repeat(50_000)} x`,
      `${'"'.repeat(50_001)}`,
      `${'a;'.repeat(50_000)}`,
      `cd ${' '.repeat(50_000)}|`,
    ];
    expect(read(content.join('\n')).lines).toHaveLength(4); // the test's time limit is the check
  });
});

describe('jobNameStem', () => {
  it.each([
    ['example/batch_script.sh', 'example_batch_script.sh'],
    ['./example/batch_script.sh', 'example_batch_script.sh'],
    ['././a//b.sh', 'a_b.sh'],
    ['a/../b.sh', 'b.sh'],
    ['/data/b.sh', '_data_b.sh'],
    ['../b.sh', '__b.sh'],
    ['.hidden.sh', '_hidden.sh'],
    ['-b.sh', '_b.sh'],
    ['a b\n.sh', 'a b_.sh'],
  ])('%j gives %j', (path, stem) => {
    expect(jobNameStem(path)).toBe(stem);
  });

  it('refuses a path that is too long', () => {
    expect(() => jobNameStem('x'.repeat(192))).toThrow(
      'is too long to name jobs after: expected at most 191 bytes',
    );
  });
});

describe('readBatchFile', () => {
  it('reads a file, and says in one line why it cannot', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'batch-file-'));
    try {
      const path = join(folder, 'b.sh');
      await writeFile(path, 'echo a\n');
      expect((await readBatchFile({ path, defaults })).lines).toHaveLength(1);
      await expect(readBatchFile({ path: `${path}.none`, defaults })).rejects.toThrow(
        `cannot read the batch file ${path}.none: there is no such file; expected a file with one command per line`,
      );
      await expect(readBatchFile({ path: folder, defaults })).rejects.toThrow('it is a folder');
      await expect(readBatchFile({ path: folder, defaults })).rejects.toBeInstanceOf(UsageError);
    } finally {
      await rm(folder, { recursive: true });
    }
  });
});
