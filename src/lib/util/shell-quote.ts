/** Quotes text so that a POSIX shell reads it back as one word, byte for byte (a NUL cannot be passed at all). */
export function shellQuote(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}
