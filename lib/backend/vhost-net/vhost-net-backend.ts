// N queue pairs on vhost-net and one tap.

import { EventEmitter } from 'node:events'
import { setImmediate } from 'node:timers/promises'
import { InvalidOptionError, StateError } from '../../errors.ts'
import { VhostNet } from '../../host/vhost-net.ts'
import { startWorker, type VhostWorker } from '../../host/vhost-worker.ts'
import { checkBigInt } from '../../options.ts'
import { forAllOrNone, Teardown } from '../../teardown.ts'
import type { Vring } from '../../virtio/vring.ts'
import type { NetBackend, NetBackendEvents, PairBases, PairConfig, RingName, RxFilter } from '../net-backend.ts'
import { BackendTap } from './backend-tap.ts'
import { featureNames, tapOffload } from './features.ts'
import { Lease, vhostOfFd } from './handed-fds.ts'
import {
  type CheckedOptions,
  checkOptions,
  checkPollUs,
  checkSwapOptions,
  type SwapTapOptions,
  type VhostNetBackendOptions,
} from './options.ts'
import { QueuePair, type QueuePairState } from './queue-pair.ts'
import type { TapFilterState } from './tap-filter.ts'
import { TapLink } from './tap-link.ts'
import { type StrandedRing, swapTaps } from './tap-swap.ts'

export type { SwapTapOptions, VhostNetBackendOptions } from './options.ts'

/** What a backend is now; JSON-safe. */
export interface VhostNetBackendState {
  ifname: string
  /** The bits that it serves. */
  features: { bits: string; names: string }
  /** The option; null where queues have what they had. */
  sndbuf: number | null
  /** What the workers can reach, by guest-physical address, once a pair has started. */
  regions: { guestAddress: number; size: number }[]
  /** Which frames the tap passes on. */
  rxFilter: TapFilterState
  pairs: QueuePairState[]
}

interface Parts extends Pick<CheckedOptions, 'memory'> {
  tap: BackendTap
  /** The option, for the next tap, too. */
  sndbuf: number | undefined
  pairs: readonly QueuePair[]
  opened: Teardown
}

/**
 * Packets go through the kernel's vhost-net to a tap. Emits `fault` where a ring cannot go on, `gone` where the tap was
 * deleted, and `back` once there is another.
 * Pair i has a queue of the tap and a vhost-net fd of its own. A pair gets its share of the tap's frames from its first
 * start on; the first pair's queue is open to them from the beginning.
 */
export class VhostNetBackend extends EventEmitter<NetBackendEvents> implements NetBackend {
  readonly queuePairs: number
  readonly features: bigint
  readonly #parts: Parts
  readonly #pairs: readonly QueuePair[]
  readonly #links = new Set<TapLink>()
  #tap: BackendTap
  #rxFilter: RxFilter | undefined
  /** The tap was deleted: nothing can be asked of it. */
  #gone = false
  #closed = false
  /** One swap comes after the other. */
  #swaps: Promise<unknown> = Promise.resolve()

  private constructor(parts: Parts) {
    super()
    const { tap, pairs } = parts
    this.queuePairs = pairs.length
    this.features = pairs.reduce((features, { vhost }) => features & vhost.features, pairs[0]?.vhost.features ?? 0n)
    this.#parts = parts
    this.#pairs = pairs
    this.#tap = tap
  }

  /** The tap's name now, since somebody may rename it; of one that was deleted, or once closed, the last. */
  get ifname(): string {
    return this.#tap.ifname
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
    let backend: VhostNetBackend | undefined
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
      const tap = await BackendTap.open(tapFrom, { queuePairs, sndbuf })
      opened.add(() => (backend === undefined ? tap : backend.#tap).close())
      const pairs: QueuePair[] = []
      for (const [index, queue] of tap.queues.entries()) {
        const pair = new QueuePair({
          index,
          memory,
          queue,
          ...openVhost(index),
          offloads: tap.offloads,
          pollUs,
          agreed: () => pairs.find(({ agreed }) => agreed !== undefined)?.agreed,
          fault: (fault) => backend?.emit('fault', fault),
          gone: () => {
            if (backend !== undefined) backend.#tapGone()
          },
        })
        pairs.push(opened.own(pair))
        // A worker has to start: other work of this thread goes between.
        if (index + 1 < queuePairs) await setImmediate()
      }
      backend = new VhostNetBackend({ memory, sndbuf, tap, pairs, opened })
      tap.take()
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
    return this.#pairs.map(({ vhost }) => vhost.explain(feature)).find((why) => why !== undefined)
  }

  /** TUNSETOFFLOAD: what the driver takes from now on of what was agreed on. @throws {SystemCallError} */
  setOffloads(offloads: bigint): void {
    const bits = tapOffload(checkBigInt(offloads, 'offloads'))
    if (!this.#gone) this.#tap.first.setOffload(bits)
    for (const pair of this.#pairs) pair.offloads = offloads
  }

  /**
   * TUNSETTXFILTER: as exactly as the tap can; `inspect().rxFilter` says where that lets more through.
   * @throws {SystemCallError}
   * @throws {InvalidOptionError} `ERR_OPTION_*` of an address
   */
  setRxFilter(filter: RxFilter): void {
    if (!this.#gone) this.#tap.filter.set(filter)
    this.#rxFilter = filter
  }

  /**
   * Says whether the tap is switched on (IFF_UP), now and whenever that changes, until the watch is closed; close it before
   * the backend. One in another network namespace than this process counts as switched on for as long as it is there, since
   * nothing can be heard of it.
   * @throws {SystemCallError} `EMFILE`
   */
  watchLink(changed: (up: boolean) => void): { close(): void } {
    const link = new TapLink(this.#tap.first, changed)
    this.#links.add(link)
    return {
      close: () => {
        this.#links.delete(link)
        link.close()
      },
    }
  }

  /**
   * Has every pair go on with another tap: where pairs run, from where their rings stand, with the offloads and the filter
   * that the driver set. Frames that wait in the queues of the one before are lost; those that are being sent are not. It
   * also brings a backend back whose tap was deleted. The tap before is closed, with what was changed on it put back, and
   * so are its fds that were handed over.
   *
   * Rejects with the pairs on the tap before, and fds handed over left to their giver. Where there is no way back since
   * that tap was deleted meanwhile, `gone` is emitted; where the kernel refuses it, `fault`. Only where it is closing the
   * tap before that fails, it rejects although the pairs have gone on: `ifname` says so. Swaps asked for at once come one
   * after the other.
   * @throws {InvalidOptionError} `ERR_OPTION_*`, `ERR_OPTION_CONFLICT` where it is the same tap, has too few queues or no
   * virtio header
   * @throws {FeatureNegotiationError} `ERR_FEATURE_MISSING` where it lacks what this backend serves, `ERR_FEATURE_MISMATCH`
   * where somebody else changes its header size
   * @throws {SystemCallError}
   * @throws {StateError} `ERR_CLOSED`
   */
  swapTap(options: SwapTapOptions): Promise<void> {
    const swap = this.#swaps.then(() => this.#swapTap(options))
    // Whoever asked for it hears of its failure.
    this.#swaps = swap.catch(() => undefined)
    return swap
  }

  async #swapTap(options: SwapTapOptions): Promise<void> {
    const { queuePairs } = this
    const from = checkSwapOptions(options, queuePairs)
    this.#assertOpen()
    this.#tap.refuse(from)
    const opened = new Teardown()
    const next = opened.own(await BackendTap.open(from, { queuePairs, sndbuf: this.#parts.sndbuf }))
    let followed: (() => void)[]
    try {
      this.#assertOpen()
      const swap = { pairs: this.#pairs, links: this.#links, rxFilter: this.#rxFilter, next }
      followed = swapTaps(swap, (rings) => this.#strand(rings))
    } catch (error) {
      throw opened.unwind(error)
    }
    next.take()
    this.#goneOver(next, followed)
  }

  /** Whatever becomes of the tap before, the pairs are on the next one. */
  #goneOver(next: BackendTap, followed: readonly (() => void)[]): void {
    const rest = new Teardown()
    rest.own(this.#tap)
    for (const step of followed) rest.add(step)
    this.#tap = next
    if (this.#gone) {
      this.#gone = false
      rest.add(() => void this.emit('back'))
    }
    rest.run()
  }

  /** Rings stand still: the tap is gone, or nobody knows why. */
  #strand(rings: readonly StrandedRing[]): void {
    if (this.#tap.gone) {
      this.#tapGone()
      return
    }
    const message = 'the kernel took it neither to another tap nor back to the one it had'
    for (const ring of rings) this.emit('fault', { ...ring, errors: 0, cause: 'unknown', message })
  }

  /**
   * Holds all rings: no packet moves until `resume`, and what waits in rings and in the tap's queues stays there. Pairs may
   * be started and stopped, and the tap swapped, meanwhile. Idempotent.
   * @throws {SystemCallError} with nothing held
   * @throws {StateError} `ERR_CLOSED`
   */
  pause(): void {
    this.#assertOpen()
    forAllOrNone(this.#pairs, (pair, undo) => {
      undo.add(() => pair.resume())
      pair.pause()
    })
  }

  /**
   * Rings go on from where they stood. Where the tap was deleted meanwhile, `gone` is emitted. Does nothing where nothing
   * is held.
   * @throws {SystemCallError} with all held
   * @throws {StateError} `ERR_CLOSED`
   */
  resume(): void {
    this.#assertOpen()
    try {
      forAllOrNone(this.#pairs, (pair, undo) => {
        undo.add(() => pair.pause())
        pair.resume()
      })
    } catch (error) {
      if (this.#gone || !this.#tap.gone) throw error
      // A device stops its pairs then, and none is left that could not go on.
      this.#tapGone()
      this.resume()
    }
  }

  #assertOpen(): void {
    if (this.#closed) throw new StateError('ERR_CLOSED', `the backend on ${this.ifname} is closed`)
  }

  running(pair: number): boolean {
    return this.#pair(pair).running
  }

  /**
   * For how many microseconds, 0..10000, the worker of a pair, or of each, polls for more work before it sleeps; from now
   * on, also while pairs run. Where one cannot, all keep what they had.
   * @throws {InvalidOptionError} `ERR_OPTION_TYPE`, `ERR_OPTION_RANGE`
   * @throws {SystemCallError} of `VHOST_SET_VRING_BUSYLOOP_TIMEOUT`
   * @throws {StateError} `ERR_CLOSED`
   */
  setPollUs(poll_us: number, pair?: number): void {
    const microseconds = checkPollUs(poll_us)
    forAllOrNone(pair === undefined ? this.#pairs : [this.#pair(pair)], ({ vhost }, undo) => {
      const before = vhost.pollUs
      vhost.setPollUs(microseconds)
      undo.add(() => vhost.setPollUs(before))
    })
  }

  /**
   * Lets the worker of a pair run on these CPUs only, from now on; `inspect()` says where each may run.
   * @see {@link PairVhost.pinWorker}
   */
  pinWorker(pair: number, cpus: readonly number[]): void {
    this.#pair(pair).vhost.pinWorker(cpus)
  }

  /** What it is now. */
  inspect(): VhostNetBackendState {
    const { memory } = this.#parts
    return {
      ifname: this.ifname,
      features: { bits: `0x${this.features.toString(16)}`, names: featureNames(this.features) },
      sndbuf: this.#tap.sndbuf ?? null,
      regions: memory.regions.map(({ guestAddress, size }) => ({ guestAddress, size })),
      rxFilter: this.#tap.filter.inspect(),
      pairs: this.#pairs.map((pair) => pair.inspect()),
    }
  }

  /** Stops every pair, ends the workers, closes the tap and puts back what was changed on one not ours. Idempotent. */
  close(): void {
    this.#closed = true
    this.#parts.opened.run()
  }

  [Symbol.dispose](): void {
    this.close()
  }
}
