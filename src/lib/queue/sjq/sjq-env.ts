/** The variables of an ENV line: `NAME=value:NAME=value`. */
import { isEnvName, isTakenEnvName, MAX_ENV_BYTES } from '../../stores/queue-spec-check.ts';
import { cutToWidth, visibleText } from '../../util/terminal-text.ts';

/**
 * Reads ENV lines; what is wrong goes to `reasons`. A colon divides two variables only where a name and `=` follow it:
 * values such as PATH have colons themselves. Variables that have a meaning of ours are left out, for a client may send
 * all that it has, and run in one of our jobs itself.
 */
export function readSjqEnv(lines: readonly string[], reasons: string[]): Readonly<Record<string, string>> {
  const env: Record<string, string> = {};
  for (const line of lines) {
    if (line === '') continue;
    for (const piece of line.split(/:(?=[A-Za-z_][A-Za-z0-9_]*=)/)) {
      const at = piece.indexOf('=');
      const name = piece.slice(0, Math.max(at, 0));
      if (!isEnvName(name)) {
        // Values may be secrets, so no more is shown than a name.
        const shown = at < 0 ? 'text without a name' : `'${cutToWidth(visibleText(name), 40)}='`;
        reasons.push(`ENV: found ${shown}, expected NAME=value:NAME=value`);
      } else if (piece.includes('\0')) reasons.push(`ENV: ${name} contains a NUL byte`);
      else if (Buffer.byteLength(piece) + 1 > MAX_ENV_BYTES)
        reasons.push(`ENV: ${name} takes more than the ${MAX_ENV_BYTES} bytes that a program can be given`);
      else if (!isTakenEnvName(name)) env[name] = piece.slice(at + 1);
    }
  }
  return env;
}
