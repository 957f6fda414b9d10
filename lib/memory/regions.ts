// Which regions guest memory may have, and how many of them vhost takes.

import { readFileSync } from 'node:fs'
import { VHOST_MEMORY_DEFAULT_REGIONS } from '../abi/vhost.ts'
import { systemCall } from '../binding/index.ts'
import { GuestMemoryError, InvalidOptionError, SystemCallError } from '../errors.ts'
import { checkInteger, checkObject } from '../options.ts'
import { formatRange, type MemoryRegion } from './guest-memory.ts'

/** One past the last guest-physical address: what x86-64 and arm64 can have at most. */
export const GUEST_ADDRESS_LIMIT = 2 ** 52

const MAX_MEM_REGIONS = '/sys/module/vhost/parameters/max_mem_regions'

/**
 * Checks one region's values, as vhost does not: its table takes any address and size (vhost_set_memory in
 * drivers/vhost/vhost.c), while mappings and a guest's page tables go by pages.
 * @param path its place among the options: `'regions[1]'`, '' where it is the options itself.
 * @throws {InvalidOptionError} `ERR_OPTION_TYPE`, `ERR_OPTION_UNKNOWN`, `ERR_OPTION_RANGE`
 * @throws {GuestMemoryError} `ERR_GPA_ALIGN`
 */
export function checkRegion(value: unknown, pageSize: number, path = ''): MemoryRegion {
  const given = checkObject(value, ['guestAddress', 'size'], path)
  const option = (name: string) => (path === '' ? name : `${path}.${name}`)
  const guestAddress = checkInteger(given.guestAddress, option('guestAddress'), 0, GUEST_ADDRESS_LIMIT - 1)
  const size = checkSize(given.size, pageSize, option('size'))
  if (guestAddress % pageSize !== 0) {
    throw new GuestMemoryError(
      'ERR_GPA_ALIGN',
      `${option('guestAddress')}: a region at 0x${guestAddress.toString(16)}`,
      {
        hint: `It must begin at a multiple of ${pageSize}.`,
        context: { guestAddress, pageSize },
      },
    )
  }
  if (size > GUEST_ADDRESS_LIMIT - guestAddress) {
    const problem = `${formatRange(guestAddress, size)} ends beyond guest-physical address 2^52`
    throw new InvalidOptionError('ERR_OPTION_RANGE', option('size'), problem)
  }
  return { guestAddress, size }
}

/** @throws {InvalidOptionError} `ERR_OPTION_TYPE`, `ERR_OPTION_RANGE` */
export function checkSize(size: unknown, pageSize: number, option: string): number {
  if (typeof size !== 'number') throw new InvalidOptionError('ERR_OPTION_TYPE', option, 'must be a number of bytes')
  if (!Number.isSafeInteger(size) || size <= 0 || size % pageSize !== 0) {
    throw new InvalidOptionError('ERR_OPTION_RANGE', option, `must be a positive multiple of ${pageSize}, not ${size}`)
  }
  return size
}

/**
 * The regions by ascending address.
 * @throws {GuestMemoryError} `ERR_GPA_OVERLAP`: of two that overlap the kernel finds one or the other.
 */
export function inOrder<R extends MemoryRegion>(regions: readonly R[]): R[] {
  const sorted = [...regions].sort((a, b) => a.guestAddress - b.guestAddress)
  for (const [i, next] of sorted.entries()) {
    const region = sorted[i - 1]
    if (region === undefined || region.guestAddress + region.size <= next.guestAddress) continue
    const [a, b] = [region, next].map(({ guestAddress, size }) => formatRange(guestAddress, size))
    throw new GuestMemoryError('ERR_GPA_OVERLAP', `the regions ${a} and ${b} overlap`, {
      context: { guestAddress: next.guestAddress, size: next.size },
    })
  }
  return sorted
}

/** Whether two ranges have a byte in common. */
export function overlap(a: MemoryRegion, b: MemoryRegion): boolean {
  return a.guestAddress < b.guestAddress + b.size && b.guestAddress < a.guestAddress + a.size
}

// The module may be built in, or be there only once /dev/vhost-net is opened; then its default holds.
function maxRegions(): number {
  try {
    return Number(systemCall(() => readFileSync(MAX_MEM_REGIONS, 'utf8'), { subject: MAX_MEM_REGIONS }))
  } catch (error) {
    if (!(error instanceof SystemCallError && ['ENOENT', 'EACCES'].includes(error.code))) throw error
    return VHOST_MEMORY_DEFAULT_REGIONS
  }
}

/**
 * Checks that vhost takes that many regions: the module's parameter max_mem_regions (drivers/vhost/vhost.c), 64 where it
 * cannot be read.
 * @throws {GuestMemoryError} `ERR_GPA_TOO_MANY_REGIONS`
 */
export function checkRegionCount(regions: number): void {
  // Every limit allows one region, and the usual bring-up needs no file to be read.
  if (regions <= 1) return
  const limit = maxRegions()
  if (regions <= limit) return
  throw new GuestMemoryError('ERR_GPA_TOO_MANY_REGIONS', `${regions} regions of guest memory, vhost takes ${limit}`, {
    hint: 'Load the vhost module with a larger max_mem_regions, or join regions that lie side by side.',
    context: { regions, limit },
  })
}
