/** What one job has of its own, for runners whose jobs are not all of one batch. What is absent is as the runner has it. */
export interface JobSettings {
  /** Absolute, and there; undefined when nothing is kept. */
  readonly resultsFolder: string | undefined;
  /** Absolute files for what it prints, instead of `.out` and `.err` in the results folder. */
  readonly outputs?: { readonly out?: string; readonly err?: string };
  /** Added to the machine's own variables. */
  readonly env?: Readonly<Record<string, string>>;
  /** What it sees as JOB_ID. @default BATCH/JOB */
  readonly jobId?: string;
  /** Shell text that runs in the place of its command. */
  readonly commandText?: string;
  /**
   * What the command prints goes elsewhere, so what comes on standard error with exit code 126 says why it could not be
   * started. @default false
   */
  readonly tellsFailedStart?: boolean;
  readonly timeoutMs?: number;
  readonly killGraceMs?: number;
  readonly maxOutputBytes?: number;
}
