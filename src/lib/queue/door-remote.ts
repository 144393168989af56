/** The door of a service on another machine: its socket forwarded over ssh, so that access is ssh plus Unix permissions. */
import { RemoteError } from '../domain/errors.ts';
import { readLoginEnvironment } from '../remote/login-environment.ts';
import type { RemoteHost } from '../remote/remote-host.ts';
import { RequestShell } from '../remote/remote-shell.ts';
import { shellQuote } from '../util/shell-quote.ts';
import { visibleText } from '../util/terminal-text.ts';
import { DoorClient, type DoorClientOptions } from './door-client.ts';
import { checkFolder, checkSocketFacts, isSocketPath, noService, type PathFacts } from './door-place.ts';
import { DoorError } from './door-protocol.ts';

const ANSWER_LIMIT_BYTES = 64 * 1024;

interface RemoteDoor {
  readonly dataFolder: string;
  readonly socketPath: string;
  /** Whether somebody listens there, where the machine tells. */
  readonly isLive: boolean | undefined;
  /** Of the data folder, the door's folder, the socket's folder and the socket. */
  readonly facts: readonly (PathFacts | undefined)[];
}

/**
 * Connects to the service on a machine. `dataFolder` is a path there, by default where a service puts it; `~/` and relative
 * ones begin at the home folder. The connection to the machine stays the caller's.
 * @throws DoorError `no-service` when none runs there, `refused` when its socket is not its owner's or may not be forwarded
 * @throws RemoteError when the machine cannot be asked
 */
export async function connectDoor(
  host: RemoteHost,
  dataFolder?: string,
  options: DoorClientOptions = {},
): Promise<DoorClient> {
  if (host.openSocket === undefined)
    throw new RemoteError(host.name, 'run', `${host.name}: this way to the machine forwards no sockets`);
  const door = await findRemoteDoor(host, dataFolder);
  const { socketPath } = door;
  const where = `${host.name}:${visibleText(door.dataFolder)}`;
  const [data, folder, socketFolder, socket] = door.facts;
  if (data === undefined || folder === undefined || socket === undefined) throw noService(where);
  const path = `${host.name}:${visibleText(socketPath)}`;
  checkFolder(`${where}/door`, folder, data.uid);
  checkFolder(path.slice(0, path.lastIndexOf('/')), socketFolder, data.uid);
  checkSocketFacts(path, socket, data.uid);
  let stream: Awaited<ReturnType<NonNullable<RemoteHost['openSocket']>>>;
  try {
    stream = await host.openSocket(socketPath);
  } catch (error) {
    throw forwardError(error as Error, door, where, host.name);
  }
  return await DoorClient.over(stream, where, { ...options, carrier: host });
}

async function findRemoteDoor(host: RemoteHost, dataFolder: string | undefined): Promise<RemoteDoor> {
  await using shell = await RequestShell.open(host);
  const door = await look(host, shell, script(dataFolder));
  if (dataFolder !== undefined || door.facts.every((facts) => facts !== undefined)) return door;
  // XDG_DATA_HOME may come from a start file that only a login reads, as the service's own did.
  const { exports } = await readLoginEnvironment(host);
  if (!exports.includes('export XDG_DATA_HOME=')) return door;
  return await look(host, shell, Buffer.concat([exports, Buffer.from('\n'), script(undefined)]));
}

/** Prints the data folder, the socket, whether somebody listens, and mode and owner of four paths. */
function script(dataFolder: string | undefined): Buffer {
  const named = dataFolder === undefined ? '' : shellQuote(dataFolder);
  return Buffer.from(
    `(
cd || exit
data=${named}
case $data in
'') case \${XDG_DATA_HOME-} in
  /*) data=$XDG_DATA_HOME/ssh-scheduler/queue ;;
  *) data=$HOME/.local/share/ssh-scheduler/queue ;;
  esac ;;
'~/'*) data=$HOME/\${data#'~/'} ;;
esac
case $data in /*) ;; *) data=./$data ;; esac
if cd "$data" 2>/dev/null; then data=$(pwd -P); fi
socket=$data/door/socket
if [ -f "$data/door/where" ]; then IFS= read -r socket <"$data/door/where"; fi
printf '%s\\n' "$data" "$socket"
if [ -r /proc/net/unix ]; then
  if grep -q -F -e " $socket" /proc/net/unix; then echo live; else echo dead; fi
else echo unknown; fi
for path in "$data" "$data/door" "\${socket%/*}" "$socket"; do
  LC_ALL=C ls -ldn "$path" 2>/dev/null | { read -r mode links owner rest && printf '%s %s\\n' "$mode" "$owner" || echo missing; }
done
)`,
  );
}

async function look(host: RemoteHost, shell: RequestShell, text: Buffer): Promise<RemoteDoor> {
  const { output } = await shell.text(text, ANSWER_LIMIT_BYTES);
  const [dataFolder = '', socketPath = '', live, ...facts] = output.split('\n').slice(0, -1);
  const isUnderstood = dataFolder !== '' && facts.length === 4 && /^(live|dead|unknown)$/.test(live ?? '');
  if (!isUnderstood || !isSocketPath(socketPath)) {
    // A path that is too long is none that a service uses: it says where its socket is instead.
    if (isUnderstood && socketPath === `${dataFolder}/door/socket`)
      throw noService(`${host.name}:${visibleText(dataFolder)}`);
    throw new RemoteError(host.name, 'run', `${host.name}: cannot tell where the door of its service is`);
  }
  return {
    dataFolder,
    socketPath,
    isLive: live === 'unknown' ? undefined : live === 'live',
    facts: facts.map(parseFacts),
  };
}

const KINDS: { readonly [letter: string]: PathFacts['kind'] } = { d: 'folder', s: 'socket', '-': 'file' };

/** What `ls -ldn` said: `drwxr-x--- 1000`. */
function parseFacts(line: string): PathFacts | undefined {
  const [, letter = '', bits = '', uid] = /^([a-z-])([a-zA-Z-]{9})[.+@]? (\d{1,10})$/.exec(line) ?? [];
  if (uid === undefined) return undefined;
  let mode = 0;
  for (const bit of bits) mode = mode * 2 + (bit === '-' || bit === 'S' || bit === 'T' ? 0 : 1);
  return { kind: KINDS[letter] ?? 'other', uid: Number(uid), mode };
}

/** sshd gives the same answer for a socket where nobody listens, one that may not be used, and forwarding that is not allowed. */
function forwardError(
  error: Error,
  { isLive, dataFolder, socketPath }: RemoteDoor,
  where: string,
  name: string,
): Error {
  if (error instanceof RemoteError && !error.message.includes('refuses')) return error;
  if (isLive === false) return noService(where);
  const forbidden = `its sshd does not allow sockets to be forwarded (AllowStreamLocalForwarding, DisableForwarding, or \`restrict\` at the key)`;
  const or =
    isLive === true
      ? ''
      : `nobody listens there (then: job_queue start --data-dir ${visibleText(dataFolder)}), or `;
  return new DoorError(
    'refused',
    `${name} refuses to connect to ${visibleText(socketPath)}: ${or}${forbidden}, or you may not use that socket`,
    { cause: error },
  );
}
