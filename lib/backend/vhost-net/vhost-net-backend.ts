// N queue pairs on vhost-net and one tap.

import { EventEmitter } from 'node:events'
import { setImmediate } from 'node:timers/promises'
import { InvalidOptionError } from '../../errors.ts'
import type { Tap } from '../../host/tap.ts'
import { VhostNet } from '../../host/vhost-net.ts'
import { startWorker, type VhostWorker } from '../../host/vhost-worker.ts'
import { checkBigInt } from '../../options.ts'
import { Teardown } from '../../teardown.ts'
import type { Vring } from '../../virtio/vring.ts'
import type { NetBackend, NetBackendEvents, PairBases, PairConfig, RingName, RxFilter } from '../net-backend.ts'
import { featureNames, tapOffload } from './features.ts'
import { Lease, vhostOfFd } from './handed-fds.ts'
import { type CheckedOptions, checkOptions, checkPollUs, type VhostNetBackendOptions } from './options.ts'
import { QueuePair, type QueuePairState } from './queue-pair.ts'
import { TapFilter, type TapFilterState } from './tap-filter.ts'
import { watchTapLink } from './tap-link.ts'
import { TapQueue } from './tap-queue.ts'
import { queuesByFd, queuesByName } from './tap-queues.ts'

export type { VhostNetBackendOptions } from './options.ts'

/** What a backend is now; JSON-safe. */
export interface VhostNetBackendState {
  ifname: string
  /** The bits that it serves. */
  features: { bits: string; names: string }
  /** The option; null where queues have what they had. */
  sndbuf: number | null
  poll_us: number
  /** What the workers can reach, by guest-physical address, once a pair has started. */
  regions: { guestAddress: number; size: number }[]
  /** Which frames the tap passes on. */
  rxFilter: TapFilterState
  pairs: QueuePairState[]
}

interface Parts extends Pick<CheckedOptions, 'memory' | 'sndbuf' | 'pollUs'> {
  /** The first queue of the tap, for what is the whole tap's. */
  tap: Tap
  pairs: readonly QueuePair[]
  filter: TapFilter
  opened: Teardown
}

/**
 * Packets go through the kernel's vhost-net to a tap. Emits `fault` where a ring cannot go on, and `gone` where the tap was
 * deleted.
 * Pair i has a queue of the tap and a vhost-net fd of its own. A pair gets its share of the tap's frames from its first
 * start on; the first pair's queue is open to them from the beginning.
 */
export class VhostNetBackend extends EventEmitter<NetBackendEvents> implements NetBackend {
  readonly ifname: string
  readonly queuePairs: number
  readonly features: bigint
  readonly #parts: Parts
  readonly #pairs: readonly QueuePair[]
  #pollUs: number
  /** The tap was deleted: nothing can be asked of it. */
  #gone = false

  private constructor(parts: Parts) {
    super()
    const { tap, pairs } = parts
    this.ifname = tap.ifname
    this.queuePairs = pairs.length
    this.features = pairs.reduce((features, pair) => features & pair.features, pairs[0]?.features ?? 0n)
    this.#parts = parts
    this.#pairs = pairs
    this.#pollUs = parts.pollUs
  }

  /**
   * Opens all fds, or takes over those handed to it, and starts all workers; no ring runs yet. Rejects, with everything
   * undone, with {@link InvalidOptionError} `ERR_OPTION_*`, before anything is opened where no tap and no fd need be looked
   * at, or {@link SystemCallError}.
   */
  static async open(options: VhostNetBackendOptions): Promise<VhostNetBackend> {
    const { queuePairs, tap: tapFrom, vhost: vhostFrom, memory, sndbuf, pollUs } = checkOptions(options)
    const opened = new Teardown()
    const lease = new Lease(opened)
    // With an owner, hence a worker, which an fd that goes back does not have.
    const openVhost = (index: number): { vhost: VhostNet; worker: VhostWorker | undefined } => {
      if (!('fds' in vhostFrom)) {
        const vhost = opened.own(VhostNet.open({ path: vhostFrom.path }))
        return { vhost, worker: startWorker(vhost) }
      }
      const vhost = lease.own(vhostOfFd(vhostFrom.fds[index] as number, `vhostfds[${index}]`))
      const worker = startWorker(vhost)
      lease.addBeforeReturn(() => vhost.resetOwner())
      return { vhost, worker }
    }
    try {
      const queues =
        'fds' in tapFrom ? queuesByFd(tapFrom.fds, lease, opened) : queuesByName({ ...tapFrom, queuePairs }, opened)
      const taps: TapQueue[] = []
      const pairs: QueuePair[] = []
      let offloads = 0
      let filter: TapFilter | undefined
      let backend: VhostNetBackend | undefined
      for (let index = 0; index < queuePairs; index++) {
        const tap = queues.open()
        const queue = new TapQueue(tap, queuePairs === 1)
        if (index === 0) {
          offloads = queues.offloads()
          filter = opened.own(new TapFilter(tap))
        }
        taps.push(queue)
        const pair = new QueuePair({
          index,
          memory,
          queue,
          ...openVhost(index),
          offloads,
          sndbuf,
          pollUs,
          agreed: () => pairs.find(({ agreed }) => agreed !== undefined)?.agreed,
          fault: (fault) => backend?.emit('fault', fault),
          gone: () => {
            if (backend !== undefined) backend.#tapGone()
          },
        })
        pairs.push(opened.own(pair))
        // Creating a queue waits for RTNL and a worker to start: other work of this thread goes between.
        if (index + 1 < queuePairs) await setImmediate()
      }
      // From the highest on: the kernel fills the place of a queue that goes with its last one (drivers/net/tun.c).
      for (const queue of taps.slice(1).reverse()) {
        queue.detach()
        lease.addBeforeReturn(() => void queue.attach())
        await setImmediate()
      }
      const { tap } = taps[0] as TapQueue
      backend = new VhostNetBackend({ memory, sndbuf, pollUs, tap, pairs, filter: filter as TapFilter, opened })
      lease.take()
      return backend
    } catch (error) {
      throw opened.unwind(error)
    }
  }

  #tapGone(): void {
    if (this.#gone) return
    this.#gone = true
    this.emit('gone')
  }

  #pair(index: number): QueuePair {
    const pair = this.#pairs[index]
    if (pair === undefined) {
      throw new InvalidOptionError('ERR_OPTION_RANGE', 'pair', `must be in 0..${this.queuePairs - 1}, not ${index}`)
    }
    return pair
  }

  /** @see {@link QueuePair.start} */
  start(pair: number, config: PairConfig): void {
    this.#pair(pair).start(config)
  }

  /**
   * Stops a pair and returns where its rings stand, as `base` for the next start. Frames wait for that, or with `detach`
   * go to the other pairs, if there are any.
   * @throws `ERR_NOT_ACTIVE`
   */
  stop(pair: number, options?: { detach?: boolean }): PairBases {
    return this.#pair(pair).stop(options)
  }

  /** @see {@link QueuePair.startRing} */
  startRing(pair: number, ring: RingName, vring: Vring): void {
    this.#pair(pair).startRing(ring, vring)
  }

  /** @see {@link QueuePair.stopRing} */
  stopRing(pair: number, ring: RingName): number {
    return this.#pair(pair).stopRing(ring)
  }

  explain(feature: number): string | undefined {
    return this.#pairs.map((pair) => pair.explain(feature)).find((why) => why !== undefined)
  }

  /** TUNSETOFFLOAD: what the driver takes from now on of what was agreed on. @throws {SystemCallError} */
  setOffloads(offloads: bigint): void {
    const bits = tapOffload(checkBigInt(offloads, 'offloads'))
    if (!this.#gone) this.#parts.tap.setOffload(bits)
    for (const pair of this.#pairs) pair.offloads = offloads
  }

  /**
   * TUNSETTXFILTER: as exactly as the tap can; `inspect().rxFilter` says where that lets more through.
   * @throws {SystemCallError}
   * @throws {InvalidOptionError} `ERR_OPTION_*` of an address
   */
  setRxFilter(filter: RxFilter): void {
    if (!this.#gone) this.#parts.filter.set(filter)
  }

  /**
   * Says whether the tap is switched on (IFF_UP), now and whenever that changes, until the watch is closed; close it before
   * the backend. Undefined where the tap is in another network namespace than this process.
   * @throws {SystemCallError} `EMFILE`
   */
  watchLink(changed: (up: boolean) => void): { close(): void } | undefined {
    return watchTapLink(this.#parts.tap, changed)
  }

  running(pair: number): boolean {
    return this.#pair(pair).running
  }

  /**
   * For how many microseconds, 0..10000, the workers poll for more work before they sleep; from now on, also of pairs that
   * run. Where one cannot, all keep what they had.
   * @throws {InvalidOptionError} `ERR_OPTION_TYPE`, `ERR_OPTION_RANGE`
   * @throws {SystemCallError} of `VHOST_SET_VRING_BUSYLOOP_TIMEOUT`
   * @throws {StateError} `ERR_CLOSED`
   */
  setPollUs(poll_us: number): void {
    const microseconds = checkPollUs(poll_us)
    const undo = new Teardown()
    try {
      for (const pair of this.#pairs) {
        pair.setPollUs(microseconds)
        undo.add(() => pair.setPollUs(this.#pollUs))
      }
    } catch (error) {
      throw undo.unwind(error)
    }
    this.#pollUs = microseconds
  }

  /**
   * Lets the worker of a pair run on these CPUs only, from now on; `inspect()` says where each may run.
   * @see {@link QueuePair.pinWorker}
   */
  pinWorker(pair: number, cpus: readonly number[]): void {
    this.#pair(pair).pinWorker(cpus)
  }

  /** What it is now. */
  inspect(): VhostNetBackendState {
    const { memory, sndbuf = null } = this.#parts
    return {
      ifname: this.ifname,
      features: { bits: `0x${this.features.toString(16)}`, names: featureNames(this.features) },
      sndbuf,
      poll_us: this.#pollUs,
      regions: memory.regions.map(({ guestAddress, size }) => ({ guestAddress, size })),
      rxFilter: this.#parts.filter.inspect(),
      pairs: this.#pairs.map((pair) => pair.inspect()),
    }
  }

  /** Stops every pair, ends the workers, closes the tap and puts back what was changed on one not ours. Idempotent. */
  close(): void {
    this.#parts.opened.run()
  }

  [Symbol.dispose](): void {
    this.close()
  }
}
