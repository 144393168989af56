/** Waiting for a condition in tests: asks again and again instead of sleeping for a guessed time. */

/** How `until` waits and what it says when it gives up. */
export interface UntilOptions {
  /** Give up after this many milliseconds. @default 5000 */
  readonly deadlineMs?: number;
  /** Milliseconds between two questions. @default 10 */
  readonly intervalMs?: number;
  /** What was waited for, or a function that also tells the present state. */
  readonly describe?: string | (() => unknown);
}

/**
 * Resolves with the condition's first truthy value. A condition that throws counts as not yet fulfilled.
 * @throws Error after the deadline, with the description and the last value or error.
 */
export async function until<T>(
  condition: () => T | Promise<T>,
  options: UntilOptions = {},
): Promise<Exclude<T, false | null | undefined | 0 | ''>> {
  const { deadlineMs = 5000, intervalMs = 10, describe = 'a condition' } = options;
  const deadline = performance.now() + deadlineMs;
  let last = '';
  do {
    try {
      const value = await condition();
      if (value) return value as Exclude<T, false | null | undefined | 0 | ''>; // truthy, as just checked
      last = `last value: ${show(value)}`;
    } catch (error) {
      last = `last error: ${show(error)}`;
    }
    await new Promise((resolve) => setTimeout(resolve, intervalMs));
  } while (performance.now() < deadline);
  const what = typeof describe === 'string' ? describe : show(await describe());
  throw new Error(`Not within ${deadlineMs} ms: ${what}; ${last}`);
}

function show(value: unknown): string {
  if (typeof value === 'string') return value;
  if (value instanceof Error) return value.message;
  return JSON.stringify(value) ?? String(value);
}
