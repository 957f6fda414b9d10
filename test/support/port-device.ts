// A frame port over a driver of one pair, with the device's end of both rings in test code.

import assert from 'node:assert/strict'
import { VIRTIO_NET_HDR_SIZE } from '../../lib/abi/virtio-net.ts'
import { Driver, type DriverPair, FramePort, NetHeader, type RxQueue, type TxQueue } from '../../lib/driver/index.ts'
import { GuestMemory } from '../../lib/memory/index.ts'
import { type Chain, RingDevice } from './ring-device.ts'

export interface PortOptions {
  num: number
  bufferSize: number
  indirect?: boolean
  mrgRxbuf?: boolean
  /** Numbers of further feature bits. */
  features?: readonly number[]
}

/** Takes what is sent. */
export class TxDevice {
  readonly #ring: RingDevice
  readonly #queue: TxQueue

  constructor(memory: GuestMemory, queue: TxQueue) {
    this.#ring = new RingDevice(memory, queue.layout)
    this.#queue = queue
  }

  /** Everything sent and not taken yet, each packet in one piece, virtio header included; its buffers go back. */
  takeAll(): Buffer[] {
    const packets: Buffer[] = []
    for (let chain = this.#ring.take(); chain !== undefined; chain = this.#ring.take()) {
      assert.ok(chain.segments.every(({ deviceWrites }) => !deviceWrites))
      packets.push(Buffer.concat(chain.segments.map(({ address, length }) => this.#ring.bytes(address, length))))
      this.#ring.giveBack({ id: chain.head, length: 0 })
    }
    return packets
  }

  /** Signals that something went back. */
  call(): void {
    this.#queue.call.signal()
  }
}

/** Delivers frames. */
export class RxDevice {
  readonly #ring: RingDevice
  readonly #queue: RxQueue
  readonly #mergeable: boolean
  #filled: Chain[] = []

  constructor(memory: GuestMemory, queue: RxQueue, mergeable: boolean) {
    this.#mergeable = mergeable
    this.#ring = new RingDevice(memory, queue.layout)
    this.#queue = queue
  }

  get availIdx(): number {
    return this.#ring.availIdx
  }

  /** Puts a frame into the buffers that the driver posted. */
  deliver(frame: Uint8Array, header = new NetHeader()): void {
    const packet = Buffer.concat([Buffer.alloc(VIRTIO_NET_HDR_SIZE), frame])
    const { bufferSize } = this.#ring.layout
    const written = new NetHeader().copy(header)
    // Without MRG_RXBUF, what vhost up to Linux 6.12 leaves there.
    written.num_buffers = this.#mergeable ? Math.ceil(packet.length / bufferSize) : 0x5555
    written.write(packet, 0)
    const elements: { id: number; length: number }[] = []
    this.#filled = []
    for (let from = 0; from < packet.length; from += bufferSize) {
      const chain = this.#ring.take()
      assert.ok(chain, 'no buffer is posted')
      const part = packet.subarray(from, from + bufferSize)
      this.#ring.bytes(chain.segments[0]!.address, part.length).set(part)
      elements.push({ id: chain.head, length: part.length })
      this.#filled.push(chain)
    }
    this.#ring.giveBack(...elements)
  }

  /** Writes over the buffers of the last frame: they are the device's again. */
  scribble(): void {
    for (const { segments } of this.#filled) {
      for (const { address, length } of segments) this.#ring.bytes(address, length).fill(0xdd)
    }
  }

  /** Returns a chain that it does not have, and says so. */
  lie(): void {
    this.#ring.giveBack({ id: this.#ring.layout.num, length: 60 })
    this.call()
  }

  /** Signals that something came. */
  call(): void {
    this.#queue.call.signal()
  }
}

export interface PortDevice {
  driver: Driver
  pair: DriverPair
  tx: TxDevice
  rx: RxDevice
  [Symbol.dispose](): void
}

export function open({ num, bufferSize, indirect, mrgRxbuf, features = [] }: PortOptions): PortDevice {
  const bits = [32, ...(indirect ? [28] : []), ...(mrgRxbuf ? [15] : []), ...features]
  const layout = { features: bits.reduce((mask, bit) => mask | (1n << BigInt(bit)), 0n), queueSize: num, bufferSize }
  const memory = GuestMemory.allocate({ size: Driver.memoryNeeded(layout), backing: 'anonymous' })
  const driver = Driver.create({ ...layout, memory })
  const pair = driver.pairs[0]!
  return {
    driver,
    pair,
    tx: new TxDevice(memory, pair.tx),
    rx: new RxDevice(memory, pair.rx, mrgRxbuf === true),
    [Symbol.dispose]() {
      driver.destroy()
      memory.close()
    },
  }
}

/** A port and its device, closed afterwards. */
export async function withPort(
  options: PortOptions,
  use: (port: FramePort, device: PortDevice) => Promise<void>,
): Promise<void> {
  using device = open(options)
  using port = new FramePort(device.driver)
  await use(port, device)
}
