/** Keeps the layers of docs/architecture.md true: a file imports its own folder and lower layers, and no file imports in a circle. */
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import { expect, test } from 'vitest';

const LAYERS: Readonly<Record<string, number>> = {
  ...{ domain: 0, util: 0, machine: 1, remote: 2, files: 3, runner: 4, allocator: 5, stores: 5 },
  // The public names stand between the library and the commands, which may also import any file of the library.
  ...{ engine: 6, batch: 7, fanout: 7, folders: 7, queue: 7, 'index.ts': 7.5, cli: 8 },
};
const files = readdirSync('src', { recursive: true, encoding: 'utf8' }).filter((path) =>
  path.endsWith('.ts'),
);
const imports = new Map(files.map((file) => [file, importsOf(file)]));

/** Paths below src that a file imports, statically, dynamically or as types alone. */
function importsOf(file: string): string[] {
  const text = readFileSync(join('src', file), 'utf8').replaceAll(/^\s*(\/\/|\*|\/\*).*$/gm, '');
  const found = text.matchAll(/(?:\bfrom\s*|\bimport\s*\(?\s*)['"](\.[^'"]*)['"]/g);
  return [...found].map(([, path = '']) => normalize(join(dirname(file), path)));
}

/** `lib/engine/engine.ts` is in `engine`, `cli/report/text.ts` in `cli`, `lib/index.ts` by itself. */
function folderOf(file: string): string {
  const [top = '', second = ''] = file.split('/');
  return top === 'lib' ? second : top;
}

test('every folder has a layer, and every import leads to a file', () => {
  expect(files.map(folderOf).filter((folder) => LAYERS[folder] === undefined)).toEqual([]);
  expect([...imports.values()].flat().filter((path) => !files.includes(path))).toEqual([]);
});

test('a file imports its own folder and lower layers only', () => {
  const upward = [...imports].flatMap(([file, paths]) =>
    paths
      .filter((path) => folderOf(path) !== folderOf(file))
      .filter((path) => (LAYERS[folderOf(path)] ?? 99) >= (LAYERS[folderOf(file)] ?? 0))
      .map((path) => `${file} imports ${path}`),
  );
  expect(upward).toEqual([]);
});

test('no file imports itself in a circle', () => {
  const done = new Set<string>();
  const visit = (file: string, way: readonly string[]): void => {
    if (way.includes(file))
      throw new Error(`circle: ${[...way.slice(way.indexOf(file)), file].join(' -> ')}`);
    if (done.has(file)) return;
    for (const path of imports.get(file) ?? []) visit(path, [...way, file]);
    done.add(file);
  };
  for (const file of files) visit(file, []);
  expect(done.size).toBe(files.length);
});
