/**
 * Who a machine is, so that two entries for one machine are noticed and its jobs are found again after a boot.
 *
 * - Not taken, since they change from login to login: mount and network namespaces, control groups, addresses.
 * - Not taken, since it changes with every boot: the boot id.
 * - The machine-id stays, but copies of a disk image share it; so the host name is added. Where there is none
 *   (some containers and rescue systems), the addresses of the network cards stand in.
 * - A container often has its host's or its image's machine-id. It is told apart by the id that its manager gave it,
 *   seen in where its /etc/hostname, /etc/hosts or /etc/resolv.conf is mounted from: that stays when it is restarted.
 *   Else by its own host name, which it has when it has a UTS namespace. Only when it has neither, its process
 *   namespace tells it apart, and that is another one after a restart.
 */
import { createHash } from 'node:crypto';

// Fixed numbers of the namespaces that a kernel boots with (include/linux/proc_ns.h).
const FIRST_PID_NAMESPACE = 'pid:[4026531836]';
const FIRST_UTS_NAMESPACE = 'uts:[4026531838]';

/** What the probe printed about who the machine is, by section. */
export interface IdentityLines {
  readonly machineId: readonly string[];
  readonly hostname: string;
  readonly networkCards: readonly string[];
  /** Its process namespace and its UTS namespace, as /proc shows them. */
  readonly namespaces: readonly string[];
  /** Lines of /proc/self/mountinfo. */
  readonly mounts: readonly string[];
}

/**
 * 32 hex digits, fit for a folder's name. A hash, since machine-id(5) asks not to hand the id itself around.
 */
export function identityOf(lines: IdentityLines): string {
  const machineId = lines.machineId[0]?.trim() ?? '';
  const facts = [
    /^[0-9a-f]{32}$/.test(machineId) ? machineId : [...lines.networkCards].sort().join(' '),
    lines.hostname,
    containerId(lines),
  ];
  return createHash('sha256')
    .update(`ssh-scheduler machine\0${facts.join('\0')}`)
    .digest('hex')
    .slice(0, 32);
}

function containerId({ mounts, namespaces }: IdentityLines): string {
  for (const line of mounts) {
    const [, , , root = '', point = ''] = line.split(' ');
    if (!/^\/etc\/(hostname|hosts|resolv\.conf)$/.test(point)) continue;
    // Docker, podman and containerd name the folder after the container; the kubelet after the pod.
    const id = /[0-9a-f]{64}/.exec(root) ?? /(?<=\/pods\/)[0-9a-f-]{36}(?=\/)/.exec(root);
    if (id !== null) return id[0];
  }
  const pidNamespace = namespaces.find((line) => line.startsWith('pid:')) ?? FIRST_PID_NAMESPACE;
  const utsNamespace = namespaces.find((line) => line.startsWith('uts:')) ?? FIRST_UTS_NAMESPACE;
  return pidNamespace !== FIRST_PID_NAMESPACE && utsNamespace === FIRST_UTS_NAMESPACE ? pidNamespace : '';
}
