import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Gathered } from '../../../../src/cli/report/fanout/gathered.ts';
import { writeHostJson } from '../../../../src/cli/report/fanout/host-json.ts';
import { machineName } from '../../../../src/lib/domain/machine.ts';
import type { HostOutcome } from '../../../../src/lib/fanout/host-result.ts';
import { hostResult, KeptOut } from './kept-out.ts';

interface Printed {
  readonly stdout?: readonly (string | Buffer)[];
  readonly stderr?: readonly (string | Buffer)[];
}

async function write(
  outcome: HostOutcome,
  { stdout = [], stderr = [] }: Printed,
  isTTY = false,
): Promise<KeptOut> {
  using gathered = new Gathered({ textMemoryBytes: 10 });
  const result = hostResult('gpu01', outcome);
  for (const chunk of stdout) gathered.write(result.machine, 'out', Buffer.from(chunk as string));
  for (const chunk of stderr) gathered.write(result.machine, 'err', Buffer.from(chunk as string));
  gathered.end(result);
  const out = new KeptOut(isTTY);
  await writeHostJson(result, gathered.answer(machineName('gpu01')), out);
  return out;
}

const good: HostOutcome = { type: 'exited', exitCode: 0 };
const reason = { brief: 'connection refused', full: '10.0.0.1:22: connection refused' };
const detail = { reason: reason.brief, detail: reason.full };
const times = { startedAt: '2026-01-31T12:00:00.000Z', endedAt: '2026-01-31T12:00:01.500Z', seconds: 1.5 };

test('the object is one line with the fields in this order', async () => {
  const { text } = await write(good, { stdout: ['a "b"\n'], stderr: ['e\x1b\u009b\u202e'] });
  expect(text).toBe(
    '{"host":"gpu01","ok":true,"outcome":"exited","exitCode":0,"startedAt":"2026-01-31T12:00:00.000Z",' +
      '"endedAt":"2026-01-31T12:00:01.500Z","seconds":1.5,"stdout":"a \\"b\\"\\n","stderr":"e\\u001b\\u009b\\u202e"}\n',
  );
});

test.each<[HostOutcome, object]>([
  [
    { type: 'exited', exitCode: 3 },
    { exitCode: 3, ...times },
  ],
  [
    { type: 'signalled', signal: 'SEGV' },
    { signal: 'SEGV', ...times },
  ],
  [
    { type: 'timed-out', limitMs: 5500, left: 'nothing' },
    { limitSeconds: 5.5, left: 'nothing', ...times },
  ],
  [
    { type: 'unreachable', reason },
    { ...detail, startedAt: null, endedAt: times.endedAt, seconds: null },
  ],
  [
    { type: 'lost', reason },
    { ...detail, ...times },
  ],
  [
    { type: 'transfer-failed', stage: 'fetch', reason, exitCode: 0 },
    { stage: 'fetch', exitCode: 0, ...detail, ...times },
  ],
  [
    { type: 'cancelled', reason: 'Ctrl-C', left: { processes: 2 } },
    { reason: 'Ctrl-C', left: { processes: 2 }, ...times },
  ],
  [
    { type: 'not-started', reason: 'x' },
    { reason: 'x', startedAt: null, endedAt: times.endedAt, seconds: null },
  ],
])('%j', async (outcome, fields) => {
  expect(JSON.parse((await write(outcome, {})).text)).toEqual({
    ...{ host: 'gpu01', ok: false, outcome: outcome.type, stdout: '', stderr: '' },
    ...fields,
  });
});

test('any output comes back, text as text and the rest as base64', async () => {
  const chunk = fc.oneof(
    fc.string({ unit: 'binary', maxLength: 30 }).map((text) => Buffer.from(text)),
    fc.uint8Array({ maxLength: 10 }).map((bytes) => Buffer.from(bytes)),
    fc.constant(Buffer.from('日本'.repeat(30_000))),
  );
  await fc.assert(
    fc.asyncProperty(fc.array(chunk, { maxLength: 6 }), fc.boolean(), async (chunks, isTTY) => {
      const bytes = Buffer.concat(chunks);
      const text = bytes.toString();
      const isText = Buffer.from(text).equals(bytes);
      const out = await write(good, { stdout: chunks }, isTTY);
      if (isTTY) expect(out.writes.length).toBe(1);
      const found = JSON.parse(out.text);
      expect(found.stdout).toBe(isText ? text : undefined);
      expect(found.stdoutBase64).toBe(isText ? undefined : bytes.toString('base64'));
      expect(out.text.indexOf('\n')).toBe(out.text.length - 1);
    }),
    { numRuns: 100 },
  );
});

test('characters split over chunks are text, and a cut character is not', async () => {
  const bytes = Buffer.from('x€');
  const whole = await write(good, { stdout: [...bytes].map((byte) => Buffer.from([byte])) });
  expect(JSON.parse(whole.text).stdout).toBe('x€');
  const cut = await write(good, { stderr: [bytes.subarray(0, 3)] });
  expect(JSON.parse(cut.text).stderrBase64).toBe('eOKC');
});

test('long output is written in pieces', async () => {
  const out = await write(good, { stdout: ['€'.repeat(3_000_000)], stderr: [Buffer.alloc(2_000_000, 0xff)] });
  for (const piece of out.writes) expect(piece.length).toBeLessThan(300_000);
  const { stdout, stderrBase64 } = JSON.parse(out.text);
  expect(stdout === '€'.repeat(3_000_000)).toBe(true);
  expect(stderrBase64 === Buffer.alloc(2_000_000, 0xff).toString('base64')).toBe(true);
});
