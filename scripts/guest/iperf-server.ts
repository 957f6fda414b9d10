// iperf3's server, in the host of a guest.

import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import type { Readable } from 'node:stream'
import { text } from 'node:stream/consumers'

export class IperfServer {
  readonly #child: ChildProcess
  /** A terminal's Ctrl-C ends it, too: then it is over before it is stopped. */
  readonly #over: Promise<unknown>

  private constructor(child: ChildProcess) {
    this.#child = child
    this.#over = once(child, 'close')
  }

  /** Resolves once it listens. */
  static async start(address: string, port = 5201): Promise<IperfServer> {
    const child = spawn('iperf3', ['--server', '--bind', address, '--port', String(port), '--forceflush'], {
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    // It also says that it was ended.
    const complaint = text(child.stderr as Readable)
    const lines = createInterface({ input: child.stdout as Readable })
    const listens = new Promise<void>((resolve) => {
      lines.on('line', (line) => {
        if (line.includes('listening')) resolve()
      })
    })
    const ends = once(child, 'exit').then(async ([status]) => {
      throw new Error(`iperf3 ended with ${status}: ${await complaint}`)
    })
    await Promise.race([listens, ends])
    ends.catch(() => undefined)
    return new IperfServer(child)
  }

  async stop(): Promise<void> {
    this.#child.kill()
    await this.#over
  }
}
