# What both GPU stand-ins share: the host's GPUs and who holds their memory. Sourced by bash; a lock file makes every
# change atomic. All is files in one folder, so that tests can read and change it from outside the host:
#   gpus                one tab-separated line per GPU: index uuid memory-total-MiB used-by-others-MiB utilization mig name
#   claims/PID-GPU      what a live job holds: pid, start time in ticks, gpu, MiB, linger ms, expiry (epoch ms or 0), job
#   ledger              appended: epoch-ms take|give|refuse pid gpu MiB used-after-MiB jobs-after job-name
#   driver-failure, memory-text, utilization-text      failure modes, on while the file exists
export LC_ALL=C
umask 0
state=${BASH_SOURCE[0]%/*}

# Sets `now` to the epoch time in milliseconds.
read_clock() {
  local micros=${EPOCHREALTIME/[.,]/}
  now=$((micros / 1000))
}

# Sets `ticks` to the start time of process $1, or to nothing when it does not live. See proc(5): the name in
# parentheses may hold anything, so fields are counted after its last one; field 22 is the start time.
read_start_ticks() {
  local stat fields
  ticks=
  { read -r stat <"/proc/$1/stat"; } 2>/dev/null || return 0
  fields=(${stat##*) })
  [[ ${fields[0]} == [ZX] ]] || ticks=${fields[19]}
}

# flock(1) lies beside this file, as busybox on Debian has none.
lock() { exec {lock_fd}>>"$state/lock" && "$state/flock" "$lock_fd"; }
unlock() { exec {lock_fd}>&-; }

# Loads the GPUs into total[], others[], ... and the memory held by jobs into held[] and jobs[].
# Claims of dead processes end here. Call it under the lock.
load() {
  local index claim pid start gpu memory linger expiry job line
  gpus=() uuid=() total=() others=() utilization=() mig=() name=() held=() jobs=()
  while IFS=$'\t' read -r index line; do
    gpus+=("$index") held[index]=0 jobs[index]=0
    IFS=$'\t' read -r uuid[index] total[index] others[index] utilization[index] mig[index] name[index] <<<"$line"
  done 2>/dev/null <"$state/gpus"

  local ended=()
  for claim in "$state"/claims/*; do
    [[ -e $claim ]] || continue
    read -r pid start gpu memory linger expiry job <"$claim"
    # Half a line: its writer was killed while writing, so the job never had the memory.
    [[ $job ]] || { rm -f "$claim"; continue; }
    if ((expiry == 0)); then
      read_start_ticks "$pid"
      if [[ $ticks != "$start" ]]; then
        # Died without a word (killed): its memory goes now, or lingers from now on.
        read_clock
        expiry=$((now + linger))
        echo "$pid $start $gpu $memory $linger $expiry $job" >"$claim"
      fi
    fi
    ((held[gpu] += memory, ++jobs[gpu]))
    ((expiry == 0)) || ended+=("$expiry $claim")
  done
  for line in "${ended[@]}"; do
    read_clock
    ((now < ${line%% *})) || give "${line#* }" "${line%% *}"
  done
}

# Writes a ledger line for time $1: what $2 happened to pid $3, GPU $4, MiB $5, job $6.
record() {
  echo "$1 $2 $3 $4 $5 $((others[$4] + held[$4])) ${jobs[$4]} $6" >>"$state/ledger"
}

# Frees what claim file $1 holds, at time $2.
give() {
  local pid start gpu memory linger expiry job
  read -r pid start gpu memory linger expiry job <"$1"
  rm -f "$1"
  ((held[gpu] -= memory, --jobs[gpu])) || :
  record "$2" give "$pid" "$gpu" "$memory" "$job"
}
