// A DHCP server on a tap: dnsmasq, as libvirt runs it. It answers from a UDP socket, so that the kernel leaves the checksum
// of its answers to whoever takes them off the tap.

import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import type { Readable } from 'node:stream'

export interface DhcpServerOptions {
  ifname: string
  /** Addresses to give away, the first and the last. */
  range: readonly [string, string]
}

export class DhcpServer {
  readonly #child: ChildProcess
  /** A terminal's Ctrl-C ends it, too: then it is over before it is stopped. */
  readonly #over: Promise<unknown>

  private constructor(child: ChildProcess) {
    this.#child = child
    this.#over = once(child, 'close')
  }

  /** Resolves once it serves. */
  static async start({ ifname, range }: DhcpServerOptions): Promise<DhcpServer> {
    const child = spawn(
      'dnsmasq',
      [
        ...['--conf-file=/dev/null', '--keep-in-foreground', '--log-facility=-', '--user=root', '--pid-file='],
        ...['--port=0', '--no-ping', '--leasefile-ro', '--bind-interfaces', `--interface=${ifname}`],
        `--dhcp-range=${range.join(',')},1h`,
      ],
      { stdio: ['ignore', 'ignore', 'pipe'] },
    )
    const said: string[] = []
    const lines = createInterface({ input: child.stderr as Readable })
    try {
      const serves = new Promise<void>((resolve) => {
        lines.on('line', (line) => {
          said.push(line)
          if (line.includes('started')) resolve()
        })
      })
      const ends = once(child, 'exit').then(([status]) => {
        throw new Error(`dnsmasq ended with ${status}:\n${said.join('\n')}`)
      })
      await Promise.race([serves, ends])
      ends.catch(() => undefined)
      return new DhcpServer(child)
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
