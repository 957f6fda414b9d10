// Ranges of guest memory as a driver names them: 64-bit, unchecked, and perhaps across regions that adjoin.

import type { GuestMemory } from '../memory/index.ts'

/** A checked range within one region. */
export interface Piece {
  readonly address: number
  readonly length: number
}

/**
 * The range cut where one region ends and the next begins; undefined where not all of it is guest memory. A range of no
 * bytes lies nowhere, and is accepted wherever it says it does.
 */
export function piecesOf({ regions }: GuestMemory, address: bigint, length: number): Piece[] | undefined {
  if (length === 0) return []
  if (address + BigInt(length) > BigInt(Number.MAX_SAFE_INTEGER)) return undefined
  const pieces: Piece[] = []
  const end = Number(address) + length
  for (let at = Number(address); at < end; ) {
    const region = regions.find((r) => at >= r.guestAddress && at < r.guestAddress + r.size)
    if (region === undefined) return undefined
    const until = Math.min(end, region.guestAddress + region.size)
    pieces.push({ address: at, length: until - at })
    at = until
  }
  return pieces
}
