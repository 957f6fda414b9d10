// A NIC of this process whose link is to be plugged in somewhere: vhost-net, a driver, and frames that say who sent them.

import { setImmediate } from 'node:timers/promises'
import { parseMac } from '../../lib/address.ts'
import { VhostNetBackend, type VhostNetBackendOptions } from '../../lib/backend/index.ts'
import { Driver, FramePort } from '../../lib/driver/index.ts'
import { GuestMemory } from '../../lib/memory/index.ts'
import { Teardown } from '../../lib/teardown.ts'
import { featureSet } from '../../lib/virtio/index.ts'

/** VERSION_1, EVENT_IDX, INDIRECT_DESC, MRG_RXBUF. */
const FEATURES = featureSet(32, 29, 28, 15)
const VLAN = 0x8100
/** Local experimental ethertype. */
const ETHERTYPE = 0x88b5

export const BROADCAST = 'ff:ff:ff:ff:ff:ff'

export interface TextFrame {
  to?: string
  /** VLAN of its tag, if it has one. */
  tag?: number
  text: string
}

/** A frame of 60 bytes or more with that text in it. */
export function textFrame({ to = BROADCAST, tag, text }: TextFrame, from: string): Buffer {
  const type = tag === undefined ? [] : [VLAN, tag]
  const header = Buffer.alloc(12 + 2 * (type.length + 1))
  header.set(parseMac(to, 'to'), 0)
  header.set(parseMac(from, 'from'), 6)
  for (const [i, word] of [...type, ETHERTYPE].entries()) header.writeUInt16BE(word, 12 + 2 * i)
  const frame = Buffer.concat([header, Buffer.from(`${text}\0`)])
  return frame.length >= 60 ? frame : Buffer.concat([frame, Buffer.alloc(60 - frame.length)])
}

/** What it says, with its tag if it has one; undefined of a frame that is none of ours. */
export function readText(frame: Buffer): { tag?: number; text: string } | undefined {
  const tagged = frame.readUInt16BE(12) === VLAN
  const at = tagged ? 18 : 14
  if (frame.readUInt16BE(at - 2) !== ETHERTYPE) return undefined
  const text = frame.toString('utf8', at, frame.indexOf(0, at))
  return tagged ? { tag: frame.readUInt16BE(14) & 0xfff, text } : { text }
}

export class PluggedNic {
  readonly backend: VhostNetBackend
  readonly mac: string
  readonly ports: readonly FramePort[]
  readonly #closing: Teardown

  private constructor(backend: VhostNetBackend, mac: string, ports: readonly FramePort[], closing: Teardown) {
    this.backend = backend
    this.mac = mac
    this.ports = ports
    this.#closing = closing
  }

  static async open(
    mac: string,
    from: Omit<VhostNetBackendOptions, 'memory' | 'queuePairs'>,
    queuePairs = 1,
  ): Promise<PluggedNic> {
    const closing = new Teardown()
    try {
      const layout = { features: FEATURES, queuePairs, queueSize: 64 }
      const size = Math.ceil(Driver.memoryNeeded(layout) / 4096) * 4096
      const memory = closing.own(GuestMemory.allocate({ size }))
      const backend = closing.own(await VhostNetBackend.open({ memory, queuePairs, ...from }))
      const driver = Driver.create({ memory, ...layout })
      closing.add(() => driver.destroy())
      const ports = driver.pairs.map((_, pair) => closing.own(new FramePort(driver, pair)))
      for (const [pair, { rx, tx }] of driver.pairs.entries()) {
        backend.start(pair, { features: FEATURES, rx: rx.vring, tx: tx.vring })
      }
      return new PluggedNic(backend, mac, ports, closing)
    } catch (error) {
      throw closing.unwind(error)
    }
  }

  get ifname(): string {
    return this.backend.ifname
  }

  /** Resolves when it is on the network. */
  async send(frame: TextFrame, pair = 0): Promise<void> {
    const port = this.ports[pair]!
    await port.send(textFrame(frame, this.mac))
    await port.drained({ signal: AbortSignal.timeout(10_000) })
  }

  /** What has come and was not taken before, on any pair. */
  taken(): { tag?: number; text: string }[] {
    const found: { tag?: number; text: string }[] = []
    for (const port of this.ports) {
      for (let frame = port.receive(); frame !== undefined; frame = port.receive()) {
        const text = readText(frame.bytes)
        if (text !== undefined) found.push(text)
      }
    }
    return found
  }

  /** Resolves with what has come once that text is among it. */
  async until(text: string): Promise<{ tag?: number; text: string }[]> {
    const found: { tag?: number; text: string }[] = []
    const signal = AbortSignal.timeout(10_000)
    for (;;) {
      found.push(...this.taken())
      if (found.some((each) => each.text === text)) return found
      if (signal.aborted) throw new Error(`'${text}' did not come; ${JSON.stringify(found)} did`)
      await setImmediate()
    }
  }

  close(): void {
    this.#closing.run()
  }
}
