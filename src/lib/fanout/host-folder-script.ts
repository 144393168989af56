/**
 * The machine's side of a host folder: POSIX sh, with coreutils or busybox. Scripts end in `:`, since dash and busybox
 * drop the `2>&1` of a subshell that is all there is in a group with a redirection, which a request is.
 */
import { shellQuote } from '../util/shell-quote.ts';

/**
 * Makes `to/NAME/work` in our folder and says `ready FOLDER`, or in its first line why not. Leftovers that are older than
 * seven days go in the background: whoever uses a folder renews its time.
 * `base`: our folder as a word of the shell. `name`: plain letters, digits and dashes.
 */
export function makeFolder(base: string, name: string): string {
  return `(
base=${base}
mkdir -p "$base/trees" "$base/leases" "$base/to" && chmod 700 "$base" && cd "$base" && mkdir to/${name} || exit
mkdir to/${name}/work || { rmdir to/${name}; exit; }
find to -mindepth 1 -maxdepth 1 -type d -mtime +7 -exec sh -c 'rm -rf "$@" || { chmod -R u+rwx "$@"; rm -rf "$@"; }' sh {} + </dev/null >/dev/null 2>&1 &
printf 'ready %s\\n' "$PWD") 2>&1; :`;
}

/** What is copied where, absolute. */
export interface PartsToCopy {
  /** The folder of the parts. */
  readonly store: string;
  /** Exists; what is in it goes. */
  readonly work: string;
  /** The parts' names: letters and digits. Not empty. */
  readonly names: readonly string[];
}

/**
 * Copies parts into one folder and says `copied`; `lacking` when one was not there to the end (pruned meanwhile); else
 * why not. One by one, since the second may have to go into a read-only folder that came with the first, or in place of
 * a file of the first.
 */
export function copyParts({ store, work, names }: PartsToCopy): string {
  const several = names.length > 1;
  return `(
S=${shellQuote(store)} names='${names.join(' ')}'
cd ${shellQuote(work)} || exit
if cp --reflink=auto --version >/dev/null 2>&1; then copy='cp -af --reflink=auto'; else copy='cp -af'; fi
make_writable() { find . -type d ! -perm -200 -exec chmod u+w {} +; }
copy_all() {
  for name in $names; do
    $copy "$S/$name/." . || return
    ${several ? 'make_writable || return' : ''}
  done
  ${several ? CLOSE_FOLDERS : ''}
}
find . ! -name . -prune -exec rm -rf {} + # of an earlier try
# cp goes on where the disk is full, with a line for each file: head ends it.
problem=$({ copy_all || echo 'cp failed'; } 2>&1 | head -n 1)
# A prune renames before it removes, so a part that is still there was whole while we copied.
for name in $names; do [ -d "$S/$name" ] || { echo lacking; exit; }; done
printf '%s\\n' "\${problem:-copied}") 2>&1; :`;
}

const CLOSE_FOLDERS = `for name in $names; do
    (cd "$S/$name" && find . -type d ! -perm -200 -print0) | xargs -0 -r chmod u-w || return
  done`;
