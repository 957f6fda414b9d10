// Which queue pairs move packets: those whose two rings the driver has enabled, as many as it asked for, while the link
// is up.

import type { NetBackend, PairBases, RingName } from '../backend/net-backend.ts'
import type { Vring } from '../virtio/index.ts'

/** What the pairs run with, until the device stops. */
export interface PairFeatures {
  features: bigint
  offloads: bigint
}

/** What one pair is now; JSON-safe. */
export interface PairState {
  pair: number
  /** Whether the driver wants packets there. */
  active: boolean
  /** Rings that the driver has enabled. */
  rings: RingName[]
  running: boolean
}

interface Pair {
  /** Those that the driver has enabled. */
  rings: Partial<Record<RingName, Vring>>
  /** Where they go on, of those that ran since they were enabled. */
  bases: Partial<PairBases>
}

/** A ring that begins has no base: there is nothing that its ends could have missed, and nobody need signal them. */
const from = (vring: Vring, base: number | undefined): Vring => (base === undefined ? vring : { ...vring, base })

const other = (ring: RingName): RingName => (ring === 'rx' ? 'tx' : 'rx')

/**
 * A pair starts once both its rings are enabled. When one of them is reset, the other goes on, and the first joins it
 * again when it is enabled. Where a pair stops for another reason, its rings go on later where they stood.
 */
export class QueuePairs {
  readonly #backend: NetBackend
  /** What could not be stopped in order. */
  readonly #failed: (error: unknown) => void
  readonly #pairs: readonly Pair[]
  #with: PairFeatures = { features: 0n, offloads: 0n }
  #active = 1
  #linkUp = true

  constructor(backend: NetBackend, failed: (error: unknown) => void) {
    this.#backend = backend
    this.#failed = failed
    this.#pairs = Array.from({ length: backend.queuePairs }, () => ({ rings: {}, bases: {} }))
  }

  /** How many the driver wants packets on. */
  get active(): number {
    return this.#active
  }

  /** The driver is ready; it has one pair until it asks for more. */
  begin(features: PairFeatures): void {
    this.#with = features
    this.#active = 1
  }

  /** What pairs that start from now on have; told to the backend by whoever changes it. */
  set offloads(offloads: bigint) {
    this.#with = { ...this.#with, offloads }
  }

  /** A ring is enabled, and begins at 0. @throws what the backend throws, with the ring as before */
  enable(index: number, ring: RingName, vring: Vring): void {
    const pair = this.#pairs[index]!
    pair.rings[ring] = vring
    delete pair.bases[ring]
    try {
      if (this.#backend.running(index)) this.#backend.startRing(index, ring, vring)
      else if (this.#wanted(index)) this.#start(index)
    } catch (error) {
      delete pair.rings[ring]
      throw error
    }
  }

  /** A ring is to be touched no more when this returns. Does not throw. */
  disable(index: number, ring: RingName): void {
    const pair = this.#pairs[index]!
    delete pair.rings[ring]
    if (!this.#backend.running(index)) return
    if (pair.rings[other(ring)] === undefined) this.#stop(index)
    else this.#quietly(() => this.#backend.stopRing(index, ring))
  }

  /** The driver wants packets on the first `count` pairs. @throws what the backend throws, with all as before */
  setActive(count: number): void {
    const before = this.#active
    this.#active = count
    try {
      this.#update()
    } catch (error) {
      this.#active = before
      this.#update()
      throw error
    }
  }

  /** Without link, no packet moves. @throws what the backend throws, with the link down */
  setLink(up: boolean): void {
    this.#linkUp = up
    try {
      this.#update()
    } catch (error) {
      this.#linkUp = false
      this.#update()
      throw error
    }
  }

  #wanted(index: number): boolean {
    const { rx, tx } = this.#pairs[index]!.rings
    return this.#linkUp && index < this.#active && rx !== undefined && tx !== undefined
  }

  /** Highest first where pairs stop, lowest first where they start: the kernel fills the gap that a tap's queue leaves. */
  #update(): void {
    const indexes = [...this.#pairs.keys()]
    const stays = (index: number): boolean => this.#linkUp && index < this.#active
    for (const index of indexes.toReversed()) if (this.#backend.running(index) && !stays(index)) this.#stop(index)
    for (const index of indexes) if (!this.#backend.running(index) && this.#wanted(index)) this.#start(index)
  }

  #start(index: number): void {
    const { rings, bases } = this.#pairs[index]!
    const { rx, tx } = rings as Record<RingName, Vring>
    this.#backend.start(index, { ...this.#with, rx: from(rx, bases.rx), tx: from(tx, bases.tx) })
  }

  /** Frames go to the other pairs, but for the first one's, where they wait: there may be no other. */
  #stop(index: number): void {
    this.#quietly(() => {
      this.#pairs[index]!.bases = this.#backend.stop(index, { detach: index > 0 })
    })
  }

  #quietly(step: () => void): void {
    try {
      step()
    } catch (error) {
      this.#failed(error)
    }
  }

  inspect(): PairState[] {
    return this.#pairs.map(({ rings }, pair) => ({
      pair,
      active: pair < this.#active,
      rings: (['rx', 'tx'] as const).filter((ring) => rings[ring] !== undefined),
      running: this.#backend.running(pair),
    }))
  }
}
