/** Any row of verbs has the same outcome in the store as in a simple model of it, whether or not it is opened anew in between. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { type Attempt, type JobOutcome, jobId } from '../../src/lib/domain/job.ts';
import type { QueueState } from '../../src/lib/domain/queue.ts';
import { QueueStore } from '../../src/lib/stores/queue-store.ts';
import { smallSpec, TestClock, temporaryFolder } from './queue-jobs.ts';

interface ModelJob {
  readonly id: number;
  readonly dependsOn: readonly number[];
  readonly any: boolean;
  readonly array: { readonly first: number; readonly atOnce: number } | undefined;
  readonly beginAt: number;
  priority: number;
  state: QueueState;
  isHeld: boolean;
  wanted: 'killed' | 'queued' | undefined;
  attempt: number;
  losses: number;
}

const FINAL = ['success', 'fail', 'killed', 'abort', 'error'];

/** The same rules, said as plainly as can be: every answer is worked out from all jobs. */
class Model {
  readonly jobs = new Map<number, ModelJob>();
  nextId = 1;
  now = 0;

  /** Jobs that are `holding` look at their parents, until nothing changes any more. */
  settle(): void {
    for (let hasChanged = true; hasChanged; ) {
      hasChanged = false;
      for (const job of this.jobs.values()) {
        if (job.state !== 'holding') continue;
        const parents = job.dependsOn.map((id) => this.jobs.get(id)?.state ?? 'success');
        if (!job.any && parents.some((state) => FINAL.includes(state) && state !== 'success'))
          job.state = 'abort';
        else if (parents.every((state) => FINAL.includes(state)))
          job.state = job.isHeld ? 'user-hold' : 'queued';
        else continue;
        hasChanged = true;
      }
    }
  }

  line(): number[] {
    const inOrder = [...this.jobs.values()]
      .filter(({ state, beginAt }) => state === 'queued' && beginAt <= this.now)
      .sort((a, b) => b.priority - a.priority || a.id - b.id);
    const taken = new Map<number, number>();
    for (const { state, array } of this.jobs.values())
      if (state === 'running' && array !== undefined)
        taken.set(array.first, (taken.get(array.first) ?? 0) + 1);
    const open = inOrder.filter(({ array }) => {
      if (array === undefined) return true;
      taken.set(array.first, (taken.get(array.first) ?? 0) + 1);
      return (taken.get(array.first) ?? 0) <= array.atOnce;
    });
    return open.map(({ id }) => id);
  }

  back(job: ModelJob): void {
    job.state = job.isHeld ? 'user-hold' : 'queued';
    job.wanted = undefined;
  }
}

const pick = fc.nat({ max: 40 });
const verbs = fc.array(
  fc.oneof(
    fc.record({
      verb: fc.constant('add' as const),
      hold: fc.boolean(),
      any: fc.boolean(),
      atOnce: fc.option(fc.integer({ min: 1, max: 2 })),
      beginInMs: fc.constantFrom(0, 0, 0, 50),
      jobs: fc.array(
        fc.record({ priority: fc.integer({ min: -2, max: 2 }), parents: fc.array(pick, { maxLength: 2 }) }),
        { minLength: 1, maxLength: 4 },
      ),
    }),
    fc.record({
      verb: fc.constantFrom('claim', 'claim', 'unclaim', 'hold', 'release', 'kill', 'requeue', 'rerun'),
      pick,
    }),
    fc.record({
      verb: fc.constant('finish' as const),
      pick,
      outcome: fc.constantFrom<JobOutcome>(
        { type: 'exited', exitCode: 0 },
        { type: 'exited', exitCode: 0 },
        { type: 'exited', exitCode: 1 },
        { type: 'lost', reason: 'x' },
        { type: 'cancelled', reason: 'x' },
        { type: 'never-fits', reason: 'x' },
      ),
    }),
    fc.record({ verb: fc.constant('priority' as const), pick, priority: fc.integer({ min: -2, max: 2 }) }),
    fc.record({ verb: fc.constantFrom('clean', 'reopen', 'wait', 'export') }),
  ),
  { maxLength: 40 },
);

test('states and order are the model’s', { timeout: 240_000 }, async () => {
  await fc.assert(
    fc.asyncProperty(verbs, async (steps) => {
      using folder = temporaryFolder();
      const clock = new TestClock();
      const model = new Model();
      model.now = clock.now();
      let store = await QueueStore.open(folder.path, { clock });
      const reopen = async () => {
        store.close();
        store = await QueueStore.open(folder.path, { clock });
      };
      try {
        for (const step of steps) {
          await take(step);
          model.settle();
          const jobs = [...model.jobs.values()];
          expect(
            store
              .list()
              .map(({ id, state, isHeld, attempt, losses, spec }) => [
                id,
                state,
                isHeld,
                attempt,
                losses,
                spec.priority,
              ]),
          ).toEqual(
            jobs.map(({ id, state, isHeld, attempt, losses, priority }) => [
              id,
              state,
              isHeld,
              attempt,
              losses,
              priority,
            ]),
          );
          expect([...store.pending()].map(({ id }) => Number(id))).toEqual(model.line());
          expect(store.waitingKinds).toBe(model.line().length === 0 ? 0 : 1);
          expect(store.headSince()?.job).toBe(model.line()[0]);
          for (const [state, count] of Object.entries(store.counts()))
            expect(count).toBe(jobs.filter((job) => job.state === state).length);
        }
      } finally {
        store.close();
      }

      async function take(step: (typeof steps)[number]): Promise<void> {
        if (step.verb === 'add' && 'jobs' in step) {
          const first = model.nextId;
          const array = step.atOnce === null ? undefined : { first, atOnce: step.atOnce };
          const beginAt = step.beginInMs === 0 ? 0 : clock.now() + step.beginInMs;
          const known = [...model.jobs.keys()];
          const specs = step.jobs.map(({ priority, parents }, index) => {
            const choice = [...known, ...Array.from({ length: index }, (_, n) => first + n)];
            const dependsOn = choice.length === 0 ? [] : parents.map((n) => choice[n % choice.length] ?? 0);
            return smallSpec(`j_${first + index}`, {
              ...{ priority, dependsOn, dependsOnAny: step.any },
              ...(beginAt === 0 ? {} : { beginAt }),
              ...(array === undefined ? {} : { array: { ...array, index } }),
            });
          });
          const ids = await store.add(specs, { hold: step.hold });
          specs.forEach(({ priority, dependsOn }, index) => {
            const id = first + index;
            expect(ids[index]).toBe(id);
            model.jobs.set(id, {
              ...{ id, dependsOn, any: step.any, array, beginAt, priority },
              ...{ state: 'holding', isHeld: step.hold, wanted: undefined, attempt: 0, losses: 0 },
            });
          });
          model.nextId += specs.length;
          return;
        }
        if (!('pick' in step)) {
          if (step.verb === 'reopen') await reopen();
          if (step.verb === 'export') {
            const state = JSON.parse(JSON.stringify(store.exportState())) as unknown;
            if (store.counts().running === 0) await store.importState(state);
            expect(JSON.parse(JSON.stringify(store.exportState()))).toEqual(state);
          }
          if (step.verb === 'wait') {
            clock.advance(30);
            model.now = clock.now();
          }
          if (step.verb === 'clean') {
            const cleaned = new Set(await store.clean(0));
            const needed = new Set(
              [...model.jobs.values()].flatMap((job) => (job.state === 'holding' ? job.dependsOn : [])),
            );
            const gone: number[] = [];
            for (const { id, state } of [...model.jobs.values()].reverse()) {
              const isKept = [...model.jobs.values()].some((job) => !job.any && job.dependsOn.includes(id));
              if (!FINAL.includes(state) || needed.has(id) || (state !== 'success' && isKept)) continue;
              gone.unshift(id);
              model.jobs.delete(id);
            }
            expect([...cleaned]).toEqual(gone);
          }
          return;
        }
        const all = [...model.jobs.values()];
        // Jobs that run are rare among all: their verbs choose among them alone.
        const running = all.filter(({ state }) => state === 'running');
        const among = ['finish', 'unclaim', 'requeue'].includes(step.verb) ? running : all;
        const job = among[step.pick % Math.max(1, among.length)];
        if (job === undefined) return;
        const attempt: Attempt = { job: jobId(String(job.id)), number: job.attempt };
        const isFinal = FINAL.includes(job.state);
        switch (step.verb) {
          case 'claim': {
            const [head] = model.line();
            const id = step.pick % 3 === 0 ? job.id : (head ?? job.id);
            const mayStart = model.line().includes(id);
            const claimed = await store.claim(jobId(String(id)));
            expect(claimed !== undefined).toBe(mayStart);
            const taken = model.jobs.get(id);
            if (!mayStart || taken === undefined) return;
            taken.attempt += 1;
            taken.state = 'running';
            expect(claimed?.number).toBe(taken.attempt);
            return;
          }
          case 'unclaim':
            await store.unclaim(attempt);
            if (job.wanted === 'killed') job.state = 'killed';
            else model.back(job);
            return;
          case 'finish': {
            if (!('outcome' in step)) return;
            const { outcome } = step;
            await store.finish(attempt, outcome);
            const isGood = outcome.type === 'exited' && outcome.exitCode === 0;
            const isEnded = outcome.type === 'cancelled' || outcome.type === 'lost';
            if (job.wanted === 'killed' && !isGood) job.state = 'killed';
            else if (job.wanted === 'queued' && isEnded) model.back(job);
            else if (outcome.type === 'lost' && job.losses < 2) {
              job.losses += 1;
              model.back(job);
            } else if (isGood) job.state = 'success';
            else if (outcome.type === 'cancelled') job.state = 'killed';
            else job.state = outcome.type === 'never-fits' ? 'error' : 'fail';
            job.wanted = undefined;
            return;
          }
          case 'hold':
            await store.hold([job.id]);
            if (isFinal || job.state === 'running') return;
            job.isHeld = true;
            if (job.state === 'queued') job.state = 'user-hold';
            return;
          case 'release':
            await store.release([job.id]);
            if (isFinal) return;
            job.isHeld = false;
            if (job.state === 'user-hold') job.state = 'queued';
            return;
          case 'kill':
            await store.kill([job.id], 'x');
            if (job.state === 'running') job.wanted = 'killed';
            else if (!isFinal) job.state = 'killed';
            return;
          case 'requeue':
            await store.requeue([job.id], 'x');
            if (job.wanted !== 'killed') job.wanted = 'queued';
            return;
          case 'rerun': {
            await store.rerun([job.id]);
            const isBad = (id: number) => {
              const state = model.jobs.get(id)?.state ?? 'success';
              return FINAL.includes(state) && state !== 'success';
            };
            if (!isFinal || (!job.any && job.dependsOn.some(isBad))) return;
            Object.assign(job, { state: 'holding', isHeld: false, losses: 0 });
            for (const child of all)
              if (['queued', 'user-hold'].includes(child.state) && child.dependsOn.includes(job.id))
                child.state = 'holding';
            return;
          }
          case 'priority':
            if (!('priority' in step)) return;
            await store.setPriority([job.id], step.priority);
            if (!isFinal) job.priority = step.priority;
            return;
        }
      }
    }),
    { numRuns: 250 },
  );
});
