/**
 * The keys of a running ssh-agent. ssh2 can list them too, but leaves out what it cannot use (FIDO keys), and waits
 * for ever for an agent that does not answer.
 */
import { connect } from 'node:net';
import ssh2, {
  type IdentityCallback,
  type ParsedKey,
  type SignCallback,
  type SigningRequestOptions,
} from 'ssh2';
import { publicKeyType } from './known-hosts.ts';

/** One identity that an agent holds. */
export interface AgentKey {
  /** e.g. `ssh-ed25519`; certificates and FIDO keys have their own types. */
  readonly type: string;
  readonly publicKey: Buffer;
  readonly comment: string;
}

const ANSWER_TIMEOUT_MS = 3_000;
const REQUEST_IDENTITIES = 11;
const IDENTITIES_ANSWER = 12;
const MAX_ANSWER_BYTES = 1 << 20;

/**
 * Asks an agent what it holds (draft-miller-ssh-agent, section 4.4).
 * @throws Error when nothing answers there as an agent does
 */
export function listAgentKeys(socketPath: string): Promise<AgentKey[]> {
  return new Promise((resolve, reject) => {
    const socket = connect(socketPath);
    let answer = Buffer.alloc(0);
    const settle = (finish: () => void) => {
      socket.destroy();
      finish();
    };
    socket.setTimeout(ANSWER_TIMEOUT_MS, () => settle(() => reject(new Error('the agent does not answer'))));
    socket.on('error', (error) => settle(() => reject(error)));
    socket.on('close', () => reject(new Error('the agent gave no answer')));
    socket.on('connect', () => socket.write(Buffer.from([0, 0, 0, 1, REQUEST_IDENTITIES])));
    socket.on('data', (chunk) => {
      answer = Buffer.concat([answer, chunk]);
      if (answer.length < 4) return;
      const length = answer.readUInt32BE(0);
      if (length > MAX_ANSWER_BYTES) settle(() => reject(new Error('the agent gave a bad answer')));
      else if (answer.length >= 4 + length)
        settle(() => resolve(parseAnswer(answer.subarray(4, 4 + length))));
    });
  });
}

function parseAnswer(answer: Buffer): AgentKey[] {
  const keys: AgentKey[] = [];
  if (answer[0] !== IDENTITIES_ANSWER || answer.length < 5) return keys;
  let at = 5; // the count before it says no more than the length does
  const next = (): Buffer | undefined => {
    if (at + 4 > answer.length) return undefined;
    const end = at + 4 + answer.readUInt32BE(at);
    if (end > answer.length) return undefined;
    const field = answer.subarray(at + 4, end);
    at = end;
    return field;
  };
  for (let publicKey = next(); publicKey !== undefined; publicKey = next()) {
    const comment = next();
    if (comment === undefined) break;
    keys.push({ type: publicKeyType(publicKey), publicKey, comment: comment.toString('utf8') });
  }
  return keys;
}

/** An agent of which only some keys are offered, in the order given. */
export class ChosenAgent extends ssh2.BaseAgent<ParsedKey> {
  readonly #agent: ssh2.BaseAgent;
  readonly #keys: readonly ParsedKey[];

  constructor(socketPath: string, keys: readonly AgentKey[]) {
    super();
    this.#agent = ssh2.createAgent(socketPath);
    this.#keys = keys.flatMap((key) => {
      const parsed = ssh2.utils.parseKey(key.publicKey);
      return parsed instanceof Error ? [] : [parsed];
    });
  }

  override getIdentities(done: IdentityCallback<ParsedKey>): void {
    done(null, [...this.#keys]);
  }

  override sign(
    key: ParsedKey,
    data: Buffer,
    options: SigningRequestOptions | SignCallback,
    done?: SignCallback,
  ): void {
    if (typeof options === 'function') this.#agent.sign(key, data, {}, options);
    else this.#agent.sign(key, data, options, done);
  }
}
