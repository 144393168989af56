/** The file ~/.sjqrc. */
import { expect, test } from 'vitest';
import { UsageError } from '../../src/lib/domain/errors.ts';
import { hasSjqKeys, parseSjqMem, readSjqrc, SJQ_DEFAULTS } from '../../src/lib/queue/sjq/sjqrc.ts';

const read = (text: string) => readSjqrc(text, { home: '/home/ann', cpus: 8 });
const DEFAULTS = {
  socketPath: '/home/ann/.sjq.sock',
  isDaemon: false,
  pidFile: '/home/ann/.sjq.pid',
  autoshutdown: true,
  schedTimeMs: 60_000,
  waitTimeMs: 60_000,
  maxProcs: 8,
  defaultProcs: 1,
  defaultMemMiB: 2048,
};

test('the defaults of the document', () => {
  expect(read('')).toEqual(DEFAULTS);
  expect(DEFAULTS).toMatchObject(SJQ_DEFAULTS);
  expect(Object.keys(read(''))).not.toContain('maxMemMiB');
});

test('every key', () => {
  const text = `\ufeff# for the big server
sjq.socket = ~/run/sjq.sock\r
  sjq.logfile="/var/log/my sjq.log"
sjq.daemon=T
sjq.pidfile=$HOME/run/=x.pid

#sjq.maxprocs=99
sjq.autoshutdown=no
sjq.schedtime=0.5
sjq.waittime=0.001
sjq.maxprocs=32
sjq.maxmem=64G
sjq.defaults.procs=2
sjq.defaults.mem=512M`;
  expect(read(text)).toEqual({
    socketPath: '/home/ann/run/sjq.sock',
    logFile: '/var/log/my sjq.log',
    isDaemon: true,
    pidFile: '/home/ann/run/=x.pid',
    autoshutdown: false,
    schedTimeMs: 500,
    waitTimeMs: 1,
    maxProcs: 32,
    maxMemMiB: 65_536,
    defaultProcs: 2,
    defaultMemMiB: 512,
  });
});

test('the last of several counts, and None takes a setting back', () => {
  const text = 'sjq.maxmem=1G\nsjq.logfile=/a\nsjq.maxprocs=3\nsjq.maxmem=None\nsjq.logfile=\nsjq.maxprocs=4';
  expect(read(text)).toEqual({ ...DEFAULTS, maxProcs: 4 });
});

test('lines of other programs are let pass', () => {
  const text = 'other.key=1\nsjq\nsjqx.maxprocs=9\nnonsense\n= =\n[section]\n';
  expect(read(text)).toEqual(DEFAULTS);
  expect(hasSjqKeys(text)).toBe(false);
  expect(hasSjqKeys('# sjq.maxprocs=2\n')).toBe(false);
  expect(hasSjqKeys(`${text} sjq.maxprocs=2\n`)).toBe(true);
});

for (const word of ['T', 'true', 'Yes', 'y', 'TRUE'])
  test(`${word} is true`, () => expect(read(`sjq.daemon=${word}`).isDaemon).toBe(true));
for (const word of ['F', 'false', 'No', 'n', 'FALSE'])
  test(`${word} is false`, () => expect(read(`sjq.autoshutdown=${word}`).autoshutdown).toBe(false));

const mistakes: readonly (readonly [line: string, message: string])[] = [
  ['sjq.maxproc=3', 'sjq.maxproc: there is no such key; did you mean sjq.maxprocs?'],
  ['sjq.__proto__=3', 'sjq.__proto__: there is no such key; the keys are sjq.socket, '],
  ['sjq.maxprocs', 'sjq.maxprocs: no value, expected sjq.maxprocs=value'],
  ['sjq.maxprocs=x', "sjq.maxprocs: found 'x', expected a whole number from 1 to 1000000"],
  ['sjq.maxprocs=', "sjq.maxprocs: found '', expected a whole number"],
  ['sjq.maxprocs=0', "sjq.maxprocs: found '0', expected"],
  ['sjq.maxprocs=1.5', "sjq.maxprocs: found '1.5', expected"],
  ['sjq.defaults.procs=1e3', "sjq.defaults.procs: found '1e3', expected"],
  ['sjq.maxprocs=4 # half', "sjq.maxprocs: found '4 # half', expected"],
  ['sjq.daemon=1', "sjq.daemon: found '1', expected T or F"],
  ['sjq.schedtime=0', "sjq.schedtime: found '0', expected seconds such as 60 or 0.5, more than 0"],
  ['sjq.waittime=0', "sjq.waittime: found '0', expected seconds such as 60 or 0.5, more than 0 and at most"],
  ['sjq.waittime=0.0001', "sjq.waittime: found '0.0001', expected seconds such as 60 or 0.5, more than 0"],
  ['sjq.waittime=-1', "sjq.waittime: found '-1', expected seconds"],
  [
    'sjq.waittime=3000000',
    "sjq.waittime: found '3000000', expected seconds such as 60 or 0.5, more than 0 and at most 2000000",
  ],
  ['sjq.waittime=1m', "sjq.waittime: found '1m', expected seconds"],
  ['sjq.maxmem=0', "sjq.maxmem: found '0', expected a size such as 8M, 2G"],
  ['sjq.maxmem=8X', "sjq.maxmem: found '8X', expected a size"],
  ['sjq.defaults.mem=', "sjq.defaults.mem: found '', expected a size"],
  [
    'sjq.socket=sjq.sock',
    "sjq.socket: found 'sjq.sock', expected the path of a file that begins with /, ~/ or $HOME/",
  ],
  ['sjq.socket=~', "sjq.socket: found '~', expected the path"],
  ['sjq.pidfile=', "sjq.pidfile: found '', expected the path"],
  ['sjq.pidfile=/a\x1bb', "sjq.pidfile: found '/a\\x1bb', expected the path"],
];
for (const [line, message] of mistakes)
  test(`${JSON.stringify(line)} is refused`, () => {
    expect(() => read(`\n# sizes\n${line}\n`)).toThrow(UsageError);
    expect(() => read(`\n# sizes\n${line}\n`)).toThrow(`~/.sjqrc line 3: ${message}`);
  });

test('a home with a $ in it is taken as it is', () => {
  expect(readSjqrc('sjq.socket=~/s', { home: '/home/$&', cpus: 1 }).socketPath).toBe('/home/$&/s');
});

test('sizes', () => {
  for (const [text, sizeMiB] of [
    ['100M', 100],
    ['2G', 2048],
    ['1.5t', 1_572_864],
    ['2GB', 2048],
    ['2 GiB', 2048],
    ['1025k', 2],
    ['1048576', 1],
    ['1048577', 2],
    ['1B', 1],
    ['0', 0],
  ] as const)
    expect(parseSjqMem(text), text).toBe(sizeMiB);
  for (const text of ['', 'G', '-1G', '1e9', 'x', '2P', '1 000', '9'.repeat(400), '0x10', 'NaN'])
    expect(() => parseSjqMem(text), text).toThrow(RangeError);
  expect(() => parseSjqMem('2\x07')).toThrow("found the size '2\\x07', expected a size such as 8M, 2G");
});
