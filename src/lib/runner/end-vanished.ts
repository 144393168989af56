/** Ends what runs of an attempt whose folder somebody has removed: only the mark in its environment is left to know it by. */
import { shellQuote } from '../util/shell-quote.ts';
import type { AttemptPlace } from './supervisor.ts';

/** Shell text: TERM to all that bears the attempt's mark, and KILL to what is still there after `graceMs`. */
export function endVanishedScript(batch: string, { folder, number }: AttemptPlace, graceMs: number): string {
  const mark = shellQuote(`SSH_SCHEDULER_ATTEMPT=${batch}/${folder}/${number}`);
  const looks = Math.ceil(graceMs / 500);
  return `(
marked() { grep -lzxF -e ${mark} /proc/[0-9]*/environ 2>/dev/null | tr -dc '0-9\n'; }
pids=$(marked) look=0
[ -z "$pids" ] || kill -s TERM $pids
while [ -n "$pids" ] && [ $look -lt ${looks} ]; do sleep 0.5; look=$((look + 1)); pids=$(marked); done
[ -z "$pids" ] || kill -s KILL $pids
) 2>/dev/null`;
}
