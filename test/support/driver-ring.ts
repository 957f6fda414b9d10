// The rings of a driver on memory of their own, with a device in TypeScript at the other end: what tests of the ring loop
// share.

import assert from 'node:assert/strict'
import { VIRTIO_F } from '../../lib/abi/virtio.ts'
import { VIRTIO_NET_F, VIRTIO_NET_HDR, VIRTIO_NET_HDR_SIZE } from '../../lib/abi/virtio-net.ts'
import { Burst, Driver, type RxQueue, type TxQueue } from '../../lib/driver/index.ts'
import { QueueError } from '../../lib/errors.ts'
import { GuestMemory } from '../../lib/memory/index.ts'
import { type Chain, RingDevice } from './ring-device.ts'

export interface RingOptions {
  num: number
  bufferSize: number
  eventIdx?: boolean
  indirect?: boolean
  mrgRxbuf?: boolean
  /** Chains that went through before the test begins. */
  start?: number
}

export const MIN_PACKET = VIRTIO_NET_HDR_SIZE + 14

export function featuresOf({ eventIdx, indirect, mrgRxbuf }: RingOptions): bigint {
  const bits = [
    VIRTIO_F.VIRTIO_F_VERSION_1,
    ...(eventIdx ? [VIRTIO_F.VIRTIO_RING_F_EVENT_IDX] : []),
    ...(indirect ? [VIRTIO_F.VIRTIO_RING_F_INDIRECT_DESC] : []),
    ...(mrgRxbuf ? [VIRTIO_NET_F.VIRTIO_NET_F_MRG_RXBUF] : []),
  ]
  return bits.reduce((features, bit) => features | (1n << BigInt(bit)), 0n)
}

export interface Opened {
  driver: Driver
  memory: GuestMemory
  [Symbol.dispose](): void
}

/** A driver on memory of its own. */
export function open(options: RingOptions): Opened {
  const layout = { features: featuresOf(options), queueSize: options.num, bufferSize: options.bufferSize }
  const memory = GuestMemory.allocate({ size: Driver.memoryNeeded(layout), backing: 'anonymous' })
  const driver = Driver.create({ ...layout, memory })
  return {
    driver,
    memory,
    [Symbol.dispose]() {
      driver.destroy()
      memory.close()
    },
  }
}

/** Its transmit queue and a device at the other end, with `start` chains behind them. */
export function txOf({ driver, memory }: Opened, { num, start = 0 }: RingOptions): { tx: TxQueue; device: RingDevice } {
  const { tx } = driver.pairs[0]!
  const device = new RingDevice(memory, tx.layout)
  const offsets = new Uint32Array(num)
  const burst = new Burst(num)
  for (let left = start; left > 0; ) {
    const count = Math.min(left, num)
    tx.allocate(offsets.subarray(0, count))
    burst.clear()
    for (const offset of offsets.subarray(0, count)) burst.add(offset, MIN_PACKET)
    assert.equal(tx.send(burst), count)
    device.spin(count)
    assert.equal(tx.reclaim(), count)
    left -= count
  }
  tx.kick.read()
  return { tx, device }
}

export function withTx(options: RingOptions, use: (tx: TxQueue, device: RingDevice) => void): void {
  using opened = open(options)
  const { tx, device } = txOf(opened, options)
  use(tx, device)
}

export async function withTxAsync(
  options: RingOptions,
  use: (tx: TxQueue, device: RingDevice) => Promise<void>,
): Promise<void> {
  using opened = open(options)
  const { tx, device } = txOf(opened, options)
  await use(tx, device)
}

/** The same with a receive queue. */
export function withRx(options: RingOptions, use: (rx: RxQueue, device: RingDevice) => void): void {
  using opened = open(options)
  const { driver, memory } = opened
  const { rx } = driver.pairs[0]!
  const device = new RingDevice(memory, rx.layout)
  const burst = new Burst(options.num)
  for (let buffer = 0; buffer < rx.layout.bufferCount; buffer++) {
    rx.pool[buffer * rx.layout.bufferSize + VIRTIO_NET_HDR.num_buffers] = 1
  }
  for (let left = options.start ?? 0; left > 0; ) {
    const count = Math.min(left, options.num)
    device.spin(count, MIN_PACKET)
    assert.equal(rx.receive(burst), count)
    rx.releaseBurst(burst)
    left -= count
  }
  rx.kick.read()
  use(rx, device)
}

/** A virtio header and bytes that follow from the seed. */
export function frameOf(size: number, seed: number): Buffer {
  const packet = Buffer.alloc(VIRTIO_NET_HDR_SIZE + size)
  for (let at = VIRTIO_NET_HDR_SIZE; at < packet.length; at++) packet[at] = (seed * 31 + at * 7) & 0xff
  return packet
}

/** Puts packets into the buffers that the driver posted, cut to their size; each packet's are used together. */
export function deliver(device: RingDevice, packets: readonly Buffer[]): Chain[][] {
  return packets.map((packet) => {
    const chains: Chain[] = []
    const elements: { id: number; length: number }[] = []
    for (let from = 0; from < packet.length; ) {
      const chain = device.take()
      assert.ok(chain, 'no buffer is posted')
      chains.push(chain)
      const [segment, ...more] = chain.segments
      assert.deepEqual(more, [])
      assert.deepEqual(segment, { ...segment, length: device.layout.bufferSize, deviceWrites: true })
      const part = packet.subarray(from, from + segment!.length)
      device.bytes(segment!.address, part.length).set(part)
      elements.push({ id: chain.head, length: part.length })
      from += part.length
    }
    const header = device.bytes(chains[0]!.segments[0]!.address, VIRTIO_NET_HDR_SIZE)
    Buffer.from(header.buffer, header.byteOffset, header.length).writeUInt16LE(
      chains.length,
      VIRTIO_NET_HDR.num_buffers,
    )
    device.giveBack(...elements)
    return chains
  })
}

export const broken = (error: unknown): boolean => error instanceof QueueError && error.code === 'ERR_QUEUE_BROKEN'
