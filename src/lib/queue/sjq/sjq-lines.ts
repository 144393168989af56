/** Lines that the sjq door answers with, and the numbers of jobs in those that it reads. */
import { visibleText } from '../../util/terminal-text.ts';
import { byteCount } from './sjq-answer-room.ts';

const MAX_ANSWER_LENGTH = 4096;

/** One line: the word and what is said with it, cut where it is very long. */
export function answerLine(word: string, ...reasons: readonly string[]): Buffer {
  const text = reasons.join('; ');
  const cut = text.length > MAX_ANSWER_LENGTH ? `${text.slice(0, MAX_ANSWER_LENGTH)}...` : text;
  return Buffer.from(`${cut === '' ? word : `${word} ${visibleText(cut)}`}\r\n`);
}

/** What comes before the bytes of a STATUS. */
export function lengthLine(pieces: readonly Buffer[]): Buffer {
  return Buffer.from(`OK ${byteCount(pieces)}\r\n`);
}

/** Any whole number. @throws Error for what is none */
export function jobId(word: string, text: string): number {
  if (/^[+-]?\d+$/.test(text)) return Number(text);
  throw new Error(
    `${word}: found '${text.slice(0, 60)}', expected ${word === 'STATUS' ? 'nothing or ' : ''}the number of a job`,
  );
}

/** Whether a job can have the number. */
export function isPossible(id: number): boolean {
  return Number.isSafeInteger(id) && id >= 1;
}
