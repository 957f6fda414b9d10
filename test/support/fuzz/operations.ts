// What a guest does, one act after the other: counted for the run, and noted for whoever has to see an episode again.

export const KINDS = ['registers', 'descriptors', 'publishes', 'kicks', 'memory'] as const
export type Kind = (typeof KINDS)[number]

export type Note = (kind: Kind, what: string, ...details: readonly (number | bigint | string)[]) => void

export class Operations {
  readonly counts: Record<Kind, number> = { registers: 0, descriptors: 0, publishes: 0, kicks: 0, memory: 0 }
  #episode: (readonly [kind: Kind | undefined, what: string, details: readonly (number | bigint | string)[]])[] = []

  readonly note: Note = (kind, what, ...details) => {
    this.counts[kind]++
    this.#episode.push([kind, what, details])
  }

  /** What is no act of the guest, but has to be known to follow its acts. */
  remark(what: string): void {
    this.#episode.push([undefined, what, []])
  }

  get total(): number {
    return KINDS.reduce((sum, kind) => sum + this.counts[kind], 0)
  }

  /** An episode begins. */
  begin(): void {
    this.#episode = []
  }

  /** Those of the episode, a line each. */
  get lines(): string[] {
    const text = (value: number | bigint | string): string =>
      typeof value === 'string' || value < 10 ? String(value) : `0x${value.toString(16)}`
    return this.#episode.map(([kind, what, details]) =>
      kind === undefined ? `-- ${what}` : [what, ...details.map(text)].join(' '),
    )
  }
}
