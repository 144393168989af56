/**
 * The machine's side of bringing files home, for the shell that stays open there: POSIX sh, with tar and coreutils or
 * busybox. It writes no file, for the disk there may be full.
 *
 * `fetch_home` prints `FILES BYTES`, then an archive. What there is to tell besides stays in `fetch_end`, a line each:
 *
 *     missing NUMBER     this pattern, counted from 0, matches nothing
 *     left-out NAME      a socket, a FIFO or a device
 *     unlisted           a folder could not be read; find says which
 *     no-room            the receiver has too little room: no archive came
 *     exit CODE          tar's, the last line but one; before it, what tar and others complained of
 *     SUM                SHA-256 of the archive as it was sent, the last line; `none` where nothing there can tell it
 */

/** Defines `fetch_home` in a shell. Once per shell. */
export const FETCH_FUNCTIONS = String.raw`
if stat -c %s / >/dev/null 2>&1; then fetch_size='stat -c %s'; else fetch_size='stat -f %z'; fi
# busybox's sort -z ends a name at a newline, too.
if [ "$(printf 'b\na\0' | LC_ALL=C sort -zu 2>/dev/null | tr '\000' ' ' | head -n 1)" = b ]; then
  fetch_sort() { sort -zu; }
elif command -v bash >/dev/null 2>&1; then
  fetch_sort() {
    bash -c 'declare -A seen
while IFS= read -r -d "" name; do
  if [ -z "${'$'}{seen[./$name]}" ]; then
    seen[./$name]=1
    printf "%s\0" "$name"
  fi
done'
  }
else
  # Each byte as \0ooo, so that a name is a line.
  fetch_sort() {
    od -An -v -to1 | tr -s ' ' '\n' | awk '
      /^000$/ { if (!(name in seen)) print name; seen[name] = 1; name = ""; next }
      /./ { name = name "\\0" $0 }' |
      while IFS= read -r name; do printf '%b\0' "$name"; done
  }
fi
# busybox's tar reads no list: names go as arguments, and where they are too many, as several archives in a row.
if tar --null -cf /dev/null -T /dev/null >/dev/null 2>&1; then
  fetch_pack() { tar --null --no-recursion -cf - -T -; }
else
  fetch_pack() { xargs -0 -r tar -cf - --no-recursion --; }
fi
# Runs at the end of a pipeline, so in a process of its own: exec saves a second one.
if [ ! -e /dev/fd/0 ]; then fetch_sum() { cat >/dev/null; echo none; }
elif command -v sha256sum >/dev/null 2>&1; then fetch_sum() { exec sha256sum; }
elif command -v shasum >/dev/null 2>&1; then fetch_sum() { exec shasum -a 256; }
elif command -v openssl >/dev/null 2>&1; then fetch_sum() { exec openssl dgst -sha256; }
else fetch_sum() { cat >/dev/null; echo none; }; fi

# Below, 4 is the request's output, 5 takes what there is to tell.

fetch_expand() { # pattern...: what they match, each ended by NUL
  IFS= # patterns are expanded, but never split, and never evaluated
  number=0
  for pattern; do
    found=
    if [ -e "$pattern" ] || [ -L "$pattern" ]; then
      found=1
      printf '%s\0' "${'$'}{pattern%/}"
    fi
    for name in $pattern; do
      if [ "$name" != "$pattern" ] && { [ -e "$name" ] || [ -L "$name" ]; }; then
        found=1
        printf '%s\0' "${'$'}{name%/}"
      fi
    done
    if [ -z "$found" ]; then echo "missing $number" >&5; fi
    number=$((number + 1))
  done
}

fetch_names() { # pattern...: the names to bring, each ended by NUL
  { fetch_expand "$@" | xargs -0 -r sh -c '
      find "$@" ! -type f ! -type d ! -type l -exec printf "left-out %s\n" {} + 2>/dev/null >&5
      exec find "$@" \( -type f -o -type d -o -type l \) -print0' sh || echo unlisted >&5
  } | fetch_sort # what two patterns match comes once
}

fetch_sizes() { xargs -0 -r $fetch_size -- 2>/dev/null; }

fetch_feed() { # command pattern...: runs the command with the names at its input
  command=$1
  shift
  # Few processes for the common case: a small job's fetch takes as long as they do.
  if [ -n "$list" ]; then $command <"$list"; else fetch_names "$@" | $command; fi
}

fetch_home() { # attempt-folder room block-size changed|named pattern...
  fetch_end=$(
    exec 5>&1 2>&1
    export LC_ALL=C TAR_OPTIONS= COPYFILE_DISABLE=1
    cd "$1/work" || exit
    room=$2 block=$3 list=
    if [ "$4" = changed ]; then
      list=/dev/null
      if [ -e ../changed ]; then list=../changed; fi
    fi
    shift 4
    files=0 bytes=0
    for size in $(fetch_feed fetch_sizes "$@" 2>/dev/null 5>/dev/null); do
      files=$((files + 1)) bytes=$((bytes + size))
    done
    echo "$files $bytes" >&4
    if [ $((bytes + files * block)) -gt "$room" ]; then
      echo no-room
      exit
    fi
    # A pipe of its own for the sum, 3, so that it needs no file. What goes out goes through cat, which ends with the
    # connection; tee itself would read on, for the sum alone.
    {
      { fetch_feed fetch_pack "$@" 2>&5; echo "exit $?" >&5; } |
        if [ -e /dev/fd/3 ]; then exec tee /dev/fd/3; else exec cat; fi | cat >&4
    } 3>&1 | fetch_sum
  )
}
`;
