/** What a process needs of the machine's memory, as Linux tells it. */
import { readFile } from 'node:fs/promises';

/** The most memory that a process ever had in use, in MB (10^6 bytes); undefined where that is not told. */
export async function peakMegabytes(pid: number): Promise<number | undefined> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8').catch(() => '');
  const kibibytes = /^VmHWM:\s*(\d+) kB$/m.exec(status)?.[1]; // "kB" means KiB, see proc(5)
  return kibibytes === undefined ? undefined : (Number(kibibytes) * 1024) / 1e6;
}
