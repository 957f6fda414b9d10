// A virtio-net device behind virtio-mmio, and its guest: rings in memory, and commands on the control queue.

import assert from 'node:assert/strict'
import { VIRTIO_CONFIG_S } from '../../lib/abi/virtio.ts'
import { VIRTIO_MMIO } from '../../lib/abi/virtio-mmio.ts'
import { VIRTIO_NET_F } from '../../lib/abi/virtio-net.ts'
import { VIRTIO_NET_CONFIG } from '../../lib/abi/virtio-net-control.ts'
import { BufferMemory } from '../../lib/memory/index.ts'
import { VirtioNetDevice, type VirtioNetDeviceOptions } from '../../lib/net/index.ts'
import { VirtioMmioTransport } from '../../lib/transport/index.ts'
import { featureSet, hasFeature } from '../../lib/virtio/index.ts'
import { GuestRing } from './guest-ring.ts'
import { CountedInterrupts, MmioGuest } from './mmio-guest.ts'
import { RecordingBackend } from './recording-backend.ts'
import { soon } from './soon.ts'

const NUM = 8
const RINGS = 0x1000
const COMMAND = 0x20000
const ANSWER = 0x3fff0
const SIZE = 0x40000
const { VIRTIO_CONFIG_S_DRIVER_OK: DRIVER_OK, VIRTIO_CONFIG_S_NEEDS_RESET: NEEDS_RESET } = VIRTIO_CONFIG_S

export const F = VIRTIO_NET_F
export const MAC = '52:54:00:12:34:56'

export interface Answer {
  /** The byte that was to be written first; 0xee where none was. */
  ack: number
  /** With how many bytes the buffer came back. */
  length: number
}

type RigOptions = Partial<Omit<VirtioNetDeviceOptions, 'memory' | 'backend'>>

export class NetRig {
  readonly buffer = new ArrayBuffer(SIZE)
  readonly backend: RecordingBackend
  readonly device: VirtioNetDevice
  readonly interrupts = new CountedInterrupts()
  readonly transport: VirtioMmioTransport
  readonly guest: MmioGuest
  /** By queue index; since the last `up`. */
  rings: GuestRing[] = []
  #controlIndex = 2

  constructor(options: RigOptions = {}, backend = new RecordingBackend()) {
    this.backend = backend
    this.device = new VirtioNetDevice({ mac: MAC, memory: new BufferMemory(this.buffer), backend, ...options })
    this.transport = new VirtioMmioTransport(this.device, { interrupts: this.interrupts })
    this.guest = new MmioGuest(this.transport)
  }

  /** As far as FEATURES_OK. @param features of those offered; default all. */
  agree(features = this.guest.offered): void {
    this.guest.begin()
    assert.ok(this.guest.accept(features))
    const pairs = hasFeature(features, F.VIRTIO_NET_F_MQ) ? this.backend.queuePairs : 1
    this.#controlIndex = 2 * pairs
    const count = this.#controlIndex + (hasFeature(features, F.VIRTIO_NET_F_CTRL_VQ) ? 1 : 0)
    this.rings = Array.from({ length: count }, (_, i) => new GuestRing(this.buffer, RINGS * (i + 1), NUM))
  }

  /** Enables a queue, at the beginning of its ring. Returns whether it is. */
  enable(index: number): boolean {
    this.rings[index] = new GuestRing(this.buffer, RINGS * (index + 1), NUM)
    this.guest.place(index, this.rings[index])
    return this.guest.enable()
  }

  /** All the way to DRIVER_OK. @param queues to enable; default all that were agreed on. */
  up({ features, queues }: { features?: bigint; queues?: readonly number[] } = {}): this {
    this.agree(features)
    for (const index of queues ?? this.rings.keys()) assert.ok(this.enable(index), `queue ${index}`)
    this.guest.addStatus(DRIVER_OK)
    assert.equal(this.guest.status & (DRIVER_OK | NEEDS_RESET), DRIVER_OK)
    return this
  }

  /** The driver resets a queue (RING_RESET). */
  resetQueue(index: number): void {
    this.guest.write('VIRTIO_MMIO_QUEUE_SEL', index)
    this.guest.write('VIRTIO_MMIO_QUEUE_RESET', 1)
    assert.equal(this.guest.read('VIRTIO_MMIO_QUEUE_READY'), 0)
  }

  /** The fault of the device, once it has one. */
  get fault(): string | undefined {
    return this.device.inspect().fault?.cause
  }

  get control(): GuestRing {
    return this.rings[this.#controlIndex]!
  }

  /** Puts a command into the ring, and kicks. Resolves once it is answered, or the device needs a reset. */
  async send(bytes: readonly number[], { room = 1 } = {}): Promise<Answer> {
    const ring = this.control
    const before = ring.usedIdx
    new Uint8Array(this.buffer, COMMAND, bytes.length).set(bytes)
    const answer = new Uint8Array(this.buffer, ANSWER, 16).fill(0xee)
    ring.chain([
      { address: COMMAND, length: bytes.length },
      { address: ANSWER, length: room, deviceWrites: true },
    ])
    ring.offer(0)
    this.guest.kick(this.#controlIndex)
    await soon('an answer', () => ring.usedIdx !== before || this.fault !== undefined)
    return { ack: answer[0]!, length: ring.usedIdx === before ? 0 : ring.usedElement(before).length }
  }

  /** Sends a command, and says whether it was answered OK. */
  async command(...bytes: readonly number[]): Promise<boolean> {
    const { ack, length } = await this.send(bytes)
    assert.equal(length, 1)
    assert.ok(ack <= 1, `the answer ${ack}`)
    return ack === 0
  }

  configField(name: keyof typeof VIRTIO_NET_CONFIG, width: number): number {
    return this.transport.read(VIRTIO_MMIO.VIRTIO_MMIO_CONFIG + VIRTIO_NET_CONFIG[name], width)
  }

  get configMac(): string {
    const byte = (i: number): number =>
      this.transport.read(VIRTIO_MMIO.VIRTIO_MMIO_CONFIG + VIRTIO_NET_CONFIG.mac + i, 1)
    return [0, 1, 2, 3, 4, 5].map((i) => byte(i).toString(16).padStart(2, '0')).join(':')
  }

  close(): void {
    this.transport.close()
    this.device.close()
    assert.deepEqual(this.backend.violations, [])
  }
}

/** All offered bits but these. */
export const without = (offered: bigint, ...bits: number[]): bigint => offered & ~featureSet(...bits)
