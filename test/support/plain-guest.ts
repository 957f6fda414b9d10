// A guest of the kernel's vhost-net that accepts the features, posts the buffers and sends the headers that a test says,
// and reads every byte that comes; with the far end of its wire.

import assert from 'node:assert/strict'
import { VIRTIO_CONFIG_S, VIRTIO_F } from '../../lib/abi/virtio.ts'
import { VIRTIO_NET_F, VIRTIO_NET_HDR_SIZE, VIRTIO_NET_HDR_TUNNEL_SIZE } from '../../lib/abi/virtio-net.ts'
import { RtNetlink } from '../../lib/host/index.ts'
import { VirtioNet } from '../../lib/index.ts'
import { GuestMemory } from '../../lib/memory/index.ts'
import { Teardown } from '../../lib/teardown.ts'
import { VirtioMmioTransport } from '../../lib/transport/index.ts'
import { featureSet, hasFeature } from '../../lib/virtio/index.ts'
import { FarEnd, type WireFrame } from './far-end.ts'
import { GuestRing, type UsedElement } from './guest-ring.ts'
import { CountedInterrupts, MmioGuest } from './mmio-guest.ts'
import { soon } from './soon.ts'
import { decodeVnetHdr, encodeVnetHdr, type VnetHdr } from './vnet-hdr.ts'

const { VIRTIO_NET_F_GUEST_UDP_TUNNEL_GSO, VIRTIO_NET_F_HOST_UDP_TUNNEL_GSO, VIRTIO_NET_F_MRG_RXBUF } = VIRTIO_NET_F

const NUM = 64
const POOL = 0x10000
const SIZE = 4 * 2 ** 20
/** Frames that may come of one, and room for the largest. */
const PIECES = 6
const LARGEST = 65_600
/** Behind a frame, so that it is known when nothing more comes of that. */
const MARKER = Buffer.from(`02000000000102000000000288b5${'00'.repeat(46)}`, 'hex')
/** What is in a buffer before the device writes into it. */
export const UNTOUCHED = 0xaa

export interface GuestFrame extends WireFrame {
  /** The chains that it came in. */
  used: UsedElement[]
}

export class PlainGuest {
  readonly far: FarEnd
  readonly #guest: MmioGuest
  readonly #memory: Buffer
  readonly #closing: Teardown
  #features = 0n
  #rx!: GuestRing
  #tx!: GuestRing
  /** By its head: the buffers of each chain that waits for a frame. */
  readonly #posted = new Map<number, { address: number; length: number }[]>()
  #seen = 0
  #free = POOL

  private constructor(far: FarEnd, guest: MmioGuest, memory: Buffer, closing: Teardown) {
    this.far = far
    this.#guest = guest
    this.#memory = memory
    this.#closing = closing
  }

  /** @param options.napi as in {@link FarEnd.open}. */
  static async open(options: { napi?: boolean } = {}): Promise<PlainGuest> {
    const closing = new Teardown()
    try {
      const memory = closing.own(GuestMemory.allocate({ size: SIZE }))
      const nic = closing.own(await VirtioNet.open({ memory, backend: { tap: { ifname: 'vnp%d' } } }))
      const transport = closing.own(new VirtioMmioTransport(nic, { interrupts: new CountedInterrupts() }))
      const netlink = closing.own(RtNetlink.open())
      const far = closing.own(await FarEnd.open(netlink, nic.backend.ifname, options))
      const bytes = memory.window(0, SIZE)
      return new PlainGuest(far, new MmioGuest(transport), Buffer.from(bytes.buffer), closing)
    } catch (error) {
      throw closing.unwind(error)
    }
  }

  /** A driver comes, or comes again, and accepts VERSION_1 and these, by number. */
  up(...features: readonly number[]): this {
    const guest = this.#guest
    guest.begin()
    this.#features = featureSet(VIRTIO_F.VIRTIO_F_VERSION_1, ...features)
    assert.equal(this.#features & ~guest.offered, 0n, 'not offered')
    assert.ok(guest.accept(this.#features))
    this.#memory.fill(UNTOUCHED)
    const bytes = this.#memory.buffer as ArrayBuffer
    this.#rx = new GuestRing(bytes, 0, NUM)
    this.#tx = new GuestRing(bytes, POOL / 2, NUM)
    for (const [index, ring] of [this.#rx, this.#tx].entries()) {
      guest.place(index, ring)
      assert.ok(guest.enable())
    }
    this.#posted.clear()
    this.#seen = 0
    this.#free = POOL
    guest.addStatus(VIRTIO_CONFIG_S.VIRTIO_CONFIG_S_DRIVER_OK)
    return this
  }

  get headerSize(): number {
    const tunnels = [VIRTIO_NET_F_GUEST_UDP_TUNNEL_GSO, VIRTIO_NET_F_HOST_UDP_TUNNEL_GSO]
    return tunnels.some((bit) => hasFeature(this.#features, bit)) ? VIRTIO_NET_HDR_TUNNEL_SIZE : VIRTIO_NET_HDR_SIZE
  }

  #allocate(length: number): { address: number; length: number } {
    const address = this.#free
    this.#free += length
    assert.ok(this.#free <= SIZE)
    return { address, length }
  }

  /** Posts one chain for each list of lengths, all at once. */
  post(...chains: readonly (readonly number[])[]): void {
    const ring = this.#rx
    let next = [...this.#posted.values()].flat().length
    const heads = chains.map((lengths) => {
      const buffers = lengths.map((length) => this.#allocate(length))
      const head = next
      ring.chain(
        buffers.map((buffer) => ({ ...buffer, deviceWrites: true })),
        head,
      )
      this.#posted.set(head, buffers)
      next += buffers.length
      assert.ok(next <= NUM)
      return head
    })
    ring.offer(...heads)
    this.#guest.kick(0)
  }

  /** How many chains of those posted have come back. */
  get chainsUsed(): number {
    return this.#rx.usedIdx
  }

  /** The bytes of a chain, as long as the device says that it wrote; those that it left alone, too, if `all`. */
  chainBytes({ id, length }: UsedElement, all = false): Buffer {
    const bytes = Buffer.concat(
      this.#posted.get(id)!.map((buffer) => this.#memory.subarray(buffer.address, buffer.address + buffer.length)),
    )
    return all ? bytes : bytes.subarray(0, length)
  }

  /** Resolves with the next frame that has come. */
  async received(): Promise<GuestFrame> {
    await soon('a frame', () => this.#rx.usedIdx > this.#seen)
    const merged = hasFeature(this.#features, VIRTIO_NET_F_MRG_RXBUF)
    const first = this.#rx.usedElement(this.#seen)
    const header = decodeVnetHdr(this.chainBytes(first), this.headerSize)
    const last = this.#seen + (merged ? header.num_buffers : 1)
    assert.ok(this.#rx.usedIdx >= last, 'the buffers of a frame are used together')
    const used = Array.from({ length: last - this.#seen }, (_, i) => this.#rx.usedElement(this.#seen + i))
    this.#seen = last
    const packet = Buffer.concat(used.map((element) => this.chainBytes(element)))
    return { header, bytes: packet.subarray(this.headerSize), used }
  }

  /** Sends a frame; resolves with how many bytes the device says that it wrote, once it has given the buffer back. */
  async send(bytes: Uint8Array, header: Partial<VnetHdr> = {}): Promise<number> {
    const packet = Buffer.concat([encodeVnetHdr(header, this.headerSize), bytes])
    const ring = this.#tx
    const buffer = this.#allocate(packet.length)
    packet.copy(this.#memory, buffer.address)
    const before = ring.usedIdx
    ring.chain([buffer], ring.offered % NUM)
    ring.offer(ring.offered % NUM)
    this.#guest.kick(1)
    await soon('the buffer back', () => ring.usedIdx !== before)
    return ring.usedElement(before).length
  }

  /** Sends a frame; resolves with all that comes of it at the far end. */
  async transmits(bytes: Uint8Array, header: Partial<VnetHdr> = {}): Promise<WireFrame[]> {
    assert.equal(await this.send(bytes, header), 0)
    await this.send(MARKER)
    return await untilMarker(() => this.far.received())
  }

  /** The far end sends a frame; resolves with all that comes of it here, in buffers that have room for it. */
  async receives(bytes: Uint8Array, header: Partial<VnetHdr> = {}): Promise<GuestFrame[]> {
    this.post(...Array.from({ length: PIECES }, () => [LARGEST]))
    this.far.send(bytes, header)
    this.far.send(MARKER)
    return await untilMarker(() => this.received())
  }

  close(): void {
    this.#closing.run()
  }

  [Symbol.dispose](): void {
    this.close()
  }
}

async function untilMarker<T extends WireFrame>(next: () => Promise<T>): Promise<T[]> {
  const frames: T[] = []
  for (let frame = await next(); !frame.bytes.equals(MARKER); frame = await next()) frames.push(frame)
  return frames
}
