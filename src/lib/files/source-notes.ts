/** What people are told about what goes forward: what stays behind, and what had better not go. */
import { cutToWidth, visibleText } from '../util/terminal-text.ts';
import type { LeftBehindReason, SourceNotes } from './source-part.ts';

/** So many names are told of a kind; of more, how many there are. */
const NAMES_SHOWN = 3;
const SECRETS_SHOWN = 5;
const NAME_COLUMNS = 60;

/** For each reason, in the order in which it is told: what stands behind a name, and what many are called. */
const WORDS: Readonly<Record<LeftBehindReason, { readonly one: string; readonly many: string }>> = {
  git: { one: '', many: '.git folders' },
  results: { one: '', many: 'results folders' },
  'virtual-environment': { one: ' (Python virtual environment)', many: 'Python virtual environments' },
  pycache: { one: '', many: '__pycache__ folders' },
  'machine-file': { one: ' (machine file)', many: 'machine files' },
  key: { one: ' (key of a machine)', many: 'keys of machines' },
  jobignore: { one: ' (by .jobignore)', many: 'paths by .jobignore' },
};

/** What a person should read before a batch starts: no line, or up to three, fit for a terminal. */
export function notesText({ leftBehind, secrets, linksOut }: SourceNotes): string[] {
  const lines: string[] = [];
  const groups = (Object.keys(WORDS) as LeftBehindReason[]).flatMap(
    (
      reason, // its keys, by its type
    ) =>
      groupText(
        reason,
        leftBehind.filter((one) => one.reason === reason).map(({ path }) => path),
      ),
  );
  const isAsked = leftBehind.every(({ reason }) => reason === 'jobignore'); // by the user's own file
  if (groups.length > 0)
    lines.push(
      `not sent: ${groups.join(', ')}${isAsked ? '' : ' (--copy-forwards . PATH... sends such paths too)'}`,
    );
  if (secrets.length > 0) lines.push(`warning: sends files that look like secrets: ${listText(secrets)}`);
  if (linksOut.length > 0) {
    const links = linksOut.map(({ path, target }) => `${shown(path)} -> ${shown(target)}`);
    lines.push(`warning: links that point out of what is sent are sent as links: ${listText(links)}`);
  }
  return lines;
}

function groupText(reason: LeftBehindReason, paths: readonly string[]): string[] {
  const { one, many } = WORDS[reason];
  const most = reason === 'pycache' ? 1 : NAMES_SHOWN;
  return paths.length > most ? [`${paths.length} ${many}`] : paths.map((path) => shown(path) + one);
}

function listText(names: readonly string[]): string {
  const first = names.slice(0, SECRETS_SHOWN).map(shown).join(', ');
  return names.length > SECRETS_SHOWN ? `${first} and ${names.length - SECRETS_SHOWN} more` : first;
}

function shown(name: string): string {
  return cutToWidth(visibleText(name), NAME_COLUMNS);
}
