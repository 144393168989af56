import type { MachineName } from './machine.ts';
import type { ResourceRequest, Shortfall } from './resources.ts';

/**
 * The base of every error that a caller may want to handle. Its message says what was found, where, and what is
 * expected; it is meant to be shown as it is.
 */
export class SchedulerError extends Error {
  override readonly name: string = 'SchedulerError';
}

/** A mistake in what the user wrote: a flag, a batch file, a job name. */
export class UsageError extends SchedulerError {
  override readonly name = 'UsageError';
}

/** A mistake in a machine file. The message begins with `file:line:column: `. */
export class MachineConfigError extends SchedulerError {
  override readonly name = 'MachineConfigError';
}

/** A machine could not be reached, or what we run there failed for reasons of the machine. */
export class RemoteError extends SchedulerError {
  override readonly name = 'RemoteError';
  /** The same words for all machines that fail alike, without address, file or key; the message where there are none. */
  readonly brief: string;
  constructor(
    readonly machine: MachineName,
    /** What was being done: it decides what to try next. */
    readonly stage: 'resolve' | 'connect' | 'host-key' | 'login' | 'query' | 'run' | 'send' | 'fetch',
    message: string,
    options: ErrorOptions & { readonly brief?: string } = {},
  ) {
    super(message, options);
    this.brief = options.brief ?? message;
  }
}

/** A request does not fit. */
export class InsufficientResourcesError extends SchedulerError {
  override readonly name = 'InsufficientResourcesError';
  constructor(
    readonly request: ResourceRequest,
    readonly shortfalls: readonly Shortfall[],
  ) {
    super(`not enough resources: ${shortfalls.map((s) => s.message).join('; ')}`);
  }
}

/** For the end of a `switch` over a union: a new member breaks the build there. */
export function assertNever(value: never): never {
  throw new Error(`Internal error: unexpected ${JSON.stringify(value)}`);
}
