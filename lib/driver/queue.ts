// The driver's end of one virtqueue: what sending and receiving have in common.

import { binding, Handle, type NativeRing, type RingCounters, systemCall } from '../binding/index.ts'
import { QueueError, StateError, SystemCallError } from '../errors.ts'
import { EventFd, type Watch, watchReadable } from '../event/index.ts'
import type { NativeMemory } from '../memory/index.ts'
import { Teardown } from '../teardown.ts'
import type { Burst } from './burst.ts'
import type { QueueLayout } from './layout.ts'

export interface QueueOptions {
  /** For messages: `'pair 0 tx'`. */
  name: string
  memory: NativeMemory
  layout: QueueLayout
  vnetHdrLen: number
  eventIdx: boolean
  indirect: boolean
  mrgRxbuf: boolean
}

/** Totals of one queue since it was made. */
export interface QueueCounters extends RingCounters {
  /** Signals the device sent. */
  calls: number
}

class Ring extends Handle<NativeRing> {
  constructor(native: NativeRing, label: string) {
    super(native, label, (ring) => binding().closeRing(ring))
  }
}

interface Waiter {
  /** Chains that must be waiting to be taken before it is woken: one more than this. */
  delay: number
  settle: (error?: unknown) => void
}

/** A ring in guest memory with its pool, kick and call. */
export abstract class DriverQueue {
  readonly name: string
  /** Signalled to the device; of KVM it would be an ioeventfd. */
  readonly kick: EventFd
  /** Signalled by the device; of KVM it would be an irqfd. */
  readonly call: EventFd
  /** All buffers, one after the other; offsets in a burst are into this. */
  readonly pool: Uint8Array
  readonly layout: QueueLayout
  readonly #ring: Ring
  readonly #closing = new Teardown()
  #watch: Watch | undefined
  #calls = 0
  #waiters: Waiter[] = []

  protected constructor(options: QueueOptions, deviceWrites: boolean) {
    const { name, memory, layout } = options
    this.name = name
    this.layout = layout
    const poolSize = layout.bufferCount * layout.bufferSize
    try {
      this.kick = this.#closing.own(EventFd.create(`${name} kick`))
      this.call = this.#closing.own(EventFd.create(`${name} call`))
      this.pool = memory.window(layout.pool, poolSize)
      const { mapping, guestAddress } = memory.locate(layout.desc, layout.pool + poolSize - layout.desc)
      const native = systemCall(
        () =>
          binding().ringCreate({
            mapping,
            guestAddress,
            num: layout.num,
            desc: layout.desc - guestAddress,
            avail: layout.avail - guestAddress,
            used: layout.used - guestAddress,
            indirectTables: layout.indirectTables - guestAddress,
            pool: layout.pool - guestAddress,
            bufferSize: layout.bufferSize,
            bufferCount: layout.bufferCount,
            maxSegments: layout.maxSegments,
            vnetHdrLen: options.vnetHdrLen,
            deviceWrites,
            eventIdx: options.eventIdx,
            indirect: options.indirect,
            mrgRxbuf: options.mrgRxbuf,
            kick: this.kick.native,
          }),
        { subject: name },
      )
      this.#ring = this.#closing.own(new Ring(native, name))
    } catch (error) {
      throw this.#closing.unwind(error)
    }
  }

  get closed(): boolean {
    return this.#ring.closed
  }

  /** Where the ring is, in the words of a device. */
  get vring(): { num: number; desc: number; avail: number; used: number; kick: EventFd; call: EventFd } {
    const { num, desc, avail, used } = this.layout
    return { num, desc, avail, used, kick: this.kick, call: this.call }
  }

  /**
   * Totals and positions. `availIdx` and `usedIdx` are those in memory now; the totals of what came back are as of the
   * last `reclaim` or `receive`.
   */
  counters(): QueueCounters {
    this.#takeCalls()
    return { ...binding().ringCounters(this.#ring.native), calls: this.#calls }
  }

  /**
   * Gives buffers back to the pool.
   * @throws {QueueError} `ERR_QUEUE_BROKEN` where one is not the caller's
   */
  release(offsets: Uint32Array, count: number): void {
    this.ringCall((ring) => binding().ringRelease(ring, offsets, count))
  }

  /** Gives the buffers of a burst back to the pool and empties it. @throws {QueueError} `ERR_QUEUE_BROKEN` */
  releaseBurst(burst: Burst): void {
    this.release(burst.offsets, burst.segmentCount)
    burst.clear()
  }

  /** Runs a call into the ring loop; what it says of the ring is a QueueError. */
  protected ringCall<T>(operation: (ring: NativeRing) => T): T {
    try {
      return systemCall(() => operation(this.#ring.native), { subject: this.name })
    } catch (error) {
      if (error instanceof SystemCallError && error.syscall === 'virtqueue') {
        throw new QueueError('ERR_QUEUE_BROKEN', error.message, { context: { queue: this.name }, cause: error })
      }
      throw error
    }
  }

  /**
   * Resolves once more than `delay` chains were returned by the device and not taken yet, or some were taken by another
   * caller: look again then.
   */
  protected wait(delay: number, signal?: AbortSignal): Promise<void> {
    return new Promise<void>((resolve, reject) => {
      signal?.throwIfAborted()
      this.#watch ??= watchReadable(this.call, () => this.#takeCalls(), { keepAlive: true })
      const abort = () => {
        this.#waiters = this.#waiters.filter((other) => other !== waiter)
        reject(signal?.reason)
      }
      const waiter: Waiter = {
        delay,
        settle: (error) => {
          signal?.removeEventListener('abort', abort)
          if (error === undefined) resolve()
          else reject(error)
        },
      }
      signal?.addEventListener('abort', abort)
      this.#waiters.push(waiter)
      this.#wakeReady()
    })
  }

  /** Tells whoever waits that chains were taken: what they wait for may never come now. */
  protected taken(): void {
    const waiters = this.#waiters
    this.#waiters = []
    for (const waiter of waiters) waiter.settle()
  }

  // Takes the count of calls and, since that is what the waiters would have been woken by, sees to them.
  #takeCalls(): void {
    const calls = Number(this.call.read())
    if (calls === 0) return
    this.#calls += calls
    this.#wakeReady()
  }

  // Wakes those whose chains are there, and asks the device for a call on behalf of the rest. Arming says whether the
  // device was faster: nobody sleeps on a call that was already sent.
  #wakeReady(): void {
    while (this.#waiters.length > 0) {
      const delay = Math.min(...this.#waiters.map((waiter) => waiter.delay))
      if (!binding().ringArm(this.#ring.native, delay)) return
      const ready = this.#waiters.filter((waiter) => waiter.delay === delay)
      this.#waiters = this.#waiters.filter((waiter) => waiter.delay !== delay)
      for (const waiter of ready) waiter.settle()
    }
  }

  /** Releases ring and eventfds; whoever waits is told. Idempotent. */
  close(): void {
    const watch = this.#watch
    this.#watch = undefined
    const waiters = this.#waiters
    this.#waiters = []
    const all = new Teardown()
    all.add(() => {
      for (const waiter of waiters) waiter.settle(new StateError('ERR_CLOSED', `${this.name} was closed`))
    })
    all.add(() => this.#closing.run())
    if (watch !== undefined) all.add(() => watch.stop())
    all.run()
  }
}
