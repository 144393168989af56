# The supervisor: a small shell program that a runner keeps on its machine. It starts, watches and ends jobs and tells
# of them in lines on standard output. It may die at any time without touching a job.
#
# bash reads it from standard input, and behind it the calls that the runner makes, as shell text with quoted words:
# `job ... end`. A call that was cut off by a dying connection lacks its `end` and is not carried out. The runner first
# sets R (folder of this batch's runs on this machine), T (source trees), COPY (how to copy a tree), NEWER (-cnewer, or
# -newer where find has no other) and job_env (the login's environment).
#
# An attempt's folder, $R/JOB/ATTEMPT/:
#
#     started     whoever makes it owns the attempt: the wrapper with O_EXCL (no process needed), or, so that it never
#                 starts, adopt with mkdir
#     wrapper     pid and start time of the process that waits for the command
#     pid         pid and start time of the command's shell, which leads its own session and process group
#     request     what was asked for, as JSON, so that another controller can count it
#     script      what bash runs         work/  where it runs         out, err  what it prints
#     ref         stands between the making of work/ and the start: what is newer, the job made
#     changed     NUL-separated paths below work/ that the job made or changed
#     cancelled   somebody asked for its end
#     lost        its wrapper was found gone, and this was told
#     exit        `code start end left-behind done`, by rename, last (start and end as /proc/uptime counts)
#
# What it says, a line each; JOB is the job folder's name, which holds no blanks:
#
#     started JOB N UPTIME
#     ended JOB N CODE START END LEFT-BEHIND FLAGS   FLAGS: o, e: out, err hold something; w: there are files; -: nothing
#     failed JOB N REASON...      it could not be started
#     refused JOB N               somebody else owns the attempt
#     unstarted JOB N             (adopt) it never started, and now never will
#     lost JOB N                  its wrapper is gone without an exit record
#     gpu-free TOKEN              the memory is free again
#     gpu-held TOKEN INDEX FREE   it is not, within the time given
#
# Every process of an attempt has SSH_SCHEDULER_ATTEMPT=BATCH/JOB/N in its environment, unless the job removed it.
#
# Job control (`set -m`) is on for the supervisor alone: without it bash starts every background process with SIGINT and
# SIGQUIT ignored, for good, and a job's `timeout -s INT` or Python's KeyboardInterrupt would never work. SIGPIPE is
# ignored by a wrapper, whose line may go to a dead connection, and given back to the job.
set -m
trap '' HUP
if command -v setsid >/dev/null 2>&1; then SETSID=setsid
else SETSID='perl -MPOSIX -e POSIX::setsid();exec@ARGV'; fi
job_env() { :; }

# A pause without a process: reading from a FIFO that is open both ways never ends, so the time-out is all there is.
if mkfifo "$R/.pause" 2>/dev/null && exec 9<>"$R/.pause" && rm -f "$R/.pause" && ! { read -r -t 0.001 -u 9; } 2>/dev/null &&
  [ "${BASH_VERSINFO[0]}" -ge 4 ]; then
  pause() { read -r -t "$1" -u 9; }
else
  pause() { sleep "$1" 2>/dev/null || sleep 1; }
fi

say() { printf '%s\n' "$*"; }

first_line() { # command...: of what it says
  "$@" 2>&1 | head -n 1
}

uptime_now() { # -> up: seconds
  up=
  { read -r up _ </proc/uptime; } 2>/dev/null || up=$(date +%s)
}

start_of() { # pid -> start: its start time, empty when it is gone; pid and start time tell a recycled pid apart
  start=
  if [ -r /proc/self/stat ]; then
    { read -r stat <"/proc/$1/stat"; } 2>/dev/null || return 0
    set -- ${stat##*) }
    start=${20}
  else
    start=$(ps -o lstart= -p "$1" 2>/dev/null | tr -s ' ' _)
  fi
}

alive() { # pid start
  start_of "$1"
  [ -n "$start" ] && [ "$start" = "$2" ]
}

session_members() { # session lowest-pid [highest-pid] -> members: what lives in the session, or bears the mark of $mark
  members=
  if [ ! -r /proc/self/stat ]; then
    members=$(ps -axo pid=,pgid=,stat= | while read -r p g s; do [ "$g" = "$1" ] && [ "${s#Z}" = "$s" ] && printf ' %s' "$p"; done)
  elif [ -n "$3" ]; then
    p=$2
    while [ "$p" -le "$3" ]; do
      if [ -d "/proc/$p" ] && { is_in_session "$p" "$1" || has_mark "$p"; }; then members="$members $p"; fi
      p=$((p + 1))
    done
  else
    for p in /proc/[0-9]*; do
      p=${p#/proc/}
      if [ "$p" -ge "$2" ] && is_in_session "$p" "$1"; then members="$members $p"; fi
    done
    for p in $(grep -lzxF -e "$mark" /proc/[0-9]*/environ 2>/dev/null); do
      p=${p#/proc/}
      p=${p%/environ}
      case "$members " in *" $p "*) ;; *) members="$members $p" ;; esac # most are in the session as well
    done
  fi
}

is_in_session() { # pid session
  { read -r stat <"/proc/$1/stat"; } 2>/dev/null && in_session "$2" ${stat##*) }
}

has_mark() { # pid
  { mapfile -d '' -t environment <"/proc/$1/environ"; } 2>/dev/null || return 1
  case " ${environment[*]} " in *" $mark "*) return 0 ;; esac
  return 1
}

in_session() { # session, then stat's fields from the third on: state ppid pgrp session
  [ "$5" = "$1" ] && [ "$2" != Z ] && [ "$2" != X ]
}

to_end() { # leader start lowest-pid -> members: what is still there, the leader itself until it has its session
  session_members "$1" "$3"
  if alive "$1" "$2"; then members="$1 $members"; fi
  [ -n "$members" ]
}

# The attempt's folder, and the mark that stands in the environment of all that its command starts: what leaves the
# session (setsid, a daemon) is found by it.
place() { # JOB N -> j n a mark
  j=$1 n=$2 a=$R/$1/$2 mark=SSH_SCHEDULER_ATTEMPT=${R##*/}/$1/$2
}

end_session() { # leader start lowest-pid grace-tenths: TERM, then KILL after the grace
  tenths=0
  signal=TERM
  while to_end "$1" "$2" "$3"; do
    if [ "$tenths" -ge "$4" ]; then signal=KILL; fi
    if [ "$tenths" = 0 ] || [ "$signal" = KILL ]; then
      kill -s "$signal" $members 2>/dev/null
      kill -s CONT $members 2>/dev/null
    fi
    [ "$tenths" -lt $(($4 + 100)) ] || return 1
    pause 0.1
    tenths=$((tenths + 1))
  done
}

anything_in() { # folder
  for entry in "$1"/* "$1"/.[!.]* "$1"/..?*; do
    if [ -e "$entry" ] || [ -L "$entry" ]; then return 0; fi
  done
  return 1
}

# Spares: job folders with a copy of a small source tree in them, made in sets by one cp, so that a job takes one by a
# rename instead of making its own. A set is $R/.spares/SET/: 0/ to 15/, each `1/started/` and `1/work/`, and `ref`, which
# is older than any job that takes one and younger than all copies by more than a tick of the file system's clock.
SPARES=16
SPARES_AFTER=8 # jobs with the same tree: fewer are not worth a set
spares_tree=

take_spare() { # tree -> spare: `SET/NUMBER`, empty when none is ready
  spare=
  if [ "$1" != "$spares_tree" ]; then
    spares_tree=$1 spares_seen=0 spares_set=${spares_set:-0} spares_next=$SPARES
  fi
  spares_seen=$((spares_seen + 1))
  [ "$spares_seen" -gt "$SPARES_AFTER" ] || return 0
  if [ "$spares_next" = "$SPARES" ]; then
    if [ "$spares_seen" = $((SPARES_AFTER + 1)) ]; then order_spares; fi
    [ -d "$R/.spares/$((spares_set + 1))" ] || return 0
    spares_set=$((spares_set + 1)) spares_next=0
    order_spares
  fi
  spare=$spares_set/$spares_next
  spares_next=$((spares_next + 1))
}

order_spares() { # the next set, in the background
  make_spares "$((spares_set + 1))" "$spares_tree" </dev/null >/dev/null 2>&1 &
}

make_spares() { # set tree
  set +m
  new=$R/.spares/.$1
  template=$R/.spares/$2
  if [ ! -d "$template" ]; then
    mkdir -p "$new/0/1/started" && $COPY "$T/$2" "$new/0/1/work" || return
    number=1
    while [ "$number" -lt "$SPARES" ]; do
      $COPY "$new/0" "$new/$number" || return
      number=$((number + 1))
    done
    mv -T "$new" "$template" || return
  fi
  $COPY "$template" "$new" || return
  pause 0.02
  : >"$new/ref"
  pause 0.02
  mv -T "$new" "$R/.spares/$1"
}

job() { # JOB N tree(NAME, small:NAME or nothing) exports request script back(changed|named|none) end
  [ "$8" = end ] || return 0
  spare=
  case $2$3 in
    1small:*) take_spare "${3#small:}" ;;
  esac
  wrapper "$@" </dev/null 2>/dev/null &
}

wrapper() {
  set +m
  trap '' PIPE INT
  place "$1" "$2"
  tree=${3#small:} exports=$4 request=$5 script=$6 back=$7
  # -T: a job's folder that is there already is not moved into, and as it is not empty the rename fails.
  if [ -n "$spare" ] && ! mv -T "$R/.spares/$spare" "$R/$j" 2>/dev/null; then spare=; fi
  if [ -z "$spare" ]; then
    set -- "$a"
    [ -d "$R/$j" ] || set -- "$R/$j" "$@"
    [ -n "$tree" ] || set -- "$@" "$a/work"
    mkdir "$@" 2>/dev/null # another supervisor may be at it too: only `started` says whose the attempt is
    if ! mkdir "$a/started" 2>/dev/null; then
      if [ -e "$a/started" ]; then say "refused $j $n"; else say "failed $j $n cannot make $a: $(first_line mkdir -p "$a")"; fi
      return
    fi
  fi
  self=${BASHPID:-$(exec sh -c 'echo $PPID')}
  start_of "$self"
  if ! { printf '%s %s\n' "$self" "$start" >"$a/wrapper" && printf '%s\n' "$request" >"$a/request" &&
    printf '%s\n' "$script" >"$a/script"; }; then
    say "failed $j $n cannot write to $a (disk full?)"
    return
  fi
  ref=$R/.spares/${spare%/*}/ref
  if [ -n "$tree" ] && [ -z "$spare" ]; then
    if ! $COPY "$T/$tree" "$a/work" 2>"$a/err"; then
      say "failed $j $n cannot copy the source tree: $(first_line cat "$a/err")"
      return
    fi
    ref=$a/ref
    : >"$ref"
    # A file system's clock ticks every 1 to 10 ms; within one tick a job's change could not be told from the copy.
    pause 0.01
  fi
  uptime_now
  began=$up
  (
    self=${BASHPID:-$(exec sh -c 'echo $PPID')}
    start_of "$self"
    printf '%s %s\n' "$self" "$start" >"$a/pid"
    # After the pid is written, since the canceller writes first and then looks for the pid.
    if [ -e "$a/cancelled" ]; then exit 143; fi
    say "started $j $n $began" >&3
    cd "$a/work" || exit 126
    job_env
    eval "$exports"
    export "$mark"
    trap - PIPE INT HUP
    exec 3>&- 9>&- $SETSID bash "$a/script"
  ) 3>&1 >"$a/out" 2>"$a/err"
  code=$?
  uptime_now
  pid=
  { read -r pid _ <"$a/pid"; } 2>/dev/null
  left=0
  if [ -n "$pid" ]; then
    # Pids grow, so a short job's processes are found between its own and the newest; a long job may have seen them
    # wrap around. Looking at few is worth the trouble: a busy machine has hundreds.
    { read -r _ _ _ _ newest </proc/loadavg; } 2>/dev/null || newest=0
    if [ "$newest" -lt "$pid" ] || [ $((${up%.*} - ${began%.*})) -gt 1 ]; then session_members "$pid" 1
    elif [ $((newest - pid)) -gt 100 ]; then session_members "$pid" "$pid"
    else session_members "$pid" "$pid" "$newest"; fi
    if [ -n "$members" ]; then
      set -- $members
      left=$#
      end_session "$pid" gone 1 "${GRACE_TENTHS:-20}"
    fi
  fi
  output_flags
  case $back in
    changed) if list_changed; then flags=${flags}w; fi ;;
    named) flags=${flags}w ;;
  esac
  if ! printf '%s %s %s %s done\n' "$code" "$began" "$up" "$left" >"$a/exit.new"; then
    say "failed $j $n cannot write its exit record (disk full?); the command ended with $code"
    return
  fi
  say "ended $j $n $code $began $up $left $flags"
  exec mv "$a/exit.new" "$a/exit"
}

output_flags() { # -> flags
  flags=-
  if [ -s "$a/out" ]; then flags=${flags}o; fi
  if [ -s "$a/err" ]; then flags=${flags}e; fi
}

list_changed() { # writes $a/changed; false when nothing was made or changed
  if [ -z "$tree" ]; then
    anything_in "$a/work" || return 1
    find_in_work
  elif [ -z "$spare" ] || ! compare_few; then
    find_in_work "$NEWER" "$ref"
  fi
  [ -s "$a/changed" ]
}

find_in_work() { # test...
  if [ "$NEWER" = -cnewer ]; then
    (cd "$a/work" && find . "$@" \( -type f -o -type l -o -type d ! -name . -empty \) -print0 >"$a/changed")
  else
    # busybox's find knows no change times and no empty folders.
    (
      cd "$a/work" || exit
      find . -print0 | while IFS= read -r -d '' f; do
        if [ "$f" != . ] && is_changed "${f#./}"; then printf '%s\0' "$f"; fi
      done >"$a/changed"
    )
  fi
}

# What find says for a small tree, without a process. False when it cannot tell.
compare_few() {
  [ "${BASH_VERSINFO[0]}" -ge 5 ] || return 1 # whose -nt looks at nanoseconds
  shopt -s globstar dotglob nullglob
  cd "$a/work" || return 1
  set -- **
  [ $# -le 100 ] || return 1
  for f; do
    if [ -L "$f" ]; then return 1; fi
    if is_changed "$f"; then printf './%s\0' "$f" >>"$a/changed"; fi
  done
}

# New is what the tree has not, changed what differs from it in time (a copy has its original's), content (a job may set
# a file's time back) or the executable bit.
is_changed() { # path below work/, which is the working directory
  o=
  if [ -n "$tree" ]; then o=$T/$tree/$1; fi
  if [ -L "$1" ]; then
    ! [ -L "$o" ]
  elif [ -d "$1" ]; then
    ! [ -d "$o" ] && ! anything_in "$1"
  elif [ ! -f "$1" ]; then
    return 1
  elif [ ! -f "$o" ] || [ "$1" -nt "$o" ] || [ "$1" -ot "$o" ]; then
    return 0
  elif [ -x "$1" ]; then
    ! [ -x "$o" ]
  elif [ -x "$o" ]; then
    return 0
  else
    [ -n "$spare" ] && ! same_bytes "$1" "$o"
  fi
}

same_bytes() { # file file: read as NUL-ended pieces, since a variable holds no NUL
  local IFS=$'\1'
  mapfile -d '' -t one <"$1"
  mapfile -d '' -t two <"$2"
  [ "${#one[@]} ${one[*]}" = "${#two[@]} ${two[*]}" ]
}

cancel() { # JOB N grace-tenths end
  [ "$4" = end ] || return 0
  canceller "$@" </dev/null >/dev/null 2>&1 &
}

canceller() {
  set +m
  place "$1" "$2"
  mkdir -p "$a" # its wrapper may not have come so far yet
  : >"$a/cancelled"
  end_attempt "$3"
}

end_attempt() { # grace-tenths: all that is left of the attempt $a
  { read -r pid pid_start <"$a/pid"; } 2>/dev/null || return 0
  # A pid of old may be another's by now: then only what bears the mark is ours.
  alive "$pid" "$pid_start" || pid=none
  end_session "$pid" "$pid_start" 1 "$1"
}

adopt() { # JOB N end
  [ "$3" = end ] || return 0
  watcher "$@" </dev/null 2>/dev/null &
}

watcher() {
  set +m
  place "$1" "$2"
  mkdir -p "$a"
  if mkdir "$a/started" 2>/dev/null; then
    say "unstarted $j $n"
    return
  fi
  told=
  missed=0
  while :; do
    if { read -r code began end left whole <"$a/exit"; } 2>/dev/null && [ "$whole" = done ]; then
      output_flags
      if [ -s "$a/changed" ] || [ ! -e "$a/changed" ]; then flags=${flags}w; fi
      say "ended $j $n $code $began $end $left $flags"
      return
    fi
    if [ -z "$told" ] && [ -s "$a/pid" ]; then
      told=1
      say "started $j $n 0"
    fi
    if { read -r pid pid_start <"$a/wrapper"; } 2>/dev/null && alive "$pid" "$pid_start"; then
      missed=0
    else
      # Twice, since the wrapper may write its exit record and go between the two looks.
      # A wrapper that has not said who it is may be slow on a busy machine: it gets ten seconds.
      missed=$((missed + 1))
      if [ "$missed" -gt 50 ] || { [ "$missed" -gt 2 ] && [ -e "$a/wrapper" ]; }; then
        lose
        return
      fi
    fi
    pause 0.2
  done
}

lose() { # the attempt $a of $j and $n: its wrapper is gone; what is left of the job could never be told of
  : >"$a/cancelled" # should the wrapper be only slow, it starts nothing now
  end_attempt 20
  say "lost $j $n"
}

# Looks after the wrappers of this supervisor's life: one that was killed (by hand, by the kernel for want of memory)
# tells nothing any more.
keeper() { # pid and start time of the supervisor
  set +m
  trap '' PIPE
  suspects=
  while pause "${KEEPER_SECONDS:-5}"; alive "$1" "$2"; do
    suspected=$suspects suspects=
    for a in "$R"/*/*; do
      if [ -e "$a/exit" ] || [ -e "$a/lost" ]; then continue; fi
      { read -r pid pid_start <"$a/wrapper"; } 2>/dev/null || continue
      if alive "$pid" "$pid_start"; then continue; fi
      case $suspected in
        *" $a "*) # twice, since a wrapper may write its exit record and go between two looks
          folder=${a%/*}
          place "${folder##*/}" "${a##*/}"
          : >"$a/lost"
          lose
          ;;
        *) suspects="$suspects $a " ;;
      esac
    done
  done
}

gpu_wait() { # TOKEN seconds end INDEX:FREE-MIB...: until each GPU has that much free again
  [ "$3" = end ] || return 0
  gpu_waiter "$@" </dev/null 2>/dev/null &
}

gpu_waiter() {
  set +m
  token=$1
  uptime_now
  deadline=$((${up%.*} + $2))
  shift 3
  limit=
  if command -v timeout >/dev/null 2>&1; then limit='timeout -s KILL 5'; fi # a driver in trouble hangs
  while :; do
    held=
    figures=$($limit nvidia-smi --query-gpu=index,memory.free --format=csv,noheader,nounits)
    for want; do
      seen=
      while IFS=', ' read -r index free; do
        if [ "$index" = "${want%:*}" ]; then seen=$free; fi
      done <<<"$figures"
      # What is not said is not free.
      if ! [ "${seen:-0}" -ge "${want#*:}" ]; then held="${want%:*} ${seen:-0}"; fi
    done
    uptime_now
    if [ -z "$held" ]; then
      say "gpu-free $token"
      return
    elif [ "${up%.*}" -ge "$deadline" ]; then
      say "gpu-held $token $held"
      return
    fi
    pause 0.2
  done
}

start_of "$$"
keeper "$$" "$start" </dev/null 2>/dev/null &
keeper_pid=$!
trap 'kill "$keeper_pid" 2>/dev/null' EXIT
