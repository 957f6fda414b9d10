// One ring of a vhost-net fd: told to the kernel, connected to a tap queue, and taken back.

import { VHOST_NET_VQ_RX, VHOST_NET_VQ_TX } from '../../abi/vhost.ts'
import { vringSizes } from '../../abi/virtio.ts'
import { EventFd, watchReadable } from '../../event/index.ts'
import type { Tap } from '../../host/tap.ts'
import type { VhostNet } from '../../host/vhost-net.ts'
import type { NativeMemory } from '../../memory/index.ts'
import { Teardown } from '../../teardown.ts'
import type { Vring } from '../../virtio/vring.ts'
import type { RingName } from '../net-backend.ts'

const INDEX: Readonly<Record<RingName, number>> = { rx: VHOST_NET_VQ_RX, tx: VHOST_NET_VQ_TX }

export interface KernelRingOptions {
  ring: RingName
  /** For messages: `'pair 0 rx'`. */
  name: string
  memory: NativeMemory
  vhost: VhostNet
  /** Messages that the kernel counted on the err eventfd. */
  failed: (errors: number) => void
}

/** The ring owns its err eventfd; the vhost-net fd, kick and call are lent to it. */
export class KernelRing {
  readonly name: string
  /** In the vhost-net fd. */
  readonly index: number
  readonly error: EventFd
  readonly #options: KernelRingOptions
  readonly #wired = new Teardown()
  #attached = false

  /** @throws {SystemCallError} `EMFILE` */
  constructor(options: KernelRingOptions) {
    this.#options = options
    this.name = options.name
    this.index = INDEX[options.ring]
    this.error = EventFd.create(`${options.name} err`)
  }

  /** Whether the worker serves it. */
  get attached(): boolean {
    return this.#attached
  }

  /** Tells the kernel where it lies; on failure it knows nothing of it. @throws {SystemCallError} */
  wire(vring: Vring): void {
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
    vhost.setVringErr(index, error)
    undo.add(() => vhost.setVringErr(index, null))
    const watch = watchReadable(error, () => {
      const count = Number(error.read())
      if (count > 0) this.#options.failed(count)
    })
    undo.add(() => watch.stop())
  }

  /** The kernel forgets it; without effect where it knows nothing of it. */
  unwire(): void {
    this.#wired.run()
  }

  /** VHOST_NET_SET_BACKEND: the worker serves it from now on. @throws {SystemCallError} */
  attach(tap: Tap): void {
    this.#options.vhost.setBackend(this.index, tap)
    this.#attached = true
  }

  /** The worker touches it no more when this returns; without effect where it does not serve it. @throws {SystemCallError} */
  detach(): void {
    if (!this.#attached) return
    this.#attached = false
    this.#options.vhost.setBackend(this.index, null)
  }

  /** The available index that comes next: exact only while it is not attached. @throws {SystemCallError} */
  base(): number {
    return this.#options.vhost.getVringBase(this.index)
  }

  /** Once it is detached and unwired. Idempotent. */
  close(): void {
    this.error.close()
  }
}
