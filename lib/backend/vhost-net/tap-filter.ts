// Which frames a tap passes on to its queues: what a driver's receive filter becomes in drivers/net/tun.c.

import { TUN_FLT_EXACT_COUNT } from '../../abi/tun.ts'
import { isGone, type Tap } from '../../host/tap.ts'
import type { RxFilter } from '../net-backend.ts'

const BROADCAST = 'ff:ff:ff:ff:ff:ff'

/** What a tap passes on; JSON-safe. */
export interface TapFilterState {
  /**
   * `all`: every frame. `exact`: what was asked for. `hashed`: the same, and multicast frames of other addresses that have
   * the same hash.
   */
  mode: 'all' | 'exact' | 'hashed'
  /** Why more passes than was asked for; null where nothing does. */
  why: string | null
}

const EVERYTHING: TapFilterState = { mode: 'all', why: null }
/** What it passes on its own link says: its address, and IFF_ALLMULTI (drivers/net/macvlan.c). */
const MACVTAP: TapFilterState = { mode: 'all', why: 'a macvtap takes no filter: its queues get what its link takes in' }

/** The filter of a tap that had none. */
export class TapFilter {
  readonly #tap: Tap
  #state = EVERYTHING

  /** @param tap any queue of it. */
  constructor(tap: Tap) {
    this.#tap = tap
  }

  /** @throws {SystemCallError} with the filter as it was */
  set({ promiscuous, allMulticast, unicast, multicast }: RxFilter): void {
    if (this.#tap.macvtap) {
      this.#state = promiscuous ? EVERYTHING : MACVTAP
    } else if (promiscuous) {
      this.#apply([], false, EVERYTHING)
    } else if (unicast.length > TUN_FLT_EXACT_COUNT) {
      const why = `a tap matches ${TUN_FLT_EXACT_COUNT} unicast addresses, ${unicast.length} were asked for`
      this.#apply([], false, { mode: 'all', why })
    } else {
      // Unicast first: only exact matches let it through. Broadcast counts as multicast.
      const addresses = [...unicast, BROADCAST, ...multicast]
      const hashed = addresses.length - TUN_FLT_EXACT_COUNT
      const why = `a tap matches ${TUN_FLT_EXACT_COUNT} addresses exactly, ${hashed} multicast ones by their hash`
      this.#apply(
        addresses,
        allMulticast,
        hashed > 0 && !allMulticast ? { mode: 'hashed', why } : { mode: 'exact', why: null },
      )
    }
  }

  #apply(addresses: readonly string[], allMulticast: boolean, state: TapFilterState): void {
    if (addresses.length > 0 || this.#state.mode !== 'all') this.#tap.setTxFilter({ addresses, allMulticast })
    this.#state = state
  }

  inspect(): TapFilterState {
    return { ...this.#state }
  }

  /** Lets everything through again, but for a tap that was deleted. */
  close(): void {
    if (this.#tap.macvtap) return
    try {
      this.#apply([], false, EVERYTHING)
    } catch (error) {
      if (!isGone(error)) throw error
    }
  }
}
