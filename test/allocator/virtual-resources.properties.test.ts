import fc from 'fast-check';
import { expect, test } from 'vitest';
import { VirtualResources } from '../../src/lib/allocator/virtual-resources.ts';
import type { Allocation, AvailableResources, ResourceRequest } from '../../src/lib/domain/resources.ts';
import { anyMachine, anyRequest } from './requests.ts';

const placements = fc.constantFrom('spread' as const, 'pack' as const);
/** A request to allocate, or which of the held tickets to release. */
const anyStep = fc.oneof({ weight: 3, arbitrary: anyRequest }, { weight: 1, arbitrary: fc.nat(1000) });

const units = (amount: number) => Math.round(amount * 10_000);
const sum = (numbers: number[]) => numbers.reduce((total, number) => total + number, 0);

/** Plays steps and calls `check` after each with the tickets held. */
function play(
  resources: VirtualResources,
  steps: readonly (ResourceRequest | number)[],
  check: (held: readonly Allocation[]) => void,
): Allocation[] {
  const held: Allocation[] = [];
  for (const step of steps) {
    if (typeof step === 'number') {
      const [ticket] = held.splice(step % Math.max(1, held.length), 1);
      if (ticket !== undefined) resources.release(ticket);
    } else if (resources.score(step) !== -Infinity) {
      held.push(resources.allocate(step));
    }
    check(held);
  }
  return held;
}

/** The limits, counted anew from the tickets alone. */
function expectWithinLimits(start: AvailableResources, held: readonly Allocation[], maxJobs: number): void {
  const requests = held.map((ticket) => ticket.request);
  expect(held.length).toBeLessThanOrEqual(maxJobs);
  expect(sum(requests.map((r) => r.memoryMiB))).toBeLessThanOrEqual(start.memoryFreeMiB);
  const cores = units(start.cpuCoresInUse) + sum(requests.map((r) => units(r.cpuCores)));
  if (held.length > 0) expect(2 * cores).toBeLessThan(3 * units(start.cpuCores));
  if (requests.some((r) => r.reserveMachine)) expect(held.length).toBe(1);
  for (const ticket of held) {
    const all = start.gpus.map((gpu) => gpu.index).sort((a, b) => a - b);
    if (ticket.request.reserveMachine) expect(ticket.gpus).toEqual(all);
    else expect(new Set(ticket.gpus).size).toBe(ticket.request.gpus);
  }
  for (const gpu of start.gpus) {
    // A job that has the machine alone needs its amounts on as many GPUs as it asked for only.
    const on = held
      .filter((t) => t.gpus.includes(gpu.index) && !t.request.reserveMachine)
      .map((t) => t.request);
    expect(sum(on.map((r) => r.gpuMemoryMiB))).toBeLessThanOrEqual(gpu.memoryFreeMiB);
    const used = units(gpu.utilizationInUse) + sum(on.map((r) => units(r.gpuUtilization)));
    if (on.length > 0) expect(used).toBeLessThan(12_000);
    if (on.some((r) => r.reserveGpu)) expect(on.length).toBe(1);
  }
}

test('no sequence of allocate and release exceeds a limit, and releasing all gives the start back exactly', () => {
  fc.assert(
    fc.property(
      anyMachine,
      fc.array(anyStep, { maxLength: 40 }),
      placements,
      fc.integer({ min: 1, max: 12 }),
      fc.infiniteStream(fc.nat(1000)),
      (start, steps, placement, maxJobs, order) => {
        const resources = new VirtualResources(start, { placement, maxJobs });
        const before = resources.available;
        const held = play(resources, steps, (tickets) => {
          expectWithinLimits(start, tickets, maxJobs);
          expect(resources.jobs).toBe(tickets.length);
        });
        while (held.length > 0) {
          const [ticket] = held.splice((order.next().value ?? 0) % held.length, 1);
          if (ticket !== undefined) resources.release(ticket);
        }
        expect(resources.available).toEqual(before);
        expect(resources.jobs).toBe(0);
      },
    ),
    { numRuns: 1000 },
  );
});

test('amounts with any number of decimals are never overbooked and come back exactly', () => {
  const amount = (max: number) => fc.double({ min: 0, max, noNaN: true });
  const odd = fc.record({
    memoryMiB: amount(3000),
    cpuCores: amount(2),
    gpus: fc.integer({ min: 0, max: 2 }),
    gpuMemoryMiB: amount(2000),
    gpuUtilization: amount(1),
    reserveGpu: fc.boolean(),
    reserveMachine: fc.constant(false),
  });
  fc.assert(
    fc.property(anyMachine, fc.array(odd, { maxLength: 30 }), (start, requests) => {
      const resources = new VirtualResources(start);
      const before = resources.available;
      const held = play(resources, requests, () => undefined);
      expect(sum(held.map((t) => t.request.memoryMiB))).toBeLessThanOrEqual(start.memoryFreeMiB + 1e-3);
      for (const gpu of resources.available.gpus) expect(gpu.memoryFreeMiB).toBeGreaterThanOrEqual(0);
      for (const ticket of held.reverse()) resources.release(ticket);
      expect(resources.available).toEqual(before);
    }),
  );
});

/** All ways to take `count` of the items. */
function subsets<T>(items: readonly T[], count: number): T[][] {
  if (count === 0) return [[]];
  return items.flatMap((item, i) => subsets(items.slice(i + 1), count - 1).map((rest) => [item, ...rest]));
}

test('the score is the best over every choice of GPUs, computed in decimals from the tickets', () => {
  fc.assert(
    fc.property(
      anyMachine,
      fc.array(anyStep, { maxLength: 15 }),
      anyRequest,
      placements,
      (start, steps, asked, placement) => {
        const resources = new VirtualResources(start, { placement });
        const held = play(resources, steps, () => undefined);
        const now = resources.available;
        const on = (index: number) => held.filter((t) => t.gpus.includes(index)).map((t) => t.request);
        const fitting = now.gpus.filter(
          (gpu) =>
            gpu.memoryFreeMiB >= asked.gpuMemoryMiB &&
            units(gpu.utilizationInUse) + units(asked.gpuUtilization) < 12_000 &&
            !on(gpu.index).some((r) => r.reserveGpu) &&
            !(asked.reserveGpu && on(gpu.index).length > 0),
        );
        const cores = now.cpuCoresInUse + asked.cpuCores;
        const machineFits =
          asked.memoryMiB <= now.memoryFreeMiB &&
          2 * units(cores) < 3 * units(now.cpuCores) &&
          !held.some((t) => t.request.reserveMachine) &&
          !(asked.reserveMachine && held.length > 0);
        const loads = (machineFits ? subsets(fitting, asked.gpus) : []).map((chosen) => {
          const gpuLoads = chosen.map((gpu) => ((gpu.utilizationInUse + asked.gpuUtilization) / 1.2) ** 3);
          return (cores / (1.5 * now.cpuCores)) ** 3 + sum(gpuLoads) / Math.max(1, chosen.length);
        });
        const score = resources.score(asked);
        const sign = placement === 'pack' ? 1 : -1;
        const expected = Math.max(...loads.map((load) => sign * load)); // -Infinity of none
        if (expected === -Infinity) expect(score).toBe(-Infinity);
        else expect(score).toBeCloseTo(expected, 12);
        expect(resources.explain(asked).length === 0).toBe(expected !== -Infinity);
        expect(resources.countFits(asked) > 0).toBe(expected !== -Infinity);
        expect(resources.available).toEqual(now);
      },
    ),
    { numRuns: 1000 },
  );
});

test('countFits is the number that allocate then places', () => {
  fc.assert(
    fc.property(
      anyMachine,
      fc.array(anyStep, { maxLength: 6 }),
      anyRequest,
      placements,
      (start, steps, asked, placement) => {
        const resources = new VirtualResources(start, { placement, maxJobs: 200 });
        play(resources, steps, () => undefined);
        const expected = resources.countFits(asked);
        const before = resources.jobs;
        while (resources.score(asked) !== -Infinity) resources.allocate(asked);
        expect(resources.jobs - before).toBe(expected);
      },
    ),
  );
});

test('adopted jobs are charged whatever is free, and any order of allocate, adopt and release ends at the start', () => {
  const adopted = fc.record({ adopt: anyRequest, gpuIndexes: fc.array(fc.nat(9), { maxLength: 4 }) });
  const steps = fc.array(fc.oneof(anyStep, adopted), { maxLength: 30 });
  fc.assert(
    fc.property(
      anyMachine,
      steps,
      anyRequest,
      placements,
      fc.infiniteStream(fc.nat(1000)),
      (start, played, asked, placement, order) => {
        const resources = new VirtualResources(start, { placement, maxJobs: 6 });
        const fresh = new VirtualResources(start, { placement, maxJobs: 6 });
        const held: Allocation[] = [];
        for (const step of played) {
          if (typeof step === 'object' && 'adopt' in step) {
            const ticket = resources.adopt(step.adopt, step.gpuIndexes);
            const there = start.gpus
              .map(({ index }) => index)
              .filter((index) => step.gpuIndexes.includes(index));
            expect(ticket.gpus).toEqual(there.sort((a, b) => a - b));
            held.push(ticket);
          } else held.push(...play(resources, [step], () => undefined));
          if (typeof step === 'number') {
            const [ticket] = held.splice(step % Math.max(1, held.length), 1);
            if (ticket !== undefined) resources.release(ticket);
          }
          expectCountedRight(resources, start, held);
          expectRefusedRight(resources, held, asked);
          expect(resources.canEverFit(asked)).toBe(fresh.canEverFit(asked));
        }
        while (held.length > 0) {
          const [ticket] = held.splice((order.next().value ?? 0) % held.length, 1);
          if (ticket !== undefined) resources.release(ticket);
        }
        expect(resources.available).toEqual(fresh.available);
        expect(resources.jobs).toBe(0);
        expect(resources.score(asked)).toBe(fresh.score(asked));
        expect(resources.explain(asked)).toEqual(fresh.explain(asked));
      },
    ),
    { numRuns: 1000 },
  );
});

/** What is free is the start minus every ticket, below 0 too. */
function expectCountedRight(
  resources: VirtualResources,
  start: AvailableResources,
  held: readonly Allocation[],
): void {
  const requests = held.map(({ request }) => request);
  const now = resources.available;
  expect(resources.jobs).toBe(held.length);
  expect(now.memoryFreeMiB).toBe(start.memoryFreeMiB - sum(requests.map((r) => r.memoryMiB)));
  expect(units(now.cpuCoresInUse)).toBe(
    units(start.cpuCoresInUse) + sum(requests.map((r) => units(r.cpuCores))),
  );
  // A job that reserves the machine names GPUs that it is not charged for.
  if (requests.some((r) => r.reserveMachine)) return;
  for (const gpu of now.gpus) {
    const on = held.filter((t) => t.gpus.includes(gpu.index) && t.request.gpus > 0).map((t) => t.request);
    const before = start.gpus.find(({ index }) => index === gpu.index);
    expect(gpu.memoryFreeMiB).toBe((before?.memoryFreeMiB ?? 0) - sum(on.map((r) => r.gpuMemoryMiB)));
    expect(units(gpu.utilizationInUse)).toBe(
      units(before?.utilizationInUse ?? 0) + sum(on.map((r) => units(r.gpuUtilization))),
    );
  }
}

/** What is said about a request now agrees with itself and with the tickets, also on a machine that is overbooked. */
function expectRefusedRight(
  resources: VirtualResources,
  held: readonly Allocation[],
  asked: ResourceRequest,
): void {
  const now = resources.available;
  const fits = resources.score(asked) !== -Infinity;
  const short = resources.explain(asked);
  expect(short.length === 0).toBe(fits);
  for (const { available } of short) expect(available).toBeGreaterThanOrEqual(0);
  expect(resources.countFits(asked) > 0).toBe(fits);
  expect(resources.available).toEqual(now);
  const isReserved = held.some((t) => t.request.reserveMachine);
  const isTooMuch = asked.memoryMiB > 0 && asked.memoryMiB > now.memoryFreeMiB;
  const mustNot = isReserved || held.length >= 6 || isTooMuch;
  if (mustNot) expect(fits).toBe(false);
  if (!fits) expect(() => resources.allocate(asked)).toThrow('not enough resources');
}

test('measured again: what is held stays held, and what is given back afterwards leaves what was measured', () => {
  fc.assert(
    fc.property(
      anyMachine,
      anyMachine,
      fc.array(anyStep, { maxLength: 20 }),
      fc.array(anyStep, { maxLength: 20 }),
      (start, measured, before, after) => {
        const resources = new VirtualResources(start);
        const held = play(resources, before, () => {});
        resources.measure(measured);
        // As if the jobs had been found on a machine that was measured for the first time.
        const anew = new VirtualResources(measured);
        // A reserved machine's ticket names all GPUs, though it takes amounts of fewer.
        const isPlain = !held.some(({ request }) => request.reserveMachine && request.gpus > 0);
        for (const { request, gpus } of held) anew.adopt(request, request.gpus === 0 ? [] : gpus);
        if (isPlain) expect(resources.available).toEqual(anew.available);
        expect(resources.jobs).toBe(held.length);
        const more = play(resources, after, () => {});
        for (const ticket of [...held, ...more]) resources.release(ticket);
        expect(resources.available).toEqual(new VirtualResources(measured).available);
        for (const step of after)
          if (typeof step !== 'number')
            expect(resources.score(step)).toBe(new VirtualResources(measured).score(step));
      },
    ),
    { numRuns: 500 },
  );
});
