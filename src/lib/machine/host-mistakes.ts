/** Words for hosts that are named and not there. */
import { UsageError } from '../domain/errors.ts';
import { nearestWord } from '../util/nearest-word.ts';
import { cutToWidth, visibleText } from '../util/terminal-text.ts';
import type { ExcludableHosts, MissingExclusion } from './host-exclusion.ts';
import { foldNames } from './host-range.ts';
import { parseSshDestination } from './ssh-destination.ts';

/** Texts of which none is among the hosts: `gpu[07-09], which are not among the hosts`. */
export function notAmongHosts(texts: readonly string[]): string {
  return `${shownHosts(texts, 200)}, which ${texts.length === 1 ? 'is' : 'are'} not among the hosts`;
}

/** An exclusion may be mistyped: then the command would run where it must not. */
export function mistypedExclusion(
  missing: readonly MissingExclusion[],
  there: ExcludableHosts,
): UsageError | undefined {
  const mistyped = missing.filter(({ isPerhapsMistyped }) => isPerhapsMistyped);
  if (mistyped.length === 0) return undefined;
  const { names } = there;
  const texts = mistyped.map(({ text }) => text);
  const place = mistyped.find((item) => item.place !== undefined)?.place;
  return new UsageError(
    `found the exclusion of ${notAmongHosts(texts)}, ${shownHosts(names)}${didYouMean(texts, names)}${place === undefined ? '' : ` (${place})`}`,
  );
}

/** Names that were to be picked from the hosts that `lists` stand for, and are not among them. */
export function notToBePicked(
  texts: readonly string[],
  lists: readonly string[],
  names: readonly string[],
  groups: ReadonlySet<string>,
): UsageError {
  const where = cutToWidth(visibleText(lists.join(' and ').slice(0, 400)), 80);
  const [doesNot, have] = lists.length === 1 ? ['does not have: it', 'has'] : ['do not have: they', 'have'];
  const groupNames = [...groups].map((group) => `@${group}`).join(',');
  const what =
    names.length > 0
      ? shownHosts(names)
      : groups.size > 0
        ? `groups only, ${cutToWidth(groupNames, 80)}`
        : 'no machines';
  const group = texts.find((text) => groups.has(text));
  const hint = group === undefined ? didYouMean(texts, names) : ` (did you mean @${group}?)`;
  return new UsageError(`found ${shownHosts(texts)}, which ${where} ${doesNot} ${have} ${what}${hint}`);
}

function shownHosts(names: readonly string[], columns = 80): string {
  // Cut first, since measuring a text of megabytes would take long.
  return cutToWidth(visibleText(foldNames(names).slice(0, 400)), columns);
}

function didYouMean(texts: readonly string[], names: readonly string[]): string {
  for (const text of texts) {
    const near = nearestHost(text.slice(0, 100), names);
    if (near !== undefined) return ` (did you mean ${visibleText(near)}?)`;
  }
  return '';
}

/** gpu09 is not nearly gpu01: a host of other numbers is another host. But gpu9 may be meant to be gpu09. */
function nearestHost(text: string, names: readonly string[]): string | undefined {
  const host = plainHostOf(text);
  const numbers = numbersIn(host);
  const alike = names.filter((name) => numbersIn(plainHostOf(name)) === numbers);
  return alike.find((name) => plainHostOf(name) === host) ?? nearestWord(text, alike);
}

/** The host that a name means, in small letters and with no zeros before its numbers. */
function plainHostOf(name: string): string {
  const host = parseSshDestination(name)?.host ?? name;
  return host.toLowerCase().replaceAll(/(?<!\d)0+(?=\d)/g, '');
}

function numbersIn(host: string): string {
  return (host.match(/\d+/g) ?? []).join(' ');
}
