/** What is drawn for what is known and the room there is. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { FollowedOutput } from '../../../src/cli/watch/followed-output.ts';
import { lineWidth, paintLine, plainLine } from '../../../src/cli/watch/line.ts';
import { FIRST_STATE, type Mode } from '../../../src/cli/watch/state.ts';
import { type Picture, seenIn, viewLines } from '../../../src/cli/watch/view.ts';
import type { OverviewJob, OverviewJobs, OverviewMachine } from '../../../src/lib/domain/overview.ts';
import { textWidth } from '../../../src/lib/util/terminal-text.ts';
import { job, NOW, overviewOf, sampleOverview } from './sample.ts';

const base: Picture = {
  title: 'queue on desk (/home/ann/.local/share/job_queue)',
  actions: ['hold', 'release', 'kill'],
  now: NOW,
  state: { ...FIRST_STATE, selected: { id: '18', section: 'running', index: 1 } },
  overview: sampleOverview(),
  away: undefined,
  events: [
    { at: NOW - 120_000, text: 'job 15: running -> success' },
    { at: NOW, text: 'job 18: queued -> running on cpubox' },
  ],
};

const SIZE = { columns: 79, rows: 24 };
const drawn = (picture: Partial<Picture>, columns = 79, rows = 24) =>
  viewLines({ ...base, ...picture }, { columns, rows }).map((spans) => plainLine(spans).trimEnd());
const mode = (own: Mode) => ({ state: { ...base.state, mode: own } });

describe('the list', () => {
  test('80x24', () => {
    expect(drawn({}).join('\n')).toBe(`\
queue on desk (/home/ann/.local/share/job_queue)                       14:05:09
2 running  1 queued  1 held  1 waiting for others  1 failed  1 done
MACHINES 3
  gpubox  cpu [###===--] 6/8      mem [##=-----] 20/62G     1 job
    gpu0 [###=] 100% mem [#==-] 16/24G   gpu1 [###=] 100% mem [#==-] 16/24G
  cpubox  cpu [########] 128/128  mem [###-----] 300/900M   1 job  draining ...
  attic   away  2 jobs  no answer for 30s
RUNNING 2
  17 train_17  gpubox gpu 0,1   1h02m
      epoch 4/10 loss 0.31
> 18 train_18  cpubox              5s
WAITING 3
  19 train_19  no machine has 2 GPUs free
  20 train_20  held
  21 train_21  waits for job 17
ENDED 2
  16 train_16  failed, 14:04: exited 3
  15 train_15  done, 14:03


$ python train.py 18
14:03 job 15: running -> success
14:05 job 18: queued -> running on cpubox
/ filter  f follow  h hold  r release  K kill  m machines  ? help  q quit`);
  });

  test('40x10: the list with the selection stays', () => {
    expect(drawn({}, 39, 10).join('\n')).toBe(`\
queue on desk (.../job_queue)  14:05:09
2 run  1 fail  1 queued  1 held  1 f...
MACHINES 3  and 2 more below: m
  gpubox  cpu 6/8      mem 20/62G   ...
    gpu0 100% mem 16/24G
RUNNING 2
  17 train_17  gpubox...   1h02m
      epoch 4/10 loss 0.31
> 18 train_18  cpubox         5s
? help  q quit  / filter  f follow`);
  });

  test('in a wide terminal the last line stands beside its job', () => {
    const lines = drawn({}, 139, 24);
    expect(lines).toContain('  17 train_17  gpubox gpu 0,1   1h02m  epoch 4/10 loss 0.31');
  });

  test('a job that is not among the first is scrolled to, and what is shown is said', () => {
    const running = Array.from({ length: 60 }, (_, i) =>
      job(i + 1, 'running', { lastLine: `line ${i + 1}` }),
    );
    const state = { ...base.state, selected: { id: '40', section: 'running', index: 39 } as const };
    const lines = drawn({ state, overview: overviewOf({ running }), events: [] });
    expect(lines[2]).toMatch(/^RUNNING 60 {2}\d+ to \d+ shown$/);
    expect(lines).toContain('> 40 train_40');
    const shown = lines
      .filter((line) => /^[> ] \d+ train_/.test(line))
      .map((line) => Number(line.slice(2, 4)));
    expect(lines[2]).toContain(`${shown[0]} to ${shown.at(-1)} shown`);
    // Whole jobs before what they print.
    expect(shown).toHaveLength(19);
    expect(seenIn({ ...base, state, overview: overviewOf({ running }), events: [] }, SIZE).running).toBe(19);
  });

  test('running jobs come first, then those that wait, and what jobs print goes before jobs do', () => {
    const many = (count: number, from: number, state: OverviewJob['state']) =>
      Array.from({ length: count }, (_, i) => job(from + i, state, { lastLine: 'so far' }));
    const linesOf = (running: number, selected: string) => {
      const overview = overviewOf({
        running: many(running, 100, 'running'),
        waiting: many(30, 200, 'queued'),
        ended: many(30, 300, 'fail'),
      });
      const state = { ...base.state, selected: { ...base.state.selected, id: selected } };
      const lines = drawn({ overview, state, events: [] });
      const count = (first: number) => lines.filter((line) => line.includes(` train_${first}`)).length;
      return [count(1), lines.filter((line) => line === '      so far').length, count(2), count(3)];
    };
    expect(linesOf(30, '100')).toEqual([15, 0, 1, 1]);
    expect(linesOf(12, '100')).toEqual([12, 1, 3, 1]);
    expect(linesOf(10, '100')).toEqual([10, 3, 3, 1]);
    expect(linesOf(2, '100')).toEqual([2, 2, 12, 1]);
    // Where the selection is, some of the list is seen around it.
    expect(linesOf(30, '315')).toEqual([11, 0, 1, 5]);
  });

  test('lists of which not all is known say so', () => {
    const waiting = (own: Partial<OverviewJobs>) => {
      const overview = { ...sampleOverview(), waiting: { jobs: [job(19, 'queued')], count: 1, ...own } };
      const state = { ...base.state, filter: 'tra' };
      return [drawn({ overview }), drawn({ overview, state })].map((lines) =>
        lines.find((line) => line.startsWith('WAITING')),
      );
    };
    expect(waiting({ count: 87 })).toEqual([
      'WAITING 87  86 more: a filter finds them',
      'WAITING 87 of 3  86 more: a longer filter finds them',
    ]);
    expect(waiting({ isCut: true })).toEqual([
      'WAITING 1+  only the first ones were looked at',
      'WAITING 1+ of 3  only the first ones were looked at',
    ]);
    expect(waiting({ jobs: [], count: 0, isCut: true })[1]).toBe(
      'WAITING 0+ of 3  none found so far; only the first ones were looked at',
    );
    expect(waiting({ jobs: [], count: 0 })[1]).toBeUndefined();
  });

  test('many machines take a third, the rest is counted, and m shows them from any one on', () => {
    const machines = Array.from({ length: 50 }, (_, i): OverviewMachine => {
      return { name: `node${i + 1}`, state: 'connecting', jobs: 0 };
    });
    const overview = overviewOf({ waiting: [job(1, 'queued')] }, machines);
    expect(drawn({ overview }).slice(2, 11)).toEqual([
      'MACHINES 50  and 44 more below: m',
      ...[1, 2, 3, 4, 5, 6].map((i) => `  node${i}   connecting  0 jobs`),
      'WAITING 1',
      '  1 train_1  queued',
    ]);
    const all = drawn({ overview, ...mode({ type: 'machines', first: 30 }) });
    expect(all[2]).toBe('MACHINES 50  from 31 on');
    expect(all[22]).toBe('  node50  connecting  0 jobs');
  });

  test('jobs whose id is their name have it once', () => {
    const overview = overviewOf({ running: [{ ...job(1, 'running'), id: 'b.sh.1', name: 'b.sh.1' }] });
    expect(drawn({ overview })[3]).toBe('  b.sh.1');
  });
});

describe('what is said', () => {
  test('nothing known yet', () => {
    expect(drawn({ overview: undefined })[1]).toBe('  waiting for an answer');
    expect(drawn({ overview: undefined, unansweredMs: 3000 })[1]).toBe('  waiting for an answer for 3s');
  });

  test('away: the last picture stays, with since when and why', () => {
    const lines = drawn({ away: { since: NOW - 62_000, reason: 'no service' }, trouble: 'no service' });
    expect(lines[2]).toBe('away since 14:04 (1m02s): no service; trying again');
    expect(lines).toContain('> 18 train_18  cpubox              5s');
  });

  test('no answer, though it is not away', () => {
    expect(drawn({ trouble: 'too slow' })[2]).toBe('no answer: too slow; trying again');
    expect(drawn({ unansweredMs: 4900 })[2]).toBe('MACHINES 3');
    expect(drawn({ unansweredMs: 7000 })[2]).toBe(
      'no answer for 7s: it is stopped or very busy; still waiting',
    );
  });

  test('times of jobs go on for a moment after an answer, and then stand still', () => {
    const at = (now: number) => drawn({ now, heardAt: NOW }).find((line) => line.startsWith('> 18'));
    expect(at(NOW + 2000)).toBe('> 18 train_18  cpubox              7s');
    expect(at(NOW + 60_000)).toBe('> 18 train_18  cpubox              8s');
    // The clock of who answers may be another one.
    const overview = { ...sampleOverview(NOW - 600_000) };
    expect(drawn({ overview, heardAt: NOW })).toContain('> 18 train_18  cpubox              5s');
  });

  test('a question, a filter, a message for a while', () => {
    const question = { type: 'question', action: 'kill', id: '17', name: 'train_17' } as const;
    expect(drawn(mode(question)).at(-1)).toBe('y/n: kill job 17 (train_17)?');
    expect(drawn(mode(question), 19, 5).at(-1)).toBe('y/n: kill job 17...');
    const filtered = { ...base.state, filter: 'tra', mode: { type: 'filter', before: '' } } as const;
    expect(drawn({ state: filtered }).at(-1)).toBe('/tra_   Enter keeps it, Esc ends it, Ctrl-U clears');
    const message = { ...base.state, message: { text: 'job 17: held', at: NOW } };
    expect(drawn({ state: message }).at(-1)).toBe('job 17: held');
    expect(drawn({ state: message, now: NOW + 4000 }).at(-1)).toMatch(/^\/ filter/);
  });

  test('the filter comes before the title, whose paths give way', () => {
    const title = 'batch /data/projects/vision/train.sh, results in /data/projects/vision/job_results';
    const state = { ...base.state, filter: 'tra' };
    expect(drawn({ state, title })[0]).toBe(
      'filter: tra  batch ...cts/vision/train.sh, results in .../job_results  14:05:09',
    );
    expect(drawn({ state }, 49)[0]).toBe('filter: tra  queue on desk (.../job_...  14:05:09');
    const long = { ...base.state, filter: 'x'.repeat(100) };
    expect(drawn({ state: long })[0]).toMatch(
      /^filter: x{23}\.\.\. {2}queue on desk \(\.\.\..*\) +14:05:09$/,
    );
    expect(drawn({ state })).toContain('RUNNING 2 of 2');
  });

  test('what has to be seen stands above the keys, or in place of them', () => {
    const text =
      'Ctrl-C: nothing more starts, 2 jobs run on; Ctrl-C again ends them, a third time leaves them behind';
    const state = { ...base.state, notice: { text, at: NOW } };
    expect(drawn({ state, now: NOW + 600_000 }).slice(-3)).toEqual([
      'Ctrl-C: nothing more starts, 2 jobs run on; Ctrl-C again ends them, a third',
      'time leaves them behind',
      '/ filter  f follow  h hold  r release  K kill  m machines  ? help  q quit',
    ]);
    expect(drawn({ state }, 39, 10).slice(-4)).toEqual([
      'Ctrl-C: nothing more starts, 2 jobs run',
      'on; Ctrl-C again ends them, a third',
      'time leaves them behind',
      '? help  q quit  / filter  f follow',
    ]);
    expect(drawn({ state }, 39, 5).slice(-3)).toEqual([
      'Ctrl-C: nothing more starts, 2 jobs run',
      'on; Ctrl-C again ends them, a third',
      'time leaves them behind',
    ]);
    const asked = { ...state, mode: { type: 'question', action: 'kill', id: '1', name: '1' } } as const;
    expect(drawn({ state: asked }, 39, 5).at(-1)).toBe('y/n: kill job 1?');
    const answered = { ...state, message: { text: 'job 1: killed', at: NOW + 1 } };
    expect(drawn({ state: answered, now: NOW + 1 }, 39, 5).at(-1)).toBe('job 1: killed');
  });

  test('failures are counted before what is done, in short words where there is little room', () => {
    const counts = { ...sampleOverview().counts, running: 12, success: 1000, fail: 7, error: 3, killed: 1 };
    const overview = { ...sampleOverview(), counts };
    expect(drawn({ overview }, 139)[1]).toBe(
      '12 running  1 queued  1 held  1 waiting for others  7 failed  3 not started  1000 done  1 killed',
    );
    expect(drawn({ overview })[1]).toBe(
      '12 run  7 fail  3 error  1 queued  1 held  1 for others  1000 done  1 killed',
    );
  });

  test('keys for what cannot be done are not named', () => {
    expect(drawn({ actions: ['kill'] }).at(-1)).toBe(
      '/ filter  f follow  K kill  m machines  ? help  q quit',
    );
  });

  test('the help fits into 80 columns and 24 rows', () => {
    const lines = drawn(mode({ type: 'help', first: 0 }));
    expect(lines.at(-1)).toBe('up/down scroll  any other key: back');
    expect(lines.join('\n')).toContain('! begins a line from its standard error');
    expect(lines.join('\n')).not.toContain('...');
    // Narrow, nothing is cut either, and the rest is scrolled to.
    const narrow = drawn(mode({ type: 'help', first: 0 }), 39, 10);
    const end = drawn(mode({ type: 'help', first: 999 }), 39, 10);
    expect([...narrow, ...end].join('\n')).not.toContain('...');
    expect(narrow[9]).toBe('up/down scroll  any other key: back');
    expect(end[8]).toBe('move sideways.');
  });
});

test('a job that is followed: its last lines, or those scrolled to, errors marked', () => {
  const output = new FollowedOutput();
  const add = (stream: 'out' | 'err', text: string) =>
    output.add({ type: 'chunk', stream, base64: Buffer.from(text).toString('base64') });
  for (let i = 1; i <= 30; i++) add('out', `line ${i}\n`);
  add('err', 'careful\n');
  const follow = { type: 'follow', id: '17', name: 'train_17', left: 0 } as const;
  const lines = drawn({ output, ...mode(follow) }, 79, 10);
  expect(lines.slice(1)).toEqual([
    '17  train_17  running  lines 25 to 31 of 31',
    ...[25, 26, 27, 28, 29, 30].map((i) => `  line ${i}`),
    '! careful',
    'up/down scroll  left/right  End newest  ? help  q back',
  ]);
  const scrolled = drawn({ output, ...mode({ ...follow, top: 3, left: 3 }) }, 79, 10);
  expect(scrolled.slice(1, 3)).toEqual([
    '17  train_17  running  lines 4 to 10 of 31  from column 4  scrolled back',
    '  e 4',
  ]);
});

describe('for all that machines and users may say', () => {
  const text = fc.oneof(
    fc.string({ unit: 'binary', maxLength: 40 }),
    fc.constantFrom(
      '\x1b[2J\x1b[31mred',
      'a\rb\tc\nd',
      '模型訓練'.repeat(20),
      '👩‍👩‍👧👍🏽'.repeat(20),
      '\u202eabc',
      'x'.repeat(300),
    ),
  );
  const number = fc.oneof(fc.double(), fc.integer({ min: 0, max: 1e9 }), fc.constantFrom(0, Number.NaN, -1));
  const amount = fc.record({ total: number, used: number, taken: number });
  const some = <T>(arbitrary: fc.Arbitrary<T>) => fc.array(arbitrary, { maxLength: 6 });
  const jobs = (state: OverviewJob['state']) =>
    some(
      fc.record(
        {
          ...{ id: text, name: text, command: text, state: fc.constant(state), reason: text, lastLine: text },
          ...{ machine: text, gpus: some(fc.nat()), startedAt: fc.nat(), endedAt: fc.nat() },
        },
        { requiredKeys: ['id', 'name', 'command', 'state'] },
      ),
    );
  const machines = some(
    fc.record(
      {
        ...{ name: text, state: fc.constantFrom('ready', 'away', 'draining' as const), jobs: fc.nat() },
        ...{ reason: text, cpuCores: amount, memoryMiB: amount },
        gpus: some(fc.record({ index: fc.nat(), name: text, memoryMiB: amount, utilization: amount })),
      },
      { requiredKeys: ['name', 'state', 'jobs'] },
    ),
  );
  const modes: fc.Arbitrary<Mode> = fc.oneof(
    fc.constantFrom({ type: 'list' } as const, { type: 'help', first: 9 } as const),
    fc.record({ type: fc.constant('filter' as const), before: text }),
    fc.record({
      type: fc.constant('question' as const),
      action: fc.constant('kill' as const),
      id: text,
      name: text,
    }),
    fc.record({ type: fc.constant('machines' as const), first: fc.nat({ max: 8 }) }),
    fc.record({ type: fc.constant('follow' as const), id: text, name: text, left: fc.nat({ max: 40 }) }),
  );
  const pictures = fc
    .record({
      ...{
        mode: modes,
        filter: text,
        title: text,
        event: text,
        printed: text,
        index: fc.integer({ min: -1, max: 20 }),
      },
      lists: fc.record({ running: jobs('running'), waiting: jobs('queued'), ended: jobs('fail') }),
      machines,
      away: fc.option(fc.record({ since: fc.nat(), reason: text }), { nil: undefined }),
      notice: fc.option(text, { nil: undefined }),
    })
    .map(({ mode, filter, title, event, printed, index, lists, machines, away, notice }): Picture => {
      const output = new FollowedOutput();
      output.add({ type: 'chunk', stream: 'err', base64: Buffer.from(printed).toString('base64') });
      const overview = overviewOf(lists, machines);
      const id = [...lists.running, ...lists.waiting, ...lists.ended][index]?.id;
      const selected = { id, section: 'running', index } as const;
      const state = {
        mode,
        filter,
        selected,
        ...(notice !== undefined && { notice: { text: notice, at: NOW } }),
      };
      return { ...base, title, overview, away, output, state, events: [{ at: NOW, text: event }] };
    });
  const sizes = fc.record({ columns: fc.nat({ max: 130 }), rows: fc.nat({ max: 40 }) });

  test('it is never wider or higher than the screen, and nothing but colours is a control character', () => {
    fc.assert(
      fc.property(pictures, sizes, fc.boolean(), (picture, size, hasColours) => {
        const lines = viewLines(picture, size);
        expect(lines.length).toBe(size.columns === 0 ? 0 : size.rows);
        for (const spans of lines) {
          expect(lineWidth(spans)).toBeLessThanOrEqual(size.columns);
          const painted = paintLine(spans, hasColours);
          const bare = painted.replace(/\x1b\[(?:0|1|2|7|3[1-6])m/g, '');
          expect(bare).not.toMatch(/[\p{Cc}\p{Zl}\p{Zp}\u202a-\u202e\u2066-\u2069]/u);
          expect(textWidth(bare)).toBeLessThanOrEqual(size.columns);
          if (!hasColours) expect(painted).not.toMatch(/\x1b\[3/);
        }
      }),
      { numRuns: 200 },
    );
  });

  test('where there is room for it, the selected job is seen', () => {
    const lists = fc.record({
      ...{ running: fc.nat({ max: 40 }), waiting: fc.nat({ max: 40 }), ended: fc.nat({ max: 40 }) },
      ...{
        picked: fc.nat(),
        rows: fc.integer({ min: 4, max: 60 }),
        columns: fc.integer({ min: 40, max: 130 }),
      },
    });
    fc.assert(
      fc.property(lists, ({ running, waiting, ended, picked, rows, columns }) => {
        let id = 0;
        const some = (count: number, own: OverviewJob['state']) =>
          Array.from({ length: count }, () => job(++id, own, { lastLine: id % 3 === 0 ? '' : 'so far' }));
        const overview = overviewOf(
          { running: some(running, 'running'), waiting: some(waiting, 'queued'), ended: some(ended, 'fail') },
          sampleOverview().machines,
        );
        fc.pre(id > 0);
        const selected = { ...base.state.selected, id: String((picked % id) + 1) };
        const lines = drawn({ overview, state: { ...base.state, selected } }, columns, rows);
        const own = new RegExp(`^> ${selected.id} +train_${selected.id}\\b`);
        expect(lines.filter((line) => own.test(line))).toHaveLength(1);
      }),
    );
  });
});
