// The host's end of the traffic: test/bench/vmm/traffic.c.

import { type ChildProcessByStdio, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import type { Readable, Writable } from 'node:stream'
import { setTimeout } from 'node:timers/promises'

/** Seen from the guest. */
export const MODES = ['tcp-out', 'tcp-in', 'udp-out', 'udp-in', 'rr'] as const
export type Mode = (typeof MODES)[number]

/** Connections open their windows, and rings fill, before anything is counted. */
const SETTLE_MS = 300
const PATIENCE_SECONDS = 120

export class Traffic {
  readonly #child: ChildProcessByStdio<Writable, Readable, null>
  readonly #lines: AsyncIterator<string>

  constructor(program: string, port: number) {
    this.#child = spawn(program, ['host', String(port)], { stdio: ['pipe', 'pipe', 'inherit'] })
    this.#lines = createInterface({ input: this.#child.stdout })[Symbol.asyncIterator]()
  }

  /** Resolves once guests can connect. */
  async listens(): Promise<void> {
    await this.#hear('listening')
  }

  async connected(): Promise<void> {
    await this.#hear('connected')
  }

  /** @returns how much of it moved in a second, while `body` ran */
  async during(mode: Mode, body: () => Promise<void>): Promise<number> {
    this.#say(mode)
    await this.#hear('begun')
    await setTimeout(SETTLE_MS)
    const before = await this.#mark()
    await body()
    const after = await this.#mark()
    this.#say('stop')
    await this.#hear('stopped')
    return (after.count - before.count) / ((after.ns - before.ns) / 1e9)
  }

  async #mark(): Promise<{ count: number; ns: number }> {
    this.#say('mark')
    const [count, ns] = (await this.#hear('mark')).split(' ').map(Number) as [number, number]
    return { count, ns }
  }

  #say(line: string): void {
    this.#child.stdin.write(`${line}\n`)
  }

  /** @returns what follows the word */
  async #hear(word: string): Promise<string> {
    const abort = new AbortController()
    const late = setTimeout(PATIENCE_SECONDS * 1000, undefined, { signal: abort.signal }).catch(() => undefined)
    const line = await Promise.race([this.#lines.next(), late])
    abort.abort()
    const said: string = line === undefined ? `nothing for ${PATIENCE_SECONDS} s` : (line.value ?? 'no more')
    if (said !== word && !said.startsWith(`${word} `))
      throw new Error(`the traffic should say ${word}, and says ${said}`)
    return said.slice(word.length + 1)
  }

  async close(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return
    const ended = once(this.#child, 'close')
    this.#child.kill()
    await ended
  }
}
