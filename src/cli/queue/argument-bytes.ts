/** The bytes that this process was started with: what Node shows as text has lost those that are not UTF-8. */
import { readFileSync } from 'node:fs';
import { UsageError } from '../../lib/domain/errors.ts';
import { quoted } from './words.ts';

/**
 * Refuses arguments that are not UTF-8, where the system tells the bytes (Linux). `argv`: the last arguments of this process.
 * @throws UsageError
 */
export function checkArgumentBytes(argv: readonly string[], path = '/proc/self/cmdline'): void {
  let bytes: Buffer;
  try {
    bytes = readFileSync(path);
  } catch {
    return; // no such file outside of Linux
  }
  // Each word has a NUL behind it. As Latin-1, a character is a byte.
  const words = bytes.toString('latin1').split('\0').slice(0, -1).slice(-argv.length);
  const decoder = new TextDecoder('utf-8', { fatal: true });
  for (const [at, word] of words.entries()) {
    try {
      decoder.decode(Buffer.from(word, 'latin1'));
    } catch {
      throw new UsageError(
        `the argument ${quoted(argv[at] ?? '')} is not UTF-8: it would arrive changed, expected UTF-8`,
      );
    }
  }
}
