/** Why the jobs of a batch wait that do, in a few words each. */
import type { MachinePool, PoolMachine } from '../allocator/machine-pool.ts';
import { type Job, placementKey } from '../domain/job.ts';
import type { MachineName } from '../domain/machine.ts';

/** What the reasons go by. */
export interface WaitingOptions {
  readonly pool: MachinePool;
  /** All machines that were named. */
  readonly names: readonly MachineName[];
  /** Nothing is started any more. */
  readonly isStopped: boolean;
}

/** Gives reasons for one moment: jobs of a kind have the same, which is found once. */
export class WaitingReasons {
  readonly #options: WaitingOptions;
  readonly #known = new Map<string, string>();

  constructor(options: WaitingOptions) {
    this.#options = options;
  }

  /** One line. */
  of(job: Job): string {
    if (this.#options.isStopped) return 'nothing more is started';
    const key = placementKey(job);
    const known = this.#known.get(key);
    if (known !== undefined) return known;
    const reason = this.#find(job);
    this.#known.set(key, reason);
    return reason;
  }

  #find({ request, avoid = [] }: Job): string {
    const { pool, names } = this.#options;
    const able = pool.machines.filter(
      ({ name, resources }) => pool.quarantineOf(name) === undefined && resources.canEverFit(request),
    );
    const others = able.filter(({ name }) => !avoid.includes(name));
    const wanted = others.length > 0 ? others : able;
    const open = wanted.filter(({ name }) => pool.isUp(name) && pool.isReady(name));
    if (open.length > 0) return roomText(open.map((one) => ({ one, short: one.resources.explain(request) })));
    const [closed] = wanted;
    if (closed !== undefined)
      return pool.isUp(closed.name)
        ? `${closed.name} is being looked at${moreText(wanted.length - 1)}`
        : `${closed.name} is away${moreText(wanted.length - 1)}`;
    const expected = names.filter((name) => pool.isExpected(name));
    const [first] = expected;
    if (first !== undefined) return `${first} has not answered yet${moreText(expected.length - 1)}`;
    return 'no machine that is left can ever hold it';
  }
}

/** What is short on the machine where the least is. */
function roomText(
  places: readonly { readonly one: PoolMachine; readonly short: readonly { readonly message: string }[] }[],
): string {
  const best = places.reduce((least, place) => (place.short.length < least.short.length ? place : least));
  const [message] = best.short;
  if (message === undefined) return `starts next, on ${best.one.name}`;
  return `${best.one.name}: ${message.message}${moreText(places.length - 1)}`;
}

function moreText(others: number): string {
  return others === 0 ? '' : ` (and ${others} other machine${others === 1 ? '' : 's'})`;
}
