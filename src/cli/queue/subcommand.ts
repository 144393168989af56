/** One command of job_queue: its flags, what they mean, and what is done. */
import type { DoorClient } from '../../lib/queue/door-client.ts';
import type { WriteQueue } from '../write-queue.ts';
import { DOOR_FLAGS, type FlagTable, readWords, type Words } from './words.ts';

/** What a command works with. */
export interface Surroundings {
  readonly outs: WriteQueue;
  /** Writes one line to standard output. */
  print(line: string): void;
  /** Writes one line for people to standard error, with the program's name before it. */
  warn(message: string): void;
  /** Connects to the service. @throws DoorError, RemoteError */
  door(): Promise<DoorClient>;
}

/** Which service is asked. */
export interface DoorWay {
  /** On that host where one is named. */
  readonly dataFolder?: string;
  /** As an ssh destination. */
  readonly host?: string;
  readonly sshConfig?: string;
}

/** A command, whatever its arguments are. */
export interface Subcommand {
  readonly help: string;
  run(argv: readonly string[], surroundings: (way: DoorWay) => Surroundings): Promise<number>;
}

/** What a command is made of. */
export interface SubcommandParts<Table extends FlagTable, Args> {
  readonly name: string;
  /** Usage, what it does, flags and one example. */
  readonly help: string;
  /** Its own flags. */
  readonly flags: Table;
  /** Whether its first word ends the flags. @default false */
  readonly endsAtWord?: boolean;
  /** @throws UsageError */
  read(words: Words<(keyof Table | keyof typeof DOOR_FLAGS) & string>): Args;
  /** Returns the exit code. */
  run(args: Args, surroundings: Surroundings): Promise<number>;
}

/** A command with its arguments' type, which tests look at. */
export interface TypedSubcommand<Args> extends Subcommand {
  /** What a command line means. @throws UsageError */
  parse(argv: readonly string[]): Args;
}

/** Puts a command together. */
export function subcommand<Table extends FlagTable, Args>(
  parts: SubcommandParts<Table, Args>,
): TypedSubcommand<Args> {
  const table = { ...parts.flags, ...DOOR_FLAGS } as Table & typeof DOOR_FLAGS;
  const words = (argv: readonly string[]) =>
    readWords(argv, table, {
      command: `job_queue ${parts.name}`,
      ...(parts.endsAtWord === true && { endsAtWord: true }),
    });
  return {
    help: parts.help,
    parse: (argv) => parts.read(words(argv)),
    run: async (argv, surroundings) => {
      const given = words(argv);
      const args = parts.read(given);
      return await parts.run(args, surroundings(wayOf(given)));
    },
  };
}

/** Which service the common flags mean. */
export function wayOf(given: Pick<Words<keyof typeof DOOR_FLAGS>, 'value'>): DoorWay {
  const dataFolder = given.value('--data-dir');
  const host = given.value('--host');
  const sshConfig = given.value('--ssh-config');
  return {
    ...(dataFolder !== undefined && { dataFolder }),
    ...(host !== undefined && { host }),
    ...(sshConfig !== undefined && { sshConfig }),
  };
}
