/** What verbs hand on of a service: what a submit is taken in with, and what an explanation goes by. */
import { homedir } from 'node:os';
import { machineName } from '../domain/machine.ts';
import type { ResourceRequest } from '../domain/resources.ts';
import type { ExplainedMachine, ExplainOptions } from './explain.ts';
import type { MachineRow } from './requests.ts';
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
  const { store, machines, order, keptFree } = service;
  return {
    ...{ store, order },
    machines: machines.rows().map((row) => explained(service, row)),
    ...(keptFree === undefined ? {} : { keptFree }),
    troubleIn: (results) => service.troubleIn(results),
  };
}

function explained({ pool, machines }: ServiceParts, row: MachineRow): ExplainedMachine {
  const { state, reason, runningHere } = row;
  const name = machineName(row.name);
  const [runsHere] = runningHere;
  const resources = pool.machineOf(name)?.resources;
  return {
    ...{ name, state },
    ...(reason === undefined ? {} : { reason }),
    ...(runsHere === undefined ? {} : { runsHere }),
    ...(resources === undefined
      ? {}
      : {
          explain: (request: ResourceRequest) => resources.explain(request),
          explainEver: (request: ResourceRequest) =>
            machines.canEver(request, name).shortfalls.flatMap(({ shortfalls }) => shortfalls),
        }),
  };
}
