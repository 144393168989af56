/** What a machine's row in an answer has to have. */
import type { MachineRow } from '../../lib/queue/requests.ts';
import type { Shape } from './door.ts';

export const MACHINE_ROW = {
  name: 'string',
  state: 'string',
  running: 'list',
  runningHere: 'list',
  waiting: 'list',
} as const satisfies Shape<MachineRow>;
