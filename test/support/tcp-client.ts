// A TCP connection to the host's stack, no more of TCP than a loss-free wire asks for: connect, send, receive in order,
// close. It leaves checksums and cutting to the device where it is told to, and looks at every checksum it receives.

import assert from 'node:assert/strict'
import { type FramePort, NetHeader, type ReceivedFrame } from '../../lib/driver/index.ts'
import type { HostNic } from './host-nic.ts'
import { build, type Packet, type Parsed, parse, TCP } from './packets.ts'

const MSS = 1460
/** Maximum segment size, the only option. */
const MSS_OPTION = Buffer.from([2, 4, MSS >> 8, MSS & 0xff])
const SOURCE_PORT = 40_000

interface Segment extends Parsed {
  /** As it was received, before its checksum was completed. */
  header: NetHeader
}

export class TcpClient {
  readonly #port: FramePort
  readonly #frames: AsyncIterableIterator<ReceivedFrame>
  readonly #addresses: Pick<
    Packet,
    'destinationMac' | 'sourceMac' | 'source' | 'destination' | 'sourcePort' | 'destinationPort'
  >
  readonly #offloads: boolean
  #sequence = 1000
  #acknowledgement = 0

  private constructor({ port, addresses }: HostNic, destinationPort: number, offloads: boolean, signal: AbortSignal) {
    this.#port = port
    this.#frames = port.frames({ signal })
    this.#offloads = offloads
    this.#addresses = { ...addresses, sourcePort: SOURCE_PORT, destinationPort }
  }

  /** @param offloads whether checksums and cutting are left to the device. */
  static async connect(
    nic: HostNic,
    destinationPort: number,
    offloads: boolean,
    signal: AbortSignal,
  ): Promise<TcpClient> {
    const client = new TcpClient(nic, destinationPort, offloads, signal)
    await client.#send(TCP.SYN, Buffer.alloc(0), MSS_OPTION)
    client.#sequence++
    const answer = await client.#next()
    assert.equal(answer.flags, TCP.SYN | TCP.ACK)
    client.#acknowledgement = answer.sequence + 1
    await client.#send(TCP.ACK)
    return client
  }

  /** Sends all of it at once. */
  async send(data: Uint8Array): Promise<void> {
    await this.#send(TCP.ACK | TCP.PSH, data)
    this.#sequence += data.length
  }

  /** Receives so many bytes; returns the segments they came in. */
  async receive(size: number): Promise<Segment[]> {
    const segments: Segment[] = []
    for (let left = size; left > 0; ) {
      const segment = await this.#next()
      if (segment.payload.length === 0) continue
      // One more time, since the answer to the first was late.
      if (segment.sequence === this.#acknowledgement) {
        segments.push(segment)
        left -= segment.payload.length
        this.#acknowledgement += segment.payload.length
      }
      await this.#send(TCP.ACK)
    }
    return segments
  }

  /** Both ends have closed when it resolves. */
  async close(): Promise<void> {
    await this.#send(TCP.FIN | TCP.ACK)
    this.#sequence++
    let last: Segment
    do last = await this.#next()
    while (!(last.flags & TCP.FIN))
    this.#acknowledgement++
    await this.#send(TCP.ACK)
  }

  async #send(
    flags: number,
    payload: Uint8Array = Buffer.alloc(0),
    tcpOptions: Uint8Array = Buffer.alloc(0),
  ): Promise<void> {
    const { frame } = build({
      ...this.#addresses,
      protocol: 'tcp',
      sequence: this.#sequence,
      acknowledgement: this.#acknowledgement,
      flags,
      payload,
      tcpOptions,
    })
    if (!this.#offloads) return await this.#port.send(frame)
    const header = new NetHeader()
    if (payload.length > MSS) header.offloadSegmentation(MSS, frame)
    else header.offloadChecksum(frame)
    await this.#port.send({ bytes: frame, header })
  }

  async #next(): Promise<Segment> {
    for (;;) {
      const { value } = await this.#frames.next()
      assert.ok(value, 'the port was closed')
      const { bytes, header } = value
      const received = new NetHeader().copy(header)
      header.completeChecksum(bytes)
      const segment = parse(bytes)
      if (segment?.destinationPort !== SOURCE_PORT) continue
      assert.equal(segment.checksumsRight, true)
      return { ...segment, header: received }
    }
  }
}
