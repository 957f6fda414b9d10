// What a guest does between two resets, drawn by chance: nearly right, and in some way not.

import { featureBits, featureSet } from '../../../lib/virtio/index.ts'
import { Acts } from './acts.ts'
import type { FuzzGuest } from './guest.ts'
import { Mischief } from './mischief.ts'
import { Misdeeds } from './misdeeds.ts'
import type { Random } from './random.ts'
import { PciRegisters } from './registers.ts'

/** What kind of guest it is, of a hundred. */
const CHARACTERS = { orderly: 32, spoiler: 32, mutant: 14, misplacer: 16, wild: 6 } as const

/** A guest lives from one reset to the next. */
export class Life {
  readonly #guest: FuzzGuest
  readonly #random: Random
  readonly #character: keyof typeof CHARACTERS
  readonly #acts: Acts
  readonly #misdeeds: Misdeeds

  constructor(guest: FuzzGuest, random: Random) {
    this.#guest = guest
    this.#random = random
    this.#character = random.weighted(CHARACTERS)
    this.#acts = new Acts(guest, random, this.#character === 'spoiler')
    this.#misdeeds = new Misdeeds(guest, random)
  }

  /** @returns whether it came to DRIVER_OK, and how many frames it sent, in order */
  async live(): Promise<{ driverOk: boolean; packets: number }> {
    const [guest, random] = [this.#guest, this.#random]
    const misplaced = this.#character === 'misplacer'
    guest.operations.remark(`${this.#character}, over ${guest.device.registers.transport}`)
    guest.begin()
    guest.accept(this.#features())
    this.#setUpQueues(misplaced && random.percent(80))
    if (misplaced && !guest.featuresOk) guest.enable(random.pick(guest.queues))
    guest.ready()
    await this.#acts.some(random.between(8, 48))
    await guest.settle()
    const mischief = new Mischief(guest, random)
    if (this.#character === 'spoiler') await this.#misdeeds.spoil()
    if (this.#character === 'mutant') await mischief.mutate()
    const { driverOk, moved: packets } = guest
    if (this.#character === 'wild') {
      mischief.runWild()
    } else {
      await this.#acts.some(random.below(4))
      await guest.settle()
    }
    return { driverOk, packets }
  }

  /** Mostly all that are offered, in some cases what must not be accepted. */
  #features(): bigint {
    const random = this.#random
    const { offered } = this.#guest
    const draw = random.below(100)
    const wrong = this.#character === 'misplacer' && random.percent(20)
    if (wrong) return random.pick([offered | featureSet(random.below(128)), offered & ~featureSet(32), 0n])
    if (draw < 50) return offered
    // Bits that nothing needs can be left out one by one.
    const free = [0, 15, 16, 17, 18, 21, 22, 23, 28, 29, 40]
    const left = featureBits(offered).filter((bit) => free.includes(bit) && random.percent(25))
    return offered & ~featureSet(...left.filter((bit) => bit !== 0))
  }

  #setUpQueues(misplaced: boolean): void {
    const [guest, random] = [this.#guest, this.#random]
    const count = guest.featuresOk && random.percent(25) ? 2 * guest.pairs : 2
    const control = guest.control
    const queues = [...guest.queues.slice(0, count), ...(control === undefined ? [] : [control])]
    const victim = misplaced ? random.pick(queues) : undefined
    for (const queue of queues) {
      if (queue === victim) this.#misdeeds.misplace(queue)
      else this.#acts.setUp(queue)
    }
    const { registers } = guest.device
    if (registers instanceof PciRegisters && random.percent(50)) registers.useVectors(guest.queues.length)
  }
}
