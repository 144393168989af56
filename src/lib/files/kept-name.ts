/**
 * Names by which a tree's kept parts are remembered, as text that any file or database takes: `ID` of a part, and
 * `share:ID:PATH` of a shared input whose link stands at PATH, where bytes that do not print are `%xx`.
 */
import { visibleText } from '../util/terminal-text.ts';
import { KeepError } from './kept-files.ts';

/** A name's meaning. */
export interface KeptName {
  readonly id: string;
  /** Where the link to a shared input stands in the job's folder, latin1; absent for what is copied. */
  readonly path?: string;
}

const ID = /^[0-9a-f]{40}$/;
const SHARE = /^share:([0-9a-f]{40}):((?:[!-$&-~]|%[0-9a-f]{2})+)$/;
const SHOWN = 200;

/** Whether it is a part's id: 40 hex digits. */
export function isPartId(name: string): boolean {
  return ID.test(name);
}

/** The name of a part, or of a shared input at a path (latin1). */
export function keptName(id: string, sharedPath?: string): string {
  if (sharedPath === undefined) return id;
  const hex = (byte: string) => `%${byte.charCodeAt(0).toString(16).padStart(2, '0')}`;
  return `share:${id}:${sharedPath.replace(/[^!-$&-~]/g, hex)}`;
}

/**
 * What such a name means.
 * @throws KeepError when it is none
 */
export function parsedName(name: string): KeptName {
  if (isPartId(name)) return { id: name };
  const [, id, path] = SHARE.exec(name) ?? [];
  if (id === undefined || path === undefined)
    throw new KeepError(`${visibleText(name.slice(0, SHOWN))} is no kept part: expected ID or share:ID:PATH`);
  const fromHex = (_found: string, hex: string) => String.fromCharCode(Number.parseInt(hex, 16));
  return { id, path: path.replace(/%([0-9a-f]{2})/g, fromHex) };
}
