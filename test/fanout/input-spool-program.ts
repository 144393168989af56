/**
 * Run by input-spool.test.ts with a standard input of its own. `kind` prints whether that would be forwarded; `read N`
 * has N readers and prints what each read; `leave` gives up reading after the first piece; `open` never reads.
 */
import { text } from 'node:stream/consumers';
import { InputSpool } from '../../src/lib/fanout/input-spool.ts';

const [way, count] = process.argv.slice(2);
const spool = InputSpool.forStdin();
if (way === 'kind') {
  console.log(spool === undefined ? 'not forwarded' : 'forwarded');
} else if (spool === undefined) {
  throw new Error('no standard input');
} else if (way === 'read') {
  for (let reader = 0; reader < Number(count); reader++) console.log(await text(spool.open()));
} else if (way === 'leave') {
  const [one, other] = [spool.open(), spool.open()];
  one.on('data', (piece) => {
    console.log(String(piece));
    one.destroy();
    other.destroy();
  });
  other.on('data', () => {});
} else if (way === 'open') {
  spool.open().destroy();
}
