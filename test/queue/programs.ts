/** Services of their own for tests of the door. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const tsx = import.meta.resolve('tsx');
const program = fileURLToPath(new URL('door-program.ts', import.meta.url));

/** A service in a process of its own. */
export interface Service extends AsyncDisposable {
  readonly child: ChildProcess;
  /** The line that it began with, or what it died of. */
  readonly said: string;
  kill(): Promise<void>;
}

/** Starts a service and waits until it is there, or has ended. */
export async function startService(dataFolder: string): Promise<Service> {
  const args = ['--expose-gc', '--import', tsx, program, dataFolder];
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  let said = '';
  let errors = '';
  const closed = once(child, 'close');
  child.stderr.on('data', (text: Buffer) => {
    errors += String(text);
  });
  await new Promise<void>((resolve) => {
    child.stdout.on('data', (text: Buffer) => {
      said += String(text);
      if (said.includes('\n')) resolve();
    });
    void closed.then(() => resolve());
  });
  const kill = async () => {
    if (child.exitCode === null && child.signalCode === null) child.kill('SIGKILL');
    await closed;
  };
  return { child, said: said.trim() || errors, kill, [Symbol.asyncDispose]: kill };
}

/** A folder for one test, gone with it. */
export async function scratch(): Promise<AsyncDisposable & { readonly path: string }> {
  const path = await mkdtemp(join(tmpdir(), 'queue-'));
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }) };
}
