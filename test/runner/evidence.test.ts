import { expect, test } from 'vitest';
import {
  type ExitFacts,
  exitOutcome,
  faultOfFailedStart,
  lastErrorLine,
} from '../../src/lib/runner/evidence.ts';

const FAILED: Omit<ExitFacts, 'errorTail'> = { exitCode: 1, durationMs: 2000, hasGpus: true };

function outcomeOf(stderr: string, facts: Partial<ExitFacts> = {}) {
  return exitOutcome({ ...FAILED, ...facts, errorTail: Buffer.from(stderr) });
}

const GPU_MEMORY_MESSAGES = [
  'Traceback (most recent call last):\n  File "train.py", line 12, in <module>\ntorch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 7.75 GiB of which 6.10 GiB is free.\n',
  'torch.cuda.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 MiB (GPU 0; 11.17 GiB total capacity)\n',
  'RuntimeError: CUDA out of memory. Tried to allocate 20.00 MiB (GPU 0; 1.96 GiB total capacity)\nwandb: Synced 5 files\n',
  '[rank3]: torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 1.00 GiB.\n',
  'RuntimeError: CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported at some other API call\n',
  'THCudaCheck FAIL file=x.cu line=58 error=2 : out of memory\nRuntimeError: cuda runtime error (2) : out of memory at x.cu:58\n',
  'CUDA error 2 at ggml-cuda.cu:7233: out of memory\n',
  "CUDA Error: out of memory\ndarknet: ./src/cuda.c:36: check_error: Assertion `0' failed.\n",
  'terminate called after throwing: cudaErrorMemoryAllocation: out of memory\n',
  'failed to allocate 9.50G (10200547328 bytes) from device: CUDA_ERROR_OUT_OF_MEMORY: out of memory\n',
  'jaxlib.xla_extension.XlaRuntimeError: RESOURCE_EXHAUSTED: Out of memory allocating 34359738368 bytes.\n',
  'tensorflow.python.framework.errors_impl.ResourceExhaustedError: OOM when allocating tensor with shape[4096,4096] and type float on /job:localhost/replica:0/task:0/device:GPU:0 by allocator GPU_0_bfc\n',
  'torch.OutOfMemoryError: HIP out of memory. Tried to allocate 64.00 GiB.\n',
  'hipErrorOutOfMemory: out of memory\n',
  'cupy.cuda.memory.OutOfMemoryError: Out of memory allocating 8,000,000,000 bytes\n',
  '\u001b[31mRuntimeError: CUDA out of memory.\u001b[0m\n',
];
test.each(GPU_MEMORY_MESSAGES)('GPU memory ran out: %j', (stderr) => {
  expect(outcomeOf(stderr)).toMatchObject({ type: 'out-of-memory', memory: 'gpu', exitCode: 1 });
  expect(outcomeOf(stderr, { exitCode: 0 })).toEqual({ type: 'exited', exitCode: 0 });
  // It is told by what it says, however late it comes.
  expect(outcomeOf(stderr, { durationMs: 3_600_000, hasGpus: false }).type).toBe('out-of-memory');
});

const OTHER_MESSAGES = [
  '',
  'out of memory\n',
  'my cache is out of memory slots\n',
  'Hint: lower the batch size if CUDA runs out of memory\n',
  'note that CUDA out of memory is common on small cards\n',
  'java.lang.OutOfMemoryError: Java heap space\n',
  'MemoryError: Unable to allocate 8.00 GiB for an array\n',
  'grpc: RESOURCE_EXHAUSTED: Quota exceeded for requests per minute\n',
  'ResourceExhaustedError: OOM when allocating tensor with shape[9] on /job:localhost/device:CPU:0 by allocator cpu\n',
  'ValueError: CUDA_VISIBLE_DEVICES is odd\n',
  'Killed\n',
];
test.each(OTHER_MESSAGES)('stays an exit: %j', (stderr) => {
  expect(outcomeOf(stderr)).toEqual({ type: 'exited', exitCode: 1 });
});

test('main memory ran out only where the command was killed and the kernel had killed for it', () => {
  for (const exitCode of [137, 265, 247]) {
    expect(outcomeOf('', { exitCode, oomKills: 'in job' })).toEqual({
      type: 'out-of-memory',
      memory: 'main',
      exitCode,
      reason: `it was killed (exit ${exitCode}), and the kernel killed processes of this job for want of memory`,
    });
    expect(outcomeOf('', { exitCode, oomKills: 'on machine' })).toMatchObject({
      memory: 'main',
      reason: expect.stringContaining('on its machine'),
    });
    expect(outcomeOf('Killed\n', { exitCode })).toEqual({ type: 'exited', exitCode });
  }
  expect(outcomeOf('', { exitCode: 1, oomKills: 'in job' })).toEqual({ type: 'exited', exitCode: 1 });
  expect(outcomeOf('', { exitCode: 143, oomKills: 'on machine' })).toEqual({ type: 'exited', exitCode: 143 });
  expect(outcomeOf('', { exitCode: 0, oomKills: 'in job' })).toEqual({ type: 'exited', exitCode: 0 });
});

const FAULTS: readonly (readonly [string, string, Partial<ExitFacts>?])[] = [
  ["OSError: [Errno 28] No space left on device: '/scratch/x'\n", 'no space left on a disk'],
  ['bash: line 1: echo: write error: No space left on device\n', 'no space left on a disk'],
  ['Error: ENOSPC: no space left on device, write\n', 'no space left on a disk'],
  ['cp: error writing out: Disk quota exceeded\n', 'its disk quota is exceeded'],
  ["touch: cannot touch 'x': Read-only file system\n", 'a file system is read-only'],
  [
    "FileNotFoundError: [Errno 2] No usable temporary directory found in ['/tmp', '/var/tmp', '/usr/tmp', '/w']\n",
    'no usable temporary folder',
  ],
  [
    "mktemp: failed to create file via template '/tmp/tmp.XXXXXXXXXX': Permission denied\n",
    'no usable temporary folder',
  ],
  [
    'RuntimeError: CUDA error: CUDA driver version is insufficient for CUDA runtime version\n',
    'its CUDA driver is too old',
  ],
  ['RuntimeError: No CUDA GPUs: no CUDA-capable device is detected\n', 'no working CUDA device'],
  [
    'Failed to initialize NVML: Driver/library version mismatch\nNVML library version: 535.129\n',
    'its NVIDIA driver and library do not match',
  ],
  ['Unable to determine the device handle for GPU 0000:65:00.0: Unknown Error\n', 'a GPU does not answer'],
  [
    'RuntimeError: CUDA unknown error - this may be due to an incorrectly set up environment\n',
    'a GPU does not answer',
  ],
  ['pynvml.NVMLError_DriverNotLoaded: Driver Not Loaded\n', 'its NVIDIA driver does not work'],
  ['setsid: failed to execute bash: No such file or directory\n', 'bash cannot be run', { exitCode: 127 }],
];
test.each(FAULTS.map(([stderr, fault, facts = {}]) => ({ stderr, fault, facts })))(
  'a fault of the machine: $stderr',
  ({ stderr, fault, facts }) => {
    const exitCode = facts.exitCode ?? 1;
    expect(outcomeOf(stderr, facts)).toEqual({ type: 'exited', exitCode, machineFault: fault });
    // Later it is more likely the job's own doing, and a command that succeeds got over it.
    expect(outcomeOf(stderr, { ...facts, durationMs: 10_001 })).toEqual({ type: 'exited', exitCode });
    expect(outcomeOf(stderr, { exitCode: 0 })).toEqual({ type: 'exited', exitCode: 0 });
  },
);

const NO_FAULTS: readonly (readonly [string, Partial<ExitFacts>?])[] = [
  ['I check whether there is no space left on device first\n'],
  ["FileNotFoundError: [Errno 2] No such file or directory: 'data.csv'\n"],
  ["mktemp: failed to create file via template '/home/me/missing/x.XXX': No such file or directory\n"],
  ['bash: line 1: trian.py: command not found\n', { exitCode: 127 }],
  ['bash: ./run.sh: Permission denied\n', { exitCode: 126 }],
  ['pynvml.NVMLError_NotSupported: Not Supported\n'],
  // A job that was given no GPU may not expect one.
  ['RuntimeError: no CUDA-capable device is detected\n', { hasGpus: false }],
  // It got over that, and failed for another reason.
  [`x: No space left on device\n${'still going\n'.repeat(12)}AssertionError\n`],
];
test.each(NO_FAULTS.map(([stderr, facts = {}]) => ({ stderr, facts })))(
  'no fault of the machine: $stderr',
  ({ stderr, facts }) => {
    const exitCode = facts.exitCode ?? 1;
    expect(outcomeOf(stderr, facts)).toEqual({ type: 'exited', exitCode });
  },
);

test('a start that failed there is a fault of the machine, a mistake in the job is not', () => {
  expect(faultOfFailedStart('cannot write to /r/j/1 (disk full?)')).toBe(
    'cannot write to /r/j/1 (disk full?)',
  );
  expect(faultOfFailedStart('cannot copy the source tree: cp: x: No space left on device')).toBe(
    'no space left on a disk',
  );
  expect(faultOfFailedStart('cannot make /r/j: mkdir: /r: Read-only file system')).toBe(
    'a file system is read-only',
  );
  expect(faultOfFailedStart('cannot link a shared input: data is there already')).toBeUndefined();
});

test('the last line that says something, as a person would read it', () => {
  const last = (text: string | Buffer) => lastErrorLine(Buffer.from(text));
  expect(last('')).toBeUndefined();
  expect(last(' \n\n\r\n')).toBeUndefined();
  expect(last('one\ntwo  \n\n  \n')).toBe('two');
  expect(last('  5%\r 10%\r 15%')).toBe('15%');
  expect(last('\u001b[1;31mValueError:\u001b[0m bad\u001b[K\n')).toBe('ValueError: bad');
  expect(last('Grüße 🚀\n')).toBe('Grüße 🚀');
  expect(last(Buffer.from([0xff, 0x41, 0x0a]))).toBe('\ufffdA');
  expect([...(last('🚀'.repeat(400)) ?? '')]).toHaveLength(300);
});
