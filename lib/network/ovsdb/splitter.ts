// Cuts a stream into JSON objects, which follow each other with nothing or white space in between: RFC 7047 section 4.

import { OvsdbError } from '../../errors.ts'

const OPEN = 0x7b
const CLOSE = 0x7d
const QUOTE = 0x22
const BACKSLASH = 0x5c

/** A message is at most so long: the first of a monitor holds all rows, of some hundred bytes each. */
export const MAX_MESSAGE = 64 * 2 ** 20

const isSpace = (byte: number): boolean => byte === 0x20 || (byte >= 0x09 && byte <= 0x0d)

const bad = (problem: string): OvsdbError =>
  new OvsdbError('ERR_OVSDB_PROTOCOL', `no OVSDB: ${problem}`, {
    hint: 'Something else may listen there than an OVSDB server.',
  })

/** What came, for a message. */
const shown = (bytes: Uint8Array): string => JSON.stringify(Buffer.from(bytes.subarray(0, 40)).toString('latin1'))

export class JsonSplitter {
  readonly #most: number
  /** Of the object that has begun, chunk by chunk. */
  #parts: Uint8Array[] = []
  #length = 0
  #depth = 0
  #inString = false
  #escaped = false

  constructor(most = MAX_MESSAGE) {
    this.#most = most
  }

  /**
   * The objects that end in this chunk.
   * @throws {OvsdbError} `ERR_OVSDB_PROTOCOL`: the stream is of no use any more.
   */
  push(chunk: Uint8Array): object[] {
    const objects: object[] = []
    let begin = 0
    for (let at = 0; at < chunk.length; at++) {
      const byte = chunk[at]!
      if (this.#depth === 0) {
        if (isSpace(byte)) continue
        if (byte !== OPEN) throw bad(`expected a JSON object, received ${shown(chunk.subarray(at))}`)
        begin = at
        this.#depth = 1
      } else if (this.#inString) {
        if (this.#escaped) this.#escaped = false
        else if (byte === BACKSLASH) this.#escaped = true
        else if (byte === QUOTE) this.#inString = false
      } else if (byte === QUOTE) this.#inString = true
      else if (byte === OPEN) this.#depth++
      else if (byte === CLOSE && --this.#depth === 0) {
        this.#keep(chunk.subarray(begin, at + 1))
        objects.push(this.#take())
      }
    }
    if (this.#depth > 0) this.#keep(chunk.subarray(begin))
    return objects
  }

  /** @throws {OvsdbError} `ERR_OVSDB_PROTOCOL` where the stream ends within an object. */
  end(): void {
    if (this.#depth > 0) throw bad(`it ended after ${this.#length} bytes of a message`)
  }

  #keep(part: Uint8Array): void {
    this.#length += part.length
    if (this.#length > this.#most) throw bad(`a message of more than ${this.#most} bytes`)
    this.#parts.push(part)
  }

  #take(): object {
    const bytes = this.#parts.length === 1 ? this.#parts[0]! : Buffer.concat(this.#parts)
    this.#parts = []
    this.#length = 0
    try {
      return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes)) as object
    } catch (error) {
      throw bad(`${(error as Error).message} in ${shown(bytes)}`)
    }
  }
}
