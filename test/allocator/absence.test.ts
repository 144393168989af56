import { expect, test } from 'vitest';
import { watchAbsences } from '../../src/lib/allocator/absence.ts';
import { machineName } from '../../src/lib/domain/machine.ts';
import { until } from '../rig/until.ts';

const one = machineName('one');
const two = machineName('two');

/** A watch whose clock goes `step` further at each question. */
function watch(lostAfterMs: number, step: number, up: Set<string>) {
  const lost: string[] = [];
  let clock = 0;
  let looks = 0;
  const stop = watchAbsences({
    machines: () => [one, two],
    isUp: (machine) => {
      if (machine === one) looks += 1;
      return up.has(machine);
    },
    lostAfterMs,
    onLost: (machine) => lost.push(machine),
    now: () => {
      clock += step;
      return clock;
    },
  });
  return { lost, stop, looks: () => looks };
}

test('a machine that stays away while another answers is told once, and again after it was back', async () => {
  const up = new Set<string>([two]);
  const { lost, stop, looks } = watch(200, 20, up);
  await until(() => lost.length === 1);
  const before = looks();
  await until(() => looks() > before + 20);
  expect(lost).toEqual([one]);
  up.add(one);
  const back = looks();
  await until(() => looks() > back + 2);
  up.delete(one);
  await until(() => lost.length === 2);
  stop();
});

test('while no machine answers no time counts', async () => {
  const up = new Set<string>();
  const { lost, stop, looks } = watch(200, 20, up);
  await until(() => looks() > 50);
  expect(lost).toEqual([]);
  up.add(two);
  await until(() => lost.length === 1);
  stop();
});

test('time in which this computer slept counts no more than two looks', async () => {
  const up = new Set<string>([two]);
  const { lost, stop, looks } = watch(1000, 3_600_000, up);
  await until(() => looks() > 3);
  expect(lost).toEqual([]);
  stop();
});
