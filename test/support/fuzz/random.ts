// Numbers by chance that can be drawn again: mulberry32, of 32 bits of state, seeded by a run and an episode of it.

export class Random {
  #state: number

  /** What one episode of a run draws has nothing to do with the others. */
  constructor(seed: number, episode: number) {
    this.#state = Math.imul(seed ^ 0x9e37_79b9, 0x85eb_ca6b) ^ Math.imul(episode + 1, 0xc2b2_ae35)
  }

  /** 32 bits. */
  word(): number {
    this.#state = (this.#state + 0x6d2b_79f5) | 0
    let t = Math.imul(this.#state ^ (this.#state >>> 15), this.#state | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return (t ^ (t >>> 14)) >>> 0
  }

  /** 0..limit − 1 */
  below(limit: number): number {
    return this.word() % limit
  }

  /** least..most */
  between(least: number, most: number): number {
    return least + this.below(most - least + 1)
  }

  percent(chance: number): boolean {
    return this.below(100) < chance
  }

  pick<T>(list: readonly T[]): T {
    return list[this.below(list.length)] as T
  }

  /** One of the keys, as often as its weight says. */
  weighted<K extends string>(weights: Readonly<Record<K, number>>): K {
    const entries = Object.entries<number>(weights)
    let draw = this.below(entries.reduce((sum, [, weight]) => sum + weight, 0))
    for (const [key, weight] of entries) {
      if (draw < weight) return key as K
      draw -= weight
    }
    throw new RangeError('there is nothing to draw')
  }
}
