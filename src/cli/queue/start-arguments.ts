/** The command line of `job_queue start` and `job_queue service-file`. */
import { resolve } from 'node:path';
import { UsageError } from '../../lib/domain/errors.ts';
import { defaultDataFolder } from '../../lib/queue/data-folder.ts';
import type { ServiceOptions } from '../../lib/queue/service-options.ts';
import { checkSshConfig } from '../ssh-config-file.ts';
import { readSjqStart, type SjqStart } from './sjq-start.ts';
import { parseTime } from './values.ts';
import { badValue, noMoreWords, type Words } from './words.ts';

export const START_FLAGS = {
  '--log-dir': 'value',
  '--machines': 'list',
  '--group': 'value',
  '--order': 'value',
  '--starvation-limit': 'value',
  '--machine-lost-after': 'value',
  '--placement': 'value',
  '--sjq': 'switch',
  '--no-sjq': 'switch',
  '--allow-uid': 'switch',
} as const;

export const START_FLAGS_HELP = `  --data-dir DIR          its state [~/.local/share/ssh-scheduler/queue]; no network file system
  --log-dir DIR           its own log, and the output of scripts that run here [logs in the data folder]
  --machines F...         machines to have besides those it has: machine files, local, user@host:port, lists of these;
                          without any at all it serves local
  --group G               lets members of this group use it; they can run anything as you
  --order skip|strict     a job that does not fit is skipped for the next that does, or holds up all behind it [skip]
  --starvation-limit T    after so long at the head of the line one machine is kept free for a job [10m]
  --machine-lost-after T  run the jobs of a machine elsewhere once it has been away for so long [never]
  --placement spread|pack use the emptiest or the fullest machine that fits [spread]
  --ssh-config FILE       another ssh configuration file, as ssh -F
  --sjq                   also speaks the sjq protocol at ~/.sjq.sock, and runs its jobs on this machine; settings
                          come from ~/.sjqrc, which is enough by itself where it has a line sjq.KEY=VALUE
  --no-sjq                does not, whatever ~/.sjqrc says
  --allow-uid             (as root) lets sjq clients run jobs as other users
`;

/** What a service is to be started with. Folders are absolute. */
export type StartArguments = Omit<ServiceOptions, 'onNote' | 'tuning' | 'sjq'> & {
  readonly sjq?: SjqStart;
  /** `~/.sjqrc` opens no door. */
  readonly isWithoutSjq?: boolean;
};

type StartWords = Words<(keyof typeof START_FLAGS | '--data-dir' | '--host' | '--ssh-config') & string>;

/** What the words mean. `callThere` is what to call on another host, for one who wants it there. @throws UsageError */
export function readStart(words: StartWords, usage: string, callThere = usage): StartArguments {
  if (words.has('--host'))
    throw new UsageError(`--host is for a service that runs: log in there for this (ssh HOST ${callThere})`);
  if (words.words.length > 0 && !words.has('--machines'))
    throw new UsageError(`found "${words.words[0]}": machines stand behind --machines`);
  noMoreWords(words.words, 0, usage);
  const machines = words.values('--machines');
  if (machines?.length === 0) throw new UsageError('--machines needs at least one value, found none');
  const sshConfig = words.value('--ssh-config');
  checkSshConfig(sshConfig);
  const dataFolder = resolve(words.value('--data-dir') ?? defaultDataFolder());
  const logFolder = words.value('--log-dir');
  const group = words.value('--group');
  const order = words.read('--order', oneOf('skip', 'strict'));
  const starvationLimitMs = words.read('--starvation-limit', parseTime);
  const machineLostAfterMs = words.read('--machine-lost-after', parseTime);
  const placement = words.read('--placement', oneOf('spread', 'pack'));
  const isWithoutSjq = words.has('--no-sjq');
  if (isWithoutSjq && words.has('--sjq'))
    throw new UsageError('--sjq and --no-sjq contradict each other: give one of them');
  const wanted = words.has('--sjq') ? true : isWithoutSjq ? false : undefined;
  const sjq = readSjqStart({ wanted, allowsUid: words.has('--allow-uid') });
  return {
    dataFolder,
    ...(logFolder !== undefined && { logFolder: resolve(logFolder) }),
    ...(machines !== undefined && { machines }),
    ...(group !== undefined && { group }),
    ...(order !== undefined && { order }),
    ...(starvationLimitMs !== undefined && { starvationLimitMs }),
    ...(machineLostAfterMs !== undefined && { machineLostAfterMs }),
    ...(placement !== undefined && { placement }),
    ...(sshConfig !== undefined && { sshConfig: sshConfig === 'none' ? sshConfig : resolve(sshConfig) }),
    ...(sjq !== undefined && { sjq }),
    ...(isWithoutSjq && { isWithoutSjq }),
  };
}

function oneOf<Word extends string>(...words: readonly Word[]) {
  return (text: string, flag: string): Word => {
    const word = words.find((one) => one === text);
    if (word !== undefined) return word;
    throw badValue(flag, text, words.join(' or '));
  };
}

/** The flags that say the same again, for another process. */
export function startWords(args: StartArguments): readonly string[] {
  const {
    dataFolder,
    logFolder,
    machines,
    group,
    order,
    starvationLimitMs,
    machineLostAfterMs,
    placement,
    sshConfig,
    sjq,
    isWithoutSjq,
  } = args;
  const flag = (name: string, value: string | undefined) => (value === undefined ? [] : [`${name}=${value}`]);
  const time = (name: string, ms: number | undefined) =>
    flag(name, ms === undefined ? undefined : `${ms / 1000}`);
  return [
    ...flag('--data-dir', dataFolder),
    ...flag('--log-dir', logFolder),
    ...flag('--group', group),
    ...flag('--order', order),
    ...time('--starvation-limit', starvationLimitMs),
    ...time('--machine-lost-after', machineLostAfterMs),
    ...flag('--placement', placement),
    ...flag('--ssh-config', sshConfig),
    ...(sjq === undefined ? [] : ['--sjq']),
    ...(sjq?.allowsUid === true ? ['--allow-uid'] : []),
    ...(isWithoutSjq === true ? ['--no-sjq'] : []),
    ...(machines ?? []).map((name) => `--machines=${name}`),
  ];
}

/** What keeps a process in the foreground that `~/.sjqrc` would send to the background, now or when it says so later. */
export function inForeground({ sjq }: StartArguments): readonly string[] {
  return sjq === undefined ? [] : ['--no-daemon'];
}
