/** Finds the group that `@name` means. */
import { UsageError } from '../domain/errors.ts';
import { nearestWord } from '../util/nearest-word.ts';
import { cutToWidth, visibleText } from '../util/terminal-text.ts';
import type { HostGroup } from './host-groups.ts';
import type { LoadedMachineFile, MachineFileStore } from './machine-file-store.ts';

/** A group and the file it stands in. */
export interface FoundGroup {
  readonly file: LoadedMachineFile;
  readonly group: HostGroup;
}

/** The groups of one call. */
export class GroupFinder {
  readonly #files: MachineFileStore;
  readonly #path: string;

  /** `path` is the user's own `groups.yaml`, which need not be there; it is read when no other file has the group. */
  constructor(files: MachineFileStore, path: string) {
    this.#files = files;
    this.#path = path;
  }

  /**
   * Looks in the file whose group names this one (`own`), then in the machine files of the call, then in the user's own
   * groups.
   * @throws UsageError for a group that is nowhere, or in two machine files of the call.
   */
  async find(
    name: string,
    own: LoadedMachineFile | undefined,
    callFiles: readonly LoadedMachineFile[],
  ): Promise<FoundGroup> {
    const inOwn = own?.groups.get(name);
    if (own !== undefined && inOwn !== undefined) return { file: own, group: inOwn };
    const found = callFiles.flatMap((file) => groupIn(file, name));
    const [first, second] = found;
    if (first !== undefined && second !== undefined) {
      throw new UsageError(
        `found the group @${name} twice, ${placeOf(first)} and ${placeOf(second)}, expected it in one of these files`,
      );
    }
    if (first !== undefined) return first;
    const path = this.#files.find(this.#path, '/').path;
    const users = path === undefined ? [] : [await this.#files.load(path)];
    const group = users.flatMap((file) => groupIn(file, name))[0];
    if (group !== undefined) return group;
    const files = [...new Set([...(own === undefined ? [] : [own]), ...callFiles, ...users])];
    const places = [
      ...files.map((file) => file.path),
      ...(path === undefined ? [`${this.#path} (not there)`] : []),
    ];
    const expected = expectedGroup(name, new Set(files.flatMap(({ groups }) => [...groups.keys()])));
    throw new UsageError(
      `found the unknown group @${visibleText(name.slice(0, 100))}, expected ${expected}; groups are looked for in ${places.map(visibleText).join(' and ')}`,
    );
  }
}

function groupIn(file: LoadedMachineFile, name: string): readonly FoundGroup[] {
  const group = file.groups.get(name);
  return group === undefined ? [] : [{ file, group }];
}

function placeOf({ file, group }: FoundGroup): string {
  return `${visibleText(file.path)}:${group.line}`;
}

function expectedGroup(name: string, known: ReadonlySet<string>): string {
  const nearest = nearestWord(name.slice(0, 100), known);
  if (nearest !== undefined) return `@${nearest}, if that is what is meant`;
  if (known.size === 0) return 'one that a `groups:` has';
  return `one of ${cutToWidth([...known].map((group) => `@${group}`).join(', '), 80)}`;
}
