// Chains of descriptors for the rings of a guest: in order, or with one thing in one of them gone wrong.

import { VRING_DESC_F, VRING_DESC_SIZE } from '../../../lib/abi/virtio.ts'
import type { RawDescriptor } from '../guest-ring.ts'
import { END, REGIONS } from './fuzz-nic.ts'
import { INDIRECT, POOL_SIZE, RX_POOL, TX_POOL } from './guest.ts'
import type { NotedRing } from './noted-ring.ts'
import type { Random } from './random.ts'

const { VRING_DESC_F_NEXT: NEXT, VRING_DESC_F_WRITE: WRITE, VRING_DESC_F_INDIRECT: INDIRECT_FLAG } = VRING_DESC_F

/** Descriptors of a chain, at most; so many has a place for an indirect table. */
export const MOST_PIECES = 8
/** For each queue. */
const TABLES = 256
const MOST_FRAME = 1500
/** Any frame that the host sends. */
const ROOM = 1600

export interface Piece {
  address: number
  length: number
  deviceWrites: boolean
}

/** Frames to send have zeros only: what is received must not come to lie among them. */
const PLACES = {
  send: { pool: TX_POOL, edge: REGIONS[1].guestAddress, deviceWrites: false },
  receive: { pool: RX_POOL, edge: REGIONS[2].guestAddress, deviceWrites: true },
} as const

/** `total` bytes in pieces, each somewhere in a pool, or across two regions of memory. */
function cut(
  random: Random,
  total: number,
  { pool, edge, deviceWrites }: (typeof PLACES)['send' | 'receive'],
): Piece[] {
  const pieces: Piece[] = []
  for (let left = total; left > 0; ) {
    const last = pieces.length === 3 || random.percent(50)
    const length = last ? left : random.between(1, left)
    const address = random.percent(5) ? edge - random.below(length + 1) : pool + random.below(POOL_SIZE - length)
    pieces.push({ address, length, deviceWrites })
    left -= length
  }
  return pieces
}

/** A frame to send, of zeros. @param header bytes of the virtio-net header in front */
export function frameToSend(random: Random, header: number): Piece[] {
  const pieces = cut(random, header + random.below(random.percent(20) ? MOST_FRAME : 80), PLACES.send)
  // A descriptor of no bytes behind the others does no harm, wherever it points.
  if (random.percent(3)) pieces.push({ address: random.word(), length: 0, deviceWrites: false })
  return pieces
}

/** Room to receive into. @param mergeable it need not take a whole frame */
export function roomToReceive(random: Random, mergeable: boolean): Piece[] {
  return cut(random, mergeable && random.percent(50) ? random.between(64, 400) : ROOM, PLACES.receive)
}

const describe = ({ address, length, deviceWrites }: Piece, next: number | undefined): RawDescriptor => ({
  address,
  length,
  flags: (next === undefined ? 0 : NEXT) | (deviceWrites ? WRITE : 0),
  next: next ?? 0,
})

/** Puts one thing wrong. @returns whether a buffer now lies outside of memory, and nothing else can be said against it */
function spoil(random: Random, descriptors: RawDescriptor[], num: number): boolean {
  const one = random.pick(descriptors) as Required<RawDescriptor>
  const which = random.weighted({ address: 4, length: 4, flags: 4, next: 2 })
  if (which === 'address') {
    const far = [END - one.length + 1, END, 2 ** 52, 2n ** 64n - BigInt(one.length), 2n ** 64n - 1n]
    one.address = random.percent(80) ? random.pick(far) : END + random.word()
    return one.length > 0 && (typeof one.address === 'bigint' || Number(one.address) + one.length > END)
  }
  if (which === 'length') {
    const inside = Number(one.address) <= END
    one.length = random.pick([0, 1, 11, 4096, END - Number(one.address) + 1, 0xffff_ffff])
    return inside && one.length > 0 && Number(one.address) + one.length > END
  }
  if (which === 'flags') one.flags = random.percent(70) ? one.flags ^ random.pick([1, 2, 4]) : random.below(0x10000)
  else one.next = random.pick([num, num - 1, 0, random.below(0x10000)])
  return false
}

export interface ChainOptions {
  /** INDIRECT_DESC was agreed on. */
  indirect: boolean
  /** With something wrong in it. */
  spoilt?: boolean
}

/**
 * Writes a chain into free entries of a ring, or into a table of its own. @returns its head, and whether it reaches outside
 * of memory; undefined where the ring has no room
 */
export function writeChain(
  random: Random,
  ring: NotedRing,
  pieces: readonly Piece[],
  { indirect, spoilt = false }: ChainOptions,
): { head: number; outside: boolean } | undefined {
  const inTable = indirect && random.percent(30)
  const entries = inTable ? 1 : pieces.length
  // Descriptors of a chain stand behind each other, from one whose turn it is.
  let head = ring.cursor % ring.num
  const skipped = head + entries > ring.num ? ring.num - head : 0
  if (ring.taken + skipped + entries > ring.num) return undefined
  if (skipped > 0) head = 0
  ring.taken += skipped + entries
  ring.cursor += skipped + entries
  const first = inTable ? 0 : head
  const descriptors = pieces.map((piece, i) => describe(piece, i + 1 < pieces.length ? first + i + 1 : undefined))
  const outside = spoilt && spoil(random, descriptors, inTable ? pieces.length : ring.num)
  const table = INDIRECT + (ring.queue * TABLES + (ring.tables % TABLES)) * MOST_PIECES * VRING_DESC_SIZE
  if (inTable) ring.tables++
  for (const [i, raw] of descriptors.entries()) ring.describe(first + i, raw, inTable ? table : ring.desc)
  if (inTable) ring.describe(head, { address: table, length: pieces.length * VRING_DESC_SIZE, flags: INDIRECT_FLAG })
  return { head, outside }
}
