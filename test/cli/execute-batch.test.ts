/** execute_batch from the outside, on real ssh servers and on this machine: lines, names, results, exit codes. */
import { cp, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { runCommand, runOrThrow } from '../rig/command.ts';
import { TestHosts } from '../rig/test-hosts.ts';
import { linesOf, Project, TINY, TINY_CPU, withoutFacts } from './run-command.ts';

const TWO_GPUS = [{ memoryTotalMiB: 8000 }, { memoryTotalMiB: 8000 }];
const NOISY_BASHRC = `seq 1 3000
echo 'printed by .bashrc' >&2
sleep 1
export FROM_BASHRC='set in .bashrc'
export PATH="$HOME/tools:$PATH"
`;

let hosts: TestHosts;

beforeAll(async () => {
  hosts = await TestHosts.start([
    { name: 'gpubox', gpus: TWO_GPUS },
    { name: 'plain' },
    { name: 'noisy', bashrc: NOISY_BASHRC },
  ]);
});
afterAll(() => hosts.close());

describe.concurrent('the seed’s example', () => {
  test('prints the lines that users and scripts know', async () => {
    await using project = await Project.start();
    await project.machine(hosts.get('gpubox'), '', 'my_machine.yaml');
    await project.write('example/batch_script.sh', [
      'echo "one job"',
      'echo "jobs will tell you if they fail" && exit 1',
      'echo "already there"',
      'echo "another job" && echo "a combined job (bash syntax applies)"',
      'bash local.sh && echo "you can also call local files because they are copied by the remote"',
    ]);
    await project.write('job_results/example_batch_script.sh.3/weights.txt', 'from an earlier run');
    const args = ['example/batch_script.sh', '--machines', 'my_machine.yaml'];
    const { stdout, stderr, exitCode } = await project.batch(
      ...args,
      '--memory-required=200',
      '--num-cpus=.1',
    );

    const lines = withoutFacts(stdout);
    expect(lines.slice(0, 3)).toEqual([
      "machine limits:  {'my_machine.yaml': 2}",
      'machine gpu choices: [[0, 1]]',
      'WARNING: job results already exists for line 3, skipping evaluation: delete if you wish to rerun (example_batch_script.sh.3 has no manifest: it may not be whole)',
    ]);
    const started = lines.filter((line) => line.startsWith('started: '));
    // Two at once: which of them is heard of first is up to the machine.
    expect(started.slice(0, 2).sort()).toEqual([
      'started: example_batch_script.sh.1;  export CUDA_VISIBLE_DEVICES=0 && echo "one job"',
      'started: example_batch_script.sh.2;  export CUDA_VISIBLE_DEVICES=1 && echo "jobs will tell you if they fail" && exit 1',
    ]);
    for (const later of started.slice(2))
      expect(later).toMatch(/^started: \S+\.[45]; {2}export CUDA_VISIBLE_DEVICES=[01] && /);
    expect(lines).toContain('finished: example_batch_script.sh.1; echo "one job"');
    expect(lines).toContain(
      'failed: example_batch_script.sh.2; echo "jobs will tell you if they fail" && exit 1',
    );
    expect(lines).toContain(
      'finished: example_batch_script.sh.4; echo "another job" && echo "a combined job (bash syntax applies)"',
    );
    expect(stdout).toMatch(
      /^failed: example_batch_script\.sh\.5; .* \(exited 127, my_machine\.yaml, [\d.]+m?s\)$/m,
    );
    expect(lines).toHaveLength(3 + 4 + 4);
    // Two failed, and a folder without a manifest is no good result.
    expect(exitCode).toBe(3);
    expect(stderr).toContain(
      'execute_batch: 2 done, 2 failed, 1 skipped (1 without a good result), 0 not run in ',
    );
    expect(await project.read('job_results/example_batch_script.sh.3/weights.txt')).toBe(
      'from an earlier run',
    );
    expect(await project.read('job_results/example_batch_script.sh.2.out')).toBe(
      'jobs will tell you if they fail\n',
    );
    expect(await project.read('job_results/example_batch_script.sh.5.err')).toContain('local.sh');
    expect(stdout + stderr).not.toContain('\x1b');
  });

  test('runs the execute_remote lines of the seed: own files, own names, one machine-less call each', async () => {
    await using project = await Project.start(hosts);
    await project.write(
      'test.py',
      'import sys; open(sys.argv[1] + "/made", "w").write("by " + sys.argv[1])\n',
    );
    await project.write('example1/data', '1');
    await project.write('example2/data', '2');
    await project.write('not-sent', 'x');
    // Python need not be there: sh stands for it.
    const line = (name: string) =>
      `execute_remote --copy-forwards ${name} test.py --copy-backwards ${name} --job-name ${name} 'ls; cat ${name}/data; echo by ${name} > ${name}/made'`;
    await project.write('batch.sh', [line('example1'), line('example2')]);
    const { stdout, exitCode } = await project.batch('batch.sh', '--machines', 'gpubox.yaml', ...TINY);
    expect(exitCode).toBe(0);
    expect(withoutFacts(stdout)).toContain(
      'started: example1;  export CUDA_VISIBLE_DEVICES=0 && ls; cat example1/data; echo by example1 > example1/made',
    );
    for (const [name, data] of [
      ['example1', '1'],
      ['example2', '2'],
    ] as const) {
      expect(await project.read(`job_results/${name}.out`)).toBe(`${name}\ntest.py\n${data}`);
      expect(await project.list(`job_results/${name}/${name}`)).toEqual(['data', 'made']);
      expect(await project.read(`job_results/${name}/${name}/made`)).toBe(`by ${name}\n`);
    }
  });

  test('own flags of an execute_remote line win, a machine there is ignored with a warning', async () => {
    await using project = await Project.start(hosts);
    await project.write('batch.sh', [
      "execute_remote --machine elsewhere.yaml --no-gpu-required --job-name cpu 'echo [$CUDA_VISIBLE_DEVICES]'",
      "execute_remote --num-gpus 2 --memory-required 20M --job-name both 'echo [$CUDA_VISIBLE_DEVICES]'",
      "execute_remote --copy-forwards -- 'ls -A | wc -l'",
      'ls -A | wc -l',
    ]);
    await project.write('only', '');
    const args = ['batch.sh', '--machines', 'gpubox.yaml', ...TINY, '--copy-forwards', 'only'];
    const { stderr, exitCode } = await project.batch(...args);
    expect(exitCode).toBe(0);
    expect(stderr).toContain(
      "batch.sh:1: the machine 'elsewhere.yaml' is ignored: execute_batch chooses the machine of every line",
    );
    expect(await project.read('job_results/cpu.out')).toBe('[]\n');
    expect(await project.read('job_results/both.out')).toBe('[0,1]\n');
    expect((await project.manifest('both')).request).toMatchObject({ gpus: 2, memory_mib: 20 });
    expect(await project.read('job_results/batch.sh.3.out')).toBe('0\n');
    expect(await project.read('job_results/batch.sh.4.out')).toBe('1\n');
  });
});

test('the examples run on this machine as the README says', async () => {
  await using project = await Project.start();
  await cp('examples', join(project.path, 'examples'), { recursive: true });
  const flags = ['--machines', 'local', '--no-gpu-required', '--memory-required', '50', '--num-cpus', '0.1'];
  const { stdout, exitCode } = await project.batch(
    'examples/quickstart.sh',
    ...flags,
    '--copy-forwards',
    'examples',
  );
  expect(exitCode, stdout).toBe(0);
  expect(await project.list('job_results/examples_quickstart.sh.3')).not.toEqual([]);
});

describe.concurrent('jobs', () => {
  test('a line runs under bash exactly as it stands', async () => {
    await using project = await Project.start(hosts);
    const lines = [
      `printf '%s|' "a  b" 'c"d' e\\ f '$HOME' "\${UNSET-unset}" '%d' '#1'; echo # not this`,
      '[[ a == a ]] && echo <(true) | grep -c /dev/fd && (exit 3) || echo "then $?"',
      'echo früh; echo 日本語 "$HOME" >/dev/null; echo $((3 * 4)) {1..3}',
      'echo one & wait; echo two >&2',
      'cat; echo "stdin is empty"; readlink /proc/self/fd/0',
      '  echo leading blanks; echo "tab	inside"',
    ];
    await project.write('batch.sh', ['# a comment', '', ...lines]);
    const { exitCode } = await project.batch('batch.sh', '--machines', 'plain.yaml', ...TINY_CPU);
    expect(exitCode).toBe(0);
    for (const [index, line] of lines.entries()) {
      const here = await runCommand('bash', ['-c', line]);
      const name = `job_results/batch.sh.${index + 3}`;
      const fdsApart = (text: string) => text.replace(/\/dev\/fd\/\d+/g, '/dev/fd/N');
      expect(await project.read(`${name}.err`)).toBe(here.stderr);
      if (index === 4) expect(await project.read(`${name}.out`)).toBe('stdin is empty\n/dev/null\n');
      else expect(fdsApart(await project.read(`${name}.out`))).toBe(fdsApart(here.stdout));
    }
  });

  test('names: ./ is dropped, / becomes _, the line number counts blank lines and comments', async () => {
    await using project = await Project.start(hosts);
    await project.write('sub/deep/batch.sh', ['#!/bin/bash', 'echo $JOB_NAME', '', '   ', 'echo $JOB_NAME']);
    const { exitCode } = await project.batch('./sub/deep/batch.sh', '--machines', 'local', ...TINY_CPU);
    expect(exitCode).toBe(0);
    expect(await project.list('job_results')).toEqual(
      ['sub_deep_batch.sh.2', 'sub_deep_batch.sh.5'].flatMap((name) =>
        ['', '.err', '.json', '.out'].map((ending) => name + ending),
      ),
    );
    expect(await project.read('job_results/sub_deep_batch.sh.5.out')).toBe('sub_deep_batch.sh.5\n');
  });

  test('a byte order mark and CRLF are tolerated', async () => {
    await using project = await Project.start(hosts);
    await project.write('batch.sh', '\ufeffecho first\r\n\r\n# comment\r\necho "last"');
    const { exitCode } = await project.batch('batch.sh', '--machines', 'plain.yaml', ...TINY_CPU);
    expect(exitCode).toBe(0);
    expect(await project.read('job_results/batch.sh.1.out')).toBe('first\n');
    expect(await project.read('job_results/batch.sh.4.out')).toBe('last\n');
  });

  test('results: output byte for byte, what changed in the job’s folder, and a manifest', async () => {
    await using project = await Project.start(hosts);
    await project.write('data/in.txt', 'unchanged');
    await project.write('code.sh', 'echo "# changed" >> code.sh; exit', 0o755);
    await runOrThrow(
      'bash',
      ['-c', 'git init -q && git add -A && git -c user.name=t -c user.email=t@t commit -qm first'],
      { cwd: project.path },
    );
    const commit = (await runOrThrow('git', ['rev-parse', 'HEAD'], { cwd: project.path })).trim();
    const command =
      'printf "\\000\\377\\303" ; printf err >&2; ./code.sh; mkdir -p out/empty; ln -s ../data/in.txt out/link; exit 7';
    await project.write('batch.sh', [command]);
    const { exitCode } = await project.batch('batch.sh', '--machines', 'plain.yaml', ...TINY_CPU);
    expect(exitCode).toBe(1);
    const out = await readFile(join(project.path, 'job_results/batch.sh.1.out'));
    expect([...out]).toEqual([0, 0xff, 0xc3]);
    expect(await project.read('job_results/batch.sh.1.err')).toBe('err');
    expect(await project.list('job_results/batch.sh.1')).toEqual(['code.sh', 'out']);
    expect(await project.list('job_results/batch.sh.1/out')).toEqual(['empty', 'link']);
    expect(await project.list('job_results')).toEqual(
      ['', '.err', '.json', '.out'].map((e) => `batch.sh.1${e}`),
    );
    const version = (JSON.parse(await readFile('package.json', 'utf8')) as { version: string }).version;
    const manifest = await project.manifest('batch.sh.1');
    expect(manifest).toMatchObject({
      schema: 1,
      name: 'batch.sh.1',
      command,
      line: 1,
      machine: 'plain.yaml',
      gpus: [],
      request: { memory_mib: 10, cpu_cores: 0.01, gpus: 0 },
      attempt: 1,
      outcome: 'exited',
      exit_code: 7,
      out_bytes: 3,
      err_bytes: 3,
      git: { commit, dirty: true },
      tool_version: version,
    });
    for (const key of ['started_at', 'ended_at']) {
      expect(manifest[key]).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
    }
  });

  test('see the user’s login environment, however noisy and slow the shell’s start files are', async () => {
    const noisy = hosts.get('noisy');
    const profile = 'echo from .profile; export FROM_PROFILE="set in .profile"; . ~/.bashrc';
    await noisy.exec(
      `printf '%s\\n' '${profile}' > ~/.profile; mkdir -p ~/tools; printf '#!/bin/sh\\necho a tool of my own\\n' > ~/tools/mytool; chmod +x ~/tools/mytool`,
    );
    await using project = await Project.start(hosts);
    await project.write('batch.sh', ['echo "$FROM_BASHRC, $FROM_PROFILE"', 'mytool']);
    const { stdout, stderr, exitCode } = await project.batch(
      'batch.sh',
      '--machines',
      'noisy.yaml',
      ...TINY_CPU,
    );
    expect(stderr).not.toContain('warning');
    expect(exitCode).toBe(0);
    expect(await project.read('job_results/batch.sh.1.out')).toBe('set in .bashrc, set in .profile\n');
    expect(await project.read('job_results/batch.sh.2.out')).toBe('a tool of my own\n');
    expect(linesOf(stdout)).toHaveLength(2 + 2 + 2);
  });

  test('JOB_NAME, JOB_ID, JOB_ATTEMPT, MACHINE_NAME and the CUDA variables', async () => {
    await using project = await Project.start(hosts);
    const command =
      'echo "$JOB_NAME $JOB_ATTEMPT $MACHINE_NAME $CUDA_VISIBLE_DEVICES $CUDA_DEVICE_ORDER [$JOB_ID]"';
    await project.write('batch.sh', [command]);
    expect((await project.batch('batch.sh', '--machines', 'gpubox.yaml', ...TINY)).exitCode).toBe(0);
    expect(await project.read('job_results/batch.sh.1.out')).toMatch(
      /^batch\.sh\.1 1 gpubox\.yaml 0 PCI_BUS_ID \[.+\]\n$/,
    );
  });

  test('what a job leaves behind is ended, and told', async () => {
    await using project = await Project.start(hosts);
    const command = 'sleep 4711 & (trap "" TERM; exec sleep 4712) & disown -a; echo done';
    await project.write('batch.sh', [command]);
    const { stdout, exitCode } = await project.batch('batch.sh', '--machines', 'plain.yaml', ...TINY_CPU);
    expect(exitCode).toBe(0);
    expect(stdout).toMatch(/^finished: batch\.sh\.1; .*2 left-behind processes ended\)$/m);
    expect((await project.manifest('batch.sh.1')).left_behind).toBe(2);
    const living = (await hosts.get('plain').processes()).map(({ commandLine }) => commandLine);
    expect(living.filter((line) => /sleep 471[12]/.test(line))).toEqual([]);
  });

  test('40 jobs run at once on one host with sshd’s default MaxSessions', async () => {
    await using project = await Project.start(hosts);
    // Each job waits until all 40 run: fewer at once would end in failures.
    const command =
      'touch ~/all40.$JOB_NAME; for i in $(seq 150); do set -- ~/all40.*; [ $# -ge 40 ] && exit 0; sleep 0.1; done; exit 1';
    await project.write('batch.sh', Array<string>(40).fill(command));
    const { stdout, exitCode } = await project.batch('batch.sh', '--machines', 'plain.yaml', ...TINY_CPU);
    expect(linesOf(stdout).filter((line) => line.startsWith('finished: '))).toHaveLength(40);
    expect(exitCode).toBe(0);
  });
});

describe.concurrent('results that exist', () => {
  test('a line with a result is skipped, failed or good; another command of that name is refused', async () => {
    await using project = await Project.start(hosts);
    await project.write('batch.sh', ['echo good', 'exit 1']);
    const args = ['batch.sh', '--machines', 'plain.yaml', ...TINY_CPU];
    expect((await project.batch(...args)).exitCode).toBe(1);
    await project.write('batch.sh', ['echo good', 'exit 1', 'echo third']);
    const again = await project.batch(...args);
    const warning = (line: number) =>
      `WARNING: job results already exists for line ${line}, skipping evaluation: delete if you wish to rerun`;
    expect(linesOf(again.stdout).slice(2, 4)).toEqual([warning(1), warning(2)]);
    expect(again.stdout).toContain('finished: batch.sh.3; echo third');
    expect(again.stdout).not.toContain('started: batch.sh.1;');
    expect(again.exitCode).toBe(1);
    // All skipped: no machine is asked.
    const third = await project.batch('batch.sh', '--machines', 'nobody@nowhere.invalid', ...TINY_CPU);
    expect(linesOf(third.stdout)).toEqual([warning(1), warning(2), warning(3)]);
    expect(third.exitCode).toBe(1);

    await project.write('batch.sh', ['echo other', 'exit 1', 'echo third']);
    const refused = await project.batch(...args);
    expect(refused.exitCode).toBe(255);
    expect(refused.stdout).toBe('');
    expect(refused.stderr).toContain('is the result of another command');
    expect(refused.stderr).toContain('there: echo good');
    expect(refused.stderr).toContain('here:  echo other');
    expect(await project.read('job_results/batch.sh.1.out')).toBe('good\n');
  });

  test('a manifest that cannot be read is named', async () => {
    await using project = await Project.start();
    await project.write('batch.sh', ['true']);
    await project.write('job_results/batch.sh.1.json', '{ "command": ');
    const { exitCode, stderr } = await project.batch('batch.sh', '--machines', 'local', ...TINY_CPU);
    expect(exitCode).toBe(255);
    expect(stderr).toMatch(/job_results\/batch\.sh\.1\.json: cannot be read as a result's manifest/);
  });

  test('--results names another folder, and it is not sent', async () => {
    await using project = await Project.start(hosts);
    await project.write('batch.sh', ['ls -A > seen; cat seen']);
    await project.write('other/dir/earlier', '');
    const args = ['--machines', 'plain.yaml', ...TINY_CPU, '--results', 'other/dir'];
    expect((await project.batch('batch.sh', ...args)).exitCode).toBe(0);
    expect(await project.list('other/dir/batch.sh.1')).toEqual(['seen']);
    expect(await project.read('other/dir/batch.sh.1.out')).not.toContain('job_results');
    expect(project.has('job_results')).toBe(false);
  });
});

describe.concurrent('exit codes and reports', () => {
  test('the number of lines without a good result, 101 for more than 100', async () => {
    await using project = await Project.start(hosts);
    await project.write('three.sh', ['true', 'exit 1', 'kill -9 $$', 'exit 200']);
    await project.write('many.sh', Array<string>(102).fill('exit 1'));
    const args = ['--machines', 'plain.yaml', ...TINY_CPU];
    const three = await project.batch('three.sh', ...args);
    expect(three.exitCode).toBe(3);
    expect(three.stdout).toMatch(/^failed: three\.sh\.3; kill -9 \$\$ \(exited 137 \(SIGKILL\), /m);
    expect((await project.manifest('three.sh.3')).exit_code).toBe(137);
    expect((await project.batch('many.sh', ...args)).exitCode).toBe(101);
  });

  test('--joblog writes the columns of GNU parallel, + appends, and the file is not sent back', async () => {
    await using project = await Project.start(hosts);
    await project.write('a.sh', ['echo a', 'exit 3']);
    await project.write('b.sh', ['echo "tab	and more"']);
    const args = ['--machines', 'plain.yaml', ...TINY_CPU, '--joblog'];
    await project.batch('a.sh', ...args, 'jobs.log');
    await project.batch('b.sh', ...args, '+jobs.log');
    const [header, ...rows] = linesOf(await project.read('jobs.log'));
    expect(header).toBe('Seq\tHost\tStarttime\tJobRuntime\tSend\tReceive\tExitval\tSignal\tCommand');
    const cells = rows.map((row) => row.split('\t')).sort();
    expect(
      cells.map(([seq, host, , , , , exit, signal, ...command]) => [
        seq,
        host,
        exit,
        signal,
        command.join('\t'),
      ]),
    ).toEqual([
      ['1', 'plain.yaml', '0', '0', 'echo a'],
      ['1', 'plain.yaml', '0', '0', 'echo "tab	and more"'],
      ['2', 'plain.yaml', '3', '0', 'exit 3'],
    ]);
    for (const [, , start, runtime] of cells) {
      expect(Math.abs(Number(start) - Date.now() / 1000)).toBeLessThan(120);
      expect(Number(runtime)).toBeGreaterThanOrEqual(0);
    }
  });

  test('--json prints one event per line with the schema’s version, and nothing else on stdout', async () => {
    await using project = await Project.start(hosts);
    await project.write('batch.sh', ['echo "\x1b[31mred"', 'exit 2']);
    const { stdout, stderr, exitCode } = await project.batch(
      'batch.sh',
      '--machines',
      'gpubox.yaml',
      ...TINY,
      '--json',
    );
    const events = linesOf(stdout).map((line) => JSON.parse(line) as Record<string, unknown>);
    expect(
      events.every(
        (event) => event.schema === 1 && typeof event.type === 'string' && Number(event.at) > 1e12,
      ),
    ).toBe(true);
    const types = events.map(({ type }) => type);
    expect(types.filter((type) => type === 'job:started' || type === 'job:ended')).toHaveLength(4);
    expect(types.indexOf('machine:queried')).toBeLessThan(types.indexOf('batch:started'));
    expect(types.at(-1)).toBe('batch:ended');
    expect(events.find((event) => event.type === 'job:ended' && event.line === 2)).toMatchObject({
      job: 'batch.sh.2',
      machine: 'gpubox.yaml',
      outcome: { type: 'exited', exitCode: 2 },
    });
    expect(stdout + stderr).not.toContain('\x1b');
    expect(exitCode).toBe(1);
  });

  test('--verbose also prints what the jobs print, and where they run', async () => {
    await using project = await Project.start(hosts);
    await project.write('batch.sh', ['echo to out; printf "no newline" >&2']);
    const { stdout, stderr } = await project.batch(
      'batch.sh',
      '--machines',
      'gpubox.yaml',
      ...TINY,
      '--verbose',
    );
    expect(linesOf(stdout)).toContain('batch.sh.1: to out');
    expect(linesOf(stderr)).toContain('batch.sh.1: no newline');
    expect(stderr).toContain('batch.sh.1 runs on gpubox.yaml (GPU 0, 0.01 cores, 10 MiB)');
    expect(stderr).toMatch(/gpubox\.yaml: .*GPU 1 8000 of 8000 MiB free, 0 % busy; 2 jobs at once/);
  });

  test('on a terminal a footer shows and goes; elsewhere there are no escape codes', async () => {
    await using project = await Project.start(hosts);
    await project.write('batch.sh', ['sleep 2', 'sleep 2']);
    const line = `stty rows 12 cols 90; execute_batch batch.sh --machines plain.yaml ${TINY_CPU.join(' ')}`;
    await project.write('on-terminal.sh', `${line}\n`);
    const inside = `execute_batch() { '${process.execPath}' '${process.cwd()}/dist/cli/execute-batch.js' --ssh-config '${project.sshConfigPath}' "$@"; }; . ./on-terminal.sh`;
    await project.write('inside.sh', `${inside}\n`);
    const flags =
      process.platform === 'linux' ? "-qec 'bash inside.sh' /dev/null" : '-q /dev/null bash inside.sh';
    const { stdout, exitCode } = await project.startShell(`script ${flags} </dev/null`, {
      env: { TERM: 'xterm' },
    }).ended;
    expect(exitCode).toBe(0);
    expect(stdout).toMatch(/0 done, 0 failed, 2 running, 0 waiting; \d+s/);
    expect(stdout).toMatch(/^ {2}plain\.yaml: batch\.sh\.[12], batch\.sh\.[12]\r?$/m);
    expect(stdout).toContain('\x1b[');
    // Nothing is drawn behind the summary, and the footer was cleared before it.
    const end = stdout.slice(stdout.lastIndexOf('execute_batch: 2 done, 0 failed'));
    expect(end).not.toContain('waiting');
    expect(end).not.toContain('\x1b[');
  });
});
