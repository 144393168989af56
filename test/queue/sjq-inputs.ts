/** What a broken or hostile sjq client could send. */

/** Whole numbers below a limit, the same for the same seed. */
export function numbers(seed: number): (below: number) => number {
  let state = seed >>> 0;
  return (below) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

const WORDS = [
  'PING',
  'STATUS',
  'KILL 1000001',
  'RELEASE 3',
  'SUBMIT',
  'SRC 5',
  'MEM 2G',
  'HOLD',
  'ping',
  'x',
  '',
  'NAME \u{1f600}',
  'KILL -1',
  'STATUS abc',
  'SRC',
  'SRC 0',
  'EXI',
  ' ',
  '\0',
  '\x1b[2J',
  'KILL 1e9',
  '#!',
  'é',
];
const LENGTHS = ['0', '1', '17', '500', '10000', '10001', '30000'];
const LIES = ['30001', '-1', '1e10', 'abc', '', '10000000000', '9'.repeat(50)];
const TRANSCRIPT = Buffer.from(
  'PING\r\nSUBMIT\r\nMEM 2G\r\nPROCS 2\r\nNAME grün\r\nHOLD\r\nSRC 12\r\n#!/bin/sh\nlsSTATUS\r\nKILL 1000003\r\nSTATUS 1000004\r\n',
);

/** One input: bytes, words, half SUBMITs, mutated transcripts, scripts whose length is a lie, lines without end. */
export function input(below: (limit: number) => number): Buffer {
  const some = (list: readonly string[]) => list[below(list.length)] ?? '';
  switch (below(12)) {
    case 0:
      return Buffer.from(Array.from({ length: below(100) }, () => below(256)));
    case 1:
    case 2:
      return Buffer.from(
        Array.from({ length: below(10) }, () => some(WORDS) + some(['\r\n', '\n', '\r', ' '])).join(''),
      );
    case 3:
      return Buffer.from(`SUBMIT\r\n${some(WORDS)}\r\nSRC ${some(LENGTHS)}\r\n#!${'x'.repeat(below(600))}`);
    case 4:
    case 5: {
      const mutated = Buffer.from(TRANSCRIPT);
      for (let changes = below(4); changes > 0; changes--) mutated[below(mutated.length)] = below(256);
      return mutated;
    }
    case 6:
      return TRANSCRIPT.subarray(below(TRANSCRIPT.length), below(TRANSCRIPT.length));
    case 7:
      return Buffer.from(below(100) > 0 ? 'STATUS\r\n' : `SUBMIT\r\nSRC ${some(LIES)}\r\n`);
    case 8:
      return Buffer.from(below(40) > 0 ? 'HOLD\n'.repeat(below(80)) : 'x'.repeat(below(3000)));
    case 9:
      return Buffer.from(`\r\n\r\nSUBMIT\nSRC 3\n#!x${some(WORDS)}\n`);
    case 10:
      return Buffer.from('\r\n'.repeat(below(50)));
    default:
      return Buffer.from(`NAME ${some(WORDS)}\nKILL ${below(3) - 1}\n`);
  }
}
