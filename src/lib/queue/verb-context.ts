/** What verbs hand on of a service: what a submit is taken in with, and what an explanation goes by. */
import { homedir } from 'node:os';
import type { ExplainOptions } from './explain.ts';
import { explainedMachines, runsHereOf } from './overview-machines.ts';
import type { ServiceParts } from './service-parts.ts';
import type { SubmissionOptions } from './submission.ts';

/** What a submit is taken in with, now. */
export function submissionOptions({ machines, parts, store, scripts }: ServiceParts): SubmissionOptions {
  return {
    parts,
    home: homedir(),
    machines: machines.entries(),
    machineNames: machines.names(),
    canEver: (request, only) => machines.canEver(request, only),
    isKnown: (id) => store.get(id) !== undefined,
    keepScript: (text) => scripts.keep(text),
  };
}

/** What an explanation goes by, now. */
export function explainOptions(service: ServiceParts): ExplainOptions {
  const { store, machines, pool, order, keptFree } = service;
  return {
    ...{ store, order },
    machines: explainedMachines(machines.looks(), pool, machines, runsHereOf(store.running())),
    ...(keptFree === undefined ? {} : { keptFree }),
    barOf: (spec) => service.barOf(spec),
    troubleIn: (results) => service.troubleIn(results),
  };
}
