/** A moment as people tell it to others in the same place. */

const DAY_MS = 86_400_000;
const MONTHS = 'Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec'.split(' ');

/** The same by the calendar: `14:05` for today, `15 Nov 14:05` for tomorrow. For what is still to come. */
export function comingText(at: number, now: number): string {
  const isToday = new Date(at).toDateString() === new Date(now).toDateString();
  return momentText(at, isToday ? at : at + 2 * DAY_MS);
}

/** `14:05` in local time, and `14 Nov 14:05` when that is not within a day of `now`. Both are epoch milliseconds. */
export function momentText(at: number, now: number): string {
  const moment = new Date(at);
  const clock = [moment.getHours(), moment.getMinutes()]
    .map((part) => String(part).padStart(2, '0'))
    .join(':');
  return Math.abs(now - at) < DAY_MS ? clock : `${moment.getDate()} ${MONTHS[moment.getMonth()]} ${clock}`;
}
