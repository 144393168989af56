import { expect, test } from 'vitest';
import { exitCodeText, outcomeText } from '../../../src/cli/report/outcome-text.ts';

test('an exit code that a shell gives for a signal names it', () => {
  const codes = [0, 1, 128, 129, 130, 137, 139, 143, 159, 160, 162, 163, 192, 193, 255];
  expect(codes.map(exitCodeText)).toEqual([
    'exited 0',
    'exited 1',
    'exited 128',
    'exited 129 (SIGHUP)',
    'exited 130 (SIGINT)',
    'exited 137 (SIGKILL)',
    'exited 139 (SIGSEGV)',
    'exited 143 (SIGTERM)',
    'exited 159 (SIGSYS)',
    'exited 160 (signal 32)',
    'exited 162 (SIGRTMIN)',
    'exited 163 (SIGRTMIN+1)',
    'exited 192 (SIGRTMIN+30)',
    'exited 193',
    'exited 255',
  ]);
});

test('every outcome is one harmless line', () => {
  expect(outcomeText({ type: 'timed-out', timeoutMs: 3_600_000 })).toBe('timed out after 1h00m');
  const [main, gpu] = (['main', 'gpu'] as const).map((memory) =>
    outcomeText({ type: 'out-of-memory', reason: 'oom_kill\x07 is 1', memory, exitCode: 137 }),
  );
  expect(main).toBe('out of main memory: oom_kill\\x07 is 1');
  expect(gpu).toBe('out of GPU memory: oom_kill\\x07 is 1');
  expect(outcomeText({ type: 'exited', exitCode: 1, machineFault: 'no room\nin /tmp' })).toBe(
    "exited 1 (its machine's fault, it seems: no room\\nin /tmp)",
  );
  expect(outcomeText({ type: 'lost', reason: 'booted\nsince' })).toBe('lost: booted\\nsince');
  expect(outcomeText({ type: 'transfer-failed', reason: 'x' })).toBe('files not transferred: x');
  expect(outcomeText({ type: 'transfer-failed', reason: 'x', exitCode: 143 })).toBe(
    'exited 143 (SIGTERM), but files not transferred: x',
  );
  expect(outcomeText({ type: 'cancelled', reason: 'Ctrl-C' })).toBe('cancelled: Ctrl-C');
  expect(outcomeText({ type: 'never-fits', reason: 'no GPU' })).toBe('never fits: no GPU');
});
