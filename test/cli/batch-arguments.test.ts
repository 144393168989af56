import { describe, expect, it } from 'vitest';
import { parseBatchArguments } from '../../src/cli/batch-arguments.ts';

const parse = (...more: string[]) => parseBatchArguments(['b.sh', '--machines', 'local', ...more]);

describe('parseBatchArguments', () => {
  it('sends the working directory and shares nothing, unless told', async () => {
    expect(await parse()).toMatchObject({
      copyForwards: 'working-directory',
      shareForwards: [],
      copyBackwards: 'changed',
    });
  });

  it('reads what is shared as a list beside what is copied', async () => {
    expect(await parse('--share-forwards', 'data', 'models', '--verbose')).toMatchObject({
      copyForwards: 'working-directory',
      shareForwards: ['data', 'models'],
    });
    expect(await parse('--copy-forwards', 'code', '--share-forwards=-data')).toMatchObject({
      copyForwards: ['code'],
      shareForwards: ['-data'],
    });
    expect(await parse('--share-forwards', '--copy-forwards')).toMatchObject({
      copyForwards: [],
      shareForwards: [],
    });
    await expect(parse('--share-forward', 'x')).rejects.toThrow('did you mean --share-forwards?');
  });
});
