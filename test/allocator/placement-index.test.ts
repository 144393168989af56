import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { PlacementIndex } from '../../src/lib/allocator/placement-index.ts';
import { type Placement, VirtualResources } from '../../src/lib/allocator/virtual-resources.ts';
import { SchedulerError } from '../../src/lib/domain/errors.ts';
import type { Allocation, ResourceRequest } from '../../src/lib/domain/resources.ts';
import { anyMachine, anyRequest, machine, request } from './requests.ts';

interface Member {
  readonly resources: VirtualResources;
  isEnabled: boolean;
}

/** The rule, by looking at every machine in order. */
function scan(
  members: ReadonlyMap<string, Member>,
  asked: ResourceRequest,
  placement: Placement,
): string | undefined {
  const sign = placement === 'pack' ? -1 : 1;
  let best: { readonly name: string; readonly score: number; readonly free: number } | undefined;
  for (const [name, { resources, isEnabled }] of members) {
    const score = isEnabled ? resources.score(asked) : -Infinity;
    const free = sign * resources.memoryFreeMiB;
    if (score === -Infinity) continue;
    if (best === undefined || score > best.score || (score === best.score && free > best.free)) {
      best = { name, score, free };
    }
  }
  return best?.name;
}

type Step =
  | { readonly type: 'place'; readonly kind: number }
  | { readonly type: 'release'; readonly which: number }
  | { readonly type: 'add'; readonly available: Parameters<typeof machine>[1] & object }
  | { readonly type: 'remove' | 'toggle'; readonly which: number };

const which = fc.nat(1000);
const anySteps: fc.Arbitrary<Step[]> = fc.array(
  fc.oneof(
    { weight: 12, arbitrary: fc.record({ type: fc.constant('place' as const), kind: which }) },
    { weight: 6, arbitrary: fc.record({ type: fc.constant('release' as const), which }) },
    { weight: 2, arbitrary: fc.record({ type: fc.constant('add' as const), available: anyMachine }) },
    {
      weight: 1,
      arbitrary: fc.record({ type: fc.constantFrom('remove' as const, 'toggle' as const), which }),
    },
  ),
  { maxLength: 120, size: 'max' },
);

test.each(['spread', 'pack'] as const)(
  '%s: the choice is the one of a full scan, whatever happens',
  (placement) => {
    fc.assert(
      fc.property(
        fc.array(anyMachine, { maxLength: 20, size: 'max' }),
        fc.array(anyRequest, { minLength: 1, maxLength: 8 }),
        anySteps,
        // One or two tournaments for up to eight requests: they are given up and built again all the time.
        fc.constantFrom({}, { maxTournaments: 1 }, { maxTournaments: 2 }),
        (start, requests, steps, options) => {
          const index = new PlacementIndex<string>(options);
          const members = new Map<string, Member>();
          const held: {
            readonly name: string;
            readonly on: VirtualResources;
            readonly ticket: Allocation;
          }[] = [];
          let named = 0;
          const add = (available: (typeof start)[number]) => {
            const name = `machine ${named++}`;
            const resources = new VirtualResources(available, { placement });
            members.set(name, { resources, isEnabled: true });
            index.add(name, resources);
          };
          const pick = (number: number) => [...members][number % Math.max(1, members.size)];
          for (const available of start) add(available);
          for (const step of steps) {
            switch (step.type) {
              case 'place': {
                const asked = requests[step.kind % requests.length] ?? request();
                const name = index.best(asked);
                expect(name).toBe(scan(members, asked, placement));
                const on = name === undefined ? undefined : members.get(name)?.resources;
                if (name === undefined || on === undefined) break;
                held.push({ name, on, ticket: on.allocate(asked) });
                index.changed(name);
                break;
              }
              case 'release': {
                const [job] = held.splice(step.which % Math.max(1, held.length), 1);
                job?.on.release(job.ticket);
                if (job !== undefined && members.has(job.name)) index.changed(job.name);
                break;
              }
              case 'add':
                add({ ...machine(0), ...step.available });
                break;
              case 'remove': {
                const name = pick(step.which)?.[0];
                if (name === undefined) break;
                members.delete(name);
                index.remove(name);
                break;
              }
              case 'toggle': {
                const [name, member] = pick(step.which) ?? [];
                if (name === undefined || member === undefined) break;
                member.isEnabled = !member.isEnabled;
                index.setEnabled(name, member.isEnabled);
                break;
              }
            }
            expect(index.size).toBe(members.size);
          }
        },
      ),
      { numRuns: 400 },
    );
  },
);

describe('ties', () => {
  const small = () => new VirtualResources(machine(0, { memoryFreeMiB: 1000 }));
  const large = () => new VirtualResources(machine(0, { memoryFreeMiB: 2000 }));

  test('go to the most memory free, then to the first', () => {
    const index = new PlacementIndex<number>();
    index.add(7, small());
    index.add(3, large());
    index.add(5, large());
    expect(index.best(request())).toBe(3);
    index.setEnabled(3, false);
    expect(index.best(request())).toBe(5);
    index.remove(5);
    expect(index.best(request())).toBe(7);
    index.setEnabled(3, true);
    expect(index.best(request())).toBe(3);
  });

  test('go to the least memory free when packing', () => {
    const index = new PlacementIndex<number>();
    for (const memoryFreeMiB of [2000, 1000, 3000, 1000]) {
      const available = machine(0, { memoryFreeMiB });
      index.add(index.size, new VirtualResources(available, { placement: 'pack' }));
    }
    expect(index.best(request())).toBe(1);
    expect(index.best(request({ memoryMiB: 1500 }))).toBe(0);
  });

  test('of memory are noticed though the score stays', () => {
    const index = new PlacementIndex<number>();
    const [first, second] = [large(), large()];
    index.add(1, first);
    index.add(2, second);
    expect(index.best(request())).toBe(1);
    first.allocate(request({ memoryMiB: 10 }));
    index.changed(1);
    expect(index.best(request())).toBe(2);
  });
});

test('requests that are all different, each asked once, are answered as rightly', () => {
  const index = new PlacementIndex<number>({ maxTournaments: 3 });
  const ledgers = Array.from(
    { length: 40 },
    (_, n) => new VirtualResources(machine(n % 3, { cpuCores: 4 + (n % 5) })),
  );
  for (const [n, ledger] of ledgers.entries()) index.add(n, ledger);
  for (let job = 0; job < 500; job++) {
    const asked = request({ memoryMiB: job, cpuCores: 0.001 * job, gpus: job % 2 });
    const best = index.best(asked);
    const scores = ledgers.map((ledger) => ledger.score(asked));
    const chosen = best === undefined ? undefined : ledgers[best];
    expect(chosen?.score(asked) ?? -Infinity).toBe(Math.max(...scores));
    if (best === undefined || chosen === undefined) continue;
    chosen.allocate(asked);
    index.changed(best);
  }
});

test('an empty index and a wrong use', () => {
  const index = new PlacementIndex<string>();
  expect(index.best(request())).toBe(undefined);
  index.add('a', new VirtualResources(machine(0)));
  expect(() => index.add('a', new VirtualResources(machine(0)))).toThrow('machine a is in the index already');
  expect(() => index.changed('b')).toThrow(SchedulerError);
  expect(() => index.remove('b')).toThrow('machine b is not in the index');
  expect(() => index.best(request({ memoryMiB: -1 }))).toThrow('memoryMiB: found -1');
});
