/** Which jobs wait for which, and which were let go. A job depends on lower ids alone, so there are no cycles. */
import type { QueueJobId } from '../domain/queue.ts';

/** Who waits for whom. */
export class QueueDependencies {
  /** By the one that waits, those whose good end it still needs. */
  readonly #unmet = new Map<QueueJobId, Set<QueueJobId>>();
  /** By the one that is waited for, met or not, those that wait. */
  readonly #children = new Map<QueueJobId, Set<QueueJobId>>();

  /** By a parent, those that depend on it, wait for no job any more, and have not begun. */
  readonly #letGo = new Map<QueueJobId, Set<QueueJobId>>();

  /** `child` waits for `unmet`, which are some of `all` that it depends on. */
  wait(child: QueueJobId, all: readonly QueueJobId[], unmet: readonly QueueJobId[]): void {
    this.#unmet.set(child, new Set(unmet));
    for (const parent of all) add(this.#children, parent, child);
  }

  /** `child` waits no more. */
  drop(child: QueueJobId, all: readonly QueueJobId[]): void {
    this.#unmet.delete(child);
    for (const parent of all) remove(this.#children, parent, child);
  }

  /** Whether `child` waits for no job any more, and has not begun. */
  noteLetGo(child: QueueJobId, all: readonly QueueJobId[], isLetGo: boolean): void {
    for (const parent of all) (isLetGo ? add : remove)(this.#letGo, parent, child);
  }

  /** Those that depend on `parent`, wait for no job any more, and have not begun; ascending. */
  letGoBy(parent: QueueJobId): QueueJobId[] {
    return [...(this.#letGo.get(parent) ?? [])].sort((a, b) => a - b);
  }

  /** Those that wait for this one, or would if it had to run again; ascending. */
  childrenOf(parent: QueueJobId): QueueJobId[] {
    return [...(this.#children.get(parent) ?? [])].sort((a, b) => a - b);
  }

  hasChildren(parent: QueueJobId): boolean {
    return this.#children.has(parent);
  }

  /** `parent` ended as `child` needs it. True when `child` waits for nothing more. */
  meet(child: QueueJobId, parent: QueueJobId): boolean {
    const unmet = this.#unmet.get(child);
    unmet?.delete(parent);
    return unmet === undefined || unmet.size === 0;
  }

  /** `parent` runs again: those that wait have to wait for it anew. */
  reopen(parent: QueueJobId): void {
    for (const child of this.#children.get(parent) ?? []) this.#unmet.get(child)?.add(parent);
  }

  /** What `child` still waits for; ascending. */
  unmetOf(child: QueueJobId): QueueJobId[] {
    return [...(this.#unmet.get(child) ?? [])].sort((a, b) => a - b);
  }
}

type ByParent = Map<QueueJobId, Set<QueueJobId>>;

function add(byParent: ByParent, parent: QueueJobId, child: QueueJobId): void {
  const children = byParent.get(parent);
  if (children === undefined) byParent.set(parent, new Set([child]));
  else children.add(child);
}

function remove(byParent: ByParent, parent: QueueJobId, child: QueueJobId): void {
  const children = byParent.get(parent);
  if (children?.delete(child) === true && children.size === 0) byParent.delete(parent);
}
