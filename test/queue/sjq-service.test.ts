/** A service with an sjq door, asked over a raw socket as the document of the protocol has it. */

import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { readFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import type { ExplainAnswer } from '../../src/lib/queue/requests.ts';
import type { ServiceOptions } from '../../src/lib/queue/service.ts';
import type { SjqOptions } from '../../src/lib/queue/sjq/sjq-options.ts';
import { until } from '../rig/until.ts';
import { RunningService, ServiceFolders } from './running-service.ts';
import { SjqClient } from './sjq-client.ts';
import { input, numbers } from './sjq-inputs.ts';
import { RawClient } from './sjq-rig.ts';

const options = (folders: ServiceFolders, more: Partial<SjqOptions> = {}): SjqOptions => ({
  socketPath: join(folders.root, 'sjq.sock'),
  maxProcs: 4,
  defaultProcs: 1,
  defaultMemMiB: 2048,
  autoshutdown: false,
  waitTimeMs: 60_000,
  ...more,
});

const open = (folders: ServiceFolders, sjq: SjqOptions, more: Partial<ServiceOptions> = {}) =>
  RunningService.open(folders, { sjq, ...more });

/** Runs until the file is there. */
const untilFile = (path: string) =>
  `#!/bin/sh\nfor i in $(seq 2000); do [ -e '${path}' ] && break; sleep 0.05; done\n`;

test('a conversation goes as the document says', async () => {
  using folders = new ServiceFolders();
  const sjq = options(folders);
  await using _ = await open(folders, sjq);
  const cwd = folders.project;
  const go = join(folders.root, 'go');
  using client = await SjqClient.connect(sjq.socketPath);
  expect(await client.ask('PING')).toBe('OK R:0 Q:0 H:0 S:0 F:0 A:0 K:0 U:0 E:0');
  expect(await client.status()).toBe('');
  const first = await client.job(untilFile(go), [`CWD ${cwd}`, 'NAME align reads', 'PROCS 2', 'MEM 1G']);
  const second = await client.job('#!/bin/sh\necho second', [`CWD ${cwd}`, `DEPENDS ${first}`, 'NAME sort']);
  const both = await client.job('#!/bin/sh\necho both', [`CWD ${cwd}`, `DEPENDS ${first}:${second}`]);
  const held = await client.job('#!/bin/sh\necho held', [`CWD ${cwd}`, 'NAME große Datei', 'HOLD']);
  expect([first, second, both, held]).toEqual([1, 2, 3, 4]);
  await client.reaches(first, 'R');
  const lines = `1\talign reads\tR\t\r\n2\tsort\tH\t1\r\n3\tsjqjob\tH\t1:2\r\n4\tgroße Datei\tU\t\r\n`;
  // Bytes are counted, not characters: ß takes two.
  expect(await client.ask('STATUS')).toBe(`OK ${Buffer.byteLength(lines)}`);
  expect((await client.raw.bytes(Buffer.byteLength(lines))).toString()).toBe(lines);
  expect(await client.status(2)).toBe('2\tsort\tH\t1\r\n');
  expect(await client.status(99)).toBe('');
  writeFileSync(go, '');
  await client.reaches(both, 'S');
  expect(readFileSync(join(cwd, '2.stdout'), 'utf8')).toBe('second\n');
  expect(readFileSync(join(cwd, '2.stderr'), 'utf8')).toBe('');
  expect(await client.state(held)).toBe('U');
  expect(await client.ask(`RELEASE ${held}`)).toBe('OK');
  await client.reaches(held, 'S');
  const long = await client.job('#!/bin/sh\nexec sleep 7301', [`CWD ${cwd}`]);
  const child = await client.job('#!/bin/sh\n', [`CWD ${cwd}`, `DEPENDS ${long}`]);
  await client.reaches(long, 'R');
  for (const id of [long, long, held, 99]) expect(await client.ask(`KILL ${id}`)).toBe('OK');
  await client.reaches(long, 'K');
  await client.reaches(child, 'A');
  const failing = await client.job('#!/bin/sh\nexit 3', [`CWD ${cwd}`]);
  await client.reaches(failing, 'F');
  expect(await client.ask('PING')).toBe('OK R:0 Q:0 H:0 S:4 F:1 A:1 K:1 U:0 E:0');
  expect(await client.ask('RELEASE 99')).toBe('OK');
  expect(await client.ask('EXIT')).toBe('OK BYE');
  await client.closed();
});

test('a job has what it was given: variables, folder, files, and each byte of its script', async () => {
  using folders = new ServiceFolders();
  const sjq = options(folders);
  await using running = await open(folders, sjq);
  const cwd = join(folders.root, 'it is ünusual');
  mkdirSync(cwd);
  const read = (name: string) => readFileSync(join(cwd, name));
  using client = await SjqClient.connect(sjq.socketPath);
  const script =
    '#!/bin/sh -u\nprintf "%s\\n" "$A" "$MY_PATH" "$C" "$JOB_ID" "$PWD" "$(printenv HOME)" "grüße 🙂"; echo wörter >&2\n';
  const env = 'ENV A=1,B=2:MY_PATH=/x:/y/z:C=d=e';
  const job = await client.job(script, [`CWD ${cwd}`, env, 'STDOUT out put', `STDERR ${cwd}/errors`]);
  await client.reaches(job, 'S');
  expect(read('out put').toString()).toBe(`1,B=2\n/x:/y/z\nd=e\n${job}\n${cwd}\n${homedir()}\ngrüße 🙂\n`);
  expect(read('errors').toString()).toBe('wörter\n');
  const one = await client.job('#!/bin/sh\necho a; echo b >&2; echo c', [
    `CWD ${cwd}`,
    'STDOUT both',
    'STDERR both',
  ]);
  await client.reaches(one, 'S');
  expect(read('both').toString()).toBe('a\nb\nc\n');
  // No text in any encoding, CRLF and NUL in it, and longer than one read.
  const bytes = Buffer.concat([
    Buffer.from('#!/bin/cat\n'),
    Buffer.from([0xff, 0, 0xc3, 13, 10]),
    Buffer.alloc(300_000, 'ü'),
  ]);
  const odd = await client.job(bytes, [`CWD ${cwd}`, 'STDOUT bytes']);
  await client.reaches(odd, 'S');
  expect(read('bytes').equals(bytes)).toBe(true);
  // What would break our own part of the start: it has none of them.
  const bare = ['ENV PATH=/no/such', 'ENV POSIXLY_CORRECT=1:IFS=x:JOB_ID=17:BASH_ENV=/no/such'];
  const strange = await client.job('#!/bin/sh\necho "$PATH $POSIXLY_CORRECT $JOB_ID"', [
    `CWD ${cwd}`,
    ...bare,
  ]);
  await client.reaches(strange, 'S');
  expect(read(`${strange}.stdout`).toString()).toBe(`/no/such 1 ${strange}\n`);
  // Where nothing is said: the home folder.
  const home = await client.job('#!/bin/sh\npwd');
  await client.reaches(home, 'S');
  expect(readFileSync(join(homedir(), `${home}.stdout`), 'utf8')).toBe(`${homedir()}\n`);
  // Other commands know the same jobs.
  expect(await running.get(odd)).toMatchObject({
    state: 'success',
    machine: 'local',
    outputs: { out: join(cwd, 'bytes') },
  });
  let state = '';
  for await (const item of running.door.stream('export', {})) state += (item as { text: string }).text;
  expect(Object.values(JSON.parse(state).scripts)).toContainEqual({ base64: bytes.toString('base64') });
  for (const [index, text] of [state.slice(0, 1000), state.slice(1000)].entries())
    await running.door.call('import', { index, text, isLast: index === 1 });
  const again = join(cwd, 'bytes');
  rmSync(again);
  await running.door.call('rerun', { ids: [odd] });
  await client.reaches(odd, 'S');
  expect(read('bytes').equals(bytes)).toBe(true);
});

test('first come, first served; what cannot run is skipped; only maxprocs and maxmem count', async () => {
  using folders = new ServiceFolders();
  // Far more than there is: whatever this machine has and does, these are given out.
  const sjq = options(folders, { maxProcs: 1000, maxMemMiB: 2 ** 30, defaultMemMiB: 1 });
  await using _ = await open(folders, sjq);
  const files = (name: string) => join(folders.root, name);
  using client = await SjqClient.connect(sjq.socketPath);
  const cwd = `CWD ${folders.project}`;
  const wide = await client.job(untilFile(files('wide')), [cwd, 'PROCS 600']);
  await client.reaches(wide, 'R');
  const second = await client.job(untilFile(files('second')), [cwd, 'PROCS 401']);
  const large = await client.job(untilFile(files('large')), [cwd, 'PROCS 300', 'MEM 600T']);
  const larger = await client.job('#!/bin/sh\n', [cwd, 'MEM 500T']);
  const small = await client.job('#!/bin/sh\n', [cwd, 'PROCS 100']);
  await client.reaches(small, 'S');
  await client.reaches(large, 'R');
  expect([await client.state(second), await client.state(larger)]).toEqual(['Q', 'Q']);
  writeFileSync(files('wide'), '');
  await client.reaches(second, 'R');
  expect(await client.state(larger)).toBe('Q');
  writeFileSync(files('large'), '');
  await client.reaches(larger, 'S');
  writeFileSync(files('second'), '');
  await client.reaches(second, 'S');
});

test('all that is wrong with a SUBMIT is told in one line, and nothing is submitted', async () => {
  using folders = new ServiceFolders();
  const sjq = options(folders, { maxMemMiB: 4096 });
  await using _ = await open(folders, sjq);
  using client = await SjqClient.connect(sjq.socketPath);
  const all = await client.submit('echo no interpreter', [
    'PROCS 5',
    'MEM 5G',
    'DEPENDS 7:8',
    'CWD /no/such',
    'STDOUT /no/folder/out',
    `STDERR ${folders.root}`,
    'ENV no name',
    'NICE 5',
    'GID x',
    'PROC 3',
  ]);
  expect(all).toBe(
    `ERROR ${[
      "unknown option 'NICE'",
      "unknown option 'PROC' (did you mean PROCS?)",
      'PROCS: the job needs 5 CPUs, and 4 are managed (sjq.maxprocs)',
      'MEM: the job needs 5120M, and 4096M are managed (sjq.maxmem)',
      'DEPENDS: jobs 7, 8: not known',
      "GID: found 'x', expected a whole number from 0",
      'ENV: found text without a name, expected NAME=value:NAME=value',
      'CWD: /no/such does not exist',
      'STDOUT: the folder /no/folder does not exist',
      `STDERR: ${folders.root} is a folder, expected a file`,
      'SRC: the script does not say what runs it: expected a first line such as #!/bin/bash',
    ].join('; ')}`,
  );
  const script = '#!/bin/sh\n';
  for (const [option, reason] of [
    ['PROCS 0', "PROCS: found '0', expected a whole number from 1"],
    ['PROCS 1.5', "PROCS: found '1.5', expected a whole number from 1"],
    ['PROCS', "PROCS: found '', expected a whole number from 1"],
    ['MEM 2X', "MEM: found the size '2X', expected a size such as 8M, 2G"],
    ['DEPENDS 1,2', "DEPENDS: found '1,2', expected ids of jobs with colons between them"],
    ['CWD relative', "CWD: found 'relative', expected an absolute path"],
    ['NAME a\tb', 'NAME: contains a control character'],
    ['MEM 100Mi', "MEM: found the size '100Mi'"],
    ['UID -1', "UID: found '-1', expected a whole number from 0"],
    ['ENV 1B=2:C=3', "ENV: found '1B=', expected NAME=value:NAME=value"],
  ] as const) {
    const answer = await client.submit(script, [option]);
    expect(answer, option).toContain(`ERROR ${reason}`);
  }
  const secret = await client.submit(script, ['ENV PASSWORD hunter2:X=1']);
  expect(secret).toMatch(/^ERROR ENV/);
  expect(secret).not.toContain('hunter2');
  expect(await client.status()).toBe('');
});

test('what cannot be started is an error, and says why', async () => {
  using folders = new ServiceFolders();
  const sjq = options(folders);
  await using running = await open(folders, sjq);
  using client = await SjqClient.connect(sjq.socketPath);
  const cwd = join(folders.root, 'short-lived');
  mkdirSync(cwd);
  const gone = await client.job('#!/bin/sh\n', [`CWD ${cwd}`, 'HOLD']);
  const interpreter = await client.job('#!/no/such/python -u\n', [`CWD ${folders.project}`]);
  const output = await client.job('#!/bin/sh\n', [`CWD ${folders.project}`, `STDOUT ${cwd}/out`, 'HOLD']);
  const own126 = await client.job('#!/bin/sh\necho mine >&2; exit 126', [`CWD ${folders.project}`]);
  rmSync(cwd, { recursive: true });
  for (const id of [gone, output]) await client.ask(`RELEASE ${id}`);
  for (const id of [gone, interpreter, output]) await client.reaches(id, 'E');
  expect((await running.get(interpreter)).reason).toBe('its interpreter /no/such/python is no program here');
  expect((await running.get(gone)).reason).toContain(`${cwd}: No such file or directory`);
  expect((await running.get(output)).reason).toContain(`${cwd}/out: No such file or directory`);
  await client.reaches(own126, 'F');
});

test('jobs outlive the service, and the next one tells how they ended', async () => {
  using folders = new ServiceFolders();
  const sjq = options(folders);
  const go = join(folders.root, 'go');
  let id = 0;
  {
    await using _ = await open(folders, sjq);
    using client = await SjqClient.connect(sjq.socketPath);
    id = await client.job(`${untilFile(go)}echo done`, [`CWD ${folders.project}`]);
    await client.reaches(id, 'R');
    expect(await client.ask('SHUTDOWN')).toBe('OK');
    await client.closed();
  }
  writeFileSync(go, '');
  await using running = await open(folders, sjq);
  using client = await SjqClient.connect(sjq.socketPath);
  await client.reaches(id, 'S');
  expect(readFileSync(join(folders.project, `${id}.stdout`), 'utf8')).toBe('done\n');
  expect(running.notes.join('\n')).toMatch(/adopted on local: /);
});

test('without jobs the service ends, but not under other machines, and not for jobs that can run', async () => {
  using folders = new ServiceFolders();
  const sjq = options(folders, { autoshutdown: true, waitTimeMs: 300 });
  {
    await using _ = await open(folders, { ...sjq, autoshutdown: false });
    using client = await SjqClient.connect(sjq.socketPath);
    const job = await client.job(untilFile(join(folders.root, 'go')), [`CWD ${folders.project}`]);
    const held = await client.job('#!/bin/sh\n', [`CWD ${folders.project}`, 'HOLD']);
    await client.job('#!/bin/sh\n', [`CWD ${folders.project}`, `DEPENDS ${held}`]);
    await client.reaches(job, 'R');
  }
  {
    await using running = await open(folders, sjq);
    await new Promise((done) => setTimeout(done, 1000));
    expect(running.service.isEnding).toBe(false);
    writeFileSync(join(folders.root, 'go'), '');
    expect(await running.service.stopped).toEqual({ running: 0, waiting: 2 });
    expect(running.notes.at(-1)).toMatch(/^no jobs for 0.3 s \(sjq.waittime\): stopping/);
  }
  await using running = await open(folders, sjq, { machines: ['nobody@192.0.2.1'] });
  expect(running.service.machines.names()).toEqual(['nobody@192.0.2.1', 'local']);
  await new Promise((done) => setTimeout(done, 1000));
  expect(running.service.isEnding).toBe(false);
  using client = await SjqClient.connect(sjq.socketPath);
  expect(await client.ask('SHUTDOWN')).toBe('OK');
  await until(() => running.notes.some((note) => note.includes('it is closed; the service goes on')));
  expect(running.service.isEnding).toBe(false);
});

test('jobs of other users need root, and leave to do so', async () => {
  using folders = new ServiceFolders();
  const own = [process.geteuid?.() ?? 0, process.getegid?.() ?? 0];
  const isRoot = own[0] === 0;
  const script = '#!/bin/bash\nid -u; id -g; echo "$HOME"; env | grep -c SECRET_OF_ROOT; head -n 1 "$0"\n';
  const sjq = options(folders);
  {
    await using _ = await open(folders, sjq);
    using client = await SjqClient.connect(sjq.socketPath);
    // The original client always sends its own.
    const ids = [`UID ${own[0]}`, `GID ${own[1]}`];
    const id = await client.job('#!/bin/sh\nid -u', [`CWD ${folders.project}`, ...ids]);
    await client.reaches(id, 'S');
    expect(await client.submit(script, ['UID 65534', 'CWD /'])).toMatch(
      isRoot
        ? /^ERROR UID: found 65534: .* need job_queue start --allow-uid$/
        : /^ERROR UID: .* only one that runs as root/,
    );
  }
  if (!isRoot) return;
  const cwd = join(folders.root, 'theirs');
  mkdirSync(cwd);
  chownSync(cwd, 65534, 65534);
  chmodSync(folders.root, 0o755);
  process.env.SECRET_OF_ROOT = 'x';
  let last = 0;
  try {
    await using running = await open(folders, { ...sjq, allowsUid: true });
    using client = await SjqClient.connect(sjq.socketPath);
    const id = await client.job(script, [`CWD ${cwd}`, 'UID 65534', 'GID 12345']);
    await client.reaches(id, 'S');
    const out = join(cwd, `${id}.stdout`);
    expect(readFileSync(out, 'utf8')).toMatch(/^65534\n12345\n\/\S*\n0\n#!\/bin\/bash\n$/);
    expect(statSync(out)).toMatchObject({ uid: 65534, gid: 12345 });
    // The service's own group is no default for another user: it was asked for.
    const ofRoot = await client.job('#!/bin/sh\nid -g', [`CWD ${cwd}`, 'UID 65534', 'GID 0']);
    await client.reaches(ofRoot, 'S');
    expect(readFileSync(join(cwd, `${ofRoot}.stdout`), 'utf8')).toBe('0\n');
    expect(await client.submit(script, ['UID 65534'])).toBe('ERROR CWD: a job of another user needs one');
    // They write only where they may.
    const closed = await client.job(script, [`CWD ${folders.project}`, 'UID 65534', 'GID 65534']);
    await client.reaches(closed, 'E');
    expect((await running.get(closed)).reason).toContain('Permission denied');
    const long = await client.job('#!/bin/bash\nexec sleep 7302', [`CWD ${cwd}`, 'UID 65534']);
    await client.reaches(long, 'R');
    await client.ask(`KILL ${long}`);
    await client.reaches(long, 'K');
    last = await client.job('#!/bin/sh\n', [`CWD ${cwd}`, 'UID 65534', 'HOLD']);
  } finally {
    delete process.env.SECRET_OF_ROOT;
  }
  // An earlier start allowed it, this one does not: it waits for one that does.
  {
    await using running = await open(folders, sjq);
    expect(running.notes).toContain('1 job of other users: they wait for a start with --allow-uid');
    using client = await SjqClient.connect(sjq.socketPath);
    await client.ask(`RELEASE ${last}`);
    const other = await client.job('#!/bin/sh\n', [`CWD ${folders.project}`]);
    await client.reaches(other, 'S');
    expect(await client.state(last)).toBe('Q');
    const { reasons } = (await running.door.call('explain', { id: last })) as ExplainAnswer;
    expect(reasons).toEqual([expect.stringContaining('--allow-uid')]);
  }
  await using _ = await open(folders, { ...sjq, allowsUid: true });
  using client = await SjqClient.connect(sjq.socketPath);
  await client.reaches(last, 'S');
});

test('as long as a job has root’s rights, nothing that its client said is in force, and all of it later', async () => {
  if (process.geteuid?.() !== 0) return; // nobody else can give rights away
  using folders = new ServiceFolders();
  const sjq = options(folders, { allowsUid: true });
  await using _ = await open(folders, sjq);
  const cwd = join(folders.root, 'theirs');
  mkdirSync(join(cwd, 'bin'), { recursive: true });
  chmodSync(folders.root, 0o755);
  for (const program of ['getent', 'chown', 'setpriv', 'bash', 'cat', 'evil'])
    writeFileSync(join(cwd, 'bin', program), `#!/bin/sh\nid -u >>'${cwd}/who'\n`, { mode: 0o755 });
  chownSync(cwd, 65534, 65534);
  using client = await SjqClient.connect(sjq.socketPath);
  const env = {
    PATH: `${cwd}/bin:/usr/bin:/bin`,
    BASH_ENV: `${cwd}/bin/evil`,
    ...{
      name: 'n',
      user: 'u',
      uid: '7',
      gid: '8',
      group: 'g',
      groups: 'gs',
      home: 'h',
      shell: 's',
      HOME: '/h',
    },
  };
  const lines = Object.entries(env).map(([name, value]) => `ENV ${name}=${value}`);
  const script =
    '#!/usr/bin/env -S /bin/sh\nfor n in PATH BASH_ENV name user uid gid group groups home shell HOME; do eval "echo \\$$n"; done\n';
  const id = await client.job(script, [`CWD ${cwd}`, 'UID 65534', ...lines]);
  await client.reaches(id, 'S');
  // Not on a command line either, where everybody could read it, however long its files take to open.
  execFileSync('mkfifo', [join(cwd, 'fifo')]);
  chownSync(join(cwd, 'fifo'), 65534, 65534);
  const secret = [
    'ENV TOKEN=hunter2',
    `ENV LONG=${'x'.repeat(100_000)}`,
    `ENV LONGER=${'y'.repeat(100_000)}`,
  ];
  const slow = await client.job('#!/bin/sh\nprintf %s "$LONG" "$LONGER" | wc -c\n', [
    `CWD ${cwd}`,
    'UID 65534',
    'STDOUT fifo',
    ...secret,
  ]);
  await client.reaches(slow, 'R');
  for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    const line = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '');
    expect(line).not.toContain('hunter2');
  }
  expect(readFileSync(join(cwd, 'fifo'), 'utf8')).toBe('200000\n');
  await client.reaches(slow, 'S');
  const out = readFileSync(join(cwd, `${id}.stdout`), 'utf8');
  expect(out).toBe(`${Object.values(env).join('\n')}\n`);
  expect(existsSync(join(cwd, 'who')) ? readFileSync(join(cwd, 'who'), 'utf8') : '').not.toContain('0\n');
});

test('what can never run here does not keep the service; without its own machine it takes nothing', async () => {
  using folders = new ServiceFolders();
  const sjq = options(folders, { maxProcs: 50 });
  let go = join(folders.root, 'go');
  {
    await using running = await open(folders, sjq);
    using client = await SjqClient.connect(sjq.socketPath);
    await client.reaches(await client.job(untilFile(go), ['PROCS 20', `CWD ${folders.project}`]), 'R');
    await client.job('#!/bin/sh\n', ['PROCS 40', `CWD ${folders.project}`]);
    expect(await client.state(2)).toBe('Q');
    await running.leave();
  }
  {
    await using running = await open(folders, { ...sjq, maxProcs: 4, autoshutdown: true, waitTimeMs: 200 });
    using client = await SjqClient.connect(sjq.socketPath);
    // Somebody who is about to submit has a job.
    client.raw.send('SUBMIT\r\nNAME half\r\n');
    writeFileSync(go, '');
    await running.reaches(1, 'success');
    await new Promise((done) => setTimeout(done, 500));
    expect(running.service.isEnding).toBe(false);
    client[Symbol.dispose]();
    expect(await running.service.stopped).toEqual({ running: 0, waiting: 1 });
  }
  go = '';
  await using running = await open(folders, sjq);
  using client = await SjqClient.connect(sjq.socketPath);
  await client.reaches(2, 'S');
  await running.door.call('remove-machine', { name: 'local', how: 'wait' });
  expect(await client.submit('#!/bin/sh\n')).toBe(
    "ERROR It runs on the service's own machine, which is not here: job_queue add-machine local adds it.",
  );
  const file = join(folders.root, 'm.yaml');
  writeFileSync(file, 'name: local\nhost: 127.0.0.9\n');
  await running.door.call('add-machine', { names: [file], skipCheck: true });
  expect(await client.submit('#!/bin/sh\n')).toMatch(/^ERROR It runs on the service's own machine/);
  await running.leave();
  await expect(open(folders, sjq)).rejects.toThrow(/another one is called local \(127\.0\.0\.9\)/);
});

test('a script that is as long as one may be, of characters that JSON writes long, comes through an export', async () => {
  using folders = new ServiceFolders();
  const sjq = options(folders);
  await using running = await open(folders, sjq);
  using client = await SjqClient.connect(sjq.socketPath);
  const script = Buffer.concat([
    Buffer.from('#!/bin/sh\n#'),
    Buffer.alloc(4 * 1024 * 1024 - 14, 1),
    Buffer.from('\u{1f600}'),
  ]);
  await client.job(script.subarray(0, 4 * 1024 * 1024), ['HOLD']);
  let state = '';
  for await (const item of running.door.stream('export', {})) state += (item as { text: string }).text;
  expect(Object.keys(JSON.parse(state).scripts)).toHaveLength(1);
});

test('hostile clients do not stop the service, nor what others have it do', async () => {
  using folders = new ServiceFolders();
  const sjq = options(folders, { maxProcs: 2 });
  await using _ = await open(folders, sjq);
  using client = await SjqClient.connect(sjq.socketPath);
  await client.job('#!/bin/sh\n', ['HOLD']); // what they send may well kill number 1
  const job = await client.job(untilFile(join(folders.root, 'go')), [`CWD ${folders.project}`]);
  await client.reaches(job, 'R');
  const below = numbers(11);
  for (let round = 0; round < 20; round++) {
    using hostile = await RawClient.connect(sjq.socketPath);
    // Now and then what they send is a job; these are held, so that no nonsense is run.
    for (let left = 100; left > 0 && !hostile.hasEnded; left--)
      hostile.send(
        input(below).toString('latin1').replaceAll('\nSRC', '\nHOLD\r\nSRC').replaceAll('RELEASE', 'KILL'),
      );
    if (round % 2 === 0) hostile.socket.end();
    await client.ask('PING');
  }
  // It takes a while until all has been read.
  const own = await client.job('#!/bin/sh\n', [`CWD ${folders.project}`]);
  await client.reaches(own, 'S');
  expect(await client.state(job)).toBe('R');
  writeFileSync(join(folders.root, 'go'), '');
  await client.reaches(job, 'S');
});
