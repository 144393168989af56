/** Run by terminal.test.ts with real standard streams: a small batch whose every line is numbered. */
import { terminalReport } from '../../../src/cli/report/terminal.ts';
import { batchEnded, batchStarted, jobEnded, jobStarted, machineQueried } from './sample-events.ts';

const JOBS = 60;
let footerWasDrawn = false;
const toStderr = process.stderr.write.bind(process.stderr);
process.stderr.write = (text: string | Uint8Array): boolean => {
  if (String(text).includes(' waiting; ')) footerWasDrawn = true;
  return toStderr(text);
};

const { report, close } = terminalReport({ stdout: process.stdout, stderr: process.stderr });
const startedAt = Date.now();
report(machineQueried('gpubox', { at: startedAt }));
report(batchStarted({ at: startedAt, jobs: JOBS }));
report(jobStarted(1, { at: startedAt }));

let line = 1;
const pace = setInterval(() => {
  const at = Date.now();
  // The first job runs until the footer is there; without a terminal none ever is.
  if (process.stderr.isTTY && process.stdout.isTTY && !footerWasDrawn) return;
  report(jobEnded(line, { at }));
  if (line < JOBS) {
    line++;
    report(jobStarted(line, { at }));
    return;
  }
  clearInterval(pace);
  report(batchEnded({ at, done: JOBS }));
  close();
}, 7);
