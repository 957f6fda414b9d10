// What a guest has said of a queue, and whether a device may take it: the rules as the specification has them, once more.

import { vringSizes } from '../../../lib/abi/virtio.ts'
import { REGIONS } from './fuzz-nic.ts'
import type { NotedRing } from './noted-ring.ts'

export const PARTS = ['desc', 'avail', 'used'] as const
export type Part = (typeof PARTS)[number]

const ALIGN: Readonly<Record<Part, number>> = { desc: 16, avail: 2, used: 4 }

export class QueueModel {
  readonly index: number
  readonly sizeMax: number
  size: number
  addresses: Record<Part, number> = { desc: 0, avail: 0, used: 0 }
  ready = false
  /** What lies there. */
  ring: NotedRing | undefined

  constructor(index: number, sizeMax: number) {
    this.index = index
    this.sizeMax = sizeMax
    this.size = sizeMax
  }

  /** It was reset. */
  reset(): void {
    this.size = this.sizeMax
    this.addresses = { desc: 0, avail: 0, used: 0 }
    this.drop()
  }

  /** The device lets go of it. */
  drop(): void {
    this.ready = false
    this.ring = undefined
  }

  /** Why it must not be enabled: codes of errors; empty where it may. */
  get broken(): Set<string> {
    const codes = new Set<string>()
    const { size } = this
    if (size < 1 || size > this.sizeMax || (size & (size - 1)) !== 0) return codes.add('ERR_QUEUE_SIZE')
    const sizes = vringSizes(size)
    const places = PARTS.map((part) => ({ part, from: this.addresses[part], to: this.addresses[part] + sizes[part] }))
    for (const { part, from, to } of places) {
      if (from % ALIGN[part] !== 0) codes.add('ERR_GPA_ALIGN')
      if (!REGIONS.some(({ guestAddress, size }) => from >= guestAddress && to <= guestAddress + size))
        codes.add('ERR_GPA_RANGE')
    }
    for (const [i, a] of places.entries())
      for (const b of places.slice(i + 1)) if (a.from < b.to && b.from < a.to) codes.add('ERR_GPA_OVERLAP')
    return codes
  }
}
