/** What a test asks for: the hosts of a rig, and what a rig can do on this machine. */

/** One GPU of a host's `nvidia-smi` stand-in. */
export interface GpuSpec {
  readonly name?: string;
  readonly memoryTotalMiB: number;
  /** What others use all the time. @default 0 */
  readonly usedMiB?: number;
  /** Percent, 0 to 100. @default 0 */
  readonly utilization?: number;
  /** The text of `mig.mode.current`. @default 'Disabled' */
  readonly mig?: 'Disabled' | 'Enabled' | '[N/A]';
}

/** One host of a rig. */
export interface HostSpec {
  /** Also its host name. Letters, digits and hyphens. */
  readonly name: string;
  /** Without it the host has no nvidia-smi. */
  readonly gpus?: readonly GpuSpec[];
  /** Lines added to its sshd configuration, before all others (sshd takes the first value it meets). */
  readonly sshd?: readonly string[];
  /** The account that tests log in to. In loopback mode always the account that runs the tests. @default 'lab' */
  readonly user?: 'lab' | 'root';
  /** Lets the account log in with this password too (namespaces only). */
  readonly password?: string;
  /** The account's shell: a path, or the name of one of `tools`. @default '/bin/bash' */
  readonly loginShell?: string;
  /** Text of the account's ~/.bashrc. */
  readonly bashrc?: string;
  /** Executable files in the host's /usr/local/bin (early in PATH): name to text. */
  readonly tools?: Readonly<Record<string, string>>;
  /** One-way network delay in milliseconds, by a relay in the test's process. */
  readonly delayMs?: number;
  /** Uses the home folders of this other host, as machines with NFS homes do. */
  readonly sharedHome?: string;
  /** Puts the home folders on a file system of this size (namespaces only). */
  readonly diskMiB?: number;
  /** /bin and /usr/bin hold bash and busybox's applets and nothing else (namespaces only). */
  readonly busyboxOnly?: boolean;
}

/** How hosts live: in namespaces of their own, or as servers of the current account on loopback ports. */
export type RigMode = 'namespaces' | 'loopback';

/** What the hosts of this rig can do. A test that needs more than it has says so loudly and does the rest. */
export interface RigCapabilities {
  readonly mode: RigMode;
  /** `cut` and `heal`. */
  readonly cutNetwork: boolean;
  /** `powerOff` and `boot`. */
  readonly powerOff: boolean;
  /** Machine-id, boot id, address, host name, process ids and /tmp of their own. */
  readonly ownIdentity: boolean;
  /** `diskMiB`, `fillDisk`, `freeDisk`. */
  readonly limitedDisk: boolean;
  /** `password` and `user`. */
  readonly ownAccounts: boolean;
  /** `busyboxOnly`. */
  readonly busyboxOnly: boolean;
}

/** Options of a rig. */
export interface RigOptions {
  /** @default the environment's TEST_HOSTS, else namespaces where the rights allow, else loopback */
  readonly mode?: RigMode;
}

/** One line of a host's GPU ledger. `refuse`: a job asked for memory that was not free. */
export interface GpuLedgerLine {
  /** Epoch milliseconds. */
  readonly at: number;
  readonly event: 'take' | 'give' | 'refuse';
  readonly pid: number;
  readonly gpu: number;
  readonly memoryMiB: number;
  /** In use on that GPU after this event, that of others included. */
  readonly usedMiB: number;
  /** Stand-in jobs on that GPU after this event. */
  readonly jobs: number;
  /** The job's JOB_NAME, or `-`. */
  readonly jobName: string;
}
