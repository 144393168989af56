/** What is asked about machines, looked at before anything is done about it. */
import type { PoolMachine } from '../allocator/machine-pool.ts';
import { checkLogin } from '../allocator/open-pool.ts';
import { UsageError } from '../domain/errors.ts';
import type { MachineName, MachineSnapshot } from '../domain/machine.ts';
import type { MachineEntry } from '../machine/find-machines.ts';
import * as check from '../stores/queue-check.ts';
import { visibleText } from '../util/terminal-text.ts';
import { checkEnvironment, nameProblem } from './machine-list.ts';
import type { AddMachineRequest, ConfigureRequest, RemoveMachineRequest } from './requests.ts';

const FAILURES_SHOWN = 10;

const adding = check.fields(
  { names: check.listOf(check.filledText) },
  { env: checkEnvironment, skipCheck: check.truth, cwd: check.absolutePath },
);
const removing = check.fields(
  { name: check.filledText, how: check.oneOf('refuse', 'wait', 'kill') },
  { drop: check.truth },
);

/** @throws UsageError for what is no such request */
export function checkAdd(request: AddMachineRequest): void {
  adding(request, '');
}

/** @throws UsageError for what is no such request */
export function checkRemove(request: RemoveMachineRequest): void {
  removing(request, '');
}

/** @throws UsageError for what is no such request */
export function checkConfigure({ machine, maxJobs }: ConfigureRequest): void {
  check.filledText(machine, 'machine');
  if (!Number.isSafeInteger(maxJobs) || maxJobs < 0)
    throw new UsageError(
      `--max-jobs-running: found ${JSON.stringify(maxJobs) ?? 'nothing'}, expected a whole number of at least 0 (0: no new jobs)`,
    );
}

/** @throws UsageError for a machine that the verbs could not name */
export function refuseUnfitNames(entries: readonly MachineEntry[]): void {
  for (const { config } of entries) {
    const expected = nameProblem(config.name);
    if (expected !== undefined)
      throw new UsageError(`found a machine named "${visibleText(config.name)}", expected ${expected}`);
  }
}

/** How logins are checked. */
export interface LoginCheckOptions {
  /** Machines that are in use. */
  readonly joined: readonly PoolMachine[];
  readonly login: Parameters<typeof checkLogin>[1];
  /** Hears of each machine as it answers, one line. */
  readonly tell: (line: string) => void;
}

/**
 * Logs in to all these machines at once.
 * @throws UsageError with the reason for each that cannot be used, or is the same machine as another
 */
export async function checkLogins(
  entries: readonly MachineEntry[],
  options: LoginCheckOptions,
): Promise<void> {
  const failures: string[] = [];
  const identities = new Map<string, MachineName>(
    options.joined.map(({ name, snapshot }) => [snapshot.identity, name]),
  );
  await Promise.all(
    entries.map(async (entry) => {
      const { name } = entry.config;
      try {
        const snapshot = await checkLogin(entry, options.login);
        const twin = identities.get(snapshot.identity) ?? name;
        if (twin === name) {
          identities.set(snapshot.identity, name);
          options.tell(`${name}: ${factsOf(snapshot)}`);
        } else
          failures.push(`${name}: it is the same machine as ${twin}: its resources would be given out twice`);
      } catch (error) {
        failures.push(`${name}: ${(error as Error).message}`);
      }
    }),
  );
  if (failures.length === 0) return;
  const shown = failures.slice(0, FAILURES_SHOWN).map((line) => `  ${line}`);
  if (failures.length > FAILURES_SHOWN) shown.push(`  and ${failures.length - FAILURES_SHOWN} more`);
  const which = entries.length === 1 ? 'the machine' : `${failures.length} of ${entries.length} machines`;
  throw new UsageError(
    [
      `nothing was added, ${which} cannot be used:`,
      ...shown,
      'hint: !NAME leaves one out; --skip-ssh-auth-check adds machines without looking',
    ].join('\n'),
  );
}

function factsOf({ hostname, cpuCores, memoryTotalMiB, gpus }: MachineSnapshot): string {
  const gpusText = gpus.length === 0 ? 'no GPU' : `${gpus.length} GPU${gpus.length === 1 ? '' : 's'}`;
  return `${hostname}, ${cpuCores} cores, ${memoryTotalMiB} MiB, ${gpusText}`;
}
