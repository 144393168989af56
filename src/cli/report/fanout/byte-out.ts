/** Where the output of machines goes: bytes as they are, or text for a terminal. */

/** A standard stream, or a footer's stand-in for one. On a terminal only strings of whole lines are written. */
export interface ByteOut {
  write(data: string | Uint8Array): unknown;
  /** Resolves when there is room for more; whoever writes much waits between pieces. @default there always is */
  ready?(): Promise<void>;
  /** Whether a terminal shows it. */
  readonly isTTY?: boolean;
}

/** Standard output and standard error. */
export interface ByteOuts {
  readonly out: ByteOut;
  readonly err: ByteOut;
}
