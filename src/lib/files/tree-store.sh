# The store of source parts on a machine: functions that a runner loads into a POSIX shell there and calls by line.
#
# S is the store's folder (trees or shares), L the folder of leases, KIND is trees or shares:
#
#     $S/NAME/                  a whole part. In trees NAME is the part's id; in shares ID-RANDOM, since a damaged one
#                               stays for the jobs that hold links to it, and the next one needs another name
#     $S/NAME.list              its listing, for later parts to find what they share with it; not for small parts
#     $S/NAME.facts             (shares) what it looked like when it came: whether a job has changed it since
#     $S/NAME.RANDOM.partial/   on its way: tree/, list, pipes
#     $L/ID.BATCH.MACHINE       a lease: that batch uses the part from there; void an hour after the file's time
#
# A listing has a line per entry, sorted by bytes: `DIGEST KIND MODE SIZE PATH`, where KIND is f, d or l, and in PATH a
# backslash is doubled and a newline is \n. Names of parts are ours: letters, digits and dashes, no blanks.

LEASE_MINUTES=60

path_of() { # line -> path: still escaped
  path=${1#* * * * }
}

drop() { # folder...: also with read-only folders in it
  rm -rf "$@" 2>/dev/null && return
  chmod -R u+rwx "$@" 2>/dev/null
  rm -rf "$@"
}

facts() { # folder: says what a shared input looks like; the change time is left out, since a new link to a file sets it
  (cd "$1" && find . -mindepth 1 -print0 | xargs -0 stat -c '%n %s %i %y %f' | LC_ALL=C sort)
}

is_intact() { # name
  [ "$KIND" = trees ] || { [ -e "$S/$1.facts" ] && [ "$(facts "$S/$1" | sha256sum)" = "$(cat "$S/$1.facts")" ]; }
}

room() { # says how many KiB are free
  # From the right: a device's name may hold blanks. `... AVAILABLE CAPACITY% MOUNT-POINT`
  df -Pk "$S" | {
    read -r _
    read -r line
    set -f
    set -- ${line%%%*}
    shift $(($# - 2))
    echo "room $1"
  }
}

look() { # lease-suffix id...: says `have ID NAME` or `lack ID`, and what room there is
  suffix=$1
  shift
  for id; do
    : >"$L/$id.$suffix" # first the lease, then the look: a prune between the two sees it
    name=
    if [ "$KIND" = trees ]; then
      if [ -d "$S/$id" ]; then name=$id; fi
    else
      for d in "$S/$id"-*; do
        case ${d##*/} in *.*) continue ;; esac # a list, facts or a partial
        if [ -d "$d" ] && is_intact "${d##*/}"; then name=${d##*/}; fi
      done
    fi
    if [ -n "$name" ] && touch -c "$S/$name" "$S/$name.list"; then echo "have $id $name"; else echo "lack $id"; fi
  done
  if ls "$S"/*.list >/dev/null 2>&1; then echo listed; fi
  room
}

begin() { # partial pipes
  mkdir "$S/$1" "$S/$1/tree" || return
  pipes=$2
  while [ "$pipes" -gt 0 ]; do
    mkfifo "$S/$1/$pipes" || return
    pipes=$((pipes - 1))
  done
}

let_go() { # partial: of whoever waits to write into its pipes; opened both ways they open at once
  for pipe in "$S/$1"/[1-9]; do
    if [ -p "$pipe" ]; then : <>"$pipe"; fi
  done
}

give_up() { # partial
  let_go "$1"
  drop "$S/$1"
}

set_modes() { # partial; standard input: lines `MODE PATH`, of folders
  while IFS= read -r line; do
    folder=$(printf '%bx' "${line#* }")
    chmod "${line%% *}" "$S/$1/tree/${folder%x}" || return
  done
}

# Makes tree/ out of what earlier parts hold, given the new listing: the nearest one is taken over by hard links (nobody
# writes into the store), and large files are found under any name. Says what is still lacking, a line each, or `all`.
take_over() { # partial
  p=$S/$1
  best=0
  base=
  for l in $(cd "$S" && ls -t | grep '\.list$' | head -n 20); do
    if [ ! -d "$S/${l%.list}" ]; then continue; fi
    same=$(LC_ALL=C sort -m "$S/$l" "$p/list" | LC_ALL=C uniq -d | wc -l)
    score=$((2 * same - $(wc -l <"$S/$l"))) # with less than half in common it is quicker to begin anew
    if [ "$score" -gt "$best" ]; then best=$score base=${l%.list}; fi
  done
  if [ -n "$base" ] && is_intact "$base" && clone "$base"; then
    # A list cut short by a full disk would leave old content under the new name.
    only_in "$S/$base.list" "$p/list" >"$p/gone" && only_in "$p/list" "$S/$base.list" >"$p/lacking" && remove_gone || return
  else
    cp "$p/list" "$p/lacking" || return
  fi
  if [ "$KIND" = trees ]; then take_large || return; fi
  if [ "$(wc -l <"$p/list")" -eq "$(wc -l <"$p/lacking")" ]; then echo all; else cat "$p/lacking"; fi
}

only_in() { # list other-list: both sorted, without doubles; not all have comm
  LC_ALL=C sort -m "$1" "$2" "$2" | LC_ALL=C uniq -u # uniq writes, and says whether it could
}

clone() { # name -> tree/
  rmdir "$p/tree"
  # Still there afterwards: a prune renames before it removes, so nothing was missing while we copied.
  if cp -al "$S/$1" "$p/tree" 2>/dev/null && [ -d "$S/$1" ]; then
    find "$p/tree" -type d ! -perm -300 -exec chmod u+wx {} +
  else
    drop "$p/tree"
    mkdir "$p/tree"
    return 1
  fi
}

remove_gone() {
  while IFS= read -r line; do
    path_of "$line"
    case ${line#* } in
      d*) ;;
      *) printf '%b\0' "./$path" ;;
    esac
  done <"$p/gone" | (cd "$p/tree" && xargs -0 rm -f) || return
  # Folders from the deepest up; one that only changed its mode is not empty, and stays.
  while IFS= read -r line; do
    path_of "$line"
    case ${line#* } in d*) printf '%s\n' "$path" ;; esac
  done <"$p/gone" | LC_ALL=C sort -r | while IFS= read -r path; do printf '%b\0' "./$path"; done |
    (cd "$p/tree" && xargs -0 rmdir 2>/dev/null)
  return 0
}

take_large() { # files of 64 KiB and more, by their content, from any part
  while IFS= read -r line; do
    if is_large; then printf '%s\n' "${line%% *}"; fi
  done <"$p/lacking" >"$p/large"
  [ -s "$p/large" ] || return 0
  LC_ALL=C grep -F -f "$p/large" "$S"/*.list /dev/null >"$p/found"
  [ -s "$p/found" ] || return 0
  while IFS= read -r line; do
    digest=${line%% *}
    if is_large && found=$(LC_ALL=C grep -m 1 -F ":$digest f " "$p/found") && copy_file; then continue; fi
    printf '%s\n' "$line" || return
  done <"$p/lacking" >"$p/still" || return
  mv "$p/still" "$p/lacking"
}

is_large() { # $line
  rest=${line#* }
  case $rest in f*) ;; *) return 1 ;; esac
  size=${rest#* * }
  [ "${size%% *}" -ge 65536 ]
}

copy_file() { # of $line from where $found says
  from=${found%".list:$digest f "*}
  path_of "${found#"$from.list:"}"
  # The x keeps newlines at a name's end, which a command substitution takes away.
  from=$from/$(printf '%bx' "$path")
  path_of "$line"
  to=$p/tree/$(printf '%bx' "$path")
  from=${from%x} to=${to%x}
  mode=${rest#* }
  mkdir -p "${to%/*}" && cp -p "$from" "$to" 2>/dev/null && chmod "${mode%% *}" "$to"
}

publish() { # partial name entries(0: not counted)
  p=$S/$1 name=$2
  if [ "$3" -gt 0 ] && [ "$(find "$p/tree" -print0 | tr -dc '\0' | wc -c)" -ne $(($3 + 1)) ]; then
    echo "put together wrongly"
    give_up "$1"
    return 1
  fi
  chmod u+rwx "$p/tree" || return
  if [ "$KIND" = shares ]; then
    find "$p/tree" ! -type l -exec chmod a-w {} + # all jobs share it: better an error than another's input changed
    chmod u+w "$p/tree"                           # which a rename needs, on some file systems
  fi
  if [ -e "$p/list" ]; then mv -f "$p/list" "$S/$name.list"; fi
  # Another may have been first with the same. Without -T, mv would move inside what is there: so under a name to find.
  if ! mv -T "$p/tree" "$S/$name" 2>/dev/null && [ ! -d "$S/$name" ]; then
    mv "$p/tree" "$p/$1" && mv "$p/$1" "$S/$name" || return
    drop "$S/$name/$1"
  fi
  touch "$S/$name"
  if [ "$KIND" = shares ]; then facts "$S/$name" | sha256sum >"$S/$name.facts"; fi
  drop "$p"
}

is_used() { # name base-folder
  [ -n "$(find "$L" -name "${1%%-*}.*" -mmin -$LEASE_MINUTES 2>/dev/null | head -n 1)" ] && return
  # Jobs run on when their controller is gone and renews no lease, and those with shared inputs need them to the end.
  for request in "$2"/runs/*/*/*/*/request; do
    if [ ! -e "${request%request}exit" ] && [ ! -e "${request%request}lost" ] && grep -q "\"$1\"" "$request" 2>/dev/null; then return; fi
  done
  return 1
}

used() { # folder... -> kib: together; what is linked several times counts once
  kib=0
  for n in $(du -sk "$@" 2>/dev/null | cut -f 1); do kib=$((kib + n)); done
}

is_old() { # folder: nobody has asked for it for a month
  [ -n "$(find "$1" -maxdepth 0 -mtime +30)" ]
}

# Removes parts that nobody uses, the least recently used first, until all stores together hold at most so many KiB, and
# those that nobody has asked for in a month.
prune() { # KIB base-folder
  find "$2/trees" "$2/shares" -mindepth 1 -maxdepth 1 \( -name '*.partial' -o -name '*.pruned' \) -mmin +1440 2>/dev/null |
    while read -r old; do drop "$old"; done
  find "$L" -type f -mmin +1440 -exec rm -f {} + 2>/dev/null
  used "$2/trees" "$2/shares"
  (cd "$2" && ls -dtr trees/* shares/* 2>/dev/null) | while read -r part; do
    case $part in *.*) continue ;; esac
    if [ "$kib" -le "$1" ] && ! is_old "$2/$part"; then break; fi
    name=${part##*/}
    if [ ! -d "$2/$part" ] || is_used "$name" "$2"; then continue; fi
    gone=$2/$part.$$.pruned
    mv "$2/$part" "$gone" 2>/dev/null || continue
    if is_used "$name" "$2"; then # it was asked for between the two looks
      if [ ! -e "$2/$part" ] && mv "$gone" "$2/$part" 2>/dev/null; then continue; fi
    fi
    drop "$gone"
    rm -f "$2/$part.list" "$2/$part.facts"
    used "$2/trees" "$2/shares"
  done
}
