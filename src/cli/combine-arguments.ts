/** The command line of combine_folders. */
import type { Argv } from 'yargs';
import { UsageError } from '../lib/domain/errors.ts';
import type { OnConflict } from '../lib/folders/plan.ts';
import { nearestWord } from '../lib/util/nearest-word.ts';
import { visibleText } from '../lib/util/terminal-text.ts';
import { TOOL_VERSION } from '../lib/util/tool-version.ts';

/** What the user asked for. */
export interface CombineArguments {
  readonly dest: string;
  readonly sources: readonly string[];
  readonly onConflict: OnConflict;
  readonly link: boolean;
  readonly dryRun: boolean;
  readonly json: boolean;
}

const WAYS = ['error', 'keep-first', 'keep-newest', 'rename'] as const satisfies readonly OnConflict[];

const OPTIONS = {
  'on-conflict': {
    choices: WAYS,
    default: 'error',
    requiresArg: true,
    describe:
      'the same path with different content: refuse all, keep the first, keep the newest, or give it a name with its hash',
  },
  link: { type: 'boolean', default: false, describe: 'hard links instead of copies, where they can be had' },
  'dry-run': { type: 'boolean', default: false, describe: 'print what would happen, write nothing' },
  json: { type: 'boolean', default: false, describe: 'print one JSON object instead of text' },
} as const;

function declare(cli: Argv) {
  return cli
    .scriptName('combine_folders')
    .usage(
      '$0 DEST SRC...\n\nCombines folders into DEST: equal files become one, all paths are kept, and the same path with different content is an error found before anything is written. DEST may exist; what it has stays.',
    )
    .parserConfiguration({
      'boolean-negation': false,
      'parse-positional-numbers': false,
      'populate--': true, // names that begin with a dash stand behind it
    })
    .command('$0 [folders..]', false, (command) =>
      command.positional('folders', {
        type: 'string',
        array: true,
        describe: 'the folder to combine into, and those to combine',
      }),
    )
    .options(OPTIONS)
    .example('$0 all job_results/*/', 'the results of all jobs')
    .epilogue('Exit code: 0 done; 1 conflicts, or something that cannot be read or written; 2 a wrong call.')
    .version(TOOL_VERSION)
    .strict()
    .wrap(110);
}

/**
 * Reads the command line. Help and version print and exit themselves.
 * @throws UsageError with one line that says what is wrong.
 */
export async function parseCombineArguments(argv: readonly string[]): Promise<CombineArguments> {
  const { default: yargs } = await import('yargs');
  const parsed = await declare(yargs([...argv]))
    .fail((message, error) => {
      throw error instanceof UsageError ? error : new UsageError(explain(message ?? error.message));
    })
    .parseAsync();
  const { folders, '--': behind } = parsed as { folders?: unknown; '--'?: unknown }; // yargs types neither
  const [dest, ...sources] = [...texts(folders), ...texts(behind)];
  if (dest === undefined) throw new UsageError('nothing is named: expected combine_folders DEST SRC...');
  if (sources.length === 0) {
    throw new UsageError(`no source is named: expected combine_folders ${visibleText(dest)} SRC...`);
  }
  const ways: unknown = parsed['on-conflict'];
  const onConflict = WAYS.find((way) => way === ways);
  if (onConflict === undefined) throw new UsageError('--on-conflict was given several times, expected once');
  const { link, json } = parsed;
  return { dest, sources, onConflict, link: isOn(link), dryRun: isOn(parsed['dry-run']), json: isOn(json) };
}

function texts(value: unknown): string[] {
  return Array.isArray(value) ? value.filter((one) => typeof one === 'string') : [];
}

/** A switch that is given twice is a list to yargs. */
function isOn(value: unknown): boolean {
  return value === true || (Array.isArray(value) && value.at(-1) === true);
}

/** Says what yargs says, in one line. */
function explain(message: string): string {
  const line = message.replaceAll(/\s*\n\s*/g, ' ').trim();
  const [, unknown] = /^Unknown arguments?: ([^\s,]+)/.exec(line) ?? [];
  if (unknown === undefined) return line;
  const near = nearestWord(unknown, Object.keys(OPTIONS));
  return `unknown flag --${visibleText(unknown)}${near === undefined ? '' : ` (did you mean --${near}?)`}`;
}
