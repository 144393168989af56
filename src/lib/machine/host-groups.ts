/** Reads `groups:` of a machine file: names for lists of hosts. */
import { isAlias, isMap, isScalar, isSeq } from 'yaml';
import { visibleText } from '../util/terminal-text.ts';
import { describe, kindOf, mistakeAt, positionOf, type YamlBlock } from './yaml-block.ts';

const GROUP_NAME = /^[\p{L}\p{N}_.-]{1,100}$/u;
const EXPECTED_LIST =
  'hosts as in "gpu[01-12],login" or a list of such texts (what begins with ! or @ goes in quotes)';

/** A name for some hosts. */
export interface HostGroup {
  /** Lists of hosts as on a command line; together they are one list. */
  readonly lists: readonly string[];
  /** Line of the group in its file, from 1. */
  readonly line: number;
}

/**
 * Reads the groups of the file's top block; none when it has no `groups:`. What their lists mean is found out when a
 * group is used.
 * @throws MachineConfigError at the first mistake.
 */
export function readGroups(top: YamlBlock): ReadonlyMap<string, HostGroup> {
  const { file } = top;
  const groups = new Map<string, HostGroup>();
  const node = top.at('groups');
  if (node === undefined) return groups;
  if (!isMap(node)) throw top.mistake('groups', kindOf(node), 'a block of `name: hosts` lines');
  for (const { key, value } of node.items) {
    const name = isScalar(key) ? String(key.value) : '';
    if (!GROUP_NAME.test(name)) {
      throw mistakeAt(file, key, `the group name "${visibleText(name)}"`, 'letters, digits and _ . -');
    }
    const list = isAlias(value) ? value.resolve(file.document) : value;
    const items: readonly unknown[] = isSeq(list) ? list.items : [list];
    if (items.length === 0) throw mistakeAt(file, list, `an empty list as the group ${name}`, EXPECTED_LIST);
    const lists = items.map((item) => {
      const text = isAlias(item) ? item.resolve(file.document) : item;
      // To YAML `!gpu1 x` is the text x with a tag.
      if (isScalar(text) && text.tag?.startsWith('!') === true) {
        throw mistakeAt(file, item, `what begins with ! in the group ${name}`, 'it in quotes');
      }
      if (isScalar(text) && typeof text.value === 'string' && text.value.trim() !== '') return text.value;
      const numbers = isScalar(text) && typeof text.value === 'number' ? ' (a number goes in quotes)' : '';
      throw mistakeAt(
        file,
        item ?? key,
        `${describe(text)} in the group ${name}`,
        numbers === '' ? EXPECTED_LIST : `text${numbers}`,
      );
    });
    groups.set(name, { lists, line: positionOf(file, key).line });
  }
  return groups;
}
