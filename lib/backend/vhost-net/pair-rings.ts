// Both rings of a queue pair, which one worker serves: each of them and both, in the order the kernel asks for.

import type { Tap } from '../../host/tap.ts'
import { forAllOrNone, Teardown } from '../../teardown.ts'
import { checkVring, type Vring } from '../../virtio/vring.ts'
import type { PairBases, RingName } from '../net-backend.ts'
import type { RingFinding } from './health.ts'
import { KernelRing, type KernelRingOptions } from './kernel-ring.ts'

export interface PairRingsOptions extends Omit<KernelRingOptions, 'ring' | 'othersUsed' | 'found'> {
  /** One of them cannot go on. */
  found: (ring: RingName, finding: RingFinding | 'gone') => void
}

const RINGS = ['rx', 'tx'] as const

/** They own their err eventfds. */
export class PairRings implements Readonly<Record<RingName, KernelRing>> {
  readonly rx: KernelRing
  readonly tx: KernelRing
  readonly #memory: KernelRingOptions['memory']
  readonly #opened = new Teardown()
  readonly #bases: PairBases = { rx: 0, tx: 0 }

  /** @param options.name of the pair: `'pair 0'`. @throws {SystemCallError} `EMFILE` */
  constructor({ name, found, ...shared }: PairRingsOptions) {
    this.#memory = shared.memory
    const open = (ring: RingName, othersUsed: () => number): KernelRing => {
      const own = {
        ring,
        name: `${name} ${ring}`,
        othersUsed,
        found: (finding: RingFinding | 'gone') => found(ring, finding),
      }
      return this.#opened.own(new KernelRing({ ...shared, ...own }))
    }
    try {
      this.rx = open('rx', () => this.tx.usedIndex())
      this.tx = open('tx', () => this.rx.usedIndex())
    } catch (error) {
      throw this.#opened.unwind(error)
    }
  }

  /** Where each goes on, as it was when it was last stopped. */
  get bases(): PairBases {
    return { ...this.#bases }
  }

  /** Tells the kernel where both lie. `undo` is given the way back, as with all that follows. @throws {SystemCallError} */
  wire(vrings: Readonly<Record<RingName, Vring>>, undo: Teardown): void {
    for (const name of RINGS) {
      this[name].wire(vrings[name])
      undo.add(() => this[name].unwire())
    }
  }

  /** The worker serves both, once they are wired. @throws {SystemCallError} */
  attach(tap: Tap, features: bigint, undo: Teardown): void {
    // Runs when both are detached: only then are they exact.
    undo.add(() => this.#readBases(RINGS))
    for (const name of RINGS) {
      this[name].attach(tap, features)
      undo.add(() => this[name].detach())
    }
  }

  /** What happened while they stood still was signalled to nobody. @throws {SystemCallError} */
  signalEnds(): void {
    for (const name of RINGS) this[name].signalEnds()
  }

  /** Starts one that was stopped; on failure it stands as before. @throws {SystemCallError} */
  start(name: RingName, vring: Vring, { tap, features }: { tap: Tap; features: bigint }): void {
    const ring = this[name]
    const undo = new Teardown()
    try {
      ring.wire(vring)
      undo.add(() => ring.unwire())
      ring.attach(tap, features)
      undo.add(() => ring.detach())
      ring.signalEnds()
    } catch (error) {
      throw undo.unwind(error)
    }
  }

  /** Stops these; the worker touches them no more. @throws {SystemCallError} */
  stop(names: readonly RingName[] = RINGS): void {
    const steps = new Teardown()
    for (const name of names) steps.add(() => this[name].unwire())
    steps.add(() => this.#readBases(names))
    for (const name of names) steps.add(() => this[name].detach())
    steps.run()
  }

  #readBases(names: readonly RingName[]): void {
    for (const name of names) this.#bases[name] = this[name].standing()
  }

  /**
   * Those that are served go on with the queue of another tap.
   * @param stranded told of a ring that could go no way: it stands still.
   * @throws {SystemCallError}
   */
  move(from: Tap, to: Tap, undo: Teardown, stranded: (ring: RingName) => void): void {
    for (const name of RINGS) {
      const ring = this[name]
      undo.add(() => {
        try {
          ring.move(from)
        } catch (error) {
          stranded(name)
          throw error
        }
      })
      ring.move(to)
    }
  }

  /** The worker touches neither until `release`, whatever is done with them meanwhile. Idempotent. @throws {SystemCallError} */
  hold(): void {
    for (const name of RINGS) this[name].hold()
  }

  /** @throws {SystemCallError} with both as `hold` leaves them */
  release(): void {
    forAllOrNone(RINGS, (name, undo) => {
      undo.add(() => this[name].hold())
      this[name].release()
    })
  }

  /** @throws {QueueError | GuestMemoryError} where it is not in order */
  check(name: RingName, vring: Vring): void {
    checkVring(vring, this.#memory.regions, this[name].name)
  }

  /** Once both are stopped. Idempotent. */
  close(): void {
    this.#opened.run()
  }
}
