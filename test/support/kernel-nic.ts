// A virtio-net device on the kernel's vhost-net behind virtio-mmio, and its guest in this process: registers as MmioGuest
// writes them, rings as the driver fills them, commands on a control ring.

import assert from 'node:assert/strict'
import { VIRTIO_CONFIG_S } from '../../lib/abi/virtio.ts'
import { VIRTIO_NET_HDR_SIZE } from '../../lib/abi/virtio-net.ts'
import { Burst, Driver } from '../../lib/driver/index.ts'
import { type EventFd, type Interrupts, type Watch, watchReadable } from '../../lib/event/index.ts'
import { VirtioNet, type VirtioNetOptions } from '../../lib/index.ts'
import { GuestMemory } from '../../lib/memory/index.ts'
import { Teardown } from '../../lib/teardown.ts'
import { VirtioMmioTransport } from '../../lib/transport/index.ts'
import { featureSet } from '../../lib/virtio/index.ts'
import { GuestRing } from './guest-ring.ts'
import { MmioGuest } from './mmio-guest.ts'
import { soon } from './soon.ts'

const QUEUE_SIZE = 64
const CONTROL_AREA = 0x10000
export const MAC = '52:54:00:12:34:56'

/** What the driver in this process knows, and every control feature: ring features, CSUM, TSO and the like. */
const WANTED = featureSet(0, 1, 2, 5, 7, 8, 9, 11, 12, 13, 15, 16, 17, 18, 21, 22, 23, 28, 29, 32, 40)
const CONTROL = featureSet(2, 5, 16, 17, 18, 21, 22, 23, 40)

type Options = Omit<VirtioNetOptions, 'memory' | 'backend'>

/** Passes every interrupt on to whoever waits for a queue of the driver's. */
class PassedInterrupts implements Interrupts {
  readonly #watches = new Map<EventFd, Watch>()
  driver: Driver | undefined

  connect(_vector: number, call: EventFd): void {
    const pass = (): void => {
      if (call.read() === 0n) return
      for (const { rx, tx } of this.driver?.pairs ?? []) for (const { vring } of [rx, tx]) vring.call.signal()
    }
    this.#watches.set(call, watchReadable(call, pass))
  }

  disconnect(_vector: number, call: EventFd): void {
    this.#watches.get(call)?.stop()
  }

  mask(): void {
    assert.fail('an MMIO transport masks nothing')
  }

  pending(): boolean {
    assert.fail('an MMIO transport asks for nothing')
  }
}

export class KernelNic {
  readonly nic: VirtioNet
  readonly guest: MmioGuest
  readonly memory: ReturnType<typeof GuestMemory.allocate>
  readonly #interrupts: PassedInterrupts
  readonly #layout: Parameters<typeof Driver.memoryNeeded>[0]
  readonly #closing: Teardown
  #driver: Driver | undefined
  #control: GuestRing | undefined
  #kicks: Watch[] = []

  private constructor(
    nic: VirtioNet,
    memory: ReturnType<typeof GuestMemory.allocate>,
    layout: Parameters<typeof Driver.memoryNeeded>[0],
    closing: Teardown,
  ) {
    this.nic = nic
    this.memory = memory
    this.#layout = layout
    this.#closing = closing
    this.#interrupts = new PassedInterrupts()
    this.guest = new MmioGuest(closing.own(new VirtioMmioTransport(nic, { interrupts: this.#interrupts })))
    closing.add(() => this.#leave())
  }

  static async open({ ifname, queuePairs = 1, ...more }: Options & { ifname: string }): Promise<KernelNic> {
    const closing = new Teardown()
    try {
      const layout = { features: featureSet(28, 29, 32), queuePairs, queueSize: QUEUE_SIZE }
      const size = Math.ceil((Driver.memoryNeeded(layout) + CONTROL_AREA) / 4096) * 4096
      const memory = closing.own(GuestMemory.allocate({ size }))
      const backend = { tap: { ifname } }
      const nic = closing.own(await VirtioNet.open({ memory, queuePairs, mac: MAC, backend, ...more }))
      return new KernelNic(nic, memory, layout, closing)
    } catch (error) {
      throw closing.unwind(error)
    }
  }

  get driver(): Driver {
    return this.#driver!
  }

  /** A driver comes, or comes again. @param features of those it knows; default all that are offered. */
  up(features = -1n): void {
    this.prepare(features)
    this.ready()
  }

  /** A driver comes as far as its queues. */
  prepare(features = -1n): void {
    this.#leave()
    const { guest } = this
    guest.begin()
    const agreed = guest.offered & WANTED & features
    assert.ok(guest.accept(agreed))
    const driver = Driver.create({ ...this.#layout, memory: this.memory, features: agreed & ~CONTROL })
    this.#driver = driver
    this.#interrupts.driver = driver
    const queues = driver.pairs.flatMap(({ rx, tx }) => [rx, tx])
    for (const [index, { vring }] of queues.entries()) {
      guest.place(index, vring)
      assert.ok(guest.enable(), `queue ${index}`)
      this.#kicks.push(
        watchReadable(vring.kick, () => {
          vring.kick.read()
          guest.kick(index)
        }),
      )
    }
    const at = Driver.memoryNeeded(this.#layout)
    const bytes = this.memory.window(0, at + CONTROL_AREA).buffer as ArrayBuffer
    this.#control = new GuestRing(bytes, at, 8)
    guest.place(queues.length, this.#control)
    assert.ok(guest.enable())
  }

  /** DRIVER_OK. */
  ready(): void {
    this.guest.addStatus(VIRTIO_CONFIG_S.VIRTIO_CONFIG_S_DRIVER_OK)
    assert.equal(this.nic.inspect().fault, null)
  }

  #leave(): void {
    this.guest.write('VIRTIO_MMIO_STATUS', 0)
    for (const watch of this.#kicks.splice(0)) watch.stop()
    this.#driver?.destroy()
    this.#driver = undefined
    this.#interrupts.driver = undefined
  }

  /** Sends a command, and says whether it was answered OK: not where the device needs a reset meanwhile. */
  async command(...bytes: readonly number[]): Promise<boolean> {
    const control = this.#control!
    const at = control.end + 0x100
    this.memory.write(at, Uint8Array.from(bytes))
    control.chain([
      { address: at, length: bytes.length },
      { address: at + 0x8000, length: 1, deviceWrites: true },
    ])
    const before = control.usedIdx
    control.offer(0)
    this.guest.kick(2 * this.nic.queuePairs)
    await soon('an answer', () => control.usedIdx !== before || this.nic.inspect().fault !== null)
    if (control.usedIdx === before) return false
    const answer = new Uint8Array(1)
    this.memory.read(at + 0x8000, answer)
    return answer[0] === 0
  }

  /** Destination addresses of the frames that have come, by pair. */
  receive(pair = 0): string[] {
    const burst = new Burst(64)
    const { rx } = this.driver.pairs[pair]!
    const count = rx.receive(burst)
    const macs = Array.from({ length: count }, (_, i) => {
      const mac = new Uint8Array(6)
      this.memory.read(rx.layout.pool + burst.offsets[i]! + 12, mac)
      return [...mac].map((byte) => byte.toString(16).padStart(2, '0')).join(':')
    })
    rx.releaseBurst(burst)
    return macs
  }

  /** Resolves with the next frames' destination addresses. */
  async received(count: number, pair = 0): Promise<string[]> {
    const macs: string[] = []
    const signal = AbortSignal.timeout(10_000)
    while (macs.length < count) {
      await this.driver.pairs[pair]!.rx.readable(signal)
      macs.push(...this.receive(pair))
    }
    return macs
  }

  /** Resolves with the sizes of the next frames of the first pair. */
  async receivedSizes(count: number): Promise<number[]> {
    const { rx } = this.driver.pairs[0]!
    const burst = new Burst(64)
    const sizes: number[] = []
    while (sizes.length < count) {
      await rx.readable(AbortSignal.timeout(10_000))
      const frames = rx.receive(burst)
      sizes.push(...Array.from(burst.lengths.subarray(0, frames), (length) => length - VIRTIO_NET_HDR_SIZE))
      rx.releaseBurst(burst)
    }
    return sizes
  }

  [Symbol.dispose](): void {
    this.#closing.run()
  }
}
