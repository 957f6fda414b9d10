// A contender while it runs: its process, and what its guest's console says at what time.

import { type ChildProcessByStdio, spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import type { Readable, Writable } from 'node:stream'
import { text } from 'node:stream/consumers'
import { MARK } from './guest.ts'

const NS_PER_MS = 1e6
const BOOT_SECONDS = 360

interface Mark {
  /** Milliseconds since the process was started. */
  at: number
  /** What follows its name. */
  value: string
}

export class Machine {
  /** CLOCK_MONOTONIC, just before the process was made. */
  readonly startedNs: bigint
  readonly pid: number
  readonly #child: ChildProcessByStdio<Writable, Readable, Readable>
  readonly #marks = new Map<string, Mark>()
  readonly #ended: Promise<void>
  #said: string[] = []
  #over = false
  #changed: () => void = () => undefined

  constructor([program = '', ...args]: readonly string[]) {
    this.startedNs = process.hrtime.bigint()
    const child = spawn(program, args, { stdio: ['pipe', 'pipe', 'pipe'] })
    this.#child = child
    this.pid = child.pid ?? 0
    const complaint = text(child.stderr)
    const over = (why: string): void => {
      this.#said.push(why)
      this.#over = true
      this.#changed()
    }
    this.#ended = new Promise((resolve) => {
      child.once('error', (error) => {
        over(`${program}: ${error.message}`)
        resolve()
      })
      child.once('close', async (status, signal) => {
        over(`${program} ended with ${status ?? signal}: ${await complaint}`)
        resolve()
      })
    })
    createInterface({ input: child.stdout }).on('line', (line) => this.#heard(line))
  }

  #heard(line: string): void {
    const at = Number(process.hrtime.bigint() - this.startedNs) / NS_PER_MS
    this.#said.push(line)
    const [, name, value = ''] = new RegExp(`${MARK}([\\w-]+)(?: (.*?))?\\s*$`).exec(line) ?? []
    if (name === undefined) return
    this.#marks.set(name, { at, value })
    this.#changed()
  }

  /** Resolves once the guest has said so. */
  async mark(name: string): Promise<Mark> {
    const deadline = setTimeout(() => {
      this.#said.push(`no "${name}" within ${BOOT_SECONDS} s`)
      this.#over = true
      this.#changed()
    }, BOOT_SECONDS * 1000)
    try {
      for (;;) {
        const found = this.#marks.get(name)
        if (found !== undefined) return found
        if (this.#over) throw new Error(`the guest came to no "${name}":\n${this.#said.slice(-40).join('\n')}`)
        await new Promise<void>((resolve) => {
          this.#changed = resolve
        })
      }
    } finally {
      clearTimeout(deadline)
    }
  }

  /** As its user ends it. */
  async close(): Promise<void> {
    this.#child.kill('SIGTERM')
    const patience = setTimeout(() => this.#child.kill('SIGKILL'), 20_000)
    await this.#ended
    clearTimeout(patience)
  }
}
