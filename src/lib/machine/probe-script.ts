/**
 * The shell text that asks a machine what it is and what it has free, for any POSIX sh (dash, busybox ash, bash). It
 * only prints: all reading of what it prints is in probe.ts and the parse-*.ts files beside it.
 */

/** How to ask. */
export interface ProbeScriptOptions {
  /** Letters and digits, new for each run: sections begin with `@@<nonce> <name>`, which nothing else prints. */
  readonly nonce: string;
  /** Time between the two looks at the CPUs' counters. @default 250 */
  readonly cpuIntervalMs?: number;
  /** When to give up on nvidia-smi, on machines that have timeout(1). @default 7000 */
  readonly gpuTimeoutMs?: number;
  /** The batch (12 hex digits) whose jobs' processes are told of apart. @default none is looked for */
  readonly ownBatch?: string;
  /** Where /proc, /sys, /etc and /run are looked for; for tests. @default '' */
  readonly fileRoot?: string;
}

/**
 * The script, for the standard input of `/bin/sh`.
 *
 * nvidia-smi runs while the CPU interval passes. Its output is printed last and in one piece, so that everything else
 * is known also of a machine where it hangs for ever (a process in a dead driver cannot be killed).
 */
export function probeScript(options: ProbeScriptOptions): string {
  const { nonce, cpuIntervalMs = 250, gpuTimeoutMs = 7000, ownBatch, fileRoot = '' } = options;
  if (!/^[A-Za-z0-9]{8,64}$/.test(nonce) || /[^\w./-]/.test(fileRoot)) {
    throw new Error('Internal error: the nonce or file root of a probe would not be safe in a script');
  }
  if (ownBatch !== undefined && !/^[0-9a-f]{12}$/.test(ownBatch)) {
    throw new Error('Internal error: the id of a batch is 12 hex digits');
  }
  const interval = Math.max(0, cpuIntervalMs) / 1000;
  const gpuTimeout = Math.max(1, Math.round(gpuTimeoutMs / 1000));
  // One compound command: the shell reads all of it before it runs any of it.
  return `{
R=${fileRoot}
batch=${ownBatch ?? ''}
section() { printf '\\n@@${nonce} %s\\n' "$1"; }
${ENVIRONMENT}
${CGROUPS}
cpu_sample() {
  section "$1"
  read -r up rest <"$R/proc/uptime" && echo "uptime $up"
  grep '^cpu' "$R/proc/stat"
  cpu_use
}
${OWN_PROCESSES}
host() {
${WHO}
  mounts=$(grep -e ' - cgroup' -e ' /etc/hostname ' -e ' /etc/hosts ' -e ' /etc/resolv.conf ' "$R/proc/self/mountinfo")
  section mounts
  printf '%s\\n' "$mounts"
  groups=$(cgroups)
  if [ -n "$batch" ]; then find_own; fi
  cpu_sample cpu-before
  if [ -n "$batch" ]; then own_sample own-before; fi
  sleep ${interval} || sleep 1
  cpu_sample cpu-after
  if [ -n "$batch" ]; then own_sample own-after; own_memory; fi
${WHAT}
  section host-end
}
host 2>/dev/null &
host_pid=$!
bound=
gpus() {
  text= status=none
  if command -v nvidia-smi >/dev/null 2>&1; then
    fields=index,uuid,name,memory.total,memory.free,utilization.gpu
    text=$($bound nvidia-smi --query-gpu=$fields,mig.mode.current --format=csv,noheader 2>&1)
    status=$?
    # Drivers before 450 do not know of MIG.
    case $status:$text in
      [1-8]:*mig.mode*)
        text=$($bound nvidia-smi --query-gpu=$fields --format=csv,noheader 2>&1)
        status=$? ;;
    esac
  fi
  section gpus
  printf '%s\\n' "$text"
  section gpus-status
  echo "$status"
}
if command -v nvidia-smi >/dev/null 2>&1; then
  timeout -s KILL 1 true >/dev/null 2>&1 && bound='timeout -s KILL ${gpuTimeout}'
fi
answer=$(
  if [ -n "$batch" ]; then
    { processes=$(gpu_processes); printf '%s\\n' "$processes"; } &
  fi
  gpus=$(gpus)
  wait
  printf '%s\\n' "$gpus"
)
wait "$host_pid"
printf '%s\\n' "$answer"
section end
exit 0
}
`;
}

// nproc of coreutils obeys the OpenMP variables, which researchers' login files like to set. A login's own PATH comes
// first; what sshd's bare default lacks is added.
const ENVIRONMENT = `exec </dev/null
LC_ALL=C
PATH="\${PATH:+$PATH:}/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin:/usr/lib/wsl/lib"
export LC_ALL PATH
unset LANGUAGE OMP_NUM_THREADS OMP_THREAD_LIMIT POSIXLY_CORRECT`;

// cgroups(7): prints \`<kind> <mount point> <path below it>\` for each control group that this process is in and for all
// its parents up to the mount point, kind being v2, or the controller of version 1. Inside a container, the path in
// /proc/self/cgroup may be the host's while only the container's own part is mounted: then field 4 of mountinfo, the
// root of the mount, is what to take off.
const CGROUPS = `cgroup_chain() {
  while read -r id parent device root point rest; do
    case $1:$rest in
      v2:*' - cgroup2 '*) ;;
      v2:*) continue ;;
      *' - cgroup '*) case ",\${rest##* }," in *,$1,*) ;; *) continue ;; esac ;;
      *) continue ;;
    esac
    below=
    case $root:$2 in
      /:*) below=\${2%/} ;;
      "$2:$2") ;;
      *) case $2 in "$root"/*) below=\${2#"$root"} ;; esac ;;
    esac
    case $below/ in */../*) below= ;; esac
    while :; do
      echo "$1 $point $below"
      [ -n "$below" ] || break
      below=\${below%/*}
    done
    break
  done
}
cgroups() {
  while IFS=: read -r id controllers path; do
    case ",$controllers," in ,,) printf '%s\\n' "$mounts" | cgroup_chain v2 "$path" ;; esac
    for kind in cpu cpuacct memory; do
      case ",$controllers," in *,$kind,*) printf '%s\\n' "$mounts" | cgroup_chain $kind "$path" ;; esac
    done
  done <"$R/proc/self/cgroup"
}
one_line() {
  [ -r "$dir/$1" ] && read -r text <"$dir/$1" && echo "$1 $text"
}
cpu_use() {
  printf '%s\\n' "$groups" | while read -r kind point below; do
    dir=$R$point$below
    case $kind in v2) file=cpu.stat ;; cpuacct) file=cpuacct.usage ;; *) continue ;; esac
    [ -r "$dir/$file" ] && read -r text <"$dir/$file" && echo "use $text $kind $below"
  done
}
cgroup_limits() {
  printf '%s\\n' "$groups" | while read -r kind point below; do
    dir=$R$point$below
    echo "group $kind $below"
    case $kind in
      v2) for file in cpu.max memory.max memory.high memory.current; do one_line $file; done ;;
      cpu) one_line cpu.cfs_quota_us; one_line cpu.cfs_period_us ;;
      memory) one_line memory.limit_in_bytes; one_line memory.usage_in_bytes ;;
      *) continue ;;
    esac
    [ -r "$dir/memory.stat" ] && grep -E '^(total_)?(in)?active_file |^slab_reclaimable ' "$dir/memory.stat"
  done
}`;

// Tells of the processes that bear the mark of a batch in their environment (see supervisor.sh), each kind of fact by one
// program for all of them. They are looked for before the CPUs are measured, so that looking is not measured.
//
// A process's line in the samples is its pid, utime, stime and start time (proc(5), fields 1, 14, 15 and 22). Its memory
// is its share where the kernel tells shares by kind (5.5 and later): what forked processes share counts once then.
const OWN_PROCESSES = `find_own() {
  own=
  for file in $(grep -lzE -e "^SSH_SCHEDULER_ATTEMPT=$batch/" "$R"/proc/[0-9]*/environ); do
    own="$own \${file%/environ}"
  done
}
files_of_own() {
  files=
  for folder in $own; do files="$files $folder/$1"; done
}
own_sample() {
  section "$1"
  files_of_own stat
  sed -n 's/^\\([0-9]*\\) (.*) [A-Za-z] \\([-0-9]* \\)\\{10\\}\\([0-9]* [0-9]* \\)\\([-0-9]* \\)\\{6\\}\\([0-9]*\\) .*/\\1 \\3\\5/p' $files
}
own_memory() {
  section own-memory
  if grep -q '^Pss_Anon:' "$R/proc/self/smaps_rollup"; then
    files_of_own smaps_rollup
    grep -HE '^Pss_(Anon|Shmem):' $files
  else
    files_of_own status
    grep -HE '^(VmRSS|RssAnon|RssShmem):' $files
  fi
}
gpu_processes() {
  command -v nvidia-smi >/dev/null 2>&1 || return
  text=$($bound nvidia-smi --query-compute-apps=gpu_uuid,pid,used_memory --format=csv,noheader,nounits 2>&1)
  status=$?
  section gpu-processes
  printf '%s\\n' "$text"
  section gpu-processes-status
  echo "$status"
}`;

const WHO = `  section os
  uname -s
  section kernel
  uname -r
  section hostname
  uname -n
  section user
  id -un || id -u
  section boot
  cat "$R/proc/sys/kernel/random/boot_id"
  section machine-id
  machine_id=$(cat "$R/etc/machine-id" || cat "$R/var/lib/dbus/machine-id")
  echo "$machine_id"
  section network-cards
  case $machine_id in '' | uninitialized)
    for card in "$R"/sys/class/net/*; do [ -e "$card/device" ] && cat "$card/address"; done ;;
  esac
  section namespaces
  readlink "$R/proc/self/ns/pid"
  readlink "$R/proc/self/ns/uts"`;

// \`free -k\`: an old busybox knows no -k and counts in KiB anyway.
const WHAT = `  section nproc
  nproc
  section cpus-allowed
  grep '^Cpus_allowed_list:' "$R/proc/self/status"
  section free
  free -k || free
  section meminfo
  grep -E '^(MemTotal|MemFree|MemAvailable|Buffers|Cached|Shmem|SReclaimable):' "$R/proc/meminfo"
  section cgroups
  cgroup_limits
  section tools
  for tool in bash setsid tar find timeout; do command -v $tool >/dev/null && echo $tool; done
  find /dev/null -cnewer /dev/null && echo find-cnewer
  section logind
  if [ -d "$R/run/systemd/seats" ]; then
    for folder in etc run usr/local/lib usr/lib; do
      for file in "$R/$folder/systemd/logind.conf" "$R/$folder/systemd/logind.conf.d"/*.conf; do
        [ -e "$file" ] || continue
        echo "file \${file#"$R"}"
        sed -n '/^[[:space:]]*Kill/p' "$file"
      done
    done
  fi`;
