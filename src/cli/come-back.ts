/** The command with which a person goes on with a batch. */
import { basename } from 'node:path';
import { shellQuote } from '../lib/util/shell-quote.ts';

/** Flags of one call only: coming back is a plain run. */
const ONCE = /^--(?:leave|status|cancel)(?:=(?:true|false))?$/;

/**
 * The user's own words as a shell reads them back, without the flags that ask for something else than a run. `program`
 * is the path of the script that runs now.
 */
export function comeBackCommand(
  argv: readonly string[],
  program: string,
  environment: NodeJS.ProcessEnv = process.env,
): string {
  const words = argv.filter((word) => !ONCE.test(word));
  return [...programWords(program, environment), ...words].map(quotedWord).join(' ');
}

/** How the command was probably called: as itself, by npx, or by its file in a clone. */
function programWords(program: string, environment: NodeJS.ProcessEnv): readonly string[] {
  if (/\.[jt]s$/.test(program)) return ['node', program];
  const name = basename(program);
  return environment.npm_command === 'exec' ? ['npx', name] : [name];
}

/** A word as a shell reads it back, in quotes only where it needs them; controls as escapes of `$'...'`. */
export function quotedWord(word: string): string {
  if (/^[\w@%+=:,./~-]+$/.test(word) && !word.startsWith('~')) return word;
  if (!/[\p{Cc}]/u.test(word)) return shellQuote(word);
  const escaped = word
    .replaceAll(/[\\']/g, '\\$&')
    .replaceAll(/\p{Cc}/gu, (control) => `\\u${control.charCodeAt(0).toString(16).padStart(4, '0')}`);
  return `$'${escaped}'`;
}
