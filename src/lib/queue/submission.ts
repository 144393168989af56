/**
 * From a submit to jobs. What takes time comes first (the check, the source trees), and what follows from the ids last, so
 * that nothing comes between `QueueStore.nextId` and `QueueStore.add`.
 */
import { constants } from 'node:fs';
import { access } from 'node:fs/promises';
import { isAbsolute, join, resolve } from 'node:path';
import { UsageError } from '../domain/errors.ts';
import { type MachineName, machineName } from '../domain/machine.ts';
import type { QueueJobId, QueueJobSpec } from '../domain/queue.ts';
import type { ResourceRequest } from '../domain/resources.ts';
import { makeFolder } from '../util/make-folder.ts';
import { nearestWord } from '../util/nearest-word.ts';
import { visibleText } from '../util/terminal-text.ts';
import type { SubmitRequest } from './requests.ts';
import { checkDependencies, checkSubmit, tooMany } from './submission-check.ts';
import { commandsOf, type SubmitCommand, type Wants } from './submission-commands.ts';
import { type EverFit, type RequestKind, refuseImpossible } from './submission-fit.ts';
import { type OutputNames, type OutputPaths, outputPattern } from './submission-outputs.ts';
import { isFolder, keepTrees, type SubmissionTreesOptions } from './submission-trees.ts';

/** What a submit is taken in with. */
export interface SubmissionOptions
  extends Pick<SubmissionTreesOptions, 'parts' | 'machines' | 'cacheFolder'> {
  /** The home folder of the service's user, absolute. */
  readonly home: string;
  /** The machines that there are now, reached or not. */
  readonly machineNames: readonly MachineName[];
  /** Whether machines can ever hold a request; with `only`, that machine. Asked once for each different request. */
  readonly canEver: (request: ResourceRequest, only?: MachineName) => EverFit;
  /** Whether there is a job with this id. */
  readonly isKnown: (id: QueueJobId) => boolean;
  /** Keeps a script's text on the disk; resolves to its SHA-256. */
  readonly keepScript: (text: string) => Promise<string>;
}

/** A submit that was checked, and whose files are kept. */
export interface PreparedSubmit {
  /** How many jobs it makes. */
  readonly count: number;
  /** They wait until somebody releases them. */
  readonly hold: boolean;
  /** What a person should know, one line each. */
  readonly warnings: readonly string[];
  /** The jobs, to be added at once. `nextId` is the id of the first. */
  specs(nextId: QueueJobId): QueueJobSpec[];
}

interface Folders {
  readonly cwd: string;
  readonly results: string;
  readonly outputs: OutputPaths;
}

/**
 * Checks a submit, and keeps its source trees and its script.
 * @throws UsageError for the first mistake, and for requests that no machine here can ever hold; KeepError when its files
 * cannot be kept
 */
export async function prepareSubmit(request: unknown, options: SubmissionOptions): Promise<PreparedSubmit> {
  const submit = checkSubmit(request);
  const { script, array, dependsOn = [], runHere = false, waitForMachine = false } = submit;
  const warnings: string[] = [];
  const machines = machinesOf(submit, options, warnings);
  const indexes = array === undefined ? undefined : Math.floor((array.last - array.first) / array.step) + 1;
  const count = (submit.jobs?.length ?? 1) * machines.length * (indexes ?? 1);
  tooMany(count);
  checkDependencies(dependsOn, options.isKnown);
  const folders = await foldersOf(submit, options.home);
  const outputsOf = outputPattern(folders.outputs, { isArray: array !== undefined, count });
  const commands = commandsOf(submit);
  const wants = [...new Set(commands.map((one) => one.wants))];
  if (!runHere && !waitForMachine)
    refuseImpossible(kindsOf(commands, machines), commands.length, options.canEver);
  if (!runHere) await makeResults(folders.results);
  const forwards = [...new Set(wants.map((one) => one.forwards))];
  const trees = await keepTrees(forwards, { ...options, ...folders });
  warnings.push(...trees.notes);
  const partsOf = new Map(forwards.map((one, at) => [one, trees.parts[at] ?? []]));
  const scriptId = script === undefined ? undefined : await options.keepScript(script.text);
  const shared = sharedPart(submit, folders, scriptId);
  // A copy of one object is much quicker than one put together anew for each of a hundred thousand jobs.
  const templateOf = ({ request: asked, forwards: paths, copyBackwards }: Wants, machine?: MachineName) => ({
    ...{ name: '', command: '', submitted: 0, request: asked, ...paths, copyBackwards },
    ...{ treeParts: partsOf.get(paths) ?? [], ...shared },
    ...(machine === undefined ? {} : { machine }),
  });
  const templates = new Map(wants.map((one) => [one, machines.map((machine) => templateOf(one, machine))]));
  const own = commands.flatMap(({ command, name: stem, wants: one }) =>
    (templates.get(one) ?? []).map((template) => ({ command, stem, template })),
  );
  const specs = (nextId: QueueJobId) => specsOf(submit, { own, outputsOf, count, nextId });
  return { count, hold: submit.hold ?? false, warnings, specs };
}

/** The machines that each job is made for; `undefined` for any. */
function machinesOf(
  { machine = 'any', waitForMachine = false }: SubmitRequest,
  { machineNames }: SubmissionOptions,
  warnings: string[],
): (MachineName | undefined)[] {
  if (machine === 'any') return [undefined];
  if (machine === 'all') {
    if (machineNames.length > 0) return [...machineNames];
    throw new UsageError('--machine all: there are no machines: job_queue add-machine adds one');
  }
  const name = machineName(machine);
  if (machineNames.includes(name)) return [name];
  const shown = visibleText(machine);
  const near = nearestWord(machine, [...machineNames, 'any', 'all']);
  const hint = near === undefined ? '' : ` (did you mean ${near}?)`;
  if (!waitForMachine) throw new UsageError(`--machine: there is no machine ${shown}${hint}`);
  warnings.push(`there is no machine ${shown} yet${hint}: the job waits for it`);
  return [name];
}

async function foldersOf(submit: SubmitRequest, home: string): Promise<Folders> {
  const inHome = (path: string) => (path === '~' || path.startsWith('~/') ? join(home, path.slice(1)) : path);
  const cwd = inHome(submit.cwd ?? home);
  const shown = visibleText(cwd);
  if (!isAbsolute(cwd))
    throw new UsageError(`--cwd: found ${shown}, expected an absolute path, or one that begins with ~/`);
  if (!(await isFolder(cwd))) throw new UsageError(`--cwd: ${shown} is no folder on the service's machine`);
  const under = (path: string) => resolve(cwd, inHome(path));
  const { stdout, stderr } = submit;
  // `resolve` takes a slash at the end away, which tells a folder.
  const file = (path: string) => under(path) + (/.\/$/.test(path) ? '/' : '');
  return {
    cwd: resolve(cwd),
    results: under(submit.results ?? 'job_results'),
    outputs: {
      ...(stdout === undefined ? {} : { stdout: file(stdout) }),
      ...(stderr === undefined ? {} : { stderr: file(stderr) }),
    },
  };
}

/** Told now, when somebody hears of it, and not when the job has run. */
async function makeResults(folder: string): Promise<void> {
  try {
    makeFolder(folder);
    await access(folder, constants.W_OK);
  } catch (error) {
    throw new UsageError(
      `--results: cannot use ${visibleText(folder)}: ${visibleText((error as Error).message)}`,
    );
  }
}

/** Which requests there are, for which machines. */
function kindsOf(
  commands: readonly SubmitCommand[],
  machines: readonly (MachineName | undefined)[],
): RequestKind[] {
  const kinds = new Map<ResourceRequest, { first: number; count: number }>();
  for (const [index, { wants }] of commands.entries()) {
    const { request } = wants;
    const kind = kinds.get(request);
    if (kind === undefined) kinds.set(request, { first: index + 1, count: 1 });
    else kind.count += 1;
  }
  return [...kinds].flatMap(([request, kind]) =>
    machines.map((only) => ({ request, ...kind, ...(only === undefined ? {} : { only }) })),
  );
}

/** What all jobs of a submit have alike. */
function sharedPart(submit: SubmitRequest, { cwd, results }: Folders, scriptId: string | undefined) {
  const { script, runHere, timeoutMs, timeoutPercent, killAfterMs, retryOn, maxOutputBytes, beginAt } =
    submit;
  return {
    ...(script === undefined || scriptId === undefined
      ? {}
      : {
          script: Object.freeze({ name: script.name, id: scriptId, args: Object.freeze([...script.args]) }),
        }),
    ...(runHere === true ? { runHere } : {}),
    env: Object.freeze({ ...submit.env }),
    cwd,
    results,
    ...(timeoutMs === undefined ? {} : { timeoutMs }),
    ...(timeoutPercent === undefined ? {} : { timeoutPercent }),
    ...(killAfterMs === undefined ? {} : { killAfterMs }),
    retries: submit.retries ?? 0,
    ...(retryOn === undefined ? {} : { retryOn }),
    oomGrow: submit.oomGrow ?? 1,
    ...(maxOutputBytes === undefined ? {} : { maxOutputBytes }),
    priority: submit.priority ?? 0,
    ...(beginAt === undefined ? {} : { beginAt }),
    dependsOn: Object.freeze([...new Set(submit.dependsOn ?? [])]),
    dependsOnAny: submit.dependsOnAny ?? false,
    waitForMachine: submit.waitForMachine ?? false,
  };
}

function specsOf(
  { name: stem = 'job', array }: SubmitRequest,
  about: {
    /** In turn, each with what its job has that does not hang on its id. */
    readonly own: readonly {
      readonly command: string;
      readonly stem: string | undefined;
      readonly template: QueueJobSpec;
    }[];
    readonly outputsOf: ((names: OutputNames) => OutputPaths) | undefined;
    readonly count: number;
    readonly nextId: QueueJobId;
  },
): QueueJobSpec[] {
  const { own, outputsOf, count, nextId } = about;
  const specs: QueueJobSpec[] = [];
  for (let at = 0; at < count; at++) {
    const one = own[at % own.length];
    if (one === undefined) throw new Error('Internal error: a submit without jobs');
    const id = nextId + at;
    const spec: { -readonly [Field in keyof QueueJobSpec]: QueueJobSpec[Field] } = { ...one.template };
    spec.name = `${one.stem ?? stem}_${id}`;
    spec.command = one.command;
    spec.submitted = nextId;
    const names = { id, name: spec.name };
    if (array === undefined) {
      if (outputsOf !== undefined) Object.assign(spec, outputsOf(names));
    } else {
      const { atOnce } = array;
      const index = array.first + at * array.step;
      if (outputsOf !== undefined) Object.assign(spec, outputsOf({ ...names, index }));
      spec.env = { ...spec.env, JOB_ARRAY_INDEX: String(index), JOB_ARRAY_ID: String(nextId) };
      spec.array = { first: nextId, index, ...(atOnce === undefined ? {} : { atOnce }) };
    }
    specs.push(spec);
  }
  return specs;
}
