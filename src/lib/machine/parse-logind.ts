/** Reads the settings of the login manager that decide whether a user's processes live on after the logout. */

// Where systemd looks, most important first (logind.conf(5)).
const FOLDERS = ['/etc/', '/run/', '/usr/local/lib/', '/usr/lib/'];

/**
 * Whether systemd-logind kills what this user leaves behind at logout. Lingering does not change that: it keeps the
 * user's service manager, while `KillUserProcesses` ends the scope of the login session that our jobs are in.
 *
 *     file /etc/systemd/logind.conf.d/50-kill.conf
 *     KillUserProcesses=yes
 */
export function killsAtLogout(lines: readonly string[], user: string): boolean {
  const files = new Map<string, string[]>();
  let current: string[] = [];
  for (const line of lines) {
    const [, path] = /^file (.*)$/.exec(line) ?? [];
    if (path !== undefined) {
      current = [];
      files.set(path, current);
    } else current.push(line);
  }
  const settings = new Map<string, string>();
  for (const line of inOrder(files).flat()) {
    const [, name, value] = /^\s*(Kill\w+)\s*=\s*(.*?)\s*$/.exec(line) ?? [];
    if (name !== undefined && value !== undefined) settings.set(name, value);
  }
  if (!/^(1|y|yes|t|true|on)$/i.test(settings.get('KillUserProcesses') ?? 'no')) return false;
  const only = names(settings.get('KillOnlyUsers') ?? '');
  const excluded = names(settings.get('KillExcludeUsers') ?? 'root');
  return (only.length === 0 || only.includes(user)) && !excluded.includes(user);
}

/** The lines of the files that count, the last word last: one main file, then the drop-ins by name. */
function inOrder(files: ReadonlyMap<string, string[]>): string[][] {
  const main = FOLDERS.map((folder) => files.get(`${folder}systemd/logind.conf`)).find(Boolean) ?? [];
  const dropIns = new Map<string, string[]>();
  for (const folder of FOLDERS) {
    const prefix = `${folder}systemd/logind.conf.d/`;
    for (const [path, lines] of files) {
      const name = path.slice(prefix.length);
      // A drop-in hides those of the same name in less important folders, also when it is empty.
      if (path.startsWith(prefix) && !dropIns.has(name)) dropIns.set(name, lines);
    }
  }
  const sorted = [...dropIns].sort(([a], [b]) => (a < b ? -1 : 1));
  return [main, ...sorted.map(([, lines]) => lines)];
}

function names(text: string): string[] {
  return text.split(/\s+/).filter((name) => name !== '');
}
