/**
 * A terminal's screen with its scrollback, for what a reporter writes: plain text and the few escape sequences that
 * a footer needs. An unknown sequence is an error, so that nothing goes unseen.
 */
const SEQUENCE = /\x1b\[(\??)(\d*)([A-Za-z])/y;

export class Screen {
  /** All lines since the start; the last `rows` of them are on the screen. */
  readonly #lines: string[][] = [[]];
  #row = 0;
  #column = 0;
  cursorIsVisible = true;

  constructor(
    readonly columns: number,
    readonly rows: number,
  ) {}

  write(text: string): void {
    for (let index = 0; index < text.length; ) {
      if (text[index] === '\x1b') {
        SEQUENCE.lastIndex = index;
        const match = SEQUENCE.exec(text);
        if (!match)
          throw new Error(`unknown escape sequence at ${JSON.stringify(text.slice(index, index + 12))}`);
        this.#control(match[1] ?? '', match[2] ?? '', match[3] ?? '');
        index += match[0].length;
      } else {
        this.#put(text[index] ?? '');
        index++;
      }
    }
  }

  /** Every line ever written and not erased since, without blanks at the ends and empty lines at the bottom. */
  get text(): string {
    return this.#lines
      .map((line) =>
        Array.from(line, (character) => character ?? ' ')
          .join('')
          .trimEnd(),
      )
      .join('\n')
      .trimEnd();
  }

  #put(character: string): void {
    if (character === '\r') this.#column = 0;
    else if (character === '\n') this.#newLine();
    else {
      if (this.#column === this.columns) this.#newLine();
      const line = this.#lines[this.#row];
      if (line) line[this.#column] = character;
      this.#column++;
    }
  }

  #newLine(): void {
    this.#column = 0;
    this.#row++;
    if (this.#row === this.#lines.length) this.#lines.push([]);
  }

  #control(mark: string, number: string, name: string): void {
    const count = Number(number || '1');
    const top = Math.max(0, this.#lines.length - this.rows);
    if (mark === '?') {
      if (number === '25') this.cursorIsVisible = name === 'h';
      else if (number !== '2026') throw new Error(`unknown mode ${number}`);
    } else if (name === 'A') this.#row = Math.max(top, this.#row - count);
    else if (name === 'B') this.#row = Math.min(this.#lines.length - 1, this.#row + count);
    else if (name === 'G') this.#column = count - 1;
    else if (name === 'K' && number === '2') this.#lines[this.#row] = [];
    else if (name === 'K') this.#lines[this.#row]?.splice(this.#column);
    else throw new Error(`unknown escape sequence ${number}${name}`);
  }
}
