/**
 * One transfer as the library does it, in a fresh process: `node --import tsx bench/one-transfer.ts REQUEST`, where the
 * request is JSON. Prints what it took as JSON. The clock starts when the code is loaded, so what a batch's start costs
 * besides is left out; code that has never run before, as in every batch, is not.
 */
import { mkdir } from 'node:fs/promises';
import { fetchFiles } from '../src/lib/files/fetch.ts';
import { partListing } from '../src/lib/files/part-listing.ts';
import { type PartStore, sendParts } from '../src/lib/files/send.ts';
import type { SourcePart } from '../src/lib/files/source-part.ts';
import { SourceTrees } from '../src/lib/files/source-trees.ts';
import { findMachines } from '../src/lib/machine/find-machines.ts';
import type { RemoteHost } from '../src/lib/remote/remote-host.ts';
import { RequestShell } from '../src/lib/remote/remote-shell.ts';
import { connectSsh } from '../src/lib/remote/ssh-host.ts';

/** Where a transfer goes to or comes from. */
interface Way {
  /** Name of the host in the ssh configuration. */
  readonly host: string;
  readonly sshConfig: string;
}

/** What to transfer. Folders are absolute. */
export type TransferRequest = Way &
  (
    | {
        readonly type: 'send';
        /** Local. */
        readonly from: string;
        readonly hashes: string;
        /** On the host; made when it is not there. */
        readonly store: string;
        /** `sending`: connected and listed before the clock starts. */
        readonly clock: 'all' | 'sending';
      }
    | { readonly type: 'fetch'; readonly attempt: string; readonly into: string }
    /** Only remembers the hashes of a folder. */
    | { readonly type: 'list'; readonly from: string; readonly hashes: string }
  );

/** What it took. */
export interface TransferFigures {
  readonly seconds: number;
  /** On the connection, from here to there and back, everything included. */
  readonly sentBytes: number;
  readonly receivedBytes: number;
  /** Of the parts' listings; 0 when fetching. */
  readonly listingBytes: number;
  /** Files that were sent or came. */
  readonly files: number;
}

const request = JSON.parse(process.argv[2] ?? '') as TransferRequest; // the bench's own
console.log(JSON.stringify(await figuresOf(request)));

function figuresOf(wanted: TransferRequest): Promise<TransferFigures> {
  if (wanted.type === 'fetch') return fetch(wanted);
  if (wanted.type === 'send') return send(wanted);
  return remember(wanted);
}

async function remember(wanted: TransferRequest & { type: 'list' }): Promise<TransferFigures> {
  const began = performance.now();
  const parts = await list(wanted);
  const files = parts.reduce((sum, part) => sum + part.files, 0);
  return { seconds: secondsSince(began), sentBytes: 0, receivedBytes: 0, listingBytes: 0, files };
}

async function send(wanted: TransferRequest & { type: 'send' }): Promise<TransferFigures> {
  let began = performance.now();
  // At the same time, as a batch does it.
  const [parts, { host, shell, store }] = await Promise.all([list(wanted), openStore(wanted, wanted.store)]);
  if (wanted.clock === 'sending') began = performance.now();
  const there = await sendParts(host, shell, store, parts);
  const seconds = secondsSince(began);
  const { sentBytes, receivedBytes } = host.traffic;
  shell.close();
  await host.close();
  return {
    seconds,
    sentBytes,
    receivedBytes,
    listingBytes: parts.reduce((sum, part) => sum + partListing(part.entries).bytes.length, 0),
    files: [...there.values()].reduce((sum, { newFiles }) => sum + newFiles, 0),
  };
}

async function fetch({
  attempt,
  into,
  ...way
}: TransferRequest & { type: 'fetch' }): Promise<TransferFigures> {
  const began = performance.now();
  const host = await connect(way);
  const shell = await RequestShell.open(host);
  await mkdir(into);
  const { files } = await fetchFiles(host.name, shell, { attemptFolder: attempt, paths: 'changed', into });
  const seconds = secondsSince(began);
  const { sentBytes, receivedBytes } = host.traffic;
  shell.close();
  await host.close();
  return { seconds, sentBytes, receivedBytes, listingBytes: 0, files };
}

async function list({
  from,
  hashes,
}: {
  readonly from: string;
  readonly hashes: string;
}): Promise<readonly SourcePart[]> {
  const trees = new SourceTrees({ cwd: from, cacheFolder: hashes });
  const job = { copyForwards: 'working-directory', shareForwards: [] } as const;
  await trees.listAll([job]);
  return (await trees.of(job)).parts;
}

/** Connects, and makes the folders that a session would make. */
async function openStore(
  way: Way,
  folder: string,
): Promise<{ readonly host: RemoteHost; readonly shell: RequestShell; readonly store: PartStore }> {
  const host = await connect(way);
  const shell = await RequestShell.open(host);
  await shell.run(`mkdir -p '${folder}/trees' '${folder}/shares' '${folder}/leases'`);
  const store = {
    kind: 'trees',
    folder: `${folder}/trees`,
    leases: `${folder}/leases`,
    leaseSuffix: 'bench.1',
  } as const;
  return { host, shell, store };
}

async function connect({ host, sshConfig }: Way): Promise<RemoteHost> {
  const { machines } = await findMachines([host]);
  const [machine] = machines;
  if (machine === undefined) throw new Error(`no machine ${host}`);
  const env = { ...process.env, SSH_AUTH_SOCK: '' };
  return await connectSsh(machine.config, { configFile: sshConfig, env });
}

function secondsSince(began: number): number {
  return (performance.now() - began) / 1000;
}
