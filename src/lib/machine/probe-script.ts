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
  const { nonce, cpuIntervalMs = 250, gpuTimeoutMs = 7000, fileRoot = '' } = options;
  if (!/^[A-Za-z0-9]{8,64}$/.test(nonce) || /[^\w./-]/.test(fileRoot)) {
    throw new Error('Internal error: the nonce or file root of a probe would not be safe in a script');
  }
  const interval = Math.max(0, cpuIntervalMs) / 1000;
  const gpuTimeout = Math.max(1, Math.round(gpuTimeoutMs / 1000));
  // One compound command: the shell reads all of it before it runs any of it.
  return `{
R=${fileRoot}
section() { printf '\\n@@${nonce} %s\\n' "$1"; }
${ENVIRONMENT}
${CGROUPS}
cpu_sample() {
  section "$1"
  read -r up rest <"$R/proc/uptime" && echo "uptime $up"
  grep '^cpu' "$R/proc/stat"
  cpu_use
}
host() {
${WHO}
  mounts=$(grep -e ' - cgroup' -e ' /etc/hostname ' -e ' /etc/hosts ' -e ' /etc/resolv.conf ' "$R/proc/self/mountinfo")
  section mounts
  printf '%s\\n' "$mounts"
  groups=$(cgroups)
  cpu_sample cpu-before
  sleep ${interval} || sleep 1
  cpu_sample cpu-after
${WHAT}
  section host-end
}
host 2>/dev/null &
host_pid=$!
gpus= gpus_status=none
if command -v nvidia-smi >/dev/null 2>&1; then
  bound=
  timeout -s KILL 1 true >/dev/null 2>&1 && bound='timeout -s KILL ${gpuTimeout}'
  fields=index,uuid,name,memory.total,memory.free,utilization.gpu
  gpus=$($bound nvidia-smi --query-gpu=$fields,mig.mode.current --format=csv,noheader 2>&1)
  gpus_status=$?
  # Drivers before 450 do not know of MIG.
  case $gpus_status:$gpus in
    [1-8]:*mig.mode*)
      gpus=$($bound nvidia-smi --query-gpu=$fields --format=csv,noheader 2>&1)
      gpus_status=$? ;;
  esac
fi
wait "$host_pid"
section gpus
printf '%s\\n' "$gpus"
section gpus-status
echo "$gpus_status"
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
