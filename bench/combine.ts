/**
 * `combine_folders` beside the same merge by `rsync -a`, one folder after the other: four folders of 25,000 small files, a
 * quarter of them the same in all. Every round writes into a new folder, and none is removed before the end: ext4 is
 * several times slower at giving out inodes that were freed a moment ago, which would meet whichever runs second.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Figure } from './figure.ts';
import type { Bench } from './project.ts';
import { interleaved, secondsOf } from './timing.ts';

const COMBINE_FOLDERS = fileURLToPath(new URL('../dist/cli/combine-folders.js', import.meta.url));
const SOURCES = 4;
const FOLDERS = 100;
const FILES_PER_FOLDER = 250;
/** Every fourth file has the same path and content in all sources. */
const SHARED_EVERY = 4;
const ROUNDS = 3;

/** Measures both, first into new folders, then again over what is there. */
export async function combineBench(bench: Pick<Bench, 'folder'>): Promise<readonly Figure[]> {
  const root = join(bench.folder, 'combine');
  const sources = Array.from({ length: SOURCES }, (_, i) => makeSource(join(root, `source${i}`), i));
  let round = 0;
  const places = () => ({ ours: join(root, `ours${round}`), theirs: join(root, `rsync${round}`) });
  const ours = (dest: string) =>
    secondsOf({ program: process.execPath, args: [COMBINE_FOLDERS, dest, ...sources] });
  const theirs = (dest: string) =>
    secondsOf({
      program: '/bin/sh',
      args: ['-ec', 'dest=$1; shift; for s; do rsync -a "$s/" "$dest/"; done', 'sh', dest, ...sources],
    });
  const { medians } = await interleaved(ROUNDS, [
    () => ours(places().ours),
    () => theirs(places().theirs),
    () => ours(places().ours),
    () => theirs(places().theirs),
    async () => ++round,
  ]);
  const [first = 0, firstPeer = 0, again = 0, againPeer = 0] = medians;
  const seconds = (value: number) => `${value.toFixed(2)} s`;
  const peer = (value: number) => ({ name: 'rsync -a, one by one', value: seconds(value) });
  const files = (SOURCES * FOLDERS * FILES_PER_FOLDER).toLocaleString('en');
  return [
    {
      what: `combine_folders: ${SOURCES} folders, ${files} small files, a quarter identical`,
      ...{ ours: seconds(first), peer: peer(firstPeer), ratio: first / firstPeer },
      goal: { type: 'at most', value: 1 },
    },
    {
      // For comparison only: rsync goes by size and time here, combine_folders reads every file.
      what: 'the same again, with nothing new',
      ...{ ours: seconds(again), peer: peer(againPeer), ratio: again / againPeer },
    },
  ];
}

function makeSource(path: string, source: number): string {
  for (let folder = 0; folder < FOLDERS; folder++) {
    const place = join(path, `folder${folder}`);
    mkdirSync(place, { recursive: true });
    for (let file = 0; file < FILES_PER_FOLDER; file++) {
      const isShared = file % SHARED_EVERY === 0;
      const name = isShared ? `same${file}.txt` : `only${source}-${file}.txt`;
      const text = isShared ? `${folder} ${file}\n` : `${source} ${folder} ${file}\n`;
      writeFileSync(join(place, name), text.repeat(10 + (file % 60)));
    }
  }
  return path;
}
