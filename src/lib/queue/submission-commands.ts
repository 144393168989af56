/** What the jobs of one submit run, and what they ask for: all that ask for the same have one object for it. */
import type { QueueJobSpec } from '../domain/queue.ts';
import { type ResourceRequest, requestKey } from '../domain/resources.ts';
import type { ForwardedPaths } from '../files/source-trees.ts';
import { shellQuote } from '../util/shell-quote.ts';
import type { SubmitJob, SubmitRequest } from './requests.ts';

/** What a job asks for. Those that are equal are the same object, and so are their parts. */
export interface Wants extends Pick<QueueJobSpec, 'request' | 'copyBackwards'> {
  readonly forwards: Readonly<ForwardedPaths>;
}

/** One command of a submit. */
export interface SubmitCommand {
  /** Run under bash; a script's words. */
  readonly command: string;
  /** What its job's name begins with, where it has its own. */
  readonly name?: string;
  readonly wants: Wants;
}

const NOTHING: readonly never[] = Object.freeze([]);

/** The commands of a submit that was checked. */
export function commandsOf(submit: SubmitRequest): readonly SubmitCommand[] {
  const { jobs = [], script } = submit;
  const known = new KnownWants(submit);
  if (script === undefined)
    return jobs.map((job) => ({
      command: job.command,
      ...(job.name === undefined ? {} : { name: job.name }),
      wants: known.of(job),
    }));
  const command = [script.name, ...script.args].map(shownWord).join(' ');
  return [{ command, wants: known.of({}) }];
}

function shownWord(word: string): string {
  return /^[\w%+,./:=@-]+$/.test(word) ? word : shellQuote(word);
}

/** What jobs ask for that say nothing themselves, and what others ask for. */
class KnownWants {
  readonly #submit: SubmitRequest;
  readonly #requests = new Map<string, ResourceRequest>();
  readonly #forwards = new Map<string, ForwardedPaths>();
  readonly #files = new Map<string, Pick<Wants, 'forwards' | 'copyBackwards'>>();
  readonly #wants = new Map<ResourceRequest, Map<object, Wants>>();
  readonly #commonFiles: Pick<Wants, 'forwards' | 'copyBackwards'>;

  constructor(submit: SubmitRequest) {
    this.#submit = submit;
    this.#commonFiles = this.#filesOf({});
  }

  of(job: Omit<SubmitJob, 'command' | 'name'>): Wants {
    const asked = job.request ?? this.#submit.request;
    const request = known(this.#requests, requestKey(asked), () => asked);
    const { copyForwards, shareForwards, copyBackwards } = job;
    const isCommon = copyForwards === undefined && shareForwards === undefined && copyBackwards === undefined;
    const files = isCommon ? this.#commonFiles : this.#filesOf(job);
    let byFiles = this.#wants.get(request);
    if (byFiles === undefined) {
      byFiles = new Map();
      this.#wants.set(request, byFiles);
    }
    return known(byFiles, files, () => ({ request, ...files }));
  }

  #filesOf(job: Omit<SubmitJob, 'command'>): Pick<Wants, 'forwards' | 'copyBackwards'> {
    const { runHere = false, cwd, ...submit } = this.#submit;
    // A script that runs here is where its files are.
    const common = runHere
      ? { copyForwards: NOTHING, shareForwards: NOTHING, copyBackwards: NOTHING }
      : {
          copyForwards: submit.copyForwards ?? (cwd === undefined ? NOTHING : ('working-directory' as const)),
          shareForwards: submit.shareForwards ?? NOTHING,
          copyBackwards: submit.copyBackwards ?? ('changed' as const),
        };
    const copyForwards = job.copyForwards ?? common.copyForwards;
    const shareForwards = job.shareForwards ?? common.shareForwards;
    const copyBackwards = job.copyBackwards ?? common.copyBackwards;
    return known(this.#files, JSON.stringify([copyForwards, shareForwards, copyBackwards]), () => ({
      forwards: known(this.#forwards, JSON.stringify([copyForwards, shareForwards]), () => ({
        copyForwards,
        shareForwards,
      })),
      copyBackwards,
    }));
  }
}

/** The value of a key, made the first time. */
function known<K, V extends object>(values: Map<K, V>, key: K, make: () => V): V {
  const there = values.get(key);
  if (there !== undefined) return there;
  const made = Object.freeze(make());
  values.set(key, made);
  return made;
}
