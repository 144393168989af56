/** What is said of a submit that no machine here can ever hold. */
import { UsageError } from '../domain/errors.ts';
import type { MachineName } from '../domain/machine.ts';
import type { Refusal } from '../domain/ports.ts';
import { DEFAULT_REQUEST } from '../domain/request-defaults.ts';
import type { ResourceRequest } from '../domain/resources.ts';

/** Whether machines can ever hold a request, by all that they have. */
export interface EverFit {
  readonly fits: boolean;
  /** What is short on each that cannot. */
  readonly shortfalls: Refusal['shortfalls'];
  /** Machines of which it is not known, since they were not reached yet. */
  readonly unknown: readonly string[];
}

/** Jobs of one submit that ask for the same. */
export interface RequestKind {
  readonly request: ResourceRequest;
  /** The machine that they have to run on. */
  readonly only?: MachineName;
  /** The first of them, from 1. */
  readonly first: number;
  readonly count: number;
}

const KINDS_SHOWN = 5;
const MACHINES_SHOWN = 20;

/**
 * Refuses kinds that no machine here can ever hold.
 * @throws UsageError with what is short on each machine
 */
export function refuseImpossible(
  kinds: readonly RequestKind[],
  total: number,
  canEver: (request: ResourceRequest, only?: MachineName) => EverFit,
): void {
  const impossible = kinds.flatMap((kind) => {
    const { fits, shortfalls, unknown } = canEver(kind.request, kind.only);
    return fits || unknown.length > 0 ? [] : [{ kind, shortfalls }];
  });
  if (impossible.length === 0) return;
  const hints = ['--wait-for-machine has it wait for a machine that can'];
  if (impossible.every(({ shortfalls }) => shortfalls.length === 0))
    throw new UsageError(`there is no machine to run it: job_queue add-machine adds one, or ${hints[0]}`);
  const isDefaultGpu = ({ kind, shortfalls }: (typeof impossible)[number]) =>
    kind.request.gpus === DEFAULT_REQUEST.gpus &&
    shortfalls.every((one) =>
      one.shortfalls.some(({ resource, available }) => resource === 'gpus' && available === 0),
    );
  if (impossible.some(isDefaultGpu))
    hints.push('a job asks for one GPU by default; --no-gpu-required is for jobs that need none');
  const lines = impossible
    .slice(0, KINDS_SHOWN)
    .flatMap(({ kind, shortfalls }) => [
      `${subject(kind, total)} can never run on ${kind.only ?? 'any of these machines'}:`,
      ...shortfallLines(shortfalls),
    ]);
  if (impossible.length > KINDS_SHOWN)
    lines.push(`and jobs with ${impossible.length - KINDS_SHOWN} other requests`);
  throw new UsageError([...lines, ...hints.map((hint) => `hint: ${hint}`)].join('\n'));
}

function subject({ first, count }: RequestKind, total: number): string {
  if (total === 1) return 'the job';
  if (count === total) return `all ${total} jobs`;
  return count === 1 ? `job ${first} of ${total}` : `${count} jobs of ${total}, job ${first} first,`;
}

function shortfallLines(shortfalls: Refusal['shortfalls']): string[] {
  const lines = shortfalls
    .slice(0, MACHINES_SHOWN)
    .map((one) => `  ${one.machine}: ${one.shortfalls.map(({ message }) => message).join('; ')}`);
  const more = shortfalls.length - MACHINES_SHOWN;
  return more > 0 ? [...lines, `  and ${more} more machines`] : lines;
}
