/** What the two ways of making hosts have in common. */
import type { RigCapabilities } from './host-spec.ts';
import type { TestHost } from './test-host.ts';

/** The folder of one rig and what all its hosts share. Its guard removes it. */
export interface RigFolder {
  readonly path: string;
  readonly keyPath: string;
  /** The public half, as authorized_keys holds it. */
  readonly authorizedKey: string;
  readonly knownHostsPath: string;
}

/** Running hosts. `close` ends all that belongs to them. */
export interface Rig {
  readonly hosts: readonly TestHost[];
  readonly capabilities: RigCapabilities;
  close(): Promise<void>;
}
