/** Archives made by hand, such as no honest tar would send. */

/** One entry; `content` follows its header, whatever `size` says. */
export interface CraftedEntry {
  /** latin1. */
  readonly path: string;
  /** The type as it stands in the header. @default '0', a file */
  readonly type?: string;
  readonly target?: string;
  readonly content?: string | Buffer;
  /** @default the content's length */
  readonly size?: number;
  readonly mode?: number;
  /** Changes the finished header; its checksum is made anew behind it. */
  readonly patch?: (header: Buffer) => void;
}

/** One entry's bytes, with padding. */
export function crafted(entry: CraftedEntry): Buffer {
  const { path, type = '0', target = '', mode = 0o644, patch } = entry;
  const content = Buffer.from(entry.content ?? '');
  const size = entry.size ?? content.length;
  const header = Buffer.alloc(512);
  header.write(path.slice(0, 100), 0, 'latin1');
  header.write(`${mode.toString(8).padStart(7, '0')}\0`, 100, 'latin1');
  header.write('0000000\0'.repeat(2), 108, 'latin1');
  header.write(`${size.toString(8).padStart(11, '0')}\0`, 124, 'latin1');
  header.write(`${(1_600_000_000).toString(8)}\0`, 136, 'latin1');
  header.write(type, 156, 'latin1');
  header.write(target.slice(0, 100), 157, 'latin1');
  header.write('ustar\x0000', 257, 'latin1');
  patch?.(header);
  header.fill(' ', 148, 156);
  const sum = header.reduce((all, byte) => all + byte, 0);
  header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
  return Buffer.concat([header, content, Buffer.alloc((512 - (content.length % 512)) % 512)]);
}

/** An archive of these entries, with its end mark. */
export function craftedArchive(entries: readonly CraftedEntry[]): Buffer {
  return Buffer.concat([...entries.map(crafted), Buffer.alloc(1024)]);
}

/** The text of a pax header. */
export function paxText(records: Readonly<Record<string, string>>): string {
  return Object.entries(records)
    .map(([key, value]) => {
      const rest = ` ${key}=${value}\n`;
      let length = rest.length + 1;
      while (`${length}${rest}`.length !== length) length += 1;
      return `${length}${rest}`;
    })
    .join('');
}
