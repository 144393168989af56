/** `npm run test:long`: what takes longer than it tells while one works; `.ci/run` runs it as well. */
import { defineConfig, mergeConfig } from 'vitest/config';
import config from '../vitest.config.ts';

export default mergeConfig(
  { ...config, test: { ...config.test, include: [], exclude: [] } },
  defineConfig({ test: { include: ['test/**/*.long.test.ts'] } }),
);
