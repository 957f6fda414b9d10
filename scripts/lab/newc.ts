// Writes cpio archives of the "newc" kind, which the kernel unpacks as its first root.

const directoryMode = 0o040755
const symlinkMode = 0o120777
const regularMode = 0o100755

const headerFields = 13

const pad = (length: number): Buffer => Buffer.alloc(-length & 3)

/** Collects entries; directories are made before the files in them. */
export class NewcArchive {
  readonly #chunks: Buffer[] = []
  readonly #directories = new Set<string>()
  #inode = 0

  directory(name: string): void {
    if (name === '' || this.#directories.has(name)) return
    this.directory(name.slice(0, Math.max(0, name.lastIndexOf('/'))))
    this.#directories.add(name)
    this.#entry(name, directoryMode, Buffer.alloc(0))
  }

  file(name: string, content: Buffer | string): void {
    this.directory(name.slice(0, Math.max(0, name.lastIndexOf('/'))))
    this.#entry(name, regularMode, Buffer.from(content))
  }

  symlink(name: string, target: string): void {
    this.directory(name.slice(0, Math.max(0, name.lastIndexOf('/'))))
    this.#entry(name, symlinkMode, Buffer.from(target))
  }

  /** The archive with its end mark. The kernel also accepts several finished archives one after the other. */
  finish(): Buffer {
    this.#entry('TRAILER!!!', 0, Buffer.alloc(0))
    return Buffer.concat(this.#chunks)
  }

  #entry(name: string, mode: number, content: Buffer): void {
    this.#inode += 1
    const links = 1
    const nameBytes = Buffer.from(`${name}\0`)
    const fields = new Array<number>(headerFields).fill(0)
    // In the format's order: inode, mode, uid, gid, links, time, size, four device numbers, name length, checksum.
    fields[0] = this.#inode
    fields[1] = mode
    fields[4] = links
    fields[6] = content.length
    fields[11] = nameBytes.length
    const header = Buffer.from(`070701${fields.map((field) => field.toString(16).padStart(8, '0')).join('')}`)
    const head = Buffer.concat([header, nameBytes])
    this.#chunks.push(head, pad(head.length), content, pad(content.length))
  }
}
