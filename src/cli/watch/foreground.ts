/** Whose turn the terminal is. */
import { readFileSync } from 'node:fs';

/**
 * Whether this process is in its terminal's foreground: only then the terminal's settings can be changed and keys be read
 * without being stopped. True where that is not told, or there is no terminal that could stop it.
 */
export function isInForeground(): boolean {
  let stat: string;
  try {
    stat = readFileSync('/proc/self/stat', 'latin1');
  } catch {
    return true;
  }
  // state ppid pgrp session tty_nr tpgid, as proc(5) has them behind the command's name, which may hold anything.
  const [, , group, , , foreground] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return foreground === undefined || foreground === '-1' || foreground === group;
}
