/** For tests of connections: machine entries for test hosts, and programs run to their end over a RemoteHost. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { machineName } from '../../src/lib/domain/machine.ts';
import { localMachine, type MachineConfig } from '../../src/lib/machine/config.ts';
import type { ChannelEnd, RemoteHost } from '../../src/lib/remote/remote-host.ts';

/** What a program printed and how it ended. */
export interface ProgramResult {
  readonly stdout: string;
  readonly stderr: string;
  readonly end: ChannelEnd;
}

/** Runs a program to its end. */
export async function runOver(host: RemoteHost, commandLine: string, input?: string): Promise<ProgramResult> {
  const channel = await host.open(commandLine);
  channel.stdin.end(input);
  const [stdout, stderr, end] = await Promise.all([
    buffer(channel.stdout),
    buffer(channel.stderr),
    channel.ended,
  ]);
  return { stdout: stdout.toString(), stderr: stderr.toString(), end };
}

/** A machine entry; by default just a destination that ssh's configuration explains. */
export function entry(host: string, more: Partial<MachineConfig> = {}): MachineConfig {
  return {
    ...localMachine(),
    name: machineName(host),
    host,
    source: { type: 'destination', destination: host, searched: [] },
    ...more,
  };
}

/** A folder for one test's own files, gone with it. */
export async function scratch(): Promise<
  AsyncDisposable & { readonly path: string; write(name: string, text: string): Promise<string> }
> {
  const path = await mkdtemp(join(tmpdir(), 'remote-test-'));
  return {
    path,
    async write(name, text) {
      const file = join(path, name);
      await writeFile(file, text, { mode: 0o600 });
      return file;
    },
    [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }),
  };
}
