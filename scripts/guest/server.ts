// A server that is another program, in the host of a guest: here from the line by which it says that it serves.

import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import type { Readable } from 'node:stream'

export interface ServerProgram {
  command: string
  args: readonly string[]
  /** What is in the line that it writes once it serves. */
  serves: string
}

export class Server {
  readonly #child: ChildProcess
  /** A terminal's Ctrl-C ends it, too: then it is over before it is stopped. */
  readonly #over: Promise<unknown>

  private constructor(child: ChildProcess) {
    this.#child = child
    this.#over = once(child, 'close')
  }

  /** Resolves once it serves. @throws {Error} with what it wrote, where it ends before */
  static async start({ command, args, serves }: ServerProgram): Promise<Server> {
    const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'] })
    const said: string[] = []
    let ready = false
    const isReady = new Promise<void>((resolve) => {
      const listen = (line: string): void => {
        // It may say much more in its life.
        if (ready) return
        said.push(line)
        ready = line.includes(serves)
        if (ready) resolve()
      }
      for (const output of [child.stdout, child.stderr])
        createInterface({ input: output as Readable }).on('line', listen)
    })
    const ends = once(child, 'close').then(([status]) => {
      throw new Error(`${command} ended with ${status}:\n${said.join('\n')}`)
    })
    try {
      await Promise.race([isReady, ends])
      ends.catch(() => undefined)
      return new Server(child)
    } catch (error) {
      child.kill()
      throw error
    }
  }

  async stop(): Promise<void> {
    this.#child.kill()
    await this.#over
  }
}
