// The kernel's console: kept in a file as a whole, and in memory as far as a failure report needs it.

import { createWriteStream, type WriteStream } from 'node:fs'
import type { Readable } from 'node:stream'

const reportedLines = 60
const keptCharacters = 64 * 1024

export class KernelConsole {
  readonly file: string
  readonly #output: WriteStream
  #text = ''

  constructor(source: Readable, file: string) {
    this.file = file
    this.#output = createWriteStream(file)
    source.on('data', (chunk: Buffer) => {
      this.#output.write(chunk)
      this.#text = (this.#text + chunk.toString('latin1')).slice(-keptCharacters)
    })
  }

  get panicked(): boolean {
    return this.#text.includes('Kernel panic - not syncing')
  }

  /** The last lines, for a failure report. */
  get tail(): string {
    return this.#text.replaceAll('\r', '').trimEnd().split('\n').slice(-reportedLines).join('\n')
  }

  close(): Promise<void> {
    return new Promise((resolve) => this.#output.end(resolve))
  }
}
