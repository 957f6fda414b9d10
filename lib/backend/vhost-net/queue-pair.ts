// One queue pair in the kernel: a vhost-net fd and a tap queue, started and stopped in the order the kernel asks for.

import { TUN_SNDBUF_UNLIMITED } from '../../abi/tun.ts'
import { VHOST_NET_VQ_RX, VHOST_NET_VQ_TX } from '../../abi/vhost.ts'
import { vringSizes } from '../../abi/virtio.ts'
import { VIRTIO_NET_HDR_SIZE } from '../../abi/virtio-net.ts'
import { StateError } from '../../errors.ts'
import { EventFd, watchReadable } from '../../event/index.ts'
import type { Tap } from '../../host/tap.ts'
import { VhostNet } from '../../host/vhost-net.ts'
import type { NativeMemory } from '../../memory/index.ts'
import { checkBigInt } from '../../options.ts'
import { Teardown } from '../../teardown.ts'
import { checkVring, type Vring } from '../../virtio/vring.ts'
import type { PairBases, PairConfig, RingFault } from '../net-backend.ts'
import { checkFeatures, servedFeatures, tapOffload, vhostFeatures } from './features.ts'

export interface QueuePairOptions {
  index: number
  memory: NativeMemory
  tap: Tap
  /** Path of the vhost-net node. */
  vhost: string
  sndbuf?: number
  fault: (fault: RingFault) => void
}

/** A pair owns its vhost-net fd and err eventfds; the tap queue, kicks and calls are lent to it. */
export class QueuePair {
  readonly #options: QueuePairOptions
  readonly #name: string
  readonly #opened = new Teardown()
  readonly #vhost: VhostNet
  readonly #errors: readonly EventFd[]
  readonly #vhostMask: bigint
  #running: Teardown | undefined
  #following = false
  #bases: PairBases = { rx: 0, tx: 0 }
  #ranBefore = false

  /** Opens the fds and starts the kernel's worker, so that `start` is cheap. @throws {SystemCallError} */
  constructor(options: QueuePairOptions) {
    this.#options = options
    this.#name = `pair ${options.index}`
    try {
      this.#vhost = this.#opened.own(VhostNet.open({ path: options.vhost }))
      this.#vhostMask = this.#vhost.getFeatures()
      this.#vhost.setOwner()
      this.#errors = ['rx', 'tx'].map((ring) => this.#opened.own(EventFd.create(`${this.#name} ${ring} err`)))
    } catch (error) {
      throw this.#opened.unwind(error)
    }
  }

  /** Feature bits that this pair serves. */
  get features(): bigint {
    return servedFeatures(this.#vhostMask)
  }

  get running(): boolean {
    return this.#running !== undefined
  }

  /**
   * Brings both rings to life. On failure everything is as it was before.
   * @throws {StateError} `ERR_ALREADY_ACTIVE`
   * @throws {FeatureNegotiationError} `ERR_FEATURE_MISSING`
   * @throws {QueueError | GuestMemoryError} where a ring is not in order
   * @throws {SystemCallError} where the kernel refused a step
   */
  start({ features, rx, tx }: PairConfig): void {
    const { memory, tap, sndbuf = TUN_SNDBUF_UNLIMITED } = this.#options
    const vhost = this.#vhost
    if (this.#running !== undefined) throw new StateError('ERR_ALREADY_ACTIVE', `${this.#name} is running`)
    checkFeatures(checkBigInt(features, 'features'), this.features)
    checkVring(rx, memory.regions, `${this.#name} rx`)
    checkVring(tx, memory.regions, `${this.#name} tx`)

    const undo = new Teardown()
    try {
      vhost.setFeatures(vhostFeatures(features, this.#vhostMask))
      vhost.setMemTable(memory)
      this.#follow()
      this.#setVring(VHOST_NET_VQ_RX, rx, undo)
      this.#setVring(VHOST_NET_VQ_TX, tx, undo)
      tap.setVnetHdrSz(VIRTIO_NET_HDR_SIZE)
      tap.setVnetLe(true)
      tap.setOffload(tapOffload(features))
      tap.setSndbuf(sndbuf)
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
    this.#ranBefore = true
  }

  // The fd has a table from its first start on, running or not, and what is in it stays mapped.
  #follow(): void {
    if (this.#following) return
    const { memory } = this.#options
    this.#opened.add(memory.follow(() => this.#vhost.setMemTable(memory)))
    this.#following = true
  }

  #setVring(index: number, ring: Vring, undo: Teardown): void {
    const vhost = this.#vhost
    const { memory } = this.#options
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

  /** Stops the pair where it runs, and ends its worker. Idempotent. */
  close(): void {
    const all = new Teardown()
    all.add(() => this.#opened.run())
    if (this.#running !== undefined) all.add(() => this.stop())
    all.run()
  }
}
