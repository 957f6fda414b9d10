// Which memory is to be made: options and their checks.

import { InvalidOptionError } from '../errors.ts'
import { checkObject } from '../options.ts'
import type { RegionOrigin } from './adopted.ts'
import { BACKING_OPTIONS, type Backing, type BackingOptions, checkBacking } from './backing.ts'
import type { MemoryRegion } from './guest-memory.ts'
import { checkRegion, checkSize, GUEST_ADDRESS_LIMIT, inOrder } from './regions.ts'

/** One region at guest-physical address 0, of `size` bytes, or several. */
export type AllocateOptions = BackingOptions &
  (
    | {
        /** Bytes, a multiple of the page size: 4096, or that of `hugetlb`. */
        size: number
        regions?: never
      }
    | {
        /** In any order; each begins and ends on a page, below 2⁵², and none overlaps another. */
        regions: readonly MemoryRegion[]
        size?: never
      }
  )

/** What a region made so is made of. */
export function originOf({ kind, pageSize, seal }: Backing): RegionOrigin {
  return { backing: kind, pageSize, seals: seal ? ['F_SEAL_SEAL', 'F_SEAL_SHRINK', 'F_SEAL_GROW'] : [] }
}

/** @throws {InvalidOptionError} `ERR_OPTION_TYPE`, `ERR_OPTION_RANGE` */
export function checkList(regions: unknown): unknown[] {
  if (!Array.isArray(regions)) throw new InvalidOptionError('ERR_OPTION_TYPE', 'regions', 'must be an array')
  if (regions.length === 0) throw new InvalidOptionError('ERR_OPTION_RANGE', 'regions', 'must be one at least')
  return regions
}

/**
 * The regions by ascending address.
 * @throws {InvalidOptionError} `ERR_OPTION_*`
 * @throws {GuestMemoryError} `ERR_GPA_ALIGN`, `ERR_GPA_OVERLAP`
 */
export function checkAllocation(options: unknown): { backing: Backing; regions: MemoryRegion[] } {
  const given = checkObject(options, ['size', ...BACKING_OPTIONS, 'regions'])
  const backing = checkBacking(given)
  const { regions } = given
  if (regions === undefined) {
    const size = checkSize(given.size, backing.pageSize, 'size')
    if (size > GUEST_ADDRESS_LIMIT) {
      throw new InvalidOptionError('ERR_OPTION_RANGE', 'size', `must be at most 2^52, not ${size}`)
    }
    return { backing, regions: [{ guestAddress: 0, size }] }
  }
  if (given.size !== undefined) {
    throw new InvalidOptionError('ERR_OPTION_CONFLICT', 'regions', 'and size exclude each other')
  }
  const checked = checkList(regions).map((region, i) => checkRegion(region, backing.pageSize, `regions[${i}]`))
  return { backing, regions: inOrder(checked) }
}
