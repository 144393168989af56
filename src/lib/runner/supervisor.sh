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
#     started/    made by mkdir, the wrapper's first act; whoever makes it owns the attempt
#     wrapper     pid and start time of the process that waits for the command
#     pid         pid and start time of the command's shell, which leads its own session and process group
#     request     what was asked for, as JSON, so that another controller can count it
#     script      what bash runs         work/  where it runs         out, err  what it prints
#     ref         stands between the making of work/ and the start: what is newer, the job made
#     changed     NUL-separated paths below work/ that the job made or changed
#     cancelled   somebody asked for its end
#     exit        `code start end left-behind done`, by rename, last (start and end as /proc/uptime counts)
#
# What it says, a line each; JOB is the job folder's name, which holds no blanks:
#
#     started JOB N UPTIME
#     ended JOB N CODE START END LEFT-BEHIND FLAGS   FLAGS: o, e: out, err hold something; w: there are files; -: nothing
#     failed JOB N REASON...      it could not be started
#     refused JOB N               somebody else owns the attempt
#     unstarted JOB N             (adopt) it never started, and now never will
#     lost JOB N                  (adopt) its wrapper is gone without an exit record
#     gpu-free TOKEN              the memory is free again
#     gpu-held TOKEN INDEX FREE   it is not, within the time given
#
# Job control (`set -m`) is on for the supervisor alone: without it bash starts every background process with SIGINT and
# SIGQUIT ignored, for good, and a job's `timeout -s INT` or Python's KeyboardInterrupt would never work. SIGPIPE is
# ignored by a wrapper, whose line may go to a dead connection, and given back to the job.
set -m
trap '' HUP
if command -v setsid >/dev/null 2>&1; then SETSID=setsid
else SETSID='perl -MPOSIX -e POSIX::setsid();exec@ARGV'; fi
job_env() { :; }

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

session_members() { # session lowest-pid [highest-pid] -> members: pids in that range that live in the session
  members=
  if [ ! -r /proc/self/stat ]; then
    members=$(ps -axo pid=,pgid=,stat= | while read -r p g s; do [ "$g" = "$1" ] && [ "${s#Z}" = "$s" ] && printf ' %s' "$p"; done)
    return 0
  fi
  if [ -n "$3" ]; then
    p=$2
    while [ "$p" -le "$3" ]; do
      add_member "$1" "$p"
      p=$((p + 1))
    done
  else
    for p in /proc/[0-9]*; do
      p=${p#/proc/}
      if [ "$p" -ge "$2" ]; then add_member "$1" "$p"; fi
    done
  fi
}

add_member() { # session pid
  if [ -d "/proc/$2" ] && { read -r stat <"/proc/$2/stat"; } 2>/dev/null && in_session "$1" ${stat##*) }; then
    members="$members $2"
  fi
}

in_session() { # session, then stat's fields from the third on: state ppid pgrp session
  [ "$5" = "$1" ] && [ "$2" != Z ] && [ "$2" != X ]
}

to_end() { # leader start lowest-pid -> members: what is still there, the leader itself until it has its session
  session_members "$1" "$3"
  if alive "$1" "$2"; then members="$1 $members"; fi
  [ -n "$members" ]
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
    sleep 0.1 2>/dev/null || sleep 1
    tenths=$((tenths + 1))
  done
}

anything_in() { # folder
  for f in "$1"/* "$1"/.[!.]* "$1"/..?*; do
    if [ -e "$f" ] || [ -L "$f" ]; then return 0; fi
  done
  return 1
}

job() { # JOB N tree exports request script back(changed|named|none) end
  [ "$8" = end ] || return 0
  wrapper "$@" </dev/null 2>/dev/null &
}

wrapper() {
  set +m
  trap '' PIPE INT
  j=$1 n=$2 tree=$3 exports=$4 request=$5 script=$6 back=$7
  a=$R/$j/$n
  set -- "$a" "$a/started"
  [ -d "$R/$j" ] || set -- "$R/$j" "$@"
  [ -n "$tree" ] || set -- "$@" "$a/work"
  if ! mkdir "$@" 2>/dev/null; then
    if [ -d "$a/started" ]; then say "refused $j $n"; else say "failed $j $n cannot make $a: $(first_line mkdir -p "$a")"; fi
    return
  fi
  self=${BASHPID:-$(exec sh -c 'echo $PPID')}
  start_of "$self"
  if ! { printf '%s %s\n' "$self" "$start" >"$a/wrapper" && printf '%s\n' "$request" >"$a/request" &&
    printf '%s\n' "$script" >"$a/script"; }; then
    say "failed $j $n cannot write to $a (disk full?)"
    return
  fi
  if [ -n "$tree" ]; then
    if ! $COPY "$T/$tree" "$a/work" 2>"$a/err"; then
      say "failed $j $n cannot copy the source tree: $(first_line cat "$a/err")"
      return
    fi
    : >"$a/ref"
    # A file system's clock ticks every 1 to 10 ms; within one tick a job's change could not be told from the copy.
    sleep 0.01 2>/dev/null || sleep 1
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
    trap - PIPE INT HUP
    exec 3>&- $SETSID bash "$a/script"
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
  flags=-
  if [ -s "$a/out" ]; then flags=${flags}o; fi
  if [ -s "$a/err" ]; then flags=${flags}e; fi
  case $back in
    changed) if list_changed; then flags=${flags}w; fi ;;
    named) flags=${flags}w ;;
  esac
  if ! { printf '%s %s %s %s done\n' "$code" "$began" "$up" "$left" >"$a/exit.new" && mv "$a/exit.new" "$a/exit"; }; then
    say "failed $j $n cannot write its exit record (disk full?); the command ended with $code"
    return
  fi
  say "ended $j $n $code $began $up $left $flags"
}

list_changed() { # writes $a/changed; false when nothing was made or changed
  if [ -n "$tree" ]; then set -- "$NEWER" ../ref
  elif anything_in "$a/work"; then set --
  else return 1; fi
  (cd "$a/work" && find . "$@" \( -type f -o -type l -o -type d ! -name . -empty \) -print0 >../changed)
  [ -s "$a/changed" ]
}

cancel() { # JOB N grace-tenths end
  [ "$4" = end ] || return 0
  canceller "$@" </dev/null >/dev/null 2>&1 &
}

canceller() {
  set +m
  a=$R/$1/$2
  : >"$a/cancelled"
  { read -r pid pid_start <"$a/pid"; } 2>/dev/null || return 0
  if alive "$pid" "$pid_start"; then end_session "$pid" "$pid_start" 1 "$3"; fi
}

adopt() { # JOB N end
  [ "$3" = end ] || return 0
  watcher "$@" </dev/null 2>/dev/null &
}

watcher() {
  set +m
  j=$1 n=$2 a=$R/$1/$2
  mkdir -p "$a"
  if mkdir "$a/started" 2>/dev/null; then
    say "unstarted $j $n"
    return
  fi
  told=
  missed=0
  while :; do
    if { read -r code began end left mark <"$a/exit"; } 2>/dev/null && [ "$mark" = done ]; then
      flags=-
      if [ -s "$a/out" ]; then flags=${flags}o; fi
      if [ -s "$a/err" ]; then flags=${flags}e; fi
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
      missed=$((missed + 1))
      if [ "$missed" -gt 2 ]; then
        say "lost $j $n"
        return
      fi
    fi
    sleep 0.2 2>/dev/null || sleep 1
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
  while :; do
    held=
    figures=$(nvidia-smi --query-gpu=index,memory.free --format=csv,noheader,nounits)
    for want; do
      while IFS=', ' read -r index free; do
        if [ "$index" = "${want%:*}" ] && [ "$free" -lt "${want#*:}" ]; then held="$index $free"; fi
      done <<<"$figures"
    done
    uptime_now
    if [ -z "$held" ]; then
      say "gpu-free $token"
      return
    elif [ "${up%.*}" -ge "$deadline" ]; then
      say "gpu-held $token $held"
      return
    fi
    sleep 0.2 2>/dev/null || sleep 1
  done
}
