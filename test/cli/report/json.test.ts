import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { jsonReport } from '../../../src/cli/report/json.ts';
import type { SchedulerEvent } from '../../../src/lib/domain/events.ts';
import {
  batchEnded,
  batchStarted,
  jobEnded,
  jobNeverFits,
  jobSkipped,
  machineQueried,
  Written,
} from './sample-events.ts';

test('each event is one line that begins with the schema and reads back as it was', () => {
  const events: SchedulerEvent[] = [
    machineQueried('gpubox'),
    batchStarted(),
    jobSkipped(3, 'finished-result'),
    jobEnded(1, { command: 'echo a\nb\x1b[1m "数"', outcome: { type: 'exited', exitCode: 137 } }),
    jobNeverFits(2, ['a', 'b']),
    batchEnded(),
  ];
  const stdout = new Written();
  events.forEach(jsonReport(stdout));
  const lines = stdout.text.split('\n');
  expect(lines.pop()).toBe('');
  expect(lines).toHaveLength(events.length);
  for (const line of lines) expect(line).toMatch(/^\{"schema":1,"type":"[a-z:-]+","at":\d+,[^\x00-\x1f]*\}$/);
  expect(lines.map((line) => JSON.parse(line) as unknown)).toEqual(
    events.map((event) => ({ schema: 1, ...event })),
  );
});

test('the documentation has an example of every type, written as --json writes it', () => {
  const documented = readFileSync('docs/output.md', 'utf8')
    .split('\n')
    .filter((line) => line.startsWith('{'));
  const types = new Set<string>();
  for (const line of documented) {
    const { schema: _, ...event } = JSON.parse(line) as SchedulerEvent & { schema: number }; // our own file
    const stdout = new Written();
    jsonReport(stdout)(event);
    expect(stdout.text).toBe(`${line}\n`);
    types.add(event.type);
  }
  const all: Record<SchedulerEvent['type'], true> = {
    'batch:started': true,
    'batch:resumed': true,
    'batch:ended': true,
    'machine:queried': true,
    'machine:unreachable': true,
    'machine:quarantined': true,
    'machine:given-up': true,
    'machine:away': true,
    'machine:back': true,
    'machine:warned': true,
    'gpu:still-held': true,
    'tree:sending': true,
    'tree:sent': true,
    'job:skipped': true,
    'job:warned': true,
    'job:started': true,
    'job:ended': true,
    'job:never-fits': true,
  };
  expect([...types].sort()).toEqual(Object.keys(all).sort());
});
