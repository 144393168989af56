/** A look at what lies on machines, which starts and changes nothing there. */
import type { MachineName } from '../domain/machine.ts';
import type { FoundMachines } from '../machine/find-machines.ts';
import { type ConnectOptions, connectMachine } from '../remote/connect.ts';
import { type QueryOptions, queryMachine } from '../remote/query.ts';
import type { RemoteHost } from '../remote/remote-host.ts';
import { RequestShell } from '../remote/remote-shell.ts';
import { type ListedAttempt, listAllAttempts } from '../runner/all-attempts.ts';
import { machineKey } from '../runner/job-folder.ts';
import { remoteBase } from '../runner/machine-session.ts';

/** How machines are looked at. */
export interface LookOptions extends ConnectOptions {
  readonly machines: FoundMachines;
  readonly query?: QueryOptions;
}

/** One machine that answered. */
export interface LookedAt {
  readonly machine: MachineName;
  readonly machineKey: string;
  readonly attempts: readonly ListedAttempt[];
}

/** What a look has found. */
export interface MachineLook {
  readonly seen: readonly LookedAt[];
  readonly unreachable: readonly { readonly machine: MachineName; readonly reason: string }[];
}

/** Lists the attempts on all machines at once. */
export async function lookAtMachines(options: LookOptions): Promise<MachineLook> {
  const seen: LookedAt[] = [];
  const unreachable: { machine: MachineName; reason: string }[] = [];
  await Promise.all(
    options.machines.machines.map(async (entry) => {
      const machine = entry.config.name;
      try {
        const host = await connectMachine(entry, options);
        try {
          seen.push({ machine, ...(await lookAt(host, entry.config.remoteDir, options.query)) });
        } finally {
          await host.close();
        }
      } catch (error) {
        unreachable.push({ machine, reason: (error as Error).message });
      }
    }),
  );
  const order = options.machines.machines.map(({ config }) => config.name);
  const inOrder = (a: { machine: MachineName }, b: { machine: MachineName }) =>
    order.indexOf(a.machine) - order.indexOf(b.machine);
  return { seen: seen.sort(inOrder), unreachable: unreachable.sort(inOrder) };
}

async function lookAt(
  host: RemoteHost,
  remoteDir: string | undefined,
  query: QueryOptions = {},
): Promise<Omit<LookedAt, 'machine'>> {
  const [snapshot, shell] = await Promise.all([queryMachine(host, query), RequestShell.open(host)]);
  try {
    const key = machineKey(snapshot.identity);
    const { output } = await shell.text(`(cd ${remoteBase(remoteDir)} 2>/dev/null && pwd)`);
    const base = output.trimEnd();
    if (!base.startsWith('/')) return { machineKey: key, attempts: [] };
    return { machineKey: key, attempts: await listAllAttempts(shell, base, key) };
  } finally {
    shell.close();
  }
}
