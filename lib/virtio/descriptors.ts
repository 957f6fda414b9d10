// From the head of a chain to the buffer it stands for (virtio 1.x section 2.7.5). The driver is not trusted: each
// descriptor is copied once, checked and then used, so that it cannot change in between.

import { VRING_DESC_F, VRING_DESC_SIZE } from '../abi/virtio.ts'
import type { GuestMemory } from '../memory/index.ts'
import { DescriptorChain } from './chain.ts'
import { type Piece, piecesOf } from './guest-bytes.ts'
import { BrokenRing } from './ring-fault.ts'

/**
 * Descriptors in a chain, those of an indirect table included: as many as vhost takes (drivers/vhost/net.c: UIO_MAXIOV).
 * The specification forbids a driver more than the queue has entries, but some have outdone that with indirect tables,
 * to nobody's harm.
 */
export const MAX_DESCRIPTORS = 1024

const { VRING_DESC_F_NEXT: NEXT, VRING_DESC_F_WRITE: WRITE, VRING_DESC_F_INDIRECT: INDIRECT } = VRING_DESC_F

interface Descriptor {
  address: bigint
  length: number
  flags: number
  next: number
}

/** Descriptors, by index. */
interface Table {
  readonly entries: number
  /** Copies one into `target`, which has its size. */
  copy(index: number, target: Uint8Array): void
}

/** Follows the chains of one ring. */
export class DescriptorReader {
  readonly #memory: GuestMemory
  readonly #ring: Table
  readonly #indirect: boolean
  readonly #bytes = new Uint8Array(VRING_DESC_SIZE)
  readonly #view = new DataView(this.#bytes.buffer)

  /**
   * @param table the ring's own, without copy.
   * @param indirect whether INDIRECT_DESC was agreed on.
   */
  constructor(memory: GuestMemory, table: Uint8Array, indirect: boolean) {
    this.#memory = memory
    this.#indirect = indirect
    this.#ring = {
      entries: table.length / VRING_DESC_SIZE,
      copy: (index, target) => {
        const from = index * VRING_DESC_SIZE
        target.set(table.subarray(from, from + VRING_DESC_SIZE))
      },
    }
  }

  /** @throws {BrokenRing} */
  chain(head: number): DescriptorChain {
    if (head >= this.#ring.entries) {
      throw new BrokenRing('head-out-of-range', `the head ${head} in a ring of ${this.#ring.entries}`)
    }
    const readable: Piece[] = []
    const writable: Piece[] = []
    let table = this.#ring
    let inTable = 0
    let count = 0
    for (let index = head; ; ) {
      const { address, length, flags, next } = this.#read(table, index)
      if (++count > MAX_DESCRIPTORS) throw tooLong()
      if (++inTable > table.entries) throw new BrokenRing('chain-loop', `descriptor ${index} comes again`)
      if (flags & INDIRECT) {
        // Its own WRITE is ignored (section 2.7.5.3.2).
        this.#checkIndirect(table, flags)
        table = this.#indirectTable(address, length)
        index = 0
        inTable = 0
        continue
      }
      const pieces = this.#pieces(address, length)
      if (flags & WRITE) writable.push(...pieces)
      else if (writable.length === 0) readable.push(...pieces)
      else throw new BrokenRing('readable-after-writable', `descriptor ${index}`)
      if ((flags & NEXT) === 0) return new DescriptorChain(this.#memory, head, count, readable, writable)
      if (next >= table.entries) {
        throw new BrokenRing('next-out-of-range', `descriptor ${next} behind ${index} in a table of ${table.entries}`)
      }
      index = next
    }
  }

  #read(table: Table, index: number): Descriptor {
    table.copy(index, this.#bytes)
    const view = this.#view
    return {
      address: view.getBigUint64(0, true),
      length: view.getUint32(8, true),
      flags: view.getUint16(12, true),
      next: view.getUint16(14, true),
    }
  }

  #checkIndirect(table: Table, flags: number): void {
    if (!this.#indirect) {
      throw new BrokenRing('indirect-not-agreed', 'a descriptor is indirect without INDIRECT_DESC')
    }
    if (table !== this.#ring) {
      throw new BrokenRing('indirect-in-indirect', 'an indirect table has an indirect descriptor')
    }
    if (flags & NEXT)
      throw new BrokenRing('indirect-with-next', 'an indirect descriptor says that another comes behind it')
  }

  #indirectTable(address: bigint, length: number): Table {
    if (length === 0 || length % VRING_DESC_SIZE !== 0) {
      throw new BrokenRing('indirect-table-size', `an indirect table of ${length} bytes`)
    }
    this.#pieces(address, length)
    const entries = length / VRING_DESC_SIZE
    return {
      entries,
      copy: (index, target) => {
        let at = 0
        for (const piece of this.#pieces(address + BigInt(index * VRING_DESC_SIZE), VRING_DESC_SIZE)) {
          this.#memory.read(piece.address, target.subarray(at, at + piece.length))
          at += piece.length
        }
      },
    }
  }

  #pieces(address: bigint, length: number): Piece[] {
    const pieces = piecesOf(this.#memory, address, length)
    if (pieces !== undefined) return pieces
    throw new BrokenRing('outside-memory', `[0x${address.toString(16)}, +0x${length.toString(16)}) is not guest memory`)
  }
}

function tooLong(): BrokenRing {
  return new BrokenRing('chain-too-long', `a chain of more than ${MAX_DESCRIPTORS} descriptors`)
}
