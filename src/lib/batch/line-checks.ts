/**
 * What can be known to be wrong with a batch's lines before anything runs: how mistakes in lines are told, and the
 * check of every command's syntax by bash itself.
 */
import { spawn } from 'node:child_process';
import { availableParallelism } from 'node:os';
import { SchedulerError, UsageError } from '../domain/errors.ts';
import type { Job } from '../domain/job.ts';
import { visibleText } from '../util/terminal-text.ts';

/** Something to say about one line of a batch file. */
export interface LineNote {
  /** From 1. */
  readonly line: number;
  /** In characters from 1; absent when it is about the whole line. */
  readonly column?: number;
  readonly message: string;
}

const NOTES_SHOWN = 10;

/** A note as one line of text: `batch.sh:3:14: message`, or `line 3: message` without a path. */
export function lineNoteText(note: LineNote, path?: string): string {
  const column = note.column === undefined ? '' : `:${note.column}`;
  const place = path === undefined ? `line ${note.line}` : `${visibleText(path)}:${note.line}`;
  return `${place}${column}: ${note.message}`;
}

/** One error for all mistakes in a file: the first ten in the order of their lines, then how many more there are. */
export function mistakesError(mistakes: readonly LineNote[], path?: string): UsageError {
  const sorted = [...mistakes].sort((a, b) => a.line - b.line);
  const shown = sorted.slice(0, NOTES_SHOWN).map((mistake) => lineNoteText(mistake, path));
  const more = sorted.length - shown.length;
  if (more > 0) shown.push(`and ${more} more ${more === 1 ? 'mistake' : 'mistakes'}`);
  return new UsageError(shown.join('\n'));
}

/** How `checkShellSyntax` finds bash and names the file. */
export interface SyntaxCheckOptions {
  /** The batch file, for messages. @default lines are named without a file */
  readonly path?: string;
  /** The shell that checks. @default 'bash' as found in PATH */
  readonly bash?: string;
}

/**
 * Lets bash read every command without running it (its `noexec` option, as `bash -n` does) and returns what it warns
 * about. Where the controller has no bash, or one so old that the machines' newer bash may accept what it does not
 * (macOS ships 3.2), its findings are only warnings.
 * @throws UsageError naming file, line and bash's own message for each command with a syntax error.
 */
export async function checkShellSyntax(
  jobs: readonly Pick<Job, 'line' | 'command'>[],
  options: SyntaxCheckOptions = {},
): Promise<readonly LineNote[]> {
  const lines = new Map<string, number[]>();
  for (const { command, line } of jobs) {
    const known = lines.get(command);
    if (known) known.push(line);
    else if (!isPlain(command)) lines.set(command, [line]);
  }
  if (lines.size === 0) return [];

  const commands = [...lines.keys()];
  const perShell = Math.max(MIN_COMMANDS_PER_SHELL, Math.ceil(commands.length / availableParallelism()));
  const reading: Promise<readonly Finding[] | 'no bash'>[] = [];
  for (let start = 0; start < commands.length; start += perShell) {
    reading.push(readWithBash(options.bash ?? 'bash', commands.slice(start, start + perShell)));
  }
  const findings: Finding[] = [];
  for (const answer of await Promise.all(reading)) {
    if (answer === 'no bash') {
      const line = lines.get(commands[0] ?? '')?.[0] ?? 1;
      return [
        { line, message: 'there is no bash here, so the syntax of this and later lines was not checked' },
      ];
    }
    findings.push(...answer);
  }
  const mistakes: LineNote[] = [];
  const warnings: LineNote[] = [];
  for (const { command, isError, message } of findings) {
    const notes = isError ? mistakes : warnings;
    for (const line of lines.get(command) ?? []) notes.push({ line, message });
  }
  if (mistakes.length > 0) throw mistakesError(mistakes, options.path);
  return warnings.sort((a, b) => a.line - b.line);
}

/** What bash said about one command. */
interface Finding {
  readonly command: string;
  readonly isError: boolean;
  readonly message: string;
}

const MIN_COMMANDS_PER_SHELL = 50;
const OLDEST_TRUSTED_BASH = 4;

// No two alternatives of a word begin alike, so a long line that does not match fails fast.
const PLAIN_WORD = `(?:[\\w./=:,@%+-]|'[^']*'|"[^"$\`\\\\]*"|\\$[A-Za-z_])+`;
// Not `> 2>&1`: there the number is the next redirection's, and the first has no file.
const REDIRECTION = `(?:&>>?|>>?|>&|<) *${PLAIN_WORD}(?![<>])`;
const PLAIN_COMMAND = `${PLAIN_WORD}(?: +${PLAIN_WORD}| *${REDIRECTION})*`;
const PLAIN_LINE = new RegExp(`^ *${PLAIN_COMMAND}(?: *(?:&&|\\|\\||;|\\|) *${PLAIN_COMMAND})* *$`);
// Words that begin or end a construct where a command may begin.
const RESERVED =
  /(?:^|[;&|]) *(?:if|then|elif|else|fi|for|select|while|until|do|done|case|esac|in|function|time|coproc)(?![^ ;&|<>])/;

/** True only for lists of simple commands of plain and quoted words, which cannot be syntax errors: most lines need no shell. */
function isPlain(command: string): boolean {
  return command.length < 10_000 && PLAIN_LINE.test(command) && !RESERVED.test(command);
}

/**
 * One bash for many commands. `set -n`, on a line before the command, makes the subshell read on without running anything,
 * and nothing that is only read can switch it off again; a fork costs a fifth of a `bash -n` per command. A shell in
 * which that did not hold would run the user's commands here, so it is tried first on a harmless one.
 */
const READ_COMMANDS = `
(eval 'set -n
exit 3') </dev/null || exit 3
printf '%s\\0' "\${BASH_VERSINFO[0]}"
number=0
while IFS= read -r -d '' command; do
  said=$(eval 'set -n
'"$command"'
' 2>&1 </dev/null); code=$?
  if [ "$code" -ne 0 ] || [ -n "$said" ]; then printf '%s\\0' "$number" "$code" "$said"; fi
  number=$((number + 1))
done
printf 'read\\0%s\\0' "$number"
`;

/** Gives the commands to one bash and returns what it finds, or that there is no bash. */
function readWithBash(bash: string, commands: readonly string[]): Promise<readonly Finding[] | 'no bash'> {
  return new Promise((resolve, reject) => {
    // Nothing of the user's environment may change how bash reads: BASH_ENV, SHELLOPTS, BASHOPTS, POSIXLY_CORRECT.
    const env = { PATH: process.env.PATH ?? '', LC_ALL: 'C' };
    const child = spawn(bash, ['-c', READ_COMMANDS], { env, stdio: ['pipe', 'pipe', 'ignore'] });
    const output: Buffer[] = [];
    child.stdout.on('data', (chunk: Buffer) => output.push(chunk));
    child.stdin.on('error', () => {}); // a shell that ends early is seen by its missing last record
    child.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT' || error.code === 'EACCES') resolve('no bash');
      else
        reject(
          new SchedulerError(`cannot start ${bash} to check the batch: ${error.message}`, { cause: error }),
        );
    });
    child.on('close', (code) => {
      const findings = parseFindings(Buffer.concat(output).toString('utf8').split('\0'), commands);
      if (findings) resolve(findings);
      else
        reject(
          new SchedulerError(`${bash} could not check the syntax of the batch (it ended with code ${code})`),
        );
    });
    child.stdin.end(commands.map((command) => `${command}\0`).join(''));
  });
}

/** Reads the shell's records: its version, then number, code and message per finding, then `read` and the count. */
function parseFindings(fields: readonly string[], commands: readonly string[]): Finding[] | undefined {
  const isOld = Number(fields[0]) < OLDEST_TRUSTED_BASH;
  const findings: Finding[] = [];
  let at = 1;
  while (fields[at] !== 'read') {
    const command = commands[Number(fields[at])];
    const said = fields[at + 2];
    if (command === undefined || said === undefined) return undefined;
    // With some mistakes (`[[ a b` at the end of its input) bash complains and yet says 0.
    const isError = fields[at + 1] !== '0' || !said.includes('warning:');
    findings.push({ command, isError: isError && !isOld, message: bashMessage(said, isOld) });
    at += 3;
  }
  return fields[at + 1] === String(commands.length) ? findings : undefined;
}

/** `bash: eval: line 4: unexpected EOF ...` without what is about our own script, and with what a person should know. */
function bashMessage(said: string, isOld: boolean): string {
  const first = (said.split('\n')[0] ?? '').replace(/^.*?: line \d+: /, '').replace(/ at line \d+ /, ' ');
  const hint = /unexpected end of file|unexpected EOF|here-document/.test(first)
    ? ' (each line is a job of its own)'
    : '';
  const who = isOld ? "this computer's old bash says: " : '';
  return `${who}${visibleText(first || 'syntax error')}${hint}`;
}
