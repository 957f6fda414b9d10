// The driver's end of one virtqueue: what sending and receiving have in common.

import { binding, Handle, type NativeRing, systemCall } from '../binding/index.ts'
import { StateError } from '../errors.ts'
import { EventFd, type Watch, watchReadable } from '../event/index.ts'
import type { NativeMemory } from '../memory/index.ts'
import { checkInteger, checkObject } from '../options.ts'
import { Teardown } from '../teardown.ts'
import type { Burst } from './burst.ts'
import type { QueueLayout } from './layout.ts'
import { ringError } from './ring-error.ts'
import { RingLoop } from './ring-loop.ts'

export interface QueueOptions {
  /** For messages: `'pair 0 tx'`. */
  name: string
  memory: NativeMemory
  layout: QueueLayout
  vnetHdrLen: number
  eventIdx: boolean
  indirect: boolean
  mrgRxbuf: boolean
  /** Microseconds to look for what is waited for before sleeping. */
  busyPoll: number
}

/** In the order of the addon's `ringCounters`. */
const RING_COUNTERS = [
  'available',
  'used',
  'frames',
  'bytes',
  'kicks',
  'kicksSuppressed',
  'calls',
  'availIdx',
  'usedIdx',
  'freeBuffers',
] as const

/** Totals of one queue since it was made; exact integers below 2⁵³. */
export interface QueueCounters {
  /** Descriptor chains made available to the device. */
  available: number
  /** Descriptor chains the device has returned and the driver has taken. */
  used: number
  /** Frames that went through: sent and returned, or received. */
  frames: number
  /** Bytes of those frames, without virtio header. */
  bytes: number
  kicks: number
  /** Times the device wanted no kick. */
  kicksSuppressed: number
  /** Signals of `call`. */
  calls: number
  /** avail.idx and used.idx as they stand in memory now. */
  availIdx: number
  usedIdx: number
  freeBuffers: number
}

/** When to wake who waits, as `ethtool -C`'s rx-frames and rx-usecs: fewer calls, for some delay. */
export interface Coalescing {
  /** Chains that must have come back: 1 (default) to the ring's size. */
  frames?: number
  /** After so long fewer will do, one at least. Default: no limit. */
  milliseconds?: number
}

export interface RecycleOptions {
  /** Frames after which it ends. */
  frames: number
  /** Frames at most between two looks at whether the device wants a kick, 1..32768. Default 64. */
  batch?: number
  /** Ends it early: the promise rejects with the signal's reason. */
  signal?: AbortSignal
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
  readonly #busyPoll: number
  readonly #counters = new Float64Array(RING_COUNTERS.length)
  readonly #closing = new Teardown()
  #watch: Watch | undefined
  #loop: RingLoop | undefined
  #calls = 0
  #waiters: Waiter[] = []

  protected constructor(options: QueueOptions, deviceWrites: boolean) {
    const { name, memory, layout } = options
    this.name = name
    this.layout = layout
    this.#busyPoll = options.busyPoll
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
    if (this.#loop === undefined) this.#takeCalls()
    binding().ringCounters(this.#ring.native, this.#counters)
    const counters = Object.fromEntries(RING_COUNTERS.map((name, i) => [name, this.#counters[i]]))
    const { calls, ...rest } = counters as unknown as QueueCounters
    return { ...rest, calls: calls + this.#calls }
  }

  /** Chains the device has not returned yet, or that nobody has taken since. */
  get inFlight(): number {
    return binding().ringInFlight(this.#ring.native)
  }

  /**
   * Gives buffers back to the pool.
   * @throws {QueueError} `ERR_QUEUE_BROKEN` where one is not the caller's
   */
  release(offsets: Uint32Array, count: number): void {
    const { ring } = this
    try {
      binding().ringRelease(ring, offsets, count)
    } catch (error) {
      throw ringError(this.name, error)
    }
  }

  /** Kicks signal this eventfd from now on, which stays its giver's; the one before passes on what nobody took. */
  kickThrough(doorbell: EventFd): void {
    binding().ringSetKick(this.ring, doorbell.native)
    if (this.kick.read() > 0n) doorbell.signal()
  }

  /** The device interrupted, for this queue or another one. */
  handleInterrupt(): void {
    if (this.closed) return
    if (this.#loop === undefined) this.#wakeReady()
    else this.call.signal()
  }

  /** Gives the buffers of a burst back to the pool and empties it. @throws {QueueError} `ERR_QUEUE_BROKEN` */
  releaseBurst(burst: Burst): void {
    this.release(burst.offsets, burst.segmentCount)
    burst.clear()
  }

  /** The ring, to be worked on. @throws {StateError} `ERR_CLOSED`, `ERR_QUEUE_BUSY` */
  protected get ring(): NativeRing {
    this.#assertIdle()
    return this.#ring.native
  }

  /** Whether somebody waits for chains to come back. */
  protected get awaited(): boolean {
    return this.#waiters.length > 0
  }

  #assertIdle(): void {
    if (this.#loop === undefined) return
    throw new StateError('ERR_QUEUE_BUSY', `${this.name} is kept in motion by a thread of its own`, {
      hint: 'Await the end of repeat() or discard(), or abort it.',
    })
  }

  /**
   * Resolves once as many chains as `frames` says were returned by the device and not taken yet, or some were taken by
   * another caller: look again then.
   */
  protected wait({ frames = 1, milliseconds }: Coalescing, signal?: AbortSignal): Promise<void> {
    return new Promise<void>((resolve, reject) => {
      signal?.throwIfAborted()
      this.#assertIdle()
      const delay = checkInteger(frames, 'frames', 1, this.layout.num) - 1
      if (this.#busyPoll > 0 && binding().ringSpin(this.#ring.native, delay, this.#busyPoll)) {
        resolve()
        return
      }
      this.#watch ??= watchReadable(this.call, () => this.#takeCalls(), { keepAlive: true })
      const abort = () => {
        this.#waiters = this.#waiters.filter((other) => other !== waiter)
        waiter.settle(signal?.reason)
      }
      const waiter: Waiter = {
        delay,
        settle: (error) => {
          clearTimeout(timer)
          signal?.removeEventListener('abort', abort)
          if (error === undefined) resolve()
          else reject(error)
        },
      }
      const contentWithOne = () => {
        waiter.delay = 0
        this.#wakeReady()
      }
      const timer = milliseconds === undefined || delay === 0 ? undefined : setTimeout(contentWithOne, milliseconds)
      signal?.addEventListener('abort', abort)
      this.#waiters.push(waiter)
      this.#wakeReady()
    })
  }

  /**
   * Has a native thread make available again what the device returns, until so many frames went through.
   * @param callPerBatch whether the thread sleeps until a whole batch came back, not until the first chain did.
   */
  protected async recycle(options: RecycleOptions, callPerBatch: boolean): Promise<void> {
    const given = checkObject(options, ['frames', 'batch', 'signal'])
    const frames = checkInteger(given.frames, 'frames', 1, Number.MAX_SAFE_INTEGER)
    const batch = checkInteger(given.batch, 'batch', 1, 32768, 64)
    const { signal } = options
    signal?.throwIfAborted()
    this.#assertIdle()
    if (this.#waiters.length > 0) {
      throw new StateError('ERR_QUEUE_BUSY', `somebody waits for ${this.name}, and would wait for ever`)
    }
    // The thread sleeps on the same eventfd: of two readers one would miss the call.
    this.#endWatch()
    const delay = callPerBatch ? batch - 1 : 0
    const loop = new RingLoop({ ring: this.#ring.native, call: this.call, name: this.name, frames, batch, delay })
    this.#loop = loop
    const stop = () => loop.stop(signal?.reason)
    signal?.addEventListener('abort', stop)
    try {
      await loop.ended
    } finally {
      signal?.removeEventListener('abort', stop)
      this.#loop = undefined
    }
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
      let delay = 0x7fff
      for (const waiter of this.#waiters) delay = Math.min(delay, waiter.delay)
      if (!binding().ringArm(this.#ring.native, delay)) return
      const waiters = this.#waiters
      this.#waiters = waiters.filter((waiter) => waiter.delay > delay)
      for (const waiter of waiters) if (waiter.delay === delay) waiter.settle()
    }
  }

  #endWatch(): void {
    const watch = this.#watch
    this.#watch = undefined
    watch?.stop()
  }

  /** Releases ring and eventfds; whoever waits is told. Idempotent. */
  close(): void {
    const waiters = this.#waiters
    this.#waiters = []
    const closed = () => new StateError('ERR_CLOSED', `${this.name} was closed`)
    const all = new Teardown()
    all.add(() => {
      for (const waiter of waiters) waiter.settle(closed())
    })
    all.add(() => this.#closing.run())
    all.add(() => this.#endWatch())
    all.add(() => this.#loop?.stop(closed()))
    all.run()
  }
}
