// What `npm start` says on stderr while it works: each step, and how far it is, with the time since the beginning.

/** Between two lines about the same step; on a terminal one line is written anew. */
const LINE_MS = 4000
const TERMINAL_MS = 250

export class Progress {
  readonly #stream: NodeJS.WriteStream
  readonly #began = performance.now()

  constructor(stream: NodeJS.WriteStream) {
    this.#stream = stream
  }

  #line(text: string): string {
    return `start: ${((performance.now() - this.#began) / 1000).toFixed(1).padStart(5)} s  ${text}`
  }

  say(text: string): void {
    this.#stream.write(`${this.#line(text)}\n`)
  }

  /** Says `what` at once, and then again and again how far it is. @param status how far, in a few words */
  async during<T>(what: string, operation: () => Promise<T>, status: () => string = () => ''): Promise<T> {
    const { isTTY } = this.#stream
    this.say(what)
    const tell = () => {
      const text = this.#line(`  ${status() || '…'}`)
      this.#stream.write(isTTY ? `\r\x1b[K${text}` : `${text}\n`)
    }
    const timer = setInterval(tell, isTTY ? TERMINAL_MS : LINE_MS)
    try {
      return await operation()
    } finally {
      clearInterval(timer)
      if (isTTY) this.#stream.write('\r\x1b[K')
    }
  }
}
