// Guest memory: guest-physical ranges with bytes behind them.

import { type ErrorContext, GuestMemoryError } from '../errors.ts'

/** One contiguous range of guest-physical memory. */
export interface MemoryRegion {
  /** Guest-physical address of the first byte. */
  readonly guestAddress: number
  /** Bytes. */
  readonly size: number
}

/**
 * Memory that a guest, or the in-process driver, shares with a device. Addresses are guest-physical, below 2⁵³.
 * Every method throws {@link GuestMemoryError} `ERR_GPA_RANGE` where the range does not lie within one region.
 */
export interface GuestMemory {
  /** By ascending address; they do not overlap. */
  readonly regions: readonly MemoryRegion[]
  /** Copies bytes out of guest memory. */
  read(guestAddress: number, target: Uint8Array): void
  /** Copies bytes into guest memory. */
  write(guestAddress: number, source: Uint8Array): void
  /** A window without copy, of at most 2³⁰ bytes. One on native memory has no bytes once the memory is closed. */
  window(guestAddress: number, length: number): Uint8Array
  /**
   * Releases the memory. Idempotent. Kernel workers that still see it keep it mapped until they are closed, and a window
   * until the next turn of the event loop, in which Node.js lets go of its bytes.
   */
  close(): void
}

/**
 * The region that holds the whole range.
 * @throws {GuestMemoryError} `ERR_GPA_RANGE`
 */
export function regionOf<R extends MemoryRegion>(regions: readonly R[], guestAddress: number, length: number): R {
  if (Number.isSafeInteger(guestAddress) && Number.isSafeInteger(length) && guestAddress >= 0 && length >= 0) {
    const region = regions.find((r) => guestAddress >= r.guestAddress && guestAddress < r.guestAddress + r.size)
    if (region !== undefined && length <= region.guestAddress + region.size - guestAddress) return region
  }
  const context: ErrorContext = { guestAddress, length }
  throw new GuestMemoryError(
    'ERR_GPA_RANGE',
    `${formatRange(guestAddress, length)} does not lie within one region of guest memory`,
    { hint: describeRegions(regions), context },
  )
}

/** `Guest memory is [0x0, +0x1000), [0x100000, +0x2000).` */
export function describeRegions(regions: readonly MemoryRegion[]): string {
  if (regions.length === 0) return 'Guest memory has no region left.'
  return `Guest memory is ${regions.map((r) => formatRange(r.guestAddress, r.size)).join(', ')}.`
}

/** `[0x1000, +0x200)` */
export function formatRange(guestAddress: number, length: number): string {
  return `[0x${guestAddress.toString(16)}, +0x${length.toString(16)})`
}
