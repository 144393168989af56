/** Whoever uses the queue service in a run: asks for one thing after the other until it is acknowledged, and keeps account. */
import { execFile } from 'node:child_process';
import { appendFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { DoorClient } from '../../src/lib/queue/door-client.ts';
import { DoorError } from '../../src/lib/queue/door-protocol.ts';
import type { JobAnswer, JobRow, SubmitAnswer, SubmitRequest } from '../../src/lib/queue/requests.ts';
import { time } from './ledger.ts';
import type { JobPlace, PlannedChange, PlannedStep, PlannedSubmit } from './queue-plan.ts';
import { jobLine } from './workload.ts';
import type { World } from './world.ts';

const PAUSE_MS = 200;
const COMMAND_ENDS_WITHIN_MS = 60_000;
const REQUEST = {
  ...{ memoryMiB: 10, cpuCores: 0.01, gpus: 0, gpuMemoryMiB: 0 },
  ...{ gpuUtilization: 0, reserveGpu: false, reserveMachine: false },
} as const;

/** A submit that may have reached the service. */
export interface SubmitTry {
  /** What the names of its jobs begin with; no other try has it. */
  readonly name: string;
  readonly submit: PlannedSubmit;
  readonly dependsOn: readonly number[];
  /** The ids; absent while nothing was acknowledged. */
  ids?: readonly number[];
}

/** Something that was asked for one job. */
export interface Change {
  readonly kind: PlannedChange['kind'];
  readonly id: number;
  /** Epoch milliseconds. */
  readonly askedAt: number;
  /** Absent when no answer came. */
  answer?: { readonly at: number; readonly isDone: boolean; readonly message: string };
}

/** How a command ended. */
export interface CommandEnd {
  readonly exitCode: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** The user of one run's service. */
export class QueueClient {
  readonly tries: SubmitTry[] = [];
  readonly changes: Change[] = [];
  /** What the service should not have said. */
  readonly findings: string[] = [];
  readonly #world: World;
  /** The acknowledged try of each planned submit, in their order. */
  readonly #acknowledged: SubmitTry[] = [];
  #isOver = false;

  constructor(world: World) {
    this.#world = world;
  }

  /** Does all steps in their order, none before its time. Each submit and each release is asked for until it is acknowledged. */
  async work(steps: readonly PlannedStep[]): Promise<void> {
    const beganAt = Date.now();
    for (const step of steps) {
      await pause(beganAt + step.atMs - Date.now());
      while (!this.#isOver) {
        const isAcknowledged = step.kind === 'submit' ? await this.#submit(step) : await this.#change(step);
        // A kill or a hold may get lost like any order; the others would leave jobs behind for good.
        if (isAcknowledged || step.kind === 'kill' || step.kind === 'hold') break;
        await pause(PAUSE_MS);
      }
      if (this.#isOver) return;
    }
  }

  /** Asks for nothing more. */
  stop(): void {
    this.#isOver = true;
  }

  /** All jobs as the command lists them. @throws Error when it fails */
  async list(): Promise<readonly JobRow[]> {
    const { exitCode, stdout, stderr } = await this.command('list', ['--json']);
    if (exitCode !== 0) throw new Error(`job_queue list ended with ${exitCode}: ${stderr.trim()}`);
    return linesOf(stdout).map((line) => JSON.parse(line) as JobRow);
  }

  /** Runs a command of job_queue. */
  async command(verb: string, args: readonly string[]): Promise<CommandEnd> {
    const { command, data, project: cwd, env } = this.#world;
    const end = await new Promise<CommandEnd>((resolve) => {
      const words = [command, verb, '--data-dir', data, ...args];
      const options = { cwd, env, timeout: COMMAND_ENDS_WITHIN_MS, maxBuffer: 2 ** 26 };
      const child = execFile(process.execPath, words, options, (_, stdout, stderr) =>
        resolve({ exitCode: child.exitCode, stdout, stderr }),
      );
    });
    if (verb !== 'list' && verb !== 'events')
      this.#log(`${verb} ${args.join(' ')}: ${end.exitCode} ${end.stdout}${end.stderr}`);
    if (end.exitCode === null) this.findings.push(`job_queue ${verb} ${args.join(' ')} did not end`);
    return end;
  }

  /** Asks through the door, over a connection of its own. @throws what the service says */
  async ask(verb: string, args: unknown): Promise<unknown> {
    let said: unknown;
    try {
      await using client = await DoorClient.connect(this.#world.data);
      said = await client.call(verb, args);
      return said;
    } catch (error) {
      said = error;
      // A connection that ends, a door that is not there, a disk that is full; all else is a mistake of one of us.
      if (!(error instanceof DoorError))
        this.findings.push(`${verb} ${JSON.stringify(args)} was refused: ${(error as Error).message}`);
      throw error;
    } finally {
      const text = said instanceof Error ? said.message : JSON.stringify(said);
      if (verb !== 'list') this.#log(`door ${verb} ${JSON.stringify(args)}: ${text}`);
    }
  }

  async #submit(submit: PlannedSubmit): Promise<boolean> {
    const name = `s${this.#acknowledged.length}${this.tries.at(-1)?.ids === undefined ? `-${this.tries.length}` : ''}`;
    const dependsOn = [...new Set(submit.dependsOn.map((place) => this.#idAt(place)))];
    const one: SubmitTry = { name, submit, dependsOn };
    this.tries.push(one);
    const ids = submit.way === 'door' ? await this.#submitByDoor(one) : await this.#submitByCommand(one);
    if (ids === undefined) return false;
    one.ids = ids;
    this.#acknowledged.push(one);
    return true;
  }

  async #submitByDoor({ name, submit, dependsOn }: SubmitTry): Promise<readonly number[] | undefined> {
    const { jobs, isArray, atOnce, dependsOnAny, hold } = submit;
    const request: SubmitRequest = {
      name,
      jobs: (isArray ? jobs.slice(0, 1) : jobs).map((job) => ({ command: jobLine(job) })),
      request: REQUEST,
      cwd: this.#world.project,
      results: this.#world.results,
      retries: this.#world.kinds.includes('full-disk') ? 5 : 0,
      ...(isArray
        ? { array: { first: 1, last: jobs.length, step: 1, ...(atOnce === undefined ? {} : { atOnce }) } }
        : {}),
      ...(dependsOn.length > 0 ? { dependsOn, dependsOnAny } : {}),
      hold,
    };
    try {
      const { firstId, count } = (await this.ask('submit', request)) as SubmitAnswer;
      return Array.from({ length: count }, (_, index) => firstId + index);
    } catch {
      return undefined;
    }
  }

  async #submitByCommand({ name, submit, dependsOn }: SubmitTry): Promise<readonly number[] | undefined> {
    const { jobs, way, isArray, atOnce, dependsOnAny, hold } = submit;
    const [first] = jobs;
    if (first === undefined) throw new Error('a submit without jobs');
    const args = [
      ...['--quiet', '--name', name, '--results', this.#world.results, ...this.#world.jobFlags],
      ...(isArray ? ['--array', `1-${jobs.length}${atOnce === undefined ? '' : `%${atOnce}`}`] : []),
      ...(dependsOn.length > 0 ? ['--depends-on', dependsOn.join(':')] : []),
      ...(dependsOnAny ? ['--depends-on-any'] : []),
      ...(hold ? ['--hold'] : []),
    ];
    if (way === 'command-file') {
      const file = join(this.#world.logs, `${name}.commands`);
      await writeFile(file, jobs.map((job) => `${jobLine(job)}\n`).join(''));
      args.push('--command-file', file);
    } else if (way === 'script') {
      args.push(...jobLine(first).split(' ').slice(1));
    } else {
      args.push('--command', jobLine(first));
    }
    const { exitCode, stdout } = await this.command('submit', args);
    return exitCode === 0 ? linesOf(stdout).map(Number) : undefined;
  }

  async #change({ kind, place, way }: PlannedChange): Promise<boolean> {
    const change: Change = { kind, id: this.#idAt(place), askedAt: Date.now() };
    this.changes.push(change);
    if (way === 'door') {
      try {
        const [said] = (await this.ask(kind, { ids: [change.id] })) as readonly JobAnswer[];
        if (said !== undefined)
          change.answer = { at: Date.now(), isDone: said.isDone, message: said.message };
      } catch {
        return false;
      }
    } else {
      const { stdout, stderr } = await this.command(kind, [String(change.id)]);
      const [isDone, message] = [stdout, stderr].map(
        (text) => /^(?:job_queue: )?job \d+: (.*)$/m.exec(text)?.[1],
      );
      const text = isDone ?? message;
      if (text !== undefined) change.answer = { at: Date.now(), isDone: isDone !== undefined, message: text };
    }
    return change.answer !== undefined;
  }

  #idAt({ submit, job }: JobPlace): number {
    const id = this.#acknowledged[submit]?.ids?.[job];
    if (id === undefined) throw new Error(`submit ${submit} was answered without an id for its job ${job}`);
    return id;
  }

  #log(text: string): void {
    appendFileSync(join(this.#world.logs, 'asked'), `${time(Date.now())} ${text.trimEnd()}\n`);
  }
}

function linesOf(text: string): string[] {
  return text.split('\n').filter((line) => line !== '');
}

export async function pause(ms: number): Promise<void> {
  if (ms > 0) await new Promise((resolve) => setTimeout(resolve, ms));
}
