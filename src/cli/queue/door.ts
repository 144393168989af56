/** The way to the service that a command asks, and answers of a form that the command can rely on. */
import { UsageError } from '../../lib/domain/errors.ts';
import { defaultDataFolder } from '../../lib/queue/data-folder.ts';
import { DoorClient } from '../../lib/queue/door-client.ts';
import { DoorError } from '../../lib/queue/door-protocol.ts';
import { checkSshConfig } from '../ssh-config-file.ts';
import type { DoorWay } from './subcommand.ts';

/**
 * Connects to the service of a data folder, on this computer or over ssh. The connection lasts as long as this process.
 * @throws DoorError, RemoteError, UsageError
 */
export async function openDoor(
  { dataFolder, host, sshConfig }: DoorWay,
  warn: (message: string) => void,
): Promise<DoorClient> {
  if (host === undefined) return await DoorClient.connect(dataFolder ?? defaultDataFolder());
  checkSshConfig(sshConfig);
  // What ssh needs takes longer to load than all else together.
  const [{ findMachines }, { connectMachine }, { connectDoor }] = await Promise.all([
    import('../../lib/machine/find-machines.ts'),
    import('../../lib/remote/connect.ts'),
    import('../../lib/queue/door-remote.ts'),
  ]);
  const { machines, warnings } = await findMachines([host]);
  for (const warning of warnings) warn(warning);
  const [entry, second] = machines;
  if (entry === undefined || second !== undefined)
    throw new UsageError(
      `--host names ${machines.length} machines, expected the one that the service runs on`,
    );
  if (entry.kind === 'local') return await DoorClient.connect(dataFolder ?? defaultDataFolder());
  const ssh = { onNewHostKey: warn, ...(sshConfig !== undefined && { configFile: sshConfig }) };
  return await connectDoor(await connectMachine(entry, { ssh }), dataFolder);
}

/** The fields that an answer has to have, with what `typeof` says of each; `list` for a list. */
export type Shape<T> = { readonly [Field in keyof T]?: 'string' | 'number' | 'boolean' | 'object' | 'list' };

/** An answer as the type that it has to have. @throws DoorError `version` when it lacks what is needed of it */
export function answer<T extends object>(value: unknown, shape: Shape<T>, verb: string): T {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) {
    const fields = value as Record<string, unknown>;
    const isRight = Object.entries(shape).every(([name, kind]) =>
      kind === 'list' ? Array.isArray(fields[name]) : typeof fields[name] === kind,
    );
    if (isRight) return value as T; // what is printed of it was looked at
  }
  throw new DoorError(
    'version',
    `the service answers '${verb}' with something that this program does not understand: use the same release for both`,
  );
}

/** The rows of an answer, whether they come one by one or as lists. @throws what the service says, DoorError `version` */
export async function* rowsOf<T extends object>(
  client: DoorClient,
  verb: string,
  args: unknown,
  shape: Shape<T>,
): AsyncGenerator<T, void, void> {
  for await (const item of client.stream(verb, args)) {
    for (const row of Array.isArray(item) ? (item as unknown[]) : [item]) yield answer<T>(row, shape, verb);
  }
}

/** All rows of an answer. */
export async function allRows<T extends object>(
  client: DoorClient,
  verb: string,
  args: unknown,
  shape: Shape<T>,
): Promise<readonly T[]> {
  const rows: T[] = [];
  for await (const row of rowsOf(client, verb, args, shape)) rows.push(row);
  return rows;
}
