// One queue pair in the kernel: a vhost-net fd and a tap queue, started and stopped in the order the kernel asks for.

import { VHOST_NET_VQ_RX, VHOST_NET_VQ_TX } from '../../abi/vhost.ts'
import { vringSizes } from '../../abi/virtio.ts'
import { FeatureNegotiationError, StateError, SystemCallError } from '../../errors.ts'
import { EventFd, watchReadable } from '../../event/index.ts'
import { knownFeatures } from '../../host/probe.ts'
import type { Tap } from '../../host/tap.ts'
import type { VhostNet } from '../../host/vhost-net.ts'
import type { NativeMemory } from '../../memory/index.ts'
import { checkBigInt } from '../../options.ts'
import { Teardown } from '../../teardown.ts'
import { checkVring, type Vring } from '../../virtio/vring.ts'
import type { PairBases, PairConfig, RingFault } from '../net-backend.ts'
import {
  checkFeatures,
  checkVnetHdrSize,
  featureNames,
  offloadNames,
  servedFeatures,
  tapOffload,
  vhostFeatures,
  vnetHdrSize,
} from './features.ts'
import { setSndbuf } from './tap-settings.ts'

export interface QueuePairOptions {
  index: number
  memory: NativeMemory
  tap: Tap
  /** With an owner, hence a worker. */
  vhost: VhostNet
  /** TUN_F_* that the tap knows. */
  offloads: number
  /** Undefined where it stays as it is. */
  sndbuf: number | undefined
  /** Microseconds for which the worker polls before it sleeps. */
  pollUs: number
  /** The features that the other pairs run with; undefined where none runs. */
  agreed: () => bigint | undefined
  fault: (fault: RingFault) => void
}

/** What one queue pair is now; JSON-safe. */
export interface QueuePairState {
  pair: number
  running: boolean
  /** What it runs with, or ran with last; null where it has not started yet. */
  features: { bits: string; names: string } | null
  /** Where each ring goes on; null while they run, since they are exact only once they stand. */
  bases: PairBases | null
  /** Names of TUN_F_*, by those features. */
  offloads: string[]
  /** What the tap says now, or the errno's name with which it does not: a device that was deleted answers `EBADFD`. */
  tap: { vnetHdrSz: number; sndbuf: number } | { error: string }
  poll_us: number
  /** Numbers of the open files by what they are for; null once closed. */
  fds: { tap: number; vhost: number; rx_err: number; tx_err: number } | null
}

/** A pair owns its err eventfds; the vhost-net fd, the tap queue, kicks and calls are lent to it. */
export class QueuePair {
  readonly #options: QueuePairOptions
  readonly #name: string
  readonly #opened = new Teardown()
  readonly #errors: readonly EventFd[]
  readonly #vhostMask: bigint
  #pollUs = 0
  #features: bigint | undefined
  #running: Teardown | undefined
  #following = false
  #bases: PairBases = { rx: 0, tx: 0 }
  #ranBefore = false

  /** Opens all that it takes, so that `start` is cheap. @throws {SystemCallError} */
  constructor(options: QueuePairOptions) {
    this.#options = options
    this.#name = `pair ${options.index}`
    try {
      this.#vhostMask = knownFeatures(options.vhost)
      if (options.pollUs > 0) this.setPollUs(options.pollUs)
      this.#errors = ['rx', 'tx'].map((ring) => this.#opened.own(EventFd.create(`${this.#name} ${ring} err`)))
    } catch (error) {
      throw this.#opened.unwind(error)
    }
  }

  /** Feature bits that this pair serves. */
  get features(): bigint {
    return servedFeatures(this.#vhostMask, this.#options.offloads)
  }

  get running(): boolean {
    return this.#running !== undefined
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
  start({ features, rx, tx }: PairConfig): void {
    const { memory, tap, vhost, sndbuf } = this.#options
    if (this.#running !== undefined) throw new StateError('ERR_ALREADY_ACTIVE', `${this.#name} is running`)
    checkFeatures(checkBigInt(features, 'features'), this.features)
    this.#checkAgreed(features)
    checkVring(rx, memory.regions, `${this.#name} rx`)
    checkVring(tx, memory.regions, `${this.#name} tx`)

    const undo = new Teardown()
    try {
      this.#setFeatures(vhostFeatures(features, this.#vhostMask))
      vhost.setMemTable(memory)
      this.#follow()
      this.#setVring(VHOST_NET_VQ_RX, rx, undo)
      this.#setVring(VHOST_NET_VQ_TX, tx, undo)
      tap.setVnetHdrSz(vnetHdrSize(features))
      tap.setVnetLe(true)
      tap.setOffload(tapOffload(features))
      if (sndbuf !== undefined) setSndbuf(tap, sndbuf)
      checkVnetHdrSize(tap, features)
      // Runs when both backends are detached: only then are the bases exact.
      undo.add(() => {
        this.#bases = { rx: vhost.getVringBase(VHOST_NET_VQ_RX), tx: vhost.getVringBase(VHOST_NET_VQ_TX) }
      })
      for (const index of [VHOST_NET_VQ_RX, VHOST_NET_VQ_TX]) {
        vhost.setBackend(index, tap)
        undo.add(() => vhost.setBackend(index, null))
      }
      // What happened while the rings stood still was signalled to nobody.
      if (this.#ranBefore || rx.base !== undefined || tx.base !== undefined) {
        for (const event of [rx.kick, tx.kick, rx.call, tx.call]) event.signal()
      }
    } catch (error) {
      throw undo.unwind(error)
    }
    this.#running = undo
    this.#features = features
    this.#ranBefore = true
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

  /** Microseconds for which the worker polls for either ring before it sleeps, from now on. @throws {SystemCallError} */
  setPollUs(microseconds: number): void {
    const { vhost } = this.#options
    const undo = new Teardown()
    try {
      for (const index of [VHOST_NET_VQ_RX, VHOST_NET_VQ_TX]) {
        vhost.setVringBusyloopTimeout(index, microseconds)
        undo.add(() => vhost.setVringBusyloopTimeout(index, this.#pollUs))
      }
    } catch (error) {
      throw undo.unwind(error)
    }
    this.#pollUs = microseconds
  }

  // The fd has a table from its first start on, running or not, and what is in it stays mapped.
  #follow(): void {
    if (this.#following) return
    const { memory, vhost } = this.#options
    this.#opened.add(memory.follow(() => vhost.setMemTable(memory)))
    this.#following = true
  }

  #setVring(index: number, ring: Vring, undo: Teardown): void {
    const { memory, vhost } = this.#options
    const sizes = vringSizes(ring.num)
    const name = `${this.#name} ${index === VHOST_NET_VQ_RX ? 'rx' : 'tx'}`
    undo.add(memory.pin(ring.desc, sizes.desc, `the descriptor table of ${name}`))
    undo.add(memory.pin(ring.avail, sizes.avail, `the available ring of ${name}`))
    undo.add(memory.pin(ring.used, sizes.used, `the used ring of ${name}`))
    vhost.setVringNum(index, ring.num)
    vhost.setVringBase(index, ring.base ?? 0)
    vhost.setVringAddr(index, {
      flags: 0,
      desc_user_addr: memory.hostAddress(ring.desc, sizes.desc),
      used_user_addr: memory.hostAddress(ring.used, sizes.used),
      avail_user_addr: memory.hostAddress(ring.avail, sizes.avail),
      log_guest_addr: 0n,
    })
    vhost.setVringKick(index, ring.kick)
    undo.add(() => vhost.setVringKick(index, null))
    vhost.setVringCall(index, ring.call)
    undo.add(() => vhost.setVringCall(index, null))
    const errors = this.#errors[index] as EventFd
    vhost.setVringErr(index, errors)
    undo.add(() => vhost.setVringErr(index, null))
    const watch = watchReadable(errors, () => {
      const count = Number(errors.read())
      if (count > 0) {
        this.#options.fault({
          pair: this.#options.index,
          ring: index === VHOST_NET_VQ_RX ? 'rx' : 'tx',
          errors: count,
        })
      }
    })
    undo.add(() => watch.stop())
  }

  /** Stops both rings; the worker touches neither afterwards. @throws {StateError} `ERR_NOT_ACTIVE` */
  stop(): PairBases {
    if (this.#running === undefined) throw new StateError('ERR_NOT_ACTIVE', `${this.#name} is not running`)
    const running = this.#running
    this.#running = undefined
    running.run()
    return this.#bases
  }

  /** What it is now. */
  inspect(): QueuePairState {
    const { index, tap, vhost } = this.#options
    const [rxErr, txErr] = this.#errors as readonly [EventFd, EventFd]
    const features = this.#features
    return {
      pair: index,
      running: this.running,
      features: features === undefined ? null : { bits: `0x${features.toString(16)}`, names: featureNames(features) },
      bases: this.running ? null : { ...this.#bases },
      offloads: offloadNames(features === undefined ? 0 : tapOffload(features)),
      tap: this.#inspectTap(),
      poll_us: this.#pollUs,
      fds: rxErr.closed ? null : { tap: tap.fd, vhost: vhost.fd, rx_err: rxErr.fd, tx_err: txErr.fd },
    }
  }

  #inspectTap(): QueuePairState['tap'] {
    const { tap } = this.#options
    if (tap.closed) return { error: 'ERR_CLOSED' }
    try {
      return { vnetHdrSz: tap.getVnetHdrSz(), sndbuf: tap.getSndbuf() }
    } catch (error) {
      if (error instanceof SystemCallError) return { error: error.code }
      throw error
    }
  }

  /** Stops the pair where it runs. Its worker ends with the vhost-net fd. Idempotent. */
  close(): void {
    const all = new Teardown()
    all.add(() => this.#opened.run())
    if (this.#running !== undefined) all.add(() => this.stop())
    all.run()
  }
}
