/** What a results folder tells of one attempt whose controller may have died while it was published. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { JobOutcome } from '../domain/job.ts';
import { completePartial, findPartial, partialPaths } from './partial-result.ts';
import type { AttemptManifest } from './result-files.ts';

/**
 * How an attempt ended whose result is whole here, under its job's name or beside it as `NAME.attempt-N`. A result that
 * lacks only its last rename gets it. Undefined when there is no whole result of that very attempt.
 */
export function publishedOutcome(
  folder: string,
  { name, hasFolder }: { readonly name: string; readonly hasFolder: boolean },
  attempt: AttemptManifest,
): JobOutcome | undefined {
  const partial = findPartial(folder, { name, hasFolder });
  if (partial.type === 'complete' && isOf(attempt, readManifest(partial.manifest)))
    completePartial(folder, name);
  const manifest = readManifest(join(folder, `${name}.json`));
  if (isOf(attempt, manifest)) return outcomeOf(manifest);
  // Of one beside, the files come after the manifest: what is still in `.partial/` has to be fetched again.
  if (existsSync(partialPaths(folder, name).folder)) return undefined;
  const beside = readManifest(join(folder, `${name}.attempt-${attempt.attempt}.json`));
  return isOf(attempt, beside) ? outcomeOf(beside) : undefined;
}

type Manifest = Readonly<Record<string, unknown>>;

function readManifest(path: string): Manifest | undefined {
  try {
    const parsed: unknown = JSON.parse(readFileSync(path, 'utf8'));
    return typeof parsed === 'object' && parsed !== null ? (parsed as Manifest) : undefined;
  } catch {
    return undefined; // not there, or cut off by a power cut: then the machine tells
  }
}

function isOf({ batch, attempt }: AttemptManifest, manifest: Manifest | undefined): manifest is Manifest {
  return manifest !== undefined && manifest.batch === batch && manifest.attempt === attempt;
}

/** The outcome as `manifestOf` wrote it; undefined when somebody has changed it into none. */
function outcomeOf(manifest: Manifest): JobOutcome | undefined {
  const { outcome: type, exit_code: exitCode, reason, memory, timeout_s: timeoutS } = manifest;
  const why = typeof reason === 'string' ? reason : '';
  const code = typeof exitCode === 'number' ? exitCode : undefined;
  switch (type) {
    case 'exited':
      return code === undefined ? undefined : { type, exitCode: code };
    case 'timed-out':
      return { type, timeoutMs: typeof timeoutS === 'number' ? timeoutS * 1000 : 0 };
    case 'out-of-memory':
      return { type, reason: why, memory: memory === 'gpu' ? 'gpu' : 'main', exitCode: code ?? 1 };
    case 'cancelled':
      return { type, reason: why };
    default:
      return undefined;
  }
}
