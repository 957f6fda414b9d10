// One queue pair in the kernel: a vhost-net fd and a tap queue, started and stopped in the order the kernel asks for.

import { StateError } from '../../errors.ts'
import { checkBigInt } from '../../options.ts'
import { Teardown } from '../../teardown.ts'
import type { Vring } from '../../virtio/vring.ts'
import type { PairBases, PairConfig, RingFault, RingName } from '../net-backend.ts'
import { checkAgreed, checkFeatures, featureNames, offloadNames, tapOffload } from './features.ts'
import type { RingFinding } from './health.ts'
import { PairRings } from './pair-rings.ts'
import { PairVhost, type PairVhostOptions, type PairWorkerState } from './pair-vhost.ts'
import type { TapQueue, TapQueueState } from './tap-queue.ts'

export interface QueuePairOptions extends Omit<PairVhostOptions, 'name'> {
  index: number
  queue: TapQueue
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
  /** Null where nobody knows which thread it is, or once closed. */
  worker: PairWorkerState | null
  /** Numbers of the open files by what they are for; null once closed. */
  fds: { tap: number; vhost: number; rx_err: number; tx_err: number } | null
}

/** The vhost-net fd, the tap queue, kicks and calls are lent to it. */
export class QueuePair {
  /** What it is served by. */
  readonly vhost: PairVhost
  /** What the driver takes now of what was agreed on. */
  offloads = 0n
  readonly #options: QueuePairOptions
  readonly #name: string
  readonly #opened = new Teardown()
  readonly #rings: PairRings
  #queue: TapQueue
  #features: bigint | undefined
  #running = false
  #ranBefore = false

  /** Opens all that it takes, so that `start` is cheap. @throws {SystemCallError} */
  constructor(options: QueuePairOptions) {
    const { memory, vhost, worker } = options
    const name = `pair ${options.index}`
    this.#options = options
    this.#queue = options.queue
    this.#name = name
    const gone = (): boolean => this.#queue.gone
    const found = this.#found.bind(this)
    try {
      this.vhost = this.#opened.own(new PairVhost({ ...options, name }))
      this.#rings = this.#opened.own(new PairRings({ name, memory, vhost, worker, gone, found }))
    } catch (error) {
      throw this.#opened.unwind(error)
    }
  }

  #found(ring: RingName, finding: RingFinding | 'gone'): void {
    const { index, fault, gone } = this.#options
    if (finding === 'gone') gone()
    else fault({ pair: index, ring, ...finding })
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
    const queue = this.#queue
    if (this.#running) throw new StateError('ERR_ALREADY_ACTIVE', `${this.#name} is running`)
    checkFeatures(checkBigInt(features, 'features'), this.vhost.features)
    checkBigInt(offloads, 'offloads')
    checkAgreed(this.#name, features, this.#options.agreed())
    this.#rings.check('rx', rx)
    this.#rings.check('tx', tx)

    const undo = new Teardown()
    try {
      if (queue.attach()) undo.add(() => queue.detach())
      this.vhost.setUp(features)
      this.#rings.wire({ rx, tx }, undo)
      queue.setUp(features, offloads)
      this.#rings.attach(queue.tap, features, undo)
      if (this.#ranBefore || rx.base !== undefined || tx.base !== undefined) this.#rings.signalEnds()
    } catch (error) {
      throw undo.unwind(error)
    }
    this.#running = true
    this.#features = features
    this.offloads = offloads
    this.#ranBefore = true
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
    if (this.#running) queue.setUp(this.#features as bigint, this.offloads)
    this.#rings.move(before.tap, queue.tap, undo, stranded)
    this.#queue = queue
    undo.add(() => {
      this.#queue = before
    })
  }

  /** No ring of it is touched until `resume`, whatever is done with it meanwhile. Idempotent. @throws {SystemCallError} */
  pause(): void {
    this.#rings.hold()
  }

  /** @throws {SystemCallError} with both rings as `pause` leaves them */
  resume(): void {
    this.#rings.release()
  }

  /**
   * Starts a ring that `stopRing` stopped. On failure it stands as before.
   * @throws {StateError} `ERR_NOT_ACTIVE` where the pair does not run, `ERR_ALREADY_ACTIVE` where the ring does
   * @throws {QueueError | GuestMemoryError} where it is not in order
   * @throws {SystemCallError} where the kernel refused a step
   */
  startRing(name: RingName, vring: Vring): void {
    const queue = this.#queue
    const ring = this.#rings[name]
    this.#assertRunning()
    if (ring.attached) throw new StateError('ERR_ALREADY_ACTIVE', `${ring.name} is running`)
    this.#rings.check(name, vring)
    const undo = new Teardown()
    try {
      if (queue.attach()) undo.add(() => queue.detach())
      this.#rings.start(name, vring, { tap: queue.tap, features: this.#features as bigint })
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
    this.#stop([name], { detach: name === 'rx' })
    return this.#rings.bases[name]
  }

  #assertRunning(): void {
    if (!this.#running) throw new StateError('ERR_NOT_ACTIVE', `${this.#name} is not running`)
  }

  /** Stops both rings; the worker touches neither afterwards. @throws {StateError} `ERR_NOT_ACTIVE` */
  stop({ detach = false }: { detach?: boolean } = {}): PairBases {
    this.#assertRunning()
    this.#running = false
    this.#stop(['rx', 'tx'], { detach })
    return this.#rings.bases
  }

  #stop(rings: readonly RingName[], { detach }: { detach: boolean }): void {
    const steps = new Teardown()
    if (detach) steps.add(() => this.#queue.detach())
    steps.add(() => this.#rings.stop(rings))
    steps.run()
  }

  /** What it is now. */
  inspect(): QueuePairState {
    const { vhost } = this
    const queue = this.#queue
    const [rxErr, txErr] = [this.#rings.rx.error, this.#rings.tx.error]
    const features = this.#features
    return {
      pair: this.#options.index,
      running: this.running,
      features: features === undefined ? null : { bits: `0x${features.toString(16)}`, names: featureNames(features) },
      bases: this.running ? null : this.#rings.bases,
      offloads: offloadNames(tapOffload(this.offloads)),
      attached: queue.attached,
      tap: queue.inspect(),
      poll_us: vhost.pollUs,
      worker: rxErr.closed ? null : vhost.inspectWorker(),
      fds: rxErr.closed ? null : { tap: queue.tap.fd, vhost: vhost.fd, rx_err: rxErr.fd, tx_err: txErr.fd },
    }
  }

  /** Stops the pair where it runs. Its worker ends with the vhost-net fd. Idempotent. */
  close(): void {
    const all = new Teardown()
    all.add(() => this.#opened.run())
    if (this.#running) all.add(() => this.stop())
    all.run()
  }
}
