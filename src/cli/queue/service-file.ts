/** A systemd user unit that keeps a service running. */
import { UsageError } from '../../lib/domain/errors.ts';
import { type StartArguments, startWords } from './start-arguments.ts';

/** Where a unit's words come from. */
export interface UnitOptions {
  /** Absolute path of node. */
  readonly node: string;
  /** Flags of node itself. */
  readonly nodeFlags: readonly string[];
  /** Absolute path of this program. */
  readonly program: string;
  /** Absolute folder that machine files are relative to. */
  readonly cwd: string;
}

export const UNIT = 'ssh-scheduler-queue.service';

/** The unit's text. @throws UsageError for a path with a newline, which no unit can hold */
export function unitText(args: StartArguments, { node, nodeFlags, program, cwd }: UnitOptions): string {
  const words = [node, ...nodeFlags, program, 'start', ...startWords(args)];
  return `[Unit]
Description=ssh-scheduler queue service

[Service]
ExecStart=${words.map(unitWord).join(' ')}
WorkingDirectory=${cwd.replaceAll('%', '%%')}
Restart=on-failure
RestartSec=10
# Jobs outlive the service: only its own process ends with it.
KillMode=process

[Install]
WantedBy=default.target
`;
}

/** What a person does with it. */
export const UNIT_HELP = [
  'to install it:',
  `  job_queue service-file > ~/.config/systemd/user/${UNIT}`,
  `  systemctl --user daemon-reload && systemctl --user enable --now ${UNIT}`,
  '  loginctl enable-linger    (so that it starts without a login, and outlives a logout)',
];

/** systemd expands $ and % and reads quotes by itself. */
function unitWord(word: string): string {
  if (/[\n\0]/.test(word)) throw new UsageError('a unit cannot hold a path with a newline');
  return `"${word.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('%', '%%').replaceAll('$', '$$$$')}"`;
}
