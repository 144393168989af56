/** A systemd user unit that keeps a service running. */
import { UsageError } from '../../lib/domain/errors.ts';
import { inForeground, type StartArguments, startWords } from './start-arguments.ts';
import { quoted } from './words.ts';

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

/** The unit's text. @throws UsageError for words and folders that no unit can hold */
export function unitText(args: StartArguments, { node, nodeFlags, program, cwd }: UnitOptions): string {
  const words = [node, ...nodeFlags, program, 'start', ...startWords(args), ...inForeground(args)];
  return `[Unit]
Description=ssh-scheduler queue service

[Service]
ExecStart=${words.map(unitWord).join(' ')}
WorkingDirectory=${unitFolder(cwd)}
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
  `to install it, put what is printed here into ~/.config/systemd/user/${UNIT} (make that folder where it is missing); then:`,
  `  systemctl --user daemon-reload && systemctl --user enable --now ${UNIT}`,
  '  loginctl enable-linger    (so that it starts without a login, and outlives a logout)',
];

/** systemd expands $ and % and reads quotes by itself. */
function unitWord(word: string): string {
  checkLine(word);
  return `"${word.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('%', '%%').replaceAll('$', '$$$$')}"`;
}

/** systemd takes quotes here for a part of the name, blanks at the ends for none, and a backslash at the end for a line that goes on. */
function unitFolder(path: string): string {
  checkLine(path);
  if (/[\s\\]$/.test(path))
    throw new UsageError(
      `a unit cannot hold the folder ${quoted(path)}, which ends with a blank or a backslash: call this in another one`,
    );
  return path.replaceAll('%', '%%');
}

/** A line that ends early would have the rest read as a setting of its own. */
function checkLine(text: string): void {
  if (/[\n\r\0]/.test(text))
    throw new UsageError(`a unit cannot hold ${quoted(text)}, in which there is a line break`);
}
