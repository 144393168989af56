/** A moment as people tell it to others in the same place. */

const DAY_MS = 86_400_000;
const MONTHS = 'Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec'.split(' ');

/** `14:05` in local time, and `14 Nov 14:05` when that is not within a day of `now`. Both are epoch milliseconds. */
export function momentText(at: number, now: number): string {
  const moment = new Date(at);
  const clock = [moment.getHours(), moment.getMinutes()]
    .map((part) => String(part).padStart(2, '0'))
    .join(':');
  return Math.abs(now - at) < DAY_MS ? clock : `${moment.getDate()} ${MONTHS[moment.getMonth()]} ${clock}`;
}
