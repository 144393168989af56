/** The flags about what a job asks for, as all commands that take them read them. */
import { parseResourceFlag } from '../lib/batch/job-command.ts';
import { DEFAULT_REQUEST } from '../lib/domain/request-defaults.ts';
import type { ResourceRequest } from '../lib/domain/resources.ts';

/** Those that have a value. */
export const RESOURCE_VALUES = [
  'num-cpus',
  'memory-required',
  'gpu-memory-required',
  'gpu-utilization',
  'num-gpus',
] as const;
/** Those that have none. */
export const RESOURCE_SWITCHES = ['no-gpu-required', 'no-reserve-gpu', 'reserve'] as const;

/** The name of a resource flag, without its dashes. */
export type ResourceFlag = (typeof RESOURCE_VALUES)[number] | (typeof RESOURCE_SWITCHES)[number];

/**
 * What the flags ask for, on top of the defaults. `given` is a flag's value, `true` for a switch that was given, and
 * undefined for what was not.
 * @throws UsageError for the first value that is none
 */
export function readRequest(given: (flag: ResourceFlag) => string | true | undefined): ResourceRequest {
  let request: ResourceRequest = DEFAULT_REQUEST;
  for (const flag of RESOURCE_VALUES) {
    const value = given(flag);
    if (typeof value === 'string') request = { ...request, ...parseResourceFlag(`--${flag}`, value) };
  }
  for (const flag of RESOURCE_SWITCHES) {
    if (given(flag) === true) request = { ...request, ...parseResourceFlag(`--${flag}`) };
  }
  return request;
}
