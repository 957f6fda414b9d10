// One queue pair in the kernel: a vhost-net fd and a tap queue, started and stopped in the order the kernel asks for.

import { VHOST_NET_VQ_RX, VHOST_NET_VQ_TX } from '../../abi/vhost.ts'
import { FeatureNegotiationError, StateError, UnsupportedError } from '../../errors.ts'
import { knownFeatures } from '../../host/probe.ts'
import type { VhostNet } from '../../host/vhost-net.ts'
import type { VhostWorker } from '../../host/vhost-worker.ts'
import type { NativeMemory } from '../../memory/index.ts'
import { checkBigInt } from '../../options.ts'
import { forAllOrNone, Teardown } from '../../teardown.ts'
import { hasFeature } from '../../virtio/features.ts'
import { checkVring, type Vring } from '../../virtio/vring.ts'
import type { PairBases, PairConfig, RingFault, RingName } from '../net-backend.ts'
import {
  checkFeatures,
  checkOffloads,
  featureNames,
  offloadNames,
  servedFeatures,
  tapOffload,
  vhostFeatures,
  whyNotServed,
} from './features.ts'
import type { RingFinding } from './health.ts'
import { KernelRing } from './kernel-ring.ts'
import type { TapQueue, TapQueueState } from './tap-queue.ts'

export interface QueuePairOptions {
  index: number
  memory: NativeMemory
  queue: TapQueue
  /** With an owner, hence a worker. */
  vhost: VhostNet
  /** Undefined where nobody knows which thread it is. */
  worker: VhostWorker | undefined
  /** TUN_F_* that the tap knows. */
  offloads: number
  /** Microseconds for which the worker polls before it sleeps. */
  pollUs: number
  /** The features that the other pairs run with; undefined where none runs. */
  agreed: () => bigint | undefined
  fault: (fault: RingFault) => void
  /** The tap is there no more. */
  gone: () => void
}

/** What one queue pair is now; JSON-safe. */
export interface QueuePairState {
  pair: number
  running: boolean
  /** What it runs with, or ran with last; null where it has not started yet. */
  features: { bits: string; names: string } | null
  /** Where each ring goes on; null while they run, since they are exact only once they stand. */
  bases: PairBases | null
  /** Names of TUN_F_*, by those features that the driver takes now, or took last. */
  offloads: string[]
  /** Whether frames of the tap reach its queue. */
  attached: boolean
  tap: TapQueueState
  poll_us: number
  /** The thread that moves its packets, and the CPUs that may run it; null where nobody knows which it is, or once closed. */
  worker: { tid: number; cpus: number[] } | null
  /** Numbers of the open files by what they are for; null once closed. */
  fds: { tap: number; vhost: number; rx_err: number; tx_err: number } | null
}

/** A pair owns its rings' err eventfds; the vhost-net fd, the tap queue, kicks and calls are lent to it. */
export class QueuePair {
  readonly #options: QueuePairOptions
  readonly #name: string
  readonly #opened = new Teardown()
  readonly #rings: Readonly<Record<RingName, KernelRing>>
  readonly #vhostMask: bigint
  #queue: TapQueue
  #pollUs = 0
  #features: bigint | undefined
  #offloads = 0n
  #running = false
  #following = false
  #bases: PairBases = { rx: 0, tx: 0 }
  #ranBefore = false

  /** Opens all that it takes, so that `start` is cheap. @throws {SystemCallError} */
  constructor(options: QueuePairOptions) {
    this.#options = options
    this.#queue = options.queue
    this.#name = `pair ${options.index}`
    try {
      this.#vhostMask = knownFeatures(options.vhost)
      if (options.pollUs > 0) this.setPollUs(options.pollUs)
      const rx = this.#openRing('rx', () => this.#rings.tx.usedIndex())
      const tx = this.#openRing('tx', () => rx.usedIndex())
      this.#rings = { rx, tx }
    } catch (error) {
      throw this.#opened.unwind(error)
    }
  }

  #openRing(ring: RingName, othersUsed: () => number): KernelRing {
    const { index, memory, vhost, worker, fault, gone } = this.#options
    const found = (finding: RingFinding | 'gone'): void => {
      if (finding === 'gone') gone()
      else fault({ pair: index, ring, ...finding })
    }
    const name = `${this.#name} ${ring}`
    const options = { ring, name, memory, vhost, worker, othersUsed, gone: () => this.#queue.gone, found }
    return this.#opened.own(new KernelRing(options))
  }

  /** Feature bits that this pair serves. */
  get features(): bigint {
    return servedFeatures(this.#vhostMask, this.#options.offloads)
  }

  /** Why it does not serve a feature bit. */
  explain(feature: number): string | undefined {
    return hasFeature(this.features, feature) ? undefined : whyNotServed(feature, this.#options.offloads)
  }

  get running(): boolean {
    return this.#running
  }

  /** The features that it runs with. */
  get agreed(): bigint | undefined {
    return this.running ? this.#features : undefined
  }

  /**
   * Brings both rings to life. On failure everything is as it was before.
   * @throws {StateError} `ERR_ALREADY_ACTIVE`
   * @throws {FeatureNegotiationError} `ERR_FEATURE_MISSING`; `ERR_FEATURE_MISMATCH` where another pair runs with others,
   * or the tap's header is not as long as they say
   * @throws {QueueError | GuestMemoryError} where a ring is not in order
   * @throws {SystemCallError} where the kernel refused a step
   */
  start(config: PairConfig): void {
    const { features, offloads = features, rx, tx } = config
    const { memory } = this.#options
    const queue = this.#queue
    if (this.#running) throw new StateError('ERR_ALREADY_ACTIVE', `${this.#name} is running`)
    checkFeatures(checkBigInt(features, 'features'), this.features)
    checkBigInt(offloads, 'offloads')
    this.#checkAgreed(features)
    checkVring(rx, memory.regions, this.#rings.rx.name)
    checkVring(tx, memory.regions, this.#rings.tx.name)

    const undo = new Teardown()
    try {
      if (queue.attach()) undo.add(() => queue.detach())
      this.#activate({ features, offloads, rx, tx }, undo)
    } catch (error) {
      throw undo.unwind(error)
    }
    this.#running = true
    this.#features = features
    this.#offloads = offloads
    this.#ranBefore = true
  }

  #activate({ features, offloads, rx, tx }: Required<PairConfig>, undo: Teardown): void {
    const { memory, vhost } = this.#options
    const { tap } = this.#queue
    this.#setFeatures(vhostFeatures(features, this.#vhostMask))
    vhost.setMemTable(memory)
    this.#follow()
    for (const [ring, vring] of [[this.#rings.rx, rx] as const, [this.#rings.tx, tx] as const]) {
      ring.wire(vring)
      undo.add(() => ring.unwire())
    }
    this.#queue.setUp(features, offloads)
    // Runs when both backends are detached: only then are the bases exact.
    undo.add(() => this.#readBases())
    for (const ring of this.#bothRings) {
      ring.attach(tap, features)
      undo.add(() => ring.detach())
    }
    if (!this.#ranBefore && rx.base === undefined && tx.base === undefined) return
    for (const ring of this.#bothRings) ring.signalEnds()
  }

  get #bothRings(): readonly KernelRing[] {
    return [this.#rings.rx, this.#rings.tx]
  }

  /** Checks that a tap can take the place of the one it has. @throws {FeatureNegotiationError} `ERR_FEATURE_MISSING` */
  checkTap({ ifname, offloads }: { ifname: string; offloads: number }): void {
    checkOffloads(ifname, offloads, this.features, this.#vhostMask)
  }

  /**
   * Goes on with a queue of another tap: from where its rings stand where it runs, else when it starts. Whether frames
   * reach that queue is as with the one it had. `undo` is given the way back.
   * @param stranded told of a ring that could go no way: it stands still.
   * @throws {FeatureNegotiationError} `ERR_FEATURE_MISMATCH` where its header is not as long as was agreed on
   * @throws {SystemCallError} where the kernel refused a step
   */
  swap(queue: TapQueue, undo: Teardown, stranded: (ring: RingName) => void): void {
    const before = this.#queue
    if (before.attached) queue.attach()
    else queue.detach()
    if (this.#running) queue.setUp(this.#features as bigint, this.#offloads)
    for (const name of ['rx', 'tx'] as const) {
      const ring = this.#rings[name]
      undo.add(() => {
        try {
          ring.move(before.tap)
        } catch (error) {
          stranded(name)
          throw error
        }
      })
      ring.move(queue.tap)
    }
    this.#queue = queue
    undo.add(() => {
      this.#queue = before
    })
  }

  /** No ring of it is touched until `resume`, whatever is done with it meanwhile. Idempotent. @throws {SystemCallError} */
  pause(): void {
    for (const ring of this.#bothRings) ring.hold()
  }

  /** @throws {SystemCallError} with both rings as `pause` leaves them */
  resume(): void {
    forAllOrNone(this.#bothRings, (ring, undo) => {
      undo.add(() => ring.hold())
      ring.release()
    })
  }

  #readBases(): void {
    this.#bases = { rx: this.#rings.rx.standing(), tx: this.#rings.tx.standing() }
  }

  /**
   * Starts a ring that `stopRing` stopped. On failure it stands as before.
   * @throws {StateError} `ERR_NOT_ACTIVE` where the pair does not run, `ERR_ALREADY_ACTIVE` where the ring does
   * @throws {QueueError | GuestMemoryError} where it is not in order
   * @throws {SystemCallError} where the kernel refused a step
   */
  startRing(name: RingName, vring: Vring): void {
    const { memory } = this.#options
    const queue = this.#queue
    const ring = this.#rings[name]
    this.#assertRunning()
    if (ring.attached) throw new StateError('ERR_ALREADY_ACTIVE', `${ring.name} is running`)
    checkVring(vring, memory.regions, ring.name)
    const undo = new Teardown()
    try {
      if (queue.attach()) undo.add(() => queue.detach())
      ring.wire(vring)
      undo.add(() => ring.unwire())
      ring.attach(queue.tap, this.#features as bigint)
      undo.add(() => ring.detach())
      ring.signalEnds()
    } catch (error) {
      throw undo.unwind(error)
    }
  }

  /**
   * Stops one ring and returns its base; the other one goes on. Frames that come go to the other pairs while it is the
   * receive ring, and wait where there is no other.
   * @throws {StateError} `ERR_NOT_ACTIVE`
   */
  stopRing(name: RingName): number {
    const ring = this.#rings[name]
    this.#assertRunning()
    if (!ring.attached) throw new StateError('ERR_NOT_ACTIVE', `${ring.name} is not running`)
    const undo = new Teardown()
    if (name === 'rx') undo.add(() => this.#queue.detach())
    undo.add(() => ring.unwire())
    undo.add(() => {
      this.#bases[name] = ring.standing()
    })
    undo.add(() => ring.detach())
    undo.run()
    return this.#bases[name]
  }

  // Header size and offloads are the whole tap's: what one pair sets would change what the others read.
  #checkAgreed(features: bigint): void {
    const agreed = this.#options.agreed()
    if (agreed === undefined || agreed === features) return
    const differing = featureNames(agreed ^ features)
    throw new FeatureNegotiationError('ERR_FEATURE_MISMATCH', `${this.#name} differs in ${differing}`, {
      hint: 'All pairs that run at the same time agree on the same features: stop the others first.',
      context: { features: `0x${features.toString(16)}`, agreed: `0x${agreed.toString(16)}` },
    })
  }

  // Kernels before 6.17 have only the call for the low 64 bits, and then no others to set.
  #setFeatures(features: bigint): void {
    const { vhost } = this.#options
    if (features >> 64n === 0n) vhost.setFeatures(features)
    else vhost.setFeaturesArray(features)
  }

  /** Microseconds for which its worker polls. */
  get pollUs(): number {
    return this.#pollUs
  }

  /** Microseconds for which the worker polls for either ring before it sleeps, from now on. @throws {SystemCallError} */
  setPollUs(microseconds: number): void {
    const { vhost } = this.#options
    forAllOrNone([VHOST_NET_VQ_RX, VHOST_NET_VQ_TX], (index, undo) => {
      vhost.setVringBusyloopTimeout(index, microseconds)
      undo.add(() => vhost.setVringBusyloopTimeout(index, this.#pollUs))
    })
    this.#pollUs = microseconds
  }

  // The fd has a table from its first start on, running or not, and what is in it stays mapped.
  #follow(): void {
    if (this.#following) return
    const { memory, vhost } = this.#options
    this.#opened.add(memory.follow(() => vhost.setMemTable(memory)))
    this.#following = true
  }

  #assertRunning(): void {
    if (!this.#running) throw new StateError('ERR_NOT_ACTIVE', `${this.#name} is not running`)
  }

  /** What the driver takes now of what was agreed on. */
  get offloads(): bigint {
    return this.#offloads
  }

  /** Notes it. */
  set offloads(offloads: bigint) {
    this.#offloads = offloads
  }

  /** Stops both rings; the worker touches neither afterwards. @throws {StateError} `ERR_NOT_ACTIVE` */
  stop({ detach = false }: { detach?: boolean } = {}): PairBases {
    this.#assertRunning()
    this.#running = false
    const undo = new Teardown()
    const rings = this.#bothRings
    if (detach) undo.add(() => this.#queue.detach())
    for (const ring of rings) undo.add(() => ring.unwire())
    undo.add(() => this.#readBases())
    for (const ring of rings) undo.add(() => ring.detach())
    undo.run()
    return this.#bases
  }

  /** What it is now. */
  inspect(): QueuePairState {
    const { index, vhost } = this.#options
    const queue = this.#queue
    const [rxErr, txErr] = [this.#rings.rx.error, this.#rings.tx.error]
    const features = this.#features
    return {
      pair: index,
      running: this.running,
      features: features === undefined ? null : { bits: `0x${features.toString(16)}`, names: featureNames(features) },
      bases: this.running ? null : { ...this.#bases },
      offloads: offloadNames(tapOffload(this.#offloads)),
      attached: queue.attached,
      tap: queue.inspect(),
      poll_us: this.#pollUs,
      worker: this.#inspectWorker(rxErr.closed),
      fds: rxErr.closed ? null : { tap: queue.tap.fd, vhost: vhost.fd, rx_err: rxErr.fd, tx_err: txErr.fd },
    }
  }

  #inspectWorker(closed: boolean): QueuePairState['worker'] {
    const { worker } = this.#options
    return worker === undefined || closed ? null : { tid: worker.tid, cpus: worker.affinity() }
  }

  /**
   * Lets its worker run on these CPUs only.
   * @throws {UnsupportedError} `ERR_PLATFORM` where nobody knows which thread that is
   * @throws what {@link VhostWorker.setAffinity} throws
   */
  pinWorker(cpus: readonly number[]): void {
    const { worker } = this.#options
    if (worker === undefined) {
      throw new UnsupportedError('ERR_PLATFORM', `the worker of ${this.#name} is not known`, {
        hint: "Before Linux 6.4 it is a kernel thread, which a PID namespace of one's own hides.",
      })
    }
    worker.setAffinity(cpus)
  }

  /** Stops the pair where it runs. Its worker ends with the vhost-net fd. Idempotent. */
  close(): void {
    const all = new Teardown()
    all.add(() => this.#opened.run())
    if (this.#running) all.add(() => this.stop())
    all.run()
  }
}
