// One ring of a vhost-net fd: told to the kernel, connected to a tap queue, and taken back.

import { VHOST_NET_VQ_RX, VHOST_NET_VQ_TX } from '../../abi/vhost.ts'
import { vringSizes } from '../../abi/virtio.ts'
import { EventFd, watchReadable } from '../../event/index.ts'
import type { Tap } from '../../host/tap.ts'
import type { VhostNet } from '../../host/vhost-net.ts'
import { Teardown } from '../../teardown.ts'
import type { Vring } from '../../virtio/vring.ts'
import type { RingName } from '../net-backend.ts'
import { RingHealth, type RingHealthOptions } from './health.ts'

const INDEX: Readonly<Record<RingName, number>> = { rx: VHOST_NET_VQ_RX, tx: VHOST_NET_VQ_TX }

/** `idx` of the used ring, behind `flags` (virtio 1.x section 2.7.8). */
const USED_IDX = 2

export interface KernelRingOptions extends Omit<RingHealthOptions, 'base' | 'used'> {
  /** For messages: `'pair 0 rx'`. */
  name: string
  vhost: VhostNet
}

/** The ring owns its err eventfd; the vhost-net fd, kick and call are lent to it. */
export class KernelRing {
  readonly name: string
  /** In the vhost-net fd. */
  readonly index: number
  readonly error: EventFd
  readonly #options: KernelRingOptions
  readonly #wired = new Teardown()
  readonly #health: RingHealth
  #vring: Vring | undefined
  /** What it is served with; undefined where it is not to be served. */
  #served: { tap: Tap; features: bigint } | undefined
  #held = false
  #connected = false

  /** @throws {SystemCallError} `EMFILE` */
  constructor(options: KernelRingOptions) {
    this.#options = options
    this.name = options.name
    this.index = INDEX[options.ring]
    this.error = EventFd.create(`${options.name} err`)
    try {
      this.#health = new RingHealth({ ...options, base: () => this.base(), used: () => this.usedIndex() })
    } catch (error) {
      this.error.close()
      throw error
    }
  }

  /** Whether the worker serves it, or will once it is held no more. */
  get attached(): boolean {
    return this.#served !== undefined
  }

  /** Tells the kernel where it lies; on failure it knows nothing of it. @throws {SystemCallError} */
  wire(vring: Vring): void {
    // Where the kernel would not let go of it when it was to stop.
    this.detach()
    try {
      this.#wire(vring)
    } catch (error) {
      throw this.#wired.unwind(error)
    }
  }

  #wire(vring: Vring): void {
    const { memory, vhost } = this.#options
    const { index, name, error } = this
    const undo = this.#wired
    const sizes = vringSizes(vring.num)
    undo.add(memory.pin(vring.desc, sizes.desc, `the descriptor table of ${name}`))
    undo.add(memory.pin(vring.avail, sizes.avail, `the available ring of ${name}`))
    undo.add(memory.pin(vring.used, sizes.used, `the used ring of ${name}`))
    vhost.setVringNum(index, vring.num)
    vhost.setVringBase(index, vring.base ?? 0)
    vhost.setVringAddr(index, {
      flags: 0,
      desc_user_addr: memory.hostAddress(vring.desc, sizes.desc),
      used_user_addr: memory.hostAddress(vring.used, sizes.used),
      avail_user_addr: memory.hostAddress(vring.avail, sizes.avail),
      log_guest_addr: 0n,
    })
    vhost.setVringKick(index, vring.kick)
    undo.add(() => vhost.setVringKick(index, null))
    vhost.setVringCall(index, vring.call)
    undo.add(() => vhost.setVringCall(index, null))
    // Of a ring that was stopped: nobody has seen it, and it is not about this one.
    error.read()
    vhost.setVringErr(index, error)
    undo.add(() => vhost.setVringErr(index, null))
    const watch = watchReadable(error, () => {
      const count = Number(error.read())
      if (count > 0) this.#health.failed(count)
    })
    undo.add(() => watch.stop())
    this.#vring = vring
    undo.add(() => {
      this.#vring = undefined
    })
  }

  /** The kernel forgets it; without effect where it knows nothing of it. */
  unwire(): void {
    this.#wired.run()
  }

  /**
   * VHOST_NET_SET_BACKEND: the worker serves it from now on; once it is wired.
   * @throws {SystemCallError}
   */
  attach(tap: Tap, features: bigint): void {
    this.#served = { tap, features }
    try {
      this.#connect()
    } catch (error) {
      this.#served = undefined
      throw error
    }
  }

  /** The worker touches it no more when this returns; without effect where it does not serve it. @throws {SystemCallError} */
  detach(): void {
    this.#served = undefined
    this.#disconnect()
  }

  /**
   * The worker goes on with another queue, from where it stands; without effect where it does not serve it. On failure it
   * may not serve it any more: go back with this, too.
   * @throws {SystemCallError}
   */
  move(tap: Tap): void {
    if (this.#served === undefined) return
    this.#served = { ...this.#served, tap }
    this.#disconnect()
    // It was about the tap that it had.
    this.error.read()
    const base = this.base()
    const from = this.#rewound(base)
    if (from !== base) this.#options.vhost.setVringBase(this.index, from)
    this.#connect()
    this.signalEnds()
  }

  /** The worker touches it no more until `release`, whatever is done to it meanwhile. Idempotent. @throws {SystemCallError} */
  hold(): void {
    this.#held = true
    this.#disconnect()
  }

  /** Without effect where it is not held; on failure, hold it again. @throws {SystemCallError} */
  release(): void {
    if (!this.#held) return
    this.#held = false
    this.#connect()
    if (this.#connected) this.signalEnds()
  }

  #connect(): void {
    if (this.#held || this.#served === undefined) return
    const { tap, features } = this.#served
    this.#health.begin(this.#vring as Vring, features)
    try {
      this.#options.vhost.setBackend(this.index, tap)
    } catch (error) {
      this.#health.end()
      throw error
    }
    this.#connected = true
  }

  #disconnect(): void {
    if (!this.#connected) return
    this.#health.end()
    this.#options.vhost.setBackend(this.index, null)
    this.#connected = false
  }

  /** What happened while the ring stood still was signalled to nobody. @throws {SystemCallError} */
  signalEnds(): void {
    if (this.#held) return
    this.#vring?.kick.signal()
    this.#vring?.call.signal()
  }

  /** How many buffers the worker has returned, modulo 2¹⁶; 0 where there is no ring. */
  usedIndex(): number {
    if (this.#vring === undefined) return 0
    const bytes = Buffer.alloc(2)
    this.#options.memory.read(this.#vring.used + USED_IDX, bytes)
    return bytes.readUInt16LE()
  }

  /** The available index that comes next: exact only while it is not attached. @throws {SystemCallError} */
  base(): number {
    return this.#options.vhost.getVringBase(this.index)
  }

  /** The available index to go on from, while the worker does not serve it. @throws {SystemCallError} */
  standing(): number {
    return this.#rewound(this.base())
  }

  /**
   * What a deleted tap was given to send is taken, and never returned (drivers/vhost/net.c: vhost_tx_batch): it is sent
   * again.
   */
  #rewound(base: number): number {
    const { ring, memory, gone } = this.#options
    if (ring === 'rx' || memory.closed) return base
    const returned = this.usedIndex()
    return returned !== base && gone() ? returned : base
  }

  /** Once it is detached and unwired. Idempotent. */
  close(): void {
    const all = new Teardown()
    all.own(this.error)
    all.own(this.#health)
    all.run()
  }
}
