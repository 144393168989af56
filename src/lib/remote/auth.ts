/**
 * Logging in: which keys, agent and passwords are tried, in which order, and how to say it when none was right.
 * Order: the key the machine file names, its password, keys named in ssh's configuration, the agent, default keys.
 */
import type { AnyAuthMethod, ParsedKey, Prompt } from 'ssh2';
import { RemoteError } from '../domain/errors.ts';
import { type AgentKey, ChosenAgent, listAgentKeys } from './agent-keys.ts';
import { certificateOf, type KeyFile, readKeyFile } from './private-key.ts';
import { isDefaultKey, type SshTarget } from './ssh-config.ts';

/** What the machine file gives for logging in. */
export interface Credentials {
  /** Tried first; it is an error when it cannot be used. */
  readonly keyPath?: string;
  readonly password?: string;
  /** For keys that need one. */
  readonly passphrase?: string;
}

interface LoginAttempt {
  /** For messages, e.g. `key /home/a/.ssh/id_ed25519`. */
  readonly label: string;
  /** The name that the server's list of methods uses. */
  readonly method: 'publickey' | 'password' | 'keyboard-interactive';
  readonly auth: AnyAuthMethod;
}

interface NamedKey {
  readonly path: string;
  readonly file: KeyFile;
}

/** The attempts of one login, handed out one after the other as the server allows. */
export class LoginPlan {
  readonly #target: SshTarget;
  readonly #waiting: LoginAttempt[] = [];
  readonly #tried: string[] = [];
  readonly #notes: string[] = [];
  #serverMethods: readonly string[] = [];

  private constructor(target: SshTarget) {
    this.#target = target;
  }

  /**
   * Reads the keys and asks the agent.
   * @throws RemoteError (`login`) when the key that the machine file names cannot be used
   */
  static async prepare(target: SshTarget, credentials: Credentials): Promise<LoginPlan> {
    const plan = new LoginPlan(target);
    const { keyPath, password, passphrase } = credentials;
    const paths = target.identityFiles.filter((path) => path !== keyPath);
    // As with `ssh -i`: keys that nobody named are left alone when one is named.
    const wanted = keyPath === undefined ? paths : [keyPath, ...paths.filter((path) => !isDefaultKey(path))];
    const keys = await Promise.all(
      wanted.map(async (path) => ({ path, file: await readKeyFile(path, passphrase) })),
    );
    const agentKeys = await plan.#askAgent(keys);
    await plan.#noteWhatCannotBeUsed(keys, agentKeys);
    const [first] = keys;
    if (keyPath !== undefined && first !== undefined) plan.#checkNamedKey(first, agentKeys, password);

    const addKeys = (some: readonly NamedKey[]) => {
      for (const { path, file } of some) plan.#addKey(path, file);
    };
    const rest = keyPath === undefined ? keys : keys.slice(1);
    if (keyPath !== undefined) addKeys(keys.slice(0, 1));
    if (password !== undefined) plan.#addPassword(password);
    addKeys(rest.filter(({ path }) => !isDefaultKey(path)));
    plan.#addAgent(agentKeys);
    addKeys(rest.filter(({ path }) => isDefaultKey(path)));
    return plan;
  }

  /** The next attempt, given the methods that the server would take now; false when none is left. */
  next(serverMethods: readonly string[] | null): AnyAuthMethod | false {
    // Asking with `none` first costs one round trip and brings the server's list.
    if (serverMethods === null) return { type: 'none', username: this.#target.user };
    this.#serverMethods = serverMethods;
    const index = this.#waiting.findIndex((attempt) => serverMethods.includes(attempt.method));
    const [attempt] = index < 0 ? [] : this.#waiting.splice(index, 1);
    if (attempt === undefined) return false;
    this.#tried.push(attempt.label);
    return attempt.auth;
  }

  /** Takes passwords out of what is tried: the server may be another than it says, and would learn them. */
  withholdPasswords(why: string): void {
    const keys = this.#waiting.filter(({ method }) => method === 'publickey');
    if (keys.length === this.#waiting.length) return;
    this.#waiting.splice(0, Number.POSITIVE_INFINITY, ...keys);
    this.note(why);
  }

  /** Adds to what is said when the login fails. */
  note(text: string): void {
    if (!this.#notes.includes(text)) this.#notes.push(text);
  }

  /** The login failed: what was tried, what the server takes, and what else stood in the way. */
  failure(reason?: string, stage: 'login' | 'connect' = 'login'): RemoteError {
    const { machine, user, host, port } = this.#target;
    const parts = [`login as ${user} at ${host} port ${port} refused`];
    if (reason !== undefined) parts.push(reason);
    const tried =
      this.#tried.length > 0 ? this.#tried.join(', ') : 'nothing, for want of a key, agent or password';
    parts.push(`tried ${tried}`);
    if (this.#serverMethods.length > 0) parts.push(`the server takes ${this.#serverMethods.join(', ')}`);
    if (this.#serverMethods.includes('gssapi-with-mic') && this.#target.gssapi) {
      parts.push('GSSAPI (Kerberos) is configured, which the ssh library cannot use');
    }
    return new RemoteError(machine, stage, [...parts, ...this.#notes].join('; '), {
      brief: 'login refused',
    });
  }

  /** What to hint at when the server hung up because too many keys were tried. */
  tooManyKeys(): RemoteError {
    this.note('name the right key with ssh_key_path, or set IdentitiesOnly yes in ~/.ssh/config');
    return this.failure('the server hung up after too many attempts');
  }

  #checkNamedKey(
    { path, file }: NamedKey,
    agentKeys: readonly AgentKey[],
    password: string | undefined,
  ): void {
    const { machine } = this.#target;
    if (file.type === 'missing') throw new RemoteError(machine, 'login', `key file ${path} does not exist`);
    if (file.type === 'unusable') throw new RemoteError(machine, 'login', `key file ${path} ${file.reason}`);
    const hasOtherWay = agentKeys.length > 0 || password !== undefined;
    if (file.type === 'locked' && !hasOtherWay) {
      throw new RemoteError(machine, 'login', `key ${path} ${file.reason}: ${unlockAdvice(path)}`);
    }
  }

  async #noteWhatCannotBeUsed(keys: readonly NamedKey[], agentKeys: readonly AgentKey[]): Promise<void> {
    for (const { path, file } of keys) {
      if (file.type === 'fido') this.note(`${path} is a FIDO key, which the ssh library cannot use`);
      if (file.type === 'locked' && !isHeld(file, agentKeys)) {
        this.note(`key ${path} was not tried: it ${file.reason} (${unlockAdvice(path)})`);
      }
      if (file.type === 'unusable') this.note(`key ${path} ${file.reason}`);
      if (file.type === 'missing' && !isDefaultKey(path)) this.note(`key ${path} does not exist`);
    }
    const beside = await Promise.all(
      keys.filter(({ file }) => file.type !== 'missing').map(({ path }) => certificateOf(path)),
    );
    for (const path of new Set([...beside, ...this.#target.certificateFiles])) {
      if (path !== undefined) this.note(`certificate ${path} cannot be used by the ssh library`);
    }
  }

  /** What the agent holds that may be offered, named keys first. */
  async #askAgent(keys: readonly NamedKey[]): Promise<AgentKey[]> {
    const socket = this.#target.agentSocket;
    if (socket === undefined) return [];
    const held = await listAgentKeys(socket).catch((error: unknown) => {
      this.note(`no agent answers at ${socket} (${error instanceof Error ? error.message : String(error)})`);
      return [];
    });
    for (const { type, comment } of held) {
      if (type.startsWith('sk-'))
        this.note(`the agent's key '${comment}' is a FIDO key, which the ssh library cannot use`);
      else if (type.includes('-cert-'))
        this.note(`the agent's certificate '${comment}' cannot be used by the ssh library`);
    }
    const plain = held.filter(({ type }) => !type.startsWith('sk-') && !type.includes('-cert-'));
    const isNamed = (key: AgentKey) => keys.some(({ file }) => isHeld(file, [key]));
    // A key that is read from its file is not offered twice: servers count attempts.
    const isRead = (key: AgentKey) => keys.some(({ file }) => file.type === 'usable' && isHeld(file, [key]));
    const named = plain.filter((key) => isNamed(key) && !isRead(key));
    return this.#target.identitiesOnly ? named : [...named, ...plain.filter((key) => !isNamed(key))];
  }

  #addKey(path: string, file: KeyFile): void {
    if (file.type !== 'usable') return;
    const key: ParsedKey = file.key;
    this.#add(`key ${path}`, 'publickey', { type: 'publickey', username: this.#target.user, key });
  }

  #addAgent(keys: readonly AgentKey[]): void {
    const socket = this.#target.agentSocket;
    if (socket === undefined || keys.length === 0) return;
    const agent = new ChosenAgent(socket, keys);
    const label = keys.length === 1 ? 'the agent (1 key)' : `the agent (${keys.length} keys)`;
    this.#add(label, 'publickey', { type: 'agent', username: this.#target.user, agent });
  }

  #addPassword(password: string): void {
    const username = this.#target.user;
    this.#add('password', 'password', { type: 'password', username, password });
    let isSaid = false;
    const prompt = (
      _name: string,
      _text: string,
      _lang: string,
      prompts: Prompt[],
      answer: (all: string[]) => void,
    ) => {
      const hidden = prompts.filter((one) => one.echo !== true);
      for (const one of prompts) {
        if (!isForPassword(one, hidden)) this.note(`the server also asks '${printable(one.prompt)}'`);
      }
      // Said once: a server that asks again has refused it, and would count every repetition.
      answer(prompts.map((one) => (!isSaid && isForPassword(one, hidden) ? password : '')));
      isSaid = true;
    };
    const label = 'password (keyboard-interactive)';
    this.#add(label, 'keyboard-interactive', { type: 'keyboard-interactive', username, prompt });
  }

  #add(label: string, method: LoginAttempt['method'], auth: AnyAuthMethod): void {
    this.#waiting.push({ label, method, auth });
  }
}

function isHeld(file: KeyFile, agentKeys: readonly AgentKey[]): boolean {
  const publicKey = file.type === 'usable' || file.type === 'locked' ? file.publicKey : undefined;
  return publicKey !== undefined && agentKeys.some((key) => key.publicKey.equals(publicKey));
}

function unlockAdvice(path: string): string {
  return `run 'ssh-add ${path}' or give its passphrase in the machine file`;
}

/** A server may ask for a code as well; the only hidden question is taken as the one for the password. */
function isForPassword(prompt: Prompt, hidden: readonly Prompt[]): boolean {
  return (
    hidden.includes(prompt) &&
    (hidden.length === 1 ? !/code|otp|token|pin\b/i.test(prompt.prompt) : /passw/i.test(prompt.prompt))
  );
}

/** Text from a machine, made safe to show on one line. */
function printable(text: string): string {
  return text
    .replace(/[^\x20-\x7e\u00a0-\uffff]+/g, ' ')
    .trim()
    .slice(0, 80);
}
