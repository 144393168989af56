/** The version of this package, as its package.json says. */
import { readFileSync } from 'node:fs';

/** E.g. `0.1.0`. */
export const TOOL_VERSION = readVersion();

function readVersion(): string {
  const parsed: unknown = JSON.parse(readFileSync(new URL('../../../package.json', import.meta.url), 'utf8'));
  const isObject = typeof parsed === 'object' && parsed !== null && 'version' in parsed;
  return isObject && typeof parsed.version === 'string' ? parsed.version : 'unknown';
}
