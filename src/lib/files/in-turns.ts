/** Many small steps, without holding up what else the process does. */

const LANES = 8;
/** So long without a break. */
const TURN_MS = 20;

/** Does something with each, one after the other, and lets the rest of the process have its turn now and then. */
export async function inTurns<T>(all: readonly T[], task: (one: T) => void): Promise<void> {
  let since = performance.now();
  for (const one of all) {
    if (performance.now() - since > TURN_MS) {
      await new Promise((resolve) => setImmediate(resolve));
      since = performance.now();
    }
    task(one);
  }
}

/** Does something with each, a few at a time. After an error it starts none, and waits for those under way. */
export async function inLanes<T>(all: readonly T[], task: (one: T) => Promise<void>): Promise<void> {
  let next = 0;
  const lane = async () => {
    for (let one = all[next++]; one !== undefined; one = all[next++]) {
      try {
        await task(one);
      } catch (error) {
        next = all.length;
        throw error;
      }
    }
  };
  const ends = await Promise.allSettled(Array.from({ length: Math.min(LANES, all.length) }, lane));
  for (const end of ends) if (end.status === 'rejected') throw end.reason;
}
