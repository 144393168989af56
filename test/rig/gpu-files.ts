/** The files of a host's GPU stand-ins, seen from the test: see gpu-stand-in/state.sh for what they hold. */
import { createHash } from 'node:crypto';
import { chmod, copyFile, mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { findProgram } from './find-program.ts';
import type { GpuLedgerLine, GpuSpec } from './host-spec.ts';

const STAND_INS = fileURLToPath(new URL('gpu-stand-in/', import.meta.url));

/** Installs the stand-ins in a host's /usr/local; without GPUs only gpu-job, which then finds none. */
export async function installGpuStandIns(localFolder: string, hasGpus: boolean): Promise<string> {
  const state = join(localFolder, 'lib', 'gpu-stand-in');
  await mkdir(join(state, 'claims'), { recursive: true });
  await copyFile(join(STAND_INS, 'state.sh'), join(state, 'state.sh'));
  await copyFile(findProgram('flock'), join(state, 'flock'));
  for (const name of hasGpus ? ['gpu-job', 'nvidia-smi'] : ['gpu-job']) {
    await copyFile(join(STAND_INS, name), join(localFolder, 'bin', name));
    await chmod(join(localFolder, 'bin', name), 0o755);
  }
  // Any account of the host may hold GPU memory.
  for (const folder of [state, join(state, 'claims')]) await chmod(folder, 0o1777);
  await Promise.all([
    writeFile(join(state, 'gpus'), ''),
    writeFile(join(state, 'ledger'), ''),
    writeFile(join(state, 'lock'), ''),
  ]);
  await chmod(join(state, 'ledger'), 0o666);
  await chmod(join(state, 'lock'), 0o666);
  return state;
}

/** Replaces a host's GPUs, at once for every later query. */
export async function writeGpus(state: string, hostName: string, gpus: readonly GpuSpec[]): Promise<void> {
  const lines = gpus.map((gpu, index) => {
    const hash = createHash('sha256').update(`${hostName}/${index}`).digest('hex');
    const uuid = hash.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12}).*$/, 'GPU-$1-$2-$3-$4-$5');
    const { memoryTotalMiB, usedMiB = 0, utilization = 0, mig = 'Disabled', name = 'NVIDIA A10' } = gpu;
    return `${[index, uuid, memoryTotalMiB, usedMiB, utilization, mig, name].join('\t')}\n`;
  });
  await writeFile(join(state, 'gpus.new'), lines.join(''));
  await rename(join(state, 'gpus.new'), join(state, 'gpus'));
}

/** Switches one of the stand-in's failure modes on, with its text, or off. */
export async function writeGpuFailure(state: string, file: string, text: string | undefined): Promise<void> {
  if (text === undefined) await rm(join(state, file), { force: true });
  else await writeFile(join(state, file), text);
}

/** Reads what was taken and given so far, in order. */
export async function readGpuLedger(state: string): Promise<GpuLedgerLine[]> {
  const lines = (await readFile(join(state, 'ledger'), 'utf8')).split('\n').filter((line) => line !== '');
  return lines.map((line) => {
    const [at, event, pid, gpu, memoryMiB, usedMiB, jobs, ...name] = line.split(' ');
    if (event !== 'take' && event !== 'give' && event !== 'refuse') {
      throw new Error(`Internal error: GPU ledger line '${line}'`);
    }
    return {
      at: Number(at),
      event,
      pid: Number(pid),
      gpu: Number(gpu),
      memoryMiB: Number(memoryMiB),
      usedMiB: Number(usedMiB),
      jobs: Number(jobs),
      jobName: name.join(' '),
    };
  });
}
