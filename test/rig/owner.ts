/** A process that starts hosts and then waits to be killed: rig.long.test.ts proves with it that nothing outlives it. */
import type { RigMode } from './host-spec.ts';
import { TestHosts } from './test-hosts.ts';

const [mode, marker] = process.argv.slice(2) as [RigMode, string]; // given by the test that starts this
const hosts = await TestHosts.start([{ name: 'orphan' }], { mode });
await hosts.get('orphan').exec(`setsid sleep ${marker} </dev/null >/dev/null 2>&1 &`);
process.stdout.write(`${hosts.folder} ${hosts.get('orphan').address}\n`);
setInterval(() => {}, 60_000);
