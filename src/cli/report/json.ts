/** `--json`: what happens, for programs: one event per line on stdout and nothing else. */
import { EVENT_SCHEMA_VERSION, type SchedulerEvent } from '../../lib/domain/events.ts';
import type { TextOut } from './text-out.ts';

/** Writes each event as one line of JSON that begins with the schema's version: `{"schema":1,"type":...}`. */
export function jsonReport(stdout: TextOut): (event: SchedulerEvent) => void {
  return (event) => {
    // JSON.stringify escapes newlines and ESC, so a line is a line and a terminal shows it as it is.
    const { type, at, ...rest } = event;
    stdout.write(`${JSON.stringify({ schema: EVENT_SCHEMA_VERSION, type, at, ...rest })}\n`);
  };
}
