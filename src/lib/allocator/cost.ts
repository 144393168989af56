/**
 * How loaded a machine is, as one number, and how loaded it may become. All amounts are in units (1/10000 of a core,
 * 1/10000 of a GPU's time), so that the limits are compared in integers.
 *
 * The load of a part is (in use / limit)^3: the cube makes one part that is nearly full cost more than several that
 * are half full, which is what spreads jobs.
 */
import { UNITS_PER_ONE } from '../util/amount.ts';

/** The cores in use stay below this many times the cores: systems run well with a small overload. */
export const CPU_OVERLOAD = 1.5;

/** The utilization of a GPU stays below this. */
export const GPU_OVERLOAD = 1.2;

const GPU_LIMIT_UNITS = Math.round(GPU_OVERLOAD * UNITS_PER_ONE);

/**
 * Whether that many cores in use are strictly below 1.5 times the cores (integers only: 2 x in use < 3 x cores), or no more
 * than the cores where an overload is refused.
 */
export function coresAreWithinLimit(inUse: number, cores: number, refusesOverload = false): boolean {
  return refusesOverload ? inUse <= cores : 2 * inUse < 3 * cores;
}

/** Whether a GPU's utilization is strictly below 1.2. */
export function utilizationIsWithinLimit(inUse: number): boolean {
  return inUse < GPU_LIMIT_UNITS;
}

/** (cores in use / (1.5 cores))^3, from 0 to 1 within the limit. */
export function cpuLoad(inUse: number, cores: number): number {
  const share = inUse / (CPU_OVERLOAD * cores);
  return share * share * share;
}

/** (utilization / 1.2)^3 of one GPU, from 0 to 1 within the limit. */
export function gpuLoad(inUse: number): number {
  const share = inUse / GPU_LIMIT_UNITS;
  return share * share * share;
}
