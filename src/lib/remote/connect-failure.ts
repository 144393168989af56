/** Says in one line why a connection did not come about. */
import { RemoteError } from '../domain/errors.ts';
import type { SshTarget } from './ssh-config.ts';

/** What was known when it failed. */
export interface FailedConnect {
  readonly target: SshTarget;
  /** The jump host before it, if any. */
  readonly via?: SshTarget;
  readonly timeoutMs: number;
}

/** Turns an error of the socket or the ssh library into one for people. */
export function connectFailure(error: unknown, { target, via, timeoutMs }: FailedConnect): RemoteError {
  if (error instanceof RemoteError) return error;
  const { machine, host, port } = target;
  const where = `${host} port ${port}`;
  const fail = (stage: 'connect' | 'resolve', message: string, brief: string) =>
    new RemoteError(machine, stage, message, { cause: error, brief });
  const say = (message: string, brief: string) => fail('connect', message, brief);
  const silent = () => say(`${where} did not answer within ${timeoutMs / 1000} s`, 'no answer');
  const text = error instanceof Error ? error.message : String(error);
  switch (errorCode(error)) {
    case 'ECONNREFUSED':
      return say(`connection refused by ${where}: is sshd running there?`, 'connection refused');
    case 'ENOTFOUND':
      return fail('resolve', `host name ${host} is not known`, 'host name not known');
    case 'EAI_AGAIN':
      return fail(
        'resolve',
        `host name ${host} cannot be looked up now`,
        'host name cannot be looked up now',
      );
    case 'EHOSTUNREACH':
    case 'ENETUNREACH':
      return say(`no route to ${where}`, 'no route to host');
    case 'ETIMEDOUT':
      return silent();
    case 'ECONNRESET':
    case 'EPIPE':
      return say(`${where} closed the connection before the login`, 'connection closed before the login');
    default: // told by its text
  }
  if (via !== undefined && error instanceof Error && 'reason' in error) {
    // RFC 4254, 5.1: 1 is SSH_OPEN_ADMINISTRATIVELY_PROHIBITED.
    if (error.reason === 1)
      return say(
        `jump host ${via.host} does not allow connections to ${where} (AllowTcpForwarding, PermitOpen)`,
        'the jump host does not allow the connection',
      );
    const why = text.replace(/^.*open failure:\s*/i, '');
    return say(
      `no connection to ${where} from jump host ${via.host}: ${why || 'refused'}`,
      `no connection from the jump host: ${why || 'refused'}`,
    );
  }
  if (/timed out/i.test(text)) return silent();
  if (isLostHandshake(error))
    return say(
      `${where} closed the connection before the login (too many logins at once?)`,
      'connection closed before the login',
    );
  if (/no matching/i.test(text))
    return say(
      `${where} and we have no common algorithm: ${text.replace(/^.*no matching/i, 'no common')}`,
      'no common algorithm',
    );
  const [first = ''] = text.split('\n');
  return say(`connection to ${where} failed: ${first}`, `connection failed: ${first}`);
}

/** Whether a server hung up before it said a word of ssh, as sshd does at random when many log in at once. */
export function isLostHandshake(error: unknown): boolean {
  const code = errorCode(error);
  return (
    code === 'ECONNRESET' ||
    code === 'EPIPE' ||
    (error instanceof Error && error.message === 'Connection lost before handshake')
  );
}

/** The error's `code`, or that of the first of several (Node tries all addresses of a name). */
function errorCode(error: unknown): string | undefined {
  if (!(error instanceof Error)) return undefined;
  if ('code' in error && typeof error.code === 'string') return error.code;
  return error instanceof AggregateError ? errorCode(error.errors[0]) : undefined;
}
