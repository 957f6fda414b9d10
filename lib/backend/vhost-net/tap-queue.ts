// One queue of a tap, and whether the tap's frames reach it.

import { IFF } from '../../abi/tun.ts'
import { InvalidOptionError, SystemCallError } from '../../errors.ts'
import { isGone, type Tap } from '../../host/tap.ts'
import { Teardown } from '../../teardown.ts'
import { checkVnetHdrSize, tapOffload, vnetHdrSize } from './features.ts'
import { setSndbuf } from './tap-settings.ts'

/**
 * What the tap says of a queue, or the errno's name with which it does not: a device that was deleted answers `EBADFD`, a
 * macvtap `ENOLINK`. Nobody tells the send buffer of a macvtap: null.
 */
export type TapQueueState = { vnetHdrSz: number; sndbuf: number | null } | { error: string }

/** The name of the tap now, wherever it is; undefined where it was deleted. @throws {SystemCallError} */
export function nameOf(tap: Tap): string | undefined {
  try {
    return tap.getIff().name
  } catch (error) {
    if (isGone(error)) return undefined
    throw error
  }
}

/** A queue that was just opened is attached. What goes out through it goes out either way. */
export class TapQueue {
  readonly tap: Tap
  /** Bytes in flight towards the tap that a pair sets when it starts; undefined where it keeps what it has. */
  readonly sndbuf: number | undefined
  readonly #alone: boolean
  #attached = true

  /** @param options.alone whether it is the only one, which is always attached. */
  constructor(tap: Tap, { alone, sndbuf }: { alone: boolean; sndbuf: number | undefined }) {
    this.tap = tap
    this.sndbuf = sndbuf
    this.#alone = alone
  }

  get attached(): boolean {
    return this.#attached
  }

  /** Whether the tap was deleted: its queues stay open, and are of nothing any more. @throws {SystemCallError} */
  get gone(): boolean {
    return nameOf(this.tap) === undefined
  }

  /**
   * The tap's frames reach it, too. Returns whether they did not before.
   * @throws {SystemCallError}
   * @throws {InvalidOptionError} `ERR_OPTION_CONFLICT` where the tap has a classic filter
   */
  attach(): boolean {
    if (this.#attached) return false
    const { tap } = this
    tap.setQueue(true)
    const undo = new Teardown()
    undo.add(() => tap.setQueue(false))
    try {
      this.#attached = (tap.getIff().flags & IFF.IFF_DETACH_QUEUE) === 0
    } catch (error) {
      throw undo.unwind(error)
    }
    if (this.#attached) return true
    throw new InvalidOptionError('ERR_OPTION_CONFLICT', 'tap', `'${tap.ifname}' has a classic filter`, {
      hint: 'With one, the kernel attaches no queue again, and says nothing: TUNDETACHFILTER takes it away.',
      context: { ifname: tap.ifname },
    })
  }

  /**
   * What its tap has to be set to, each time that a pair goes on with it: a persistent one remembers what it had last.
   * @throws {FeatureNegotiationError} `ERR_FEATURE_MISMATCH` where its header is not as long as was agreed on
   * @throws {SystemCallError}
   */
  setUp(features: bigint, offloads: bigint): void {
    const { tap, sndbuf } = this
    tap.setVnetHdrSz(vnetHdrSize(features))
    tap.setVnetLe(true)
    tap.setOffload(tapOffload(offloads))
    if (sndbuf !== undefined) setSndbuf(tap, sndbuf)
    checkVnetHdrSize(tap, features)
  }

  /** The tap's frames go to its other queues; those that waited here are lost. @throws {SystemCallError} */
  detach(): void {
    if (this.#alone || !this.#attached) return
    // Of a device that is no more there is nothing to detach (drivers/net/tun.c answers EINVAL).
    if (!this.gone) this.tap.setQueue(false)
    this.#attached = false
  }

  inspect(): TapQueueState {
    const { tap } = this
    if (tap.closed) return { error: 'ERR_CLOSED' }
    try {
      if (!tap.macvtap) return { vnetHdrSz: tap.getVnetHdrSz(), sndbuf: tap.getSndbuf() }
      // A queue of one that was deleted knows its header still.
      tap.getIff()
      return { vnetHdrSz: tap.getVnetHdrSz(), sndbuf: null }
    } catch (error) {
      if (error instanceof SystemCallError) return { error: error.code }
      throw error
    }
  }
}
