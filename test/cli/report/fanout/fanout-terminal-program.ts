/** Run by fanout-footer.test.ts with real standard streams: one command on many machines whose every line is numbered. */
import { fanoutTerminal } from '../../../../src/cli/report/fanout/fanout-footer.ts';
import { ended, hosts, started, state } from './sample-fanout.ts';

const HOSTS = hosts(60);
let footerWasDrawn = false;
const toStderr = process.stderr.write.bind(process.stderr);
process.stderr.write = (text: string | Uint8Array): boolean => {
  if (String(text).includes('/60 done')) footerWasDrawn = true;
  return toStderr(text);
};

const { report, stdout, stderr, close } = fanoutTerminal({ stdout: process.stdout, stderr: process.stderr });
report(started(HOSTS, Date.now()));
for (const host of HOSTS) report(state(host, 'running', Date.now()));

let next = 0;
const pace = setInterval(() => {
  // The first machine runs until the footer is there; without a terminal none ever is.
  if (process.stderr.isTTY && process.stdout.isTTY && !footerWasDrawn) return;
  const host = HOSTS[next++];
  if (host !== undefined) {
    stdout.write(Buffer.from(`${host}: a line\n`));
    stderr.write(`${host}: another\n`);
    report(ended(host, { at: Date.now() }));
    return;
  }
  clearInterval(pace);
  report({ type: 'fanout:ended', at: Date.now() });
  stdout.write('the end\n');
  close();
}, 7);
