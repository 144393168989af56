/**
 * Milliseconds as people read them: `0.4s`, `12.3s`, `1m05s`, `2h03m`, `3d04h`.
 * `decimals` (default 1) is for the seconds below one minute.
 */
export function durationText(durationMs: number, decimals = 1): string {
  const milliseconds = Number.isFinite(durationMs) ? Math.max(0, durationMs) : 0;
  const text = (milliseconds / 1000).toFixed(decimals);
  if (Number(text) < 60) return `${text}s`;
  const seconds = Math.round(milliseconds / 1000);
  if (seconds < 3600) return pair(seconds, 60, 'm', 's');
  const minutes = Math.round(seconds / 60);
  if (minutes < 24 * 60) return pair(minutes, 60, 'h', 'm');
  return pair(Math.round(minutes / 60), 24, 'd', 'h');
}

function pair(amount: number, perLarge: number, large: string, small: string): string {
  return `${Math.floor(amount / perLarge)}${large}${String(amount % perLarge).padStart(2, '0')}${small}`;
}
