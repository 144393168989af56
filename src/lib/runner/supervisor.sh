# The supervisor: a small shell program that a runner keeps on its machine. It starts, watches and ends jobs and tells
# of them in lines on standard output. It may die at any time without touching a job.
#
# bash reads it from standard input, and behind it the calls that the runner makes, as shell text with quoted words:
# `job ... end`. A call that was cut off by a dying connection lacks its `end` and is not carried out. The runner first
# sets R (folder of this batch's runs on this machine), T (source parts), COPY (how to copy a folder), LEASES and
# LEASE_SUFFIX (this batch's leases are $LEASES/PART.$LEASE_SUFFIX) and job_env (the login's environment).
#
# An attempt's folder, $R/JOB/ATTEMPT/:
#
#     started     whoever makes it owns the attempt: the wrapper, or, so that it never starts, adopt (a spare brings it)
#     wrapper     pid, start time and boot (see `boot` below) of the process that waits for the command
#     pid         the same of the command's shell, which leads its own session and process group; and its uptime at the start
#     request     what was asked for, as JSON, so that another controller can count it
#     script      what bash runs         work/  where it runs         out, err  what it prints
#     ref         made when work/ was ready, a tick of the file system's clock after its last entry
#     before      what was in work/ then (see `listing`); not for a small tree and not for an empty folder
#     changed     NUL-separated paths below work/: files and links that the job made or changed, empty folders it made
#     deleted     NUL-separated paths that went forward and are gone; of a folder that is gone its own path alone
#     differs     scratch, like names and facts: in what two listings differ
#     cancelled   somebody asked for its end: the time that it has from TERM to KILL, and the uptime at the TERM, both
#                 in tenths of a second
#     timed-out   its end was asked for since it ran for too long: likewise
#     cgroup      the path of its own cgroup, where the user's systemd gives us some (see CGROUP)
#     lost        its wrapper was found gone, and this was told
#     exit.new    the exit record to be: made before the start, so that a full disk cannot prevent it
#     exit        `code start end left-behind flags when done`, by rename, last (start and end as /proc/uptime counts,
#                 when: the end in seconds since 1970); `unlisted` for done: what the job made could not be listed. The
#                 second line: the parts of work/. A record that is not whole (the power failed) is none
#
# Beside the jobs' folders lies .controller: pid, start time and boot of the batch's supervisor (CONTROLLER is set then).
#
# What it says, a line each; JOB is the job folder's name, which holds no blanks:
#
#     started JOB N AGO           AGO: seconds since then, 0 for a new start
#     ended JOB N CODE START END LEFT-BEHIND FLAGS AGO   FLAGS: - and t, c: its time was over, its end was asked for;
#                                 k, K: the kernel killed for want of memory, in its cgroup, else on the machine; o, e: out,
#                                 err hold something; w, d: files were made or changed, were deleted
#     failed JOB N CODE REASON... CODE -: it could not be started; else it ended with that, and could not be completed
#     lacks JOB N PART            nothing was done, since that part is not there
#     refused JOB N               somebody else owns the attempt
#     unstarted JOB N             (adopt) it never started, and now never will
#     lost JOB N rebooted|gone    it has no exit record, and the machine was started anew, or its wrapper is gone
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

# Where we were started in a scope of the user's systemd, each job has a cgroup of its own below it: whatever it does, it
# cannot get out. CGROUP is the scope's folder. Its controllers count in leaves alone, so we make one for ourselves.
CGROUP=
if [ -n "$SSH_SCHEDULER_SCOPE" ]; then
  while IFS=: read -r id _ path; do
    if [ "$id" = 0 ]; then CGROUP=${CGROUP_ROOT:-/sys/fs/cgroup}$path; fi
  done </proc/self/cgroup
  if [ -n "$CGROUP" ] && mkdir "$CGROUP/supervisor" && echo $$ >"$CGROUP/supervisor/cgroup.procs"; then
    echo +memory >"$CGROUP/cgroup.subtree_control"
  else
    CGROUP=
  fi 2>/dev/null
  unset SSH_SCHEDULER_SCOPE
fi

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

tenths_now() { # -> tenths: the uptime in tenths of a second
  local up
  uptime_now
  case $up in
    *.?*)
      tenths=${up#*.}
      tenths=$((10#${up%.*} * 10 + ${tenths:0:1}))
      ;;
    *) tenths=$((up * 10)) ;;
  esac
}

wall_now() { # -> now: seconds since 1970
  now=${EPOCHSECONDS:-}
  [ -n "$now" ] || { printf -v now '%(%s)T' -1; } 2>/dev/null || now=$(date +%s)
}

start_of() { # pid -> start: its start time, empty when it is gone; pid and start time tell a recycled pid apart
  start=
  if [ -r /proc/self/stat ]; then
    { read -r stat <"/proc/$1/stat"; } 2>/dev/null || return 0
    set -- ${stat##*) }
    if [ "$1" != Z ] && [ "$1" != X ]; then start=${20}; fi
  else
    start=$(LC_ALL=C TZ=UTC0 ps -o lstart= -p "$1" 2>/dev/null | tr -s ' ' _)
  fi
}

# This run of the machine's system, `BOOT-ID:START`: the start time of process 1 tells containers on one kernel apart.
# One of both may be empty, and `-` stands for neither.
boot=
{ read -r boot </proc/sys/kernel/random/boot_id; } 2>/dev/null
start_of 1
boot=$boot:$start
if [ "$boot" = : ]; then boot=-; fi

is_other_boot() { # boot, as recorded: whether the machine was started anew since. What one of both lacks proves nothing
  [ "$1" != "$boot" ] || return 1
  case $1+$boot in *:*+*:*) ;; *) return 1 ;; esac
  set -- "${1%%:*}" "${boot%%:*}" "${1#*:}" "${boot#*:}"
  { [ -n "$1" ] && [ -n "$2" ] && [ "$1" != "$2" ]; } || { [ -n "$3" ] && [ -n "$4" ] && [ "$3" != "$4" ]; }
}

alive() { # pid start boot
  if is_other_boot "$3"; then return 1; fi
  start_of "$1"
  [ -n "$start" ] && [ "$start" = "$2" ]
}

session_members() { # session lowest-pid [highest-pid] -> members: what lives in the session, or bears the mark of $mark
  members=
  if [ ! -r /proc/self/stat ]; then
    members=$(ps -axo pid=,pgid=,stat= | while read -r p g s; do [ "$g" = "$1" ] && [ "${s#Z}" = "$s" ] && printf ' %s' "$p"; done)
  elif [ -n "$3" ] && [ -n "$HAS_MAPFILE" ]; then
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
      add_member # most are in the session as well
    done
  fi
  if [ -n "$cgroup" ]; then
    { while read -r p; do add_member; done <"$cgroup/cgroup.procs"; } 2>/dev/null
  fi
}

add_member() { # the process $p; 0 stands for one that we cannot see
  case "$members 0 " in *" $p "*) ;; *) members="$members $p" ;; esac
}

kill_cgroup() { # all that is left in the cgroup $cgroup, also in those that the job made below it
  if [ -n "$cgroup" ]; then echo 1 >"$cgroup/cgroup.kill"; fi 2>/dev/null
}

is_in_session() { # pid session
  { read -r stat <"/proc/$1/stat"; } 2>/dev/null && in_session "$2" ${stat##*) }
}

# Whether a process, of which $stat was just read, is in the session of another job: our wrappers, which are in one session,
# have started that session's first process.
is_of_other_job() { # pid
  local IFS=' '
  set -- "$1" ${stat##*) } # pid state ppid pgrp session
  if [ "$5" = "$own_session" ]; then return 0; fi # a wrapper: nobody can join a session
  if [ "$5" = "$1" ]; then first_parent=$3
  else
    { read -r first <"/proc/$5/stat"; } 2>/dev/null || return 1
    set -- ${first##*) }
    first_parent=$2
  fi
  { read -r first <"/proc/$first_parent/stat"; } 2>/dev/null || return 1
  set -- ${first##*) }
  [ "$4" = "$own_session" ]
}

has_mark() { # pid, of which $stat was just read
  local IFS=$'\1' tries=3
  while { mapfile -d '' -t environment <"/proc/$1/environ"; } 2>/dev/null; do
    case "$IFS${environment[*]}$IFS" in *"$IFS$mark$IFS"*) return 0 ;; esac
    # A process has none at the moment when it becomes another program. The kernel's own, of session 0, never have one.
    [[ ${#environment[@]} = 0 && $tries -gt 0 && ${stat##*) } =~ ^[^ZX]\ [0-9]+\ [0-9]+\ [1-9] ]] || return 1
    if is_of_other_job "$1"; then return 1; fi # most are: waiting for each would cost more than all the rest
    tries=$((tries - 1))
    pause 0.003
  done
  return 1
}

in_session() { # session, then stat's fields from the third on: state ppid pgrp session
  [ "$5" = "$1" ] && [ "$2" != Z ] && [ "$2" != X ]
}

to_end() { # leader start -> members: what is still there, the leader itself until it has its session
  session_members "$1" 1
  if alive "$1" "$2" "$boot"; then members="$1 $members"; fi
  [ -n "$members" ]
}

# The attempt's folder, and the mark that stands in the environment of all that its command starts: what leaves the
# session (setsid, a daemon) is found by it.
place() { # JOB N -> j n a mark
  j=$1 n=$2 a=$R/$1/$2 mark=SSH_SCHEDULER_ATTEMPT=${R##*/}/$1/$2 cgroup=
}

# The time counts, not the looks: where a machine has very many processes, or is busy, a look takes long.
end_session() { # leader start kill-at [signal]: that signal, or TERM, then KILL at that uptime, in tenths of a second
  signal=${4:-TERM} looks_in_vain=0 has_told=
  tenths_now
  give_up_at=$((($3 > tenths ? $3 : tenths) + 100))
  while :; do
    if ! to_end "$1" "$2"; then
      # Twice: one look misses a process that forks and ends meanwhile, or is just becoming another program.
      looks_in_vain=$((looks_in_vain + 1))
      if [ "$looks_in_vain" -ge 2 ]; then
        kill_cgroup
        return 0
      fi
      pause 0.02
      continue
    fi
    looks_in_vain=0
    tenths_now
    if [ "$tenths" -ge "$3" ]; then signal=KILL; fi
    if [ -z "$has_told" ] || [ "$signal" = KILL ]; then
      has_told=1
      kill -s "$signal" $members 2>/dev/null
      kill -s CONT $members 2>/dev/null
      if [ "$signal" = KILL ]; then kill_cgroup; fi
    fi
    [ "$tenths" -lt "$give_up_at" ] || return 1
    pause 0.1
  done
}

anything_in() { # folder
  for entry in "$1"/* "$1"/.[!.]* "$1"/..?*; do
    if [ -e "$entry" ] || [ -L "$entry" ]; then return 0; fi
  done
  return 1
}

# Spares: job folders with a copy of a small source tree in them, made in sets by one cp, so that a job takes one by a
# rename instead of making its own. A set is $R/.spares/TREE.NUMBER.SUPERVISOR/: 0/ to 15/, each `1/started/` and
# `1/work/`. What an earlier supervisor left may be of any tree and half made.
if [ -d "$R/.spares" ]; then rm -rf "$R/.spares" || { chmod -R u+w "$R/.spares"; rm -rf "$R/.spares"; }; fi 2>/dev/null
SPARES=16
HAS_MAPFILE= # that of bash 4.4, which takes NUL-separated names; without it there are no spares
if [ "${BASH_VERSINFO[0]}${BASH_VERSINFO[1]}" -ge 44 ]; then HAS_MAPFILE=1; fi
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
    [ -d "$R/.spares/$spares_tree.$((spares_set + 1)).$$" ] || return 0
    spares_set=$((spares_set + 1)) spares_next=0
    order_spares
  fi
  spare=$spares_tree.$spares_set.$$/$spares_next
  spares_next=$((spares_next + 1))
}

order_spares() { # the next set, in the background
  make_spares "$spares_tree.$((spares_set + 1)).$$" "$spares_tree" </dev/null >/dev/null 2>&1 &
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
  mv -T "$new" "$R/.spares/$1"
}

# The last two words tell how long it may run (empty: without a limit), and how long it has from TERM to KILL then.
job() { # JOB N parts(`small:NAME`, or NAME/NAME...) exports links request script back(changed|named|none) tenths tenths end
  [ "${11}" = end ] || return 0
  # What a broken connection delivers late must not begin what the batch has given to another machine since then.
  if [ -n "$CONTROLLER" ] && ! is_controller; then
    say "refused $1 $2"
    return
  fi
  spare= small=
  case $3 in
    small:*) if [ -n "$HAS_MAPFILE" ] && [ -z "$5" ]; then small=1; fi ;;
  esac
  if [ -z "$small" ]; then
    if [ "$8" = changed ]; then choose_listing; fi
  elif [ "$2" = 1 ]; then
    take_spare "${3#small:}"
  fi
  wrapper "$@" </dev/null 2>/dev/null &
}

is_controller() { # whether no later supervisor has taken the batch over
  { read -r controller <"$R/.controller"; } 2>/dev/null && [ "$controller" = "$me" ]
}

wrapper() {
  set +m
  trap '' PIPE INT
  place "$1" "$2"
  exports=$4 links=$5 request=$6 script=$7 back=$8 limit=$9 grace=${10}
  split_parts "${3#small:}"
  for name in "${names[@]}"; do
    if [ ! -d "$T/$name" ]; then
      say "lacks $j $n $name"
      return
    fi
  done
  # -T: a job's folder that is there already is not moved into, and as it is not empty the rename fails.
  if [ -n "$spare" ] && ! mv -T "$R/.spares/$spare" "$R/$j" 2>/dev/null; then spare=; fi
  if [ -z "$spare" ]; then
    set -- "$a"
    [ -d "$R/$j" ] || set -- "$R/$j" "$@"
    [ ${#names[@]} = 1 ] || set -- "$@" "$a/work"
    mkdir "$@" 2>/dev/null # another supervisor may be at it too: only `started` says whose the attempt is
    if ! mkdir "$a/started" 2>/dev/null; then
      if [ -e "$a/started" ]; then say "refused $j $n"; else say "failed $j $n - cannot make $a: $(first_line mkdir -p "$a")"; fi
      return
    fi
  fi
  self=${BASHPID:-$(exec sh -c 'echo $PPID')}
  start_of "$self"
  if ! { printf '%s %s %s\n' "$self" "$start" "$boot" >"$a/wrapper" && printf '%s\n' "$request" >"$a/request" &&
    printf '%s\n' "$script" >"$a/script"; }; then
    say "failed $j $n - cannot write to $a (disk full?)"
    return
  fi
  if [ -z "$spare" ] && ! copy_parts; then
    say "failed $j $n - cannot copy the source tree: $problem"
    return
  fi
  # `link` tells in one line what is wrong.
  if [ -n "$links" ] && ! problem=$(cd "$a/work" && eval "$links" 2>&1); then
    say "failed $j $n - cannot link a shared input: ${problem%%$'\n'*}"
    return
  fi
  if ! printf "%${RECORD}s\n%s\n" '' "$parts" >"$a/exit.new"; then
    say "failed $j $n - cannot write to $a (disk full?)"
    return
  fi
  if [ "$back" = changed ] && [ -z "$small" ] && [ -n "$parts$links" ]; then
    # A file system's clock ticks every 1 to 10 ms; within one tick a job's change could not be told from the copy.
    pause 0.01
    : >"$a/ref"
    if ! (cd "$a/work" && listing >"$a/before" 2>"$a/err"); then
      first_error "cannot write to $a (disk full?)"
      say "failed $j $n - cannot list the job's folder: $problem"
      return
    fi
  fi
  if [ -n "$CGROUP" ] && mkdir "$CGROUP/${R##*/}.$j.$n" 2>/dev/null; then
    cgroup=$CGROUP/${R##*/}.$j.$n
    printf '%s\n' "$cgroup" >"$a/cgroup"
  fi
  count_oom_kills
  oom_kills_before=$oom_kills
  uptime_now
  began=$up
  if [ -n "$limit" ]; then exec 8> >(timer "$limit" "$grace" >/dev/null); fi
  (
    if [ -n "$cgroup" ]; then echo 0 >"$cgroup/cgroup.procs"; fi
    self=${BASHPID:-$(exec sh -c 'echo $PPID')}
    start_of "$self"
    printf '%s %s %s %s\n' "$self" "$start" "$boot" "$began" >"$a/pid"
    # After the pid is written, since the canceller writes first and then looks for the pid.
    if [ -e "$a/cancelled" ]; then exit 143; fi
    { say "started $j $n 0" >&3; } 2>/dev/null # nobody may be listening, and this is not the job's to tell
    cd "$a/work" || exit 126
    job_env
    eval "$exports"
    export "$mark"
    trap - PIPE INT HUP
    exec 3>&- 8>&- 9>&- $SETSID bash "$a/script"
  ) 3>&1 >"$a/out" 2>"$a/err"
  code=$?
  uptime_now
  wall_now
  when=$now
  if [ -n "$limit" ]; then exec 8>&-; fi
  fate= signal=TERM
  tenths_now
  kill_at=$((tenths + ${GRACE_TENTHS:-20}))
  for asked in timed-out cancelled; do
    [ -e "$a/$asked" ] || continue
    # Whoever asked sends TERM; what is still there has the time that was promised.
    fate=$fate${asked:0:1} signal=CONT
    if read_asked "$asked"; then kill_at=$((term_at + asked_grace)); fi
  done
  # Another's memory may run out on the machine meanwhile: that counts only where the job's own cgroup does not tell.
  if count_own_oom_kills; then
    if [ "$oom_kills" != 0 ]; then fate=${fate}k; fi
  elif [ "$code" = 137 ] || [ "$code" = 9 ]; then
    count_oom_kills
    if [ "${oom_kills:-0}" -gt "${oom_kills_before:-0}" ]; then fate=${fate}K; fi
  fi
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
      if [ "$signal" = TERM ]; then left=$#; fi
      end_session "$pid" gone "$kill_at" "$signal"
    fi
  fi
  if [ -n "$cgroup" ]; then
    kill_cgroup
    rmdir "$cgroup"
  fi
  output_flags
  whole=done
  case $back in
    changed) list_changes || whole=unlisted ;;
    named) flags=${flags}w ;;
  esac
  if ! record_exit 2>/dev/null 1<>"$a/exit.new"; then
    say "failed $j $n $code cannot write its exit record (disk full?)"
    return
  fi
  if [ "$whole" = done ]; then say "ended $j $n $code $began $up $left $flags 0"; else say_unlisted; fi
  exec mv "$a/exit.new" "$a/exit"
}

RECORD=79 # characters of an exit record, padded: what overwrites the padding in place needs no room on the disk

record_exit() { # its output is open without being emptied
  printf "%-${RECORD}s" "$code $began $up $left $flags $when $whole"
}

EXIT_RECORD='^[0-9]{1,3} [0-9]{1,12}([.][0-9]{1,6})? [0-9]{1,12}([.][0-9]{1,6})? [0-9]{1,7} -[a-zA-Z]{0,20} [0-9]{0,12} (done|unlisted)$'

read_exit() { # of $a -> code, began, up, left, flags, when, whole; false when there is no whole record
  { read -r code began up left flags when whole <"$a/exit"; } 2>/dev/null || return
  if [ -z "$whole" ]; then whole=$when when=; fi # records had no `when` before
  [[ "$code $began $up $left $flags $when $whole" =~ $EXIT_RECORD ]]
}

# How often the kernel killed for want of memory, on the whole machine. It always stands in the same line.
oom_kills_line=
if [ "${BASH_VERSINFO[0]}" -ge 4 ] && { mapfile -t facts </proc/vmstat; } 2>/dev/null; then
  for line in "${!facts[@]}"; do
    case ${facts[line]} in 'oom_kill '*) oom_kills_line=$line ;; esac
  done
fi

count_oom_kills() { # -> oom_kills, empty when that is not told
  oom_kills=
  [ -n "$oom_kills_line" ] || return 0
  { mapfile -t -s "$oom_kills_line" -n 1 facts </proc/vmstat; } 2>/dev/null
  case $facts in 'oom_kill '*) oom_kills=${facts#* } ;; esac
}

count_own_oom_kills() { # -> oom_kills: the same in the job's cgroup alone; false when that is not told
  oom_kills=
  [ -n "$cgroup" ] || return
  { while read -r name count; do
    if [ "$name" = oom_kill ]; then oom_kills=$count; fi
  done <"$cgroup/memory.events"; } 2>/dev/null
  [ -n "$oom_kills" ]
}

# Its input ends when the command has ended, or else with the wrapper: what runs then could never be told of.
timer() { # tenths grace-tenths: ends the attempt $a then, if its command still runs
  set -- "$@" "$(($1 / 10))"
  if [ "${BASH_VERSINFO[0]}" -ge 4 ]; then set -- "$1" "$2" "$3.$(($1 % 10))"; fi
  read -r -t "$3"
  expire_attempt "$2"
}

say_unlisted() {
  say "failed $j $n $code cannot list what the job made${problem:+: }${problem:- (disk full?)}"
}

output_flags() { # -> flags
  flags=-$fate
  if [ -s "$a/out" ]; then flags=${flags}o; fi
  if [ -s "$a/err" ]; then flags=${flags}e; fi
}

first_error() { # text for want of an error -> problem: the first line in $a/err
  problem=
  { IFS= read -r problem <"$a/err"; } 2>/dev/null
  problem=${problem:-$1}
}

split_parts() { # NAME/NAME... -> parts, names
  local IFS=/
  parts=$1
  set -f
  names=($parts)
  set +f
}

copy_parts() { # -> work/, or the first line of an error in `problem`
  case ${#names[@]} in
    0) return 0 ;;
    1) set -- "$T/$names" "$a/work" ;;
    *)
      set --
      for name in "${names[@]}"; do set -- "$@" "$T/$name/."; done
      set -- "$@" "$a/work"
      ;;
  esac
  $COPY "$@" 2>"$a/err" && return
  # The second part cannot be put into a read-only folder that came with the first, nor in place of a file of the first.
  [ ${#names[@]} -gt 1 ] && copy_one_by_one 2>"$a/err" && return
  first_error 'cp failed'
  return 1
}

copy_one_by_one() {
  make_writable
  rm -rf "$a/work" && mkdir "$a/work" || return
  for name in "${names[@]}"; do
    $COPY -f "$T/$name/." "$a/work" && make_writable || return
  done
  for name in "${names[@]}"; do
    (cd "$T/$name" && find . -type d ! -perm -200 -print0) | (cd "$a/work" && xargs -0 -r chmod u-w) || return
  done
}

make_writable() {
  find "$a/work" -type d ! -perm -200 -exec chmod u+w {} +
}

link() { # place target: makes a link in the working directory, and the folders above it
  above=. rest=$1
  while [ "$rest" != "${rest#*/}" ]; do
    next=$above/${rest%%/*} rest=${rest#*/}
    if [ -L "$next" ] || { [ -e "$next" ] && [ ! -d "$next" ]; }; then
      printf '%q is no folder, and %q was to be in it\n' "${next#./}" "$1"
      return 1
    fi
    [ -d "$next" ] || in_folder "$above" mkdir "$next" || return
    above=$next
  done
  if [ -e "./$1" ] || [ -L "./$1" ]; then
    printf '%q is there already\n' "$1"
    return 1
  fi
  in_folder "$above" ln -s "$2" "./$1"
}

in_folder() { # folder command...: which makes something in it, be it read-only
  if [ -w "$1" ]; then
    "${@:2}"
  else
    chmod u+w "$1" && "${@:2}" && chmod u-w "$1"
  fi
}

# What the job made is told by two listings of work/, one before and one after it. Their records end in NUL:
# `PATH// inode size change-time mode type` for files and links, `PATH//` for folders. No path has `//` in it, so all
# records of a path lie together once they are sorted by bytes. The change time is the one thing that a job cannot set.
# The first record is that of ../ref. LISTING_BY names the way: GNU find does it alone; busybox has find and stat; else
# perl. LISTING_TIME is how find or stat write the change time.
choose_listing() {
  [ -z "$LISTING_BY" ] || return 0
  if find / -maxdepth 0 -printf '' 2>/dev/null; then LISTING_BY=printf LISTING_TIME=${LISTING_TIME:-%C@}
  elif stat -c %z / >/dev/null 2>&1; then LISTING_BY=stat LISTING_TIME=${LISTING_TIME:-%z}
  else LISTING_BY=perl; fi
}

listing() { # of the working directory; runs in a process of its own
  case $LISTING_BY in
    printf)
      exec find ../ref . -type d -printf '%p//\0' -o \
        \( -type f -o -type l \) -printf "%p// %i %s $LISTING_TIME %m %y\\0"
      ;;
    stat) list_by_stat ;;
    *)
      find_entries | perl -MTime::HiRes=lstat -0 -ne 'chomp; @s = lstat or die "$_: $!\n"; print -d _ ? "$_//\0" :
        sprintf("%s// %d %d %.6f %o %s\0", $_, @s[1, 7, 10], $s[2] & 07777, -l _ ? "l" : "f")'
      [ "${PIPESTATUS[*]}" = '0 0' ]
      ;;
  esac
}

find_entries() {
  find ../ref . \( -type d -o -type f -o -type l \) -print0
}

# busybox's stat cannot end a line in NUL, so it tells no names, and its lines are put beside find's by their order. And
# its sort takes a newline for an end like NUL: in a record it is written as /./n, which no path of find's has in it.
list_by_stat() {
  find_entries >../names && TZ=UTC0 xargs -0 stat -c "%i %s %a %F/$LISTING_TIME" <../names >../facts || return
  while IFS= read -r -d '' path; do
    read -r inode size mode facts <&7 || return
    path=${path//$'\n'//./n} ctime=${facts#*/}
    case $facts in
      directory/*) printf '%s//\0' "$path" ;;
      *link/*) printf '%s// %s\0' "$path" "$inode $size ${ctime// /_} $mode l" ;;
      *) printf '%s// %s\0' "$path" "$inode $size ${ctime// /_} $mode f" ;;
    esac || return
  done <../names 7<../facts
}

compare_listings() { # u|d -> records: those that stand in one listing alone, or in both
  if [ "$LISTING_BY" = perl ]; then
    if [ "$1" = u ]; then times=1; else times=2; fi
    listing | perl -0 -ne '$n{$_}++; END { print sort grep { $n{$_} == '$times' } keys %n }' ../before - >../differs
  else
    listing | LC_ALL=C sort -z ../before - | LC_ALL=C uniq "-z$1" >../differs
  fi
  case ${PIPESTATUS[*]} in *[1-9]*) return 1 ;; esac
  if [ -n "$HAS_MAPFILE" ]; then
    mapfile -d '' -t records <../differs
  else
    records=()
    while IFS= read -r -d '' path; do records+=("$path"); done <../differs
  fi
}

list_changes() { # writes changed and deleted -> flags; false when it cannot, and then -> problem
  if [ ! -d "$a/work" ]; then mkdir "$a/work"; fi # the job removed its own folder: then all is deleted
  changed=() deleted=() problem=
  if [ -e "$a/before" ]; then
    problem=$(cd "$a/work" && { find_differences && write_lists; } 2>&1) || { problem=${problem%%$'\n'*}; return 1; }
  elif [ -n "$parts" ]; then
    cd "$a/work" && find_differences_few && write_lists || return
  elif anything_in "$a/work"; then
    problem=$(cd "$a/work" && find_made 2>&1 >../changed) || { problem=${problem%%$'\n'*}; return 1; }
  fi
  if [ -s "$a/changed" ]; then flags=${flags}w; fi
  if [ -s "$a/deleted" ]; then flags=${flags}d; fi
}

write_lists() {
  # Lists of an earlier try may be there.
  if [ ${#changed[@]} != 0 ]; then printf '%s\0' "${changed[@]}" >../changed
  elif [ -e ../changed ]; then : >../changed; fi &&
    if [ ${#deleted[@]} != 0 ]; then printf '%s\0' "${deleted[@]}" >../deleted
    elif [ -e ../deleted ]; then : >../deleted; fi
}

find_made() { # in a folder that was empty
  if [ "$LISTING_BY" != stat ]; then
    exec find . \( -type f -o -type l -o -type d ! -name . -empty \) -print0
  fi
  # busybox's find knows no empty folders.
  find . \( -type f -o -type l -o -type d ! -name . \) -print0 | while IFS= read -r -d '' path; do
    if [ -L "$path" ] || ! [ -d "$path" ] || ! anything_in "$path"; then printf '%s\0' "$path" || return; fi
  done
  [ "${PIPESTATUS[*]}" = '0 0' ]
}

find_differences() { # -> changed, deleted: what two listings tell
  local LC_ALL=C
  compare_listings u || return
  last=
  for record in "${records[@]}"; do
    path_of "$record"
    if [ "$path" = "$last" ] || [ "$path" = ../ref ]; then continue; fi
    last=$path
    take_difference
  done
  is_clock_fine || find_doubtful
}

path_of() { # record -> path
  path=${1%%//*}
  path=${path//\/.\/n/$'\n'}
}

take_difference() { # of $path, of which something was made, changed or deleted
  # What a link stands for now, or lies behind one, is not the job's folder any more.
  if goes_through_link "$path"; then return; fi
  if [ -L "$path" ] || [ -f "$path" ]; then changed+=("$path")
  elif [ -d "$path" ]; then anything_in "$path" || changed+=("$path")
  elif [ -d "${path%/*}" ]; then deleted+=("$path"); fi
}

goes_through_link() { # path, beginning with ./
  if [ "${1%/*}" != "$link_asked" ]; then
    link_asked=${1%/*} link_found=
    folder=$link_asked
    while [ "$folder" != "${folder%/*}" ]; do
      if [ -L "$folder" ]; then link_found=1; fi
      folder=${folder%/*}
    done
  fi
  [ -n "$link_found" ]
}

# A change that came in the same tick of the clock as the listing may have left a record as it was. Where the clock is
# fine no entry is so young: there was a pause behind the last one (exit.new is younger than it). The clock may be coarse
# for the file system (ext3, some network ones: seconds) or for the tool that tells the time.
is_clock_fine() {
  { IFS= read -r -d '' record <../before; } 2>/dev/null
  set -- ${record##*//}
  tick=$3
  [[ $tick == *.*[1-9]* && ../ref -nt ../exit.new ]]
}

find_doubtful() { # -> changed: what is as young as ../ref by an unchanged record, and of another content
  compare_listings d || return
  for record in "${records[@]}"; do
    path_of "$record"
    set -- ${record##*//}
    # As text; a time of another length is not worth the trouble.
    if [ $# = 0 ] || [ "$path" = ../ref ] || [[ ${#3} = "${#tick}" && $3 < $tick ]]; then continue; fi
    is_original "$path" "$2" || changed+=("$path")
  done
}

is_original() { # path size: whether it has the content and the time of what went forward
  for ((i = ${#names[@]} - 1; i >= 0; i--)); do
    o=$T/${names[i]}/$1
    if [ -L "$1" ] && [ -L "$o" ]; then
      [ "$(readlink "$1" && echo .)" = "$(readlink "$o" && echo .)" ]
      return
    elif [ -e "$o" ]; then
      if [ "$1" -nt "$o" ] || [ "$1" -ot "$o" ]; then return 1; fi # a copy has its original's time
      # Reading some here is quicker than starting a process.
      if [ "$2" -le 65536 ]; then same_bytes "$1" "$o"; else cmp -s "$1" "$o"; fi
      return
    fi
  done
  [ -L "$1" ] # to a shared input
}

# What find_differences finds, for a small tree and without a process: each file is compared with its original.
find_differences_few() { # -> changed, deleted
  local LC_ALL=C
  shopt -s globstar dotglob nullglob
  originals=()
  if cd "$T/$names" 2>/dev/null; then originals=(**); fi # else all that is there counts as made
  cd "$a/work" || return
  for f in . **; do
    if [ -d "$f" ] && ! [ -L "$f" ] && ! { [ -r "$f" ] && [ -x "$f" ]; }; then
      problem="$f cannot be read"
      return 1
    fi
    if [ "$f" != . ] && is_changed "$f"; then changed+=("./$f"); fi
  done
  for f in "${originals[@]}"; do
    path=./$f
    if ! [ -L "$f" ] && ! [ -f "$f" ] && ! [ -d "$f" ]; then take_difference; fi
  done
}

# New is what the tree has not, changed what differs from it in time (a copy has its original's), executable bit (other
# changes of mode are not seen) or content (a job may set a file's time back).
is_changed() { # path below work/, which is the working directory
  o=$T/$names/$1
  if [ -L "$1" ]; then
    return 0 # a small tree has no links
  elif [ -d "$1" ]; then
    ! [ -d "$o" ] && ! anything_in "$1"
  elif [ ! -f "$1" ]; then
    return 1
  elif [ ! -f "$o" ] || [ "$1" -nt "$o" ] || [ "$1" -ot "$o" ]; then
    return 0
  elif [ -x "$1" ]; then
    ! [ -x "$o" ] || ! same_bytes "$1" "$o"
  else
    [ -x "$o" ] || ! same_bytes "$1" "$o"
  fi
}

same_bytes() { # file file
  if [ -z "$HAS_MAPFILE" ] || [ ! -r /proc/self/fdinfo/1 ]; then
    cmp -s "$1" "$2"
    return
  fi
  # Read as NUL-ended pieces, since a variable holds no NUL. How far was read tells whether the last one has its NUL.
  { mapfile -d '' -t -u 7 one && read -r _ one_size </proc/self/fdinfo/7; } 7<"$1" &&
    { mapfile -d '' -t -u 7 two && read -r _ two_size </proc/self/fdinfo/7; } 7<"$2" &&
    [ "$one_size ${#one[@]}" = "$two_size ${#two[@]}" ] || return
  # Joined twice: what is a separator in the one and a byte of the file in the other differs once.
  local IFS=$'\1'
  [ "${one[*]}" = "${two[*]}" ] || return
  IFS=$'\2'
  [ ${#one[@]} -lt 2 ] || [ "${one[*]}" = "${two[*]}" ]
}

cancel() { # JOB N grace-tenths starting|begun end
  [ "$5" = end ] || return 0
  canceller "$@" </dev/null >/dev/null 2>&1 &
}

canceller() {
  set +m
  place "$1" "$2"
  # The wrapper of one that starts may not have come so far yet. A folder that is gone must not come back.
  if [ "$4" = starting ]; then mkdir -p "$a"; fi
  # One that has ended is not cancelled any more: its result counts.
  if read_exit; then return; fi
  end_because cancelled "$3"
}

expire() { # JOB N grace-tenths end: ends an attempt that has run for too long
  [ "$4" = end ] || return 0
  expirer "$@" </dev/null >/dev/null 2>&1 &
}

expirer() {
  set +m
  place "$1" "$2"
  expire_attempt "$3"
}

expire_attempt() { # grace-tenths: the attempt $a, if its command runs and nobody asked for its end before
  { read -r pid pid_start pid_boot _ <"$a/pid"; } 2>/dev/null && alive "$pid" "$pid_start" "$pid_boot" || return 0
  if [ -e "$a/cancelled" ]; then end_because cancelled "$1"; else end_because timed-out "$1"; fi
}

read_asked() { # cancelled|timed-out -> asked_grace, term_at, as noted in $a
  asked_grace=
  { read -r asked_grace term_at <"$a/$1"; } 2>/dev/null
  [[ "$asked_grace $term_at" =~ ^[0-9]{1,12}\ [0-9]{1,13}$ ]]
}

# Whoever asks again (after a broken connection, or since a second limit is over) sends no second TERM, which many
# programs take for "at once". KILL comes that long after the first TERM, and earlier when a shorter time is asked for.
end_because() { # cancelled|timed-out grace-tenths: ends the attempt $a
  tenths_now
  first_term_at=$tenths signal=TERM
  for asked in timed-out cancelled; do
    if read_asked "$asked" && [ "$term_at" -le "$first_term_at" ]; then first_term_at=$term_at signal=CONT; fi
  done
  if ! read_asked "$1" || [ "$2" -lt "$asked_grace" ]; then echo "$2 $first_term_at" >"$a/$1"; fi
  end_attempt $((first_term_at + $2)) "$signal"
}

end_attempt() { # kill-at signal: all that is left of the attempt $a
  { read -r pid pid_start pid_boot _ <"$a/pid"; } 2>/dev/null || return 0
  if is_other_boot "$pid_boot"; then return 0; fi
  if [ -e "$a/cgroup" ]; then
    { read -r cgroup <"$a/cgroup"; } 2>/dev/null
    case $cgroup in /*/"${R##*/}.$j.$n") ;; *) cgroup= ;; esac
  fi
  # A pid of old may be another's by now: then only what bears the mark is ours.
  alive "$pid" "$pid_start" "$pid_boot" || pid=none
  end_session "$pid" "$pid_start" "$1" "$2"
}

adopt() { # JOB N end
  [ "$3" = end ] || return 0
  # One that has ended is told without a process of its own: after a long absence there may be very many.
  place "$1" "$2"
  if [ -e "$a/started" ] && read_exit && [ "$whole" = done ]; then say_end; else watcher "$@" </dev/null 2>/dev/null & fi
}

say_end() { # as the exit record has it
  wall_now
  say "ended $j $n $code $began $up $left $flags $((now - 10#${when:-$now}))"
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
    if read_exit; then
      if [ "$whole" = unlisted ]; then list_again; fi
      if [ "$whole" = done ]; then say_end; else say_unlisted; fi
      return
    fi
    if [ -z "$told" ] && { read -r _ _ _ began <"$a/pid"; } 2>/dev/null; then
      told=1
      say_running
    fi
    if wrapper_lives; then
      missed=0
    else
      # Twice, since the wrapper may write its exit record and go between the two looks.
      # A wrapper that has not said who it is may be slow on a busy machine: it gets ten seconds.
      missed=$((missed + 1))
      if [ "$missed" -gt 50 ] || { [ "$missed" -gt 2 ] && [ -n "$loss" ]; } || [ "$loss" = rebooted ]; then
        lose
        return
      fi
    fi
    pause 0.2
  done
}

say_running() { # it began at the uptime $began
  uptime_now
  [[ $began =~ ^[0-9]{1,12}([.][0-9]+)?$ ]] || began=$up # not told
  say "started $j $n $((${up%.*} - 10#${began%.*}))"
}

wrapper_lives() { # of the attempt $a -> loss: why it does not, empty when it has not said who it is
  loss=
  { read -r pid pid_start pid_boot <"$a/wrapper"; } 2>/dev/null || return
  if alive "$pid" "$pid_start" "$pid_boot"; then return 0; fi
  loss=gone
  if is_other_boot "$pid_boot"; then loss=rebooted; fi
  return 1
}

list_again() { # -> whole, and what the exit record says
  { read -r _ && IFS= read -r parts; } <"$a/exit"
  split_parts "$parts"
  choose_listing
  fate=${flags//[!tckK]/}
  output_flags
  if list_changes; then
    whole=done
    record_exit 1<>"$a/exit"
  fi
}

lose() { # the attempt $a of $j and $n for $loss: its wrapper is gone; what is left of the job could never be told of
  end_because cancelled 20 # should the wrapper be only slow, it starts nothing now
  say "lost $j $n ${loss:-gone}"
}

# Looks after the wrappers of this supervisor's life: one that was killed (by hand, by the kernel for want of memory)
# tells nothing any more. And keeps this batch's leases fresh, every ten minutes, so that no other prunes what it uses.
keeper() { # pid and start time of the supervisor
  set +m
  trap '' PIPE
  suspects=
  looks=0
  while pause "${KEEPER_SECONDS:-5}"; alive "$1" "$2" "$boot"; do
    looks=$((looks + 1))
    if [ $((looks % ${LEASE_LOOKS:-120})) = 0 ]; then
      printf '%s\0' "$LEASES"/*."$LEASE_SUFFIX" | xargs -0 touch -c
    fi
    suspected=$suspects suspects=
    for a in "$R"/*/*; do
      if read_exit || [ -e "$a/lost" ] || wrapper_lives || [ -z "$loss" ]; then continue; fi
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

own_session=
if { read -r stat </proc/$$/stat; } 2>/dev/null; then
  set -- ${stat##*) }
  own_session=$4
fi
start_of "$$"
me="$$ $start $boot"
if [ -n "$CONTROLLER" ]; then printf '%s\n' "$me" >"$R/.controller"; fi
keeper "$$" "$start" </dev/null 2>/dev/null &
keeper_pid=$!
trap 'kill "$keeper_pid" 2>/dev/null' EXIT
