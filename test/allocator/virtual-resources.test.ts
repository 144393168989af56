import { describe, expect, test } from 'vitest';
import { COUNT_LIMIT, VirtualResources } from '../../src/lib/allocator/virtual-resources.ts';
import { InsufficientResourcesError, SchedulerError } from '../../src/lib/domain/errors.ts';
import type { Allocation, ResourceRequest } from '../../src/lib/domain/resources.ts';
import { machine, request } from './requests.ts';

/** Allocates until nothing fits any more. */
function fill(resources: VirtualResources, asked: ResourceRequest): Allocation[] {
  const tickets: Allocation[] = [];
  while (resources.score(asked) !== -Infinity) tickets.push(resources.allocate(asked));
  return tickets;
}

function messages(resources: VirtualResources, asked: ResourceRequest): string[] {
  return resources.explain(asked).map((short) => short.message);
}

describe('the check value', () => {
  const available = {
    cpuCores: 24,
    cpuCoresInUse: 24 * 0.124,
    memoryFreeMiB: 30_607,
    gpus: [0, 1].map((index) => ({ index, memoryFreeMiB: 5933, utilizationInUse: 0 })),
  };
  const asked = request({ cpuCores: 2, memoryMiB: 2000, gpus: 1, gpuMemoryMiB: 1000, gpuUtilization: 0.3 });

  test('exactly 6 fit, three on each GPU', () => {
    const resources = new VirtualResources(available);
    expect(resources.countFits(asked)).toBe(6);
    const tickets = fill(resources, asked);
    expect(tickets.map((ticket) => ticket.gpus)).toEqual([[0], [1], [0], [1], [0], [1]]);
    expect(() => resources.allocate(asked)).toThrow(InsufficientResourcesError);
  });

  test('its first score is the formula', () => {
    const expected = -(((2.976 + 2) / 36) ** 3 + (0.3 / 1.2) ** 3);
    expect(new VirtualResources(available).score(asked)).toBeCloseTo(expected, 14);
    expect(new VirtualResources(available, { placement: 'pack' }).score(asked)).toBeCloseTo(-expected, 14);
  });
});

describe('limits', () => {
  test('memory may be used up to the last MiB', () => {
    const resources = new VirtualResources(machine(1));
    expect(resources.score(request({ memoryMiB: 32_000 }))).toBe(0);
    expect(resources.score(request({ memoryMiB: 32_000.5 }))).toBe(-Infinity);
    expect(resources.score(request({ gpus: 1, gpuMemoryMiB: 8000 }))).toBe(0);
    expect(resources.score(request({ gpus: 1, gpuMemoryMiB: 8001 }))).toBe(-Infinity);
  });

  test('cores stay strictly below 1.5 times the cores, with what others use', () => {
    const resources = new VirtualResources(machine(0, { cpuCoresInUse: 1 }));
    expect(resources.canEverFit(request({ cpuCores: 11 }))).toBe(false);
    expect(resources.canEverFit(request({ cpuCores: 10.9999 }))).toBe(true);
  });

  test('utilization stays strictly below 1.2, with what others use', () => {
    const gpus = [{ index: 0, memoryFreeMiB: 8000, utilizationInUse: 0.2 }];
    const resources = new VirtualResources(machine(1, { gpus }));
    expect(resources.countFits(request({ gpus: 1, gpuUtilization: 1 }))).toBe(0);
    expect(resources.countFits(request({ gpus: 1, gpuUtilization: 0.9999 }))).toBe(1);
    expect(resources.countFits(request({ gpus: 1, gpuUtilization: 0.1 }))).toBe(9);
  });

  test('maxJobs caps our running jobs', () => {
    const resources = new VirtualResources(machine(0), { maxJobs: 2 });
    const [first] = fill(resources, request());
    expect(resources.jobs).toBe(2);
    expect(messages(resources, request())).toEqual(['the limit of 2 jobs at once is reached']);
    if (first !== undefined) resources.release(first);
    expect(resources.countFits(request())).toBe(1);
    expect(new VirtualResources(machine(0), { maxJobs: 0 }).canEverFit(request())).toBe(false);
  });

  test('fractions of a core do not drift', () => {
    const resources = new VirtualResources(machine(0));
    const before = resources.available;
    const tickets = fill(resources, request({ cpuCores: 0.1 }));
    expect(tickets.length).toBe(119);
    for (const ticket of tickets) resources.release(ticket);
    expect(resources.available).toEqual(before);
  });
});

describe('GPUs', () => {
  const gpus = [
    { index: 3, memoryFreeMiB: 4000, utilizationInUse: 0 },
    { index: 0, memoryFreeMiB: 5000, utilizationInUse: 0.5 },
    { index: 2, memoryFreeMiB: 6000, utilizationInUse: 0 },
    { index: 1, memoryFreeMiB: 6000, utilizationInUse: 0 },
  ];
  const choose = (asked: Partial<ResourceRequest>, placement: 'spread' | 'pack') =>
    new VirtualResources(machine(0, { gpus }), { placement }).allocate(request(asked)).gpus;

  test('spread takes the least used, then most memory free, then the lowest index', () => {
    expect(choose({ gpus: 1 }, 'spread')).toEqual([1]);
    expect(choose({ gpus: 2 }, 'spread')).toEqual([1, 2]);
    expect(choose({ gpus: 3 }, 'spread')).toEqual([1, 2, 3]);
  });

  test('pack takes the fullest that fits', () => {
    expect(choose({ gpus: 1 }, 'pack')).toEqual([0]);
    expect(choose({ gpus: 2 }, 'pack')).toEqual([0, 3]);
    expect(choose({ gpus: 1, gpuUtilization: 0.7 }, 'pack')).toEqual([3]);
    expect(choose({ gpus: 1, gpuUtilization: 0.7, gpuMemoryMiB: 4500 }, 'pack')).toEqual([1]);
  });

  test('the mean over the chosen GPUs counts', () => {
    const resources = new VirtualResources(machine(0, { gpus }));
    const expected = -(2 * (0.3 / 1.2) ** 3 + (0.3 / 1.2) ** 3 + (0.8 / 1.2) ** 3) / 4;
    expect(resources.score(request({ gpus: 4, gpuUtilization: 0.3 }))).toBeCloseTo(expected, 14);
  });

  test('a job without GPUs ignores them', () => {
    const resources = new VirtualResources(machine(0));
    expect(
      resources.allocate(request({ gpuMemoryMiB: 9000, gpuUtilization: 1, reserveGpu: true })).gpus,
    ).toEqual([]);
  });
});

describe('reservations', () => {
  const reserving = request({ gpus: 1, reserveGpu: true });
  const sharing = request({ gpus: 1 });

  test('a reserved GPU takes no other job, and only an empty one is reserved', () => {
    const resources = new VirtualResources(machine(2));
    const alone = resources.allocate(reserving);
    const shared = [resources.allocate(sharing), resources.allocate(sharing)];
    expect([alone, ...shared].map((ticket) => ticket.gpus)).toEqual([[0], [1], [1]]);
    expect(messages(resources, reserving)).toEqual([
      'GPU 0 is reserved by another job',
      'GPU 1 has 2 jobs on it, it was requested for one alone',
    ]);
    for (const ticket of shared) resources.release(ticket);
    expect(resources.allocate(reserving).gpus).toEqual([1]);
    expect(messages(resources, sharing)).toEqual([
      'GPU 0 is reserved by another job',
      'GPU 1 is reserved by another job',
    ]);
    expect(resources.canEverFit(request({ ...reserving, gpus: 2 }))).toBe(true);
  });

  test('a reserved machine is for one job, which holds all GPUs', () => {
    const resources = new VirtualResources(machine(3));
    const alone = request({ gpus: 1, gpuMemoryMiB: 8000, reserveMachine: true });
    expect(resources.countFits(alone)).toBe(1);
    const ticket = resources.allocate(alone);
    expect(ticket.gpus).toEqual([0, 1, 2]);
    expect(messages(resources, request())).toEqual(['the machine is reserved by another job']);
    expect(messages(resources, alone)[0]).toEqual('the machine is reserved by another job');
    resources.release(ticket);
    resources.allocate(request());
    expect(messages(resources, alone)).toEqual(['the machine runs 1 job, it was requested for one alone']);
    expect(resources.canEverFit(alone)).toBe(true);
  });

  test('a reserved machine must still have the GPUs and memory asked for', () => {
    const resources = new VirtualResources(machine(1));
    expect(resources.canEverFit(request({ reserveMachine: true, gpus: 2 }))).toBe(false);
    expect(resources.canEverFit(request({ reserveMachine: true, gpus: 1, gpuMemoryMiB: 8001 }))).toBe(false);
    expect(resources.canEverFit(request({ reserveMachine: true, memoryMiB: 32_001 }))).toBe(false);
  });
});

describe('tickets', () => {
  test('a ticket is given back once, to its own machine', () => {
    const [one, other] = [new VirtualResources(machine(1)), new VirtualResources(machine(1))];
    const ticket = one.allocate(request({ gpus: 1 }));
    other.allocate(request({ gpus: 1 }));
    expect(() => other.release(ticket)).toThrow(SchedulerError);
    one.release(ticket);
    expect(() => one.release(ticket)).toThrow(`allocation ${ticket.id} is not held on this machine`);
    expect([one.jobs, other.jobs]).toEqual([0, 1]);
  });

  test('the error carries the request and what is short', () => {
    const asked = request({ memoryMiB: 50_000 });
    const resources = new VirtualResources(machine(0));
    expect(() => resources.allocate(asked)).toThrow(
      'not enough resources: 32000 MiB of memory is free, 50000 MiB was requested',
    );
    try {
      resources.allocate(asked);
    } catch (error) {
      expect(error).toMatchObject({
        request: asked,
        shortfalls: [{ resource: 'memoryMiB', available: 32_000 }],
      });
    }
    expect(resources.jobs).toBe(0);
  });
});

describe('adopted jobs', () => {
  test('are charged beyond what is free, and given back exactly', () => {
    const resources = new VirtualResources(machine(2), { maxJobs: 1 });
    const before = resources.available;
    const running = request({
      memoryMiB: 20_000,
      cpuCores: 7,
      gpus: 2,
      gpuMemoryMiB: 5000,
      gpuUtilization: 0.7,
    });
    const tickets = [resources.adopt(running, [0, 1]), resources.adopt(running, [1, 0])];
    expect(tickets.map(({ gpus }) => gpus)).toEqual([
      [0, 1],
      [0, 1],
    ]);
    expect(resources.jobs).toBe(2);
    expect(resources.memoryFreeMiB).toBe(-8000);
    expect(messages(resources, request({ memoryMiB: 100, gpus: 1, gpuMemoryMiB: 100 }))).toEqual([
      'the limit of 1 job at once is reached',
      '0 MiB of memory is free, 100 MiB was requested',
      '14 of 8 cores in use, 0 more requested, the total must stay below 12',
      'GPU 0 has 0 MiB free, 100 MiB was requested',
      'GPU 0 is at utilization 1.4, 0 more was requested, the total must stay below 1.2',
      'GPU 1 has 0 MiB free, 100 MiB was requested',
      'GPU 1 is at utilization 1.4, 0 more was requested, the total must stay below 1.2',
    ]);
    expect(resources.canEverFit(running)).toBe(true);
    for (const ticket of tickets) resources.release(ticket);
    expect(resources.available).toEqual(before);
  });

  test('hold exactly the GPUs that they run on, without those that are gone', () => {
    const resources = new VirtualResources(machine(3));
    const ticket = resources.adopt(request({ gpus: 2, gpuMemoryMiB: 3000 }), [7, 2]);
    expect(ticket.gpus).toEqual([2]);
    expect(resources.available.gpus.map(({ memoryFreeMiB }) => memoryFreeMiB)).toEqual([8000, 8000, 5000]);
  });

  test('keep a reservation until the last of them ends', () => {
    const resources = new VirtualResources(machine(1));
    const alone = request({ gpus: 1, reserveGpu: true });
    const [first, second] = [resources.adopt(alone, [0]), resources.adopt(alone, [0])];
    resources.release(first);
    expect(messages(resources, request({ gpus: 1 }))).toEqual(['GPU 0 is reserved by another job']);
    resources.release(second);
    expect(resources.score(request({ gpus: 1 }))).toBe(0);

    const wholeMachine = request({ reserveMachine: true });
    const [third, fourth] = [resources.adopt(wholeMachine, [0]), resources.adopt(wholeMachine, [])];
    const beside = resources.adopt(request(), []);
    resources.release(fourth);
    expect(messages(resources, request())).toEqual(['the machine is reserved by another job']);
    resources.release(third);
    expect(resources.score(request())).toBe(0);
    expect(messages(resources, wholeMachine)).toEqual([
      'the machine runs 1 job, it was requested for one alone',
    ]);
    resources.release(beside);
    expect(resources.score(wholeMachine)).toBe(0);
  });
});

describe('explain', () => {
  test('names every resource that is short, with amounts', () => {
    const gpus = [
      { index: 0, memoryFreeMiB: 8000, utilizationInUse: 0.7 },
      { index: 1, memoryFreeMiB: 3000, utilizationInUse: 0 },
    ];
    const resources = new VirtualResources(machine(0, { gpus, cpuCoresInUse: 2.976 }));
    const asked = { memoryMiB: 64_000, cpuCores: 10, gpus: 1, gpuMemoryMiB: 8000, gpuUtilization: 0.75 };
    expect(resources.explain(request(asked))).toEqual([
      {
        resource: 'memoryMiB',
        requested: 64_000,
        available: 32_000,
        message: '32000 MiB of memory is free, 64000 MiB was requested',
      },
      {
        resource: 'cpuCores',
        requested: 10,
        available: 9.0239,
        message: '2.976 of 8 cores in use, 10 more requested, the total must stay below 12',
      },
      {
        resource: 'gpuUtilization',
        requested: 0.75,
        available: 0.4999,
        message: 'GPU 0 is at utilization 0.7, 0.75 more was requested, the total must stay below 1.2',
      },
      {
        resource: 'gpuMemoryMiB',
        requested: 8000,
        available: 3000,
        message: 'GPU 1 has 3000 MiB free, 8000 MiB was requested',
      },
    ]);
  });

  test('says how many GPUs there are', () => {
    expect(messages(new VirtualResources(machine(0)), request({ gpus: 1 }))).toEqual([
      'the machine has no GPU, 1 was requested',
    ]);
    expect(messages(new VirtualResources(machine(1)), request({ gpus: 2 }))).toEqual([
      'the machine has 1 GPU, 2 were requested',
    ]);
  });

  test('tells now from ever', () => {
    const resources = new VirtualResources(machine(1));
    const asked = request({ gpus: 1, reserveGpu: true });
    resources.allocate(asked);
    expect(messages(resources, asked)).toEqual(['GPU 0 is reserved by another job']);
    expect(resources.explainEver(asked)).toEqual([]);
    expect(resources.canEverFit(asked)).toBe(true);
    expect(resources.explainEver(request({ memoryMiB: 40_000 })).map((short) => short.resource)).toEqual([
      'memoryMiB',
    ]);
  });
});

test('a request for nothing is counted to the limit and leaves no trace', () => {
  const resources = new VirtualResources(machine(0));
  expect(resources.countFits(request())).toBe(COUNT_LIMIT);
  expect(resources.jobs).toBe(0);
});

test('what a machine reports is checked', () => {
  const twice = [0, 0].map((index) => ({ index, memoryFreeMiB: 1, utilizationInUse: 0 }));
  const bad = [{ index: 4, memoryFreeMiB: Number.NaN, utilizationInUse: 0 }];
  expect(() => new VirtualResources(machine(0, { gpus: twice }))).toThrow('found GPU 0 twice');
  expect(() => new VirtualResources(machine(0, { gpus: bad }))).toThrow('memoryFreeMiB of GPU 4: found NaN');
  expect(() => new VirtualResources(machine(0, { cpuCores: -1 }))).toThrow('available cpuCores: found -1');
  expect(() => new VirtualResources(machine(0), { maxJobs: 0.5 })).toThrow('maxJobs: found 0.5');
  expect(new VirtualResources(machine(0, { cpuCores: 0 })).canEverFit(request())).toBe(false);
});

test('a limit of jobs may change while jobs are there, and a wrong measurement changes nothing', () => {
  const resources = new VirtualResources(machine(0), { maxJobs: 2 });
  const tickets = fill(resources, request());
  expect(tickets.length).toBe(2);
  resources.setMaxJobs(1);
  expect(resources.score(request())).toBe(-Infinity);
  for (const ticket of tickets) resources.release(ticket);
  expect(fill(resources, request()).length).toBe(1);
  expect(() => resources.setMaxJobs(-1)).toThrow(SchedulerError);
  const before = resources.available;
  expect(() => resources.measure(machine(0, { memoryFreeMiB: -1 }))).toThrow(SchedulerError);
  expect(resources.available).toEqual(before);
});
