/** What is drawn for what is known and the room there is. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { FollowedOutput } from '../../../src/cli/watch/followed-output.ts';
import { lineWidth, paintLine, plainLine } from '../../../src/cli/watch/line.ts';
import { FIRST_STATE, type Mode } from '../../../src/cli/watch/state.ts';
import { type Picture, viewLines } from '../../../src/cli/watch/view.ts';
import type { OverviewJob, OverviewMachine } from '../../../src/lib/domain/overview.ts';
import { textWidth } from '../../../src/lib/util/terminal-text.ts';
import { job, NOW, overviewOf, sampleOverview } from './sample.ts';

const base: Picture = {
  title: 'queue of ann@desk',
  actions: ['hold', 'release', 'kill'],
  now: NOW,
  state: { ...FIRST_STATE, selected: { id: '18', index: 1 } },
  overview: sampleOverview(),
  away: undefined,
  events: [
    { at: NOW - 120_000, text: 'job 15: running -> success' },
    { at: NOW, text: 'job 18: queued -> running on cpubox' },
  ],
};

const drawn = (picture: Partial<Picture>, columns = 79, rows = 24) =>
  viewLines({ ...base, ...picture }, { columns, rows }).map((spans) => plainLine(spans).trimEnd());
const mode = (own: Mode) => ({ state: { ...base.state, mode: own } });

describe('the list', () => {
  test('80x24', () => {
    expect(drawn({}).join('\n')).toBe(`\
queue of ann@desk                                                      14:05:09
2 running  1 queued  1 held  1 waiting for others  1 done  1 failed
MACHINES 3
  gpubox  cpu [###===--] 3.1/8    mem [##=-----] 12/62G     1 job
    gpu0 [###=] 85%  mem [#==-] 8/24G    gpu1 [###=] 85%  mem [#==-] 8/24G
  cpubox  cpu [########] 128/128  mem [###-----] 300/900M   1 job  draining ...
  attic   away  2 jobs  no answer for 30s
RUNNING 2
  17 train_17  gpubox gpu 0,1   1h02m
      epoch 4/10 loss 0.31
> 18 train_18  cpubox              5s
WAITING 3
  19 train_19  no machine has 2 GPUs free
  20 train_20  held: by ann
  21 train_21  waits for 17
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
queue of ann@desk              14:05:09
2 running  1 queued  1 held  1 waiti...
MACHINES 3  and 2 more below: m
  gpubox  cpu 3.1/8    mem 12/62G   ...
    gpu0 85%  mem 8/24G
RUNNING 2
  17 train_17  gpubox...   1h02m
      epoch 4/10 loss 0.31
> 18 train_18  cpubox         5s
/ filter  f follow  h hold  r releas...`);
  });

  test('in a wide terminal the last line stands beside its job', () => {
    const lines = drawn({}, 139, 24);
    expect(lines).toContain('  17 train_17  gpubox gpu 0,1   1h02m  epoch 4/10 loss 0.31');
  });

  test('a job that is not among the first is scrolled to, and what is shown is said', () => {
    const running = Array.from({ length: 60 }, (_, i) =>
      job(i + 1, 'running', { lastLine: `line ${i + 1}` }),
    );
    const state = { ...base.state, selected: { id: '40', index: 39 } };
    const lines = drawn({ state, overview: overviewOf({ running }), events: [] });
    expect(lines[2]).toMatch(/^RUNNING 60 {2}\d+ to \d+ shown$/);
    expect(lines[3]).toMatch(/^ {2}\d+ train_/);
    const at = lines.findIndex((line) => line.startsWith('> 40 train_40'));
    expect(lines[at + 1]).toBe('      line 40');
    const shown = lines
      .filter((line) => /^[> ] \d+ train_/.test(line))
      .map((line) => Number(line.slice(2, 4)));
    expect(lines[2]).toContain(`${shown[0]} to ${shown.at(-1)} shown`);
  });

  test('lists of which not all is known say so', () => {
    const overview = { ...sampleOverview(), waiting: { jobs: [job(19, 'queued')], count: 900, isCut: true } };
    expect(drawn({ overview })).toContain('WAITING 900  or more, 1 to 1 shown');
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
    expect(drawn({ overview: undefined })[1]).toBe('  no answer yet');
  });

  test('away: the last picture stays, with since when and why', () => {
    const lines = drawn({ away: { since: NOW - 62_000, reason: 'no service' }, trouble: 'no service' });
    expect(lines[2]).toBe('away since 14:04 (1m02s): no service; trying again');
    expect(lines).toContain('> 18 train_18  cpubox              5s');
  });

  test('no answer, though it is not away', () => {
    expect(drawn({ trouble: 'too slow' })[2]).toBe('no answer: too slow; trying again');
  });

  test('a question, a filter, a message for a while', () => {
    const question = { type: 'question', action: 'kill', id: '17', name: 'train_17' } as const;
    expect(drawn(mode(question)).at(-1)).toBe('kill job 17 (train_17)? y/n');
    const filtered = { ...base.state, filter: 'tra', mode: { type: 'filter', before: '' } } as const;
    expect(drawn({ state: filtered }).at(-1)).toBe('/tra_   Enter keeps it, Esc clears it');
    expect(drawn({ state: filtered })[0]).toContain('queue of ann@desk  filter: tra');
    const message = { ...base.state, message: { text: 'job 17: held', at: NOW } };
    expect(drawn({ state: message }).at(-1)).toBe('job 17: held');
    expect(drawn({ state: message, now: NOW + 60_000 }).at(-1)).toMatch(/^\/ filter/);
  });

  test('keys for what cannot be done are not named', () => {
    expect(drawn({ actions: ['kill'] }).at(-1)).toBe(
      '/ filter  f follow  K kill  m machines  ? help  q quit',
    );
  });

  test('the help fits into 80 columns and 24 rows', () => {
    const lines = drawn(mode({ type: 'help' }));
    expect(lines.at(-1)).toBe('any key: back');
    expect(lines.join('\n')).toContain('! begins a line from its standard error');
    expect(lines.join('\n')).not.toContain('...');
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
    'up/down scroll  left/right  End newest  q back',
  ]);
  const scrolled = drawn({ output, ...mode({ ...follow, top: 3, left: 3 }) }, 79, 10);
  expect(scrolled.slice(1, 3)).toEqual([
    '17  train_17  running  lines 4 to 10 of 31  scrolled back',
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
  const amount = fc.record({ total: number, used: number, claimed: number });
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
    fc.constantFrom({ type: 'list' } as const, { type: 'help' } as const),
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
    })
    .map(({ mode, filter, title, event, printed, index, lists, machines, away }): Picture => {
      const output = new FollowedOutput();
      output.add({ type: 'chunk', stream: 'err', base64: Buffer.from(printed).toString('base64') });
      const overview = overviewOf(lists, machines);
      const id = [...lists.running, ...lists.waiting, ...lists.ended][index]?.id;
      const state = { mode, filter, selected: { id, index } };
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
    const state = { ...base.state, selected: { id: '', index: 0 } };
    const lists = fc.record({
      ...{ running: fc.nat({ max: 40 }), waiting: fc.nat({ max: 40 }), ended: fc.nat({ max: 40 }) },
      ...{
        picked: fc.nat(),
        rows: fc.integer({ min: 8, max: 60 }),
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
        const selected = { id: String((picked % id) + 1), index: 0 };
        const lines = drawn({ overview, state: { ...state, selected } }, columns, rows);
        const own = new RegExp(`^> ${selected.id} +train_${selected.id}\\b`);
        expect(lines.filter((line) => own.test(line))).toHaveLength(1);
      }),
    );
  });
});
