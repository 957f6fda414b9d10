// A shell on a guest's console: commands are typed into it one by one, and each is awaited with what it printed.

import { setTimeout } from 'node:timers/promises'
import { PROMPT } from './initramfs.ts'

export interface CommandResult {
  output: string
  status: number
}

export interface ConsoleOptions {
  /** Types into the guest's serial port. */
  write: (text: string) => void
  /** Resolves when the machine runs no more, whatever the reason. */
  ended: Promise<unknown>
  /** Where the guest stands, for a failure report. */
  explain?: () => string
  /** How long a command may take of which nothing else is said. Default 60. */
  seconds?: number
  /** Whatever is awaited rejects with the reason of this one's abortion. */
  signal?: AbortSignal
}

/** The shell of `writeGuestInitramfs`. Whoever reads the serial port passes it on with `hear`. */
export class ConsoleShell {
  /** Everything that was heard. */
  text = ''
  readonly #options: ConsoleOptions
  readonly #over: Promise<'over' | 'aborted'>
  #commands = 0
  /** How much of the text was an answer already. */
  #answered = 0
  #heard: () => void = () => undefined

  constructor(options: ConsoleOptions) {
    this.#options = options
    const { ended, signal } = options
    const aborted = new Promise<'aborted'>((resolve) => signal?.addEventListener('abort', () => resolve('aborted')))
    this.#over = Promise.race([ended.then(() => 'over' as const), aborted])
  }

  hear(bytes: Uint8Array): void {
    this.text += Buffer.from(bytes).toString('latin1')
    this.#heard()
  }

  /** Resolves when the guest takes commands. */
  async ready(seconds: number): Promise<void> {
    await this.#prompt(0, seconds, 0)
  }

  async try(command: string, seconds = this.#options.seconds ?? 60): Promise<CommandResult> {
    const from = this.text.length
    this.#options.write(`${command}\n`)
    return await this.#prompt(++this.#commands, seconds, from)
  }

  /** The same for a command that is to succeed. @returns what it printed */
  async run(command: string, seconds?: number): Promise<string> {
    const { output, status } = await this.try(command, seconds)
    if (status !== 0) throw new Error(`the guest's "${command}" ended with ${status}:\n${output}`)
    return output
  }

  /**
   * Types a line that starts a program which takes further ones, or one of these. What `try` types next is its last.
   * @returns what was printed since the last answer, up to the end of `pattern`, whose ^ and $ are those of lines
   */
  say(line: string, pattern: RegExp, seconds?: number): Promise<string> {
    this.#options.write(`${line}\n`)
    return this.hears(pattern, seconds)
  }

  /** The same, where the program says it of itself. */
  async hears(pattern: RegExp, seconds = 60): Promise<string> {
    const from = this.#answered
    const over = new RegExp(`^${PROMPT}${this.#commands + 1} `, 'm')
    const found = await this.#match(new RegExp(`${pattern.source}|${over.source}`, 'm'), seconds, from)
    this.#answered = from + found.index + found[0].length
    const printed = this.text.slice(from, this.#answered)
    if (over.test(printed)) throw new Error(`the guest's program ended before it said ${pattern}:\n${printed}`)
    return printed
  }

  /** Where it stands, and what it said last. */
  report(): string {
    const stands = this.#options.explain?.()
    return `${stands === undefined ? '' : `It stands at\n${stands}\n`}It said:\n${this.text.slice(-4000)}`
  }

  async #prompt(number: number, seconds: number, from: number): Promise<CommandResult> {
    const found = await this.#match(new RegExp(`^${PROMPT}${number} (\\d+)\n`, 'm'), seconds, from)
    this.#answered = from + found.index + found[0].length
    return { output: this.text.slice(from, from + found.index), status: Number(found[1]) }
  }

  /** Where in what is heard from there on it says that. */
  async #match(pattern: RegExp, seconds: number, from: number): Promise<RegExpExecArray> {
    const abort = new AbortController()
    const late = setTimeout(seconds * 1000, 'late' as const, { signal: abort.signal }).catch(() => undefined)
    try {
      for (;;) {
        const heard = new Promise<void>((resolve) => {
          this.#heard = resolve
        })
        const found = pattern.exec(this.text.slice(from))
        if (found !== null) return found
        const why = await Promise.race([heard, late, this.#over])
        this.#options.signal?.throwIfAborted()
        if (why !== undefined) throw new Error(`the guest is ${why}. ${this.report()}`)
      }
    } finally {
      abort.abort()
    }
  }
}
