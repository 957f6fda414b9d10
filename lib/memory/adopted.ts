// Guest memory on what somebody else made: a file handed over, a SharedArrayBuffer, or mapped memory of another addon's.

import { fstatSync } from 'node:fs'
import { types } from 'node:util'
import { F_SEAL, HUGETLBFS_MAGIC } from '../abi/mman.ts'
import { adoptFd, binding, type NativeFd, systemCall } from '../binding/index.ts'
import { GuestMemoryError, InvalidOptionError } from '../errors.ts'
import { checkBigInt, checkInteger, checkObject, type Unchecked } from '../options.ts'
import { Mapping, PAGE_SIZE } from './backing.ts'
import { formatRange, type MemoryRegion } from './guest-memory.ts'
import { checkRegion } from './regions.ts'

/** Where the bytes of a region come from that is not made here. */
export type AdoptedRegion =
  | {
      guestAddress: number
      size: number
      /**
       * A memfd, or another file that can be mapped shared and written to. Where it is taken over it is closed: the mapping
       * keeps the file. Several regions may be of one fd.
       */
      fd: number
      /** Of the region's first byte in the file, a multiple of its page size. Default 0. */
      offset?: number
    }
  | {
      guestAddress: number
      /** All of it, a multiple of 4096 bytes. An ArrayBuffer cannot be taken: it could be transferred, and freed. */
      buffer: SharedArrayBuffer
    }
  | {
      guestAddress: number
      size: number
      /** Host address of a page in this process, mapped for reading and writing. */
      address: bigint
      /** Whatever keeps it mapped for as long as it is not collected; kept for as long as a vhost fd can see the region. */
      owner: object
    }

/** What a region is made of. */
export interface RegionOrigin {
  /** `memfd`, `anonymous`, `hugetlb`: made here. `fd`, `buffer`, `address`: adopted. */
  readonly backing: 'memfd' | 'anonymous' | 'hugetlb' | 'fd' | 'buffer' | 'address'
  /** Bytes. */
  readonly pageSize: number
  /** F_SEAL_* of the file; none where there is no file that could have them. */
  readonly seals: readonly string[]
}

/** A region whose values were checked, and what maps it. */
export interface CheckedAdoption extends MemoryRegion {
  readonly map: (files: HandedFiles) => { mapping: Mapping; origin: RegionOrigin }
}

const SOURCES = ['fd', 'buffer', 'address'] as const

/** Whether a region says where its bytes come from. */
export const isAdopted = (value: unknown): value is AdoptedRegion =>
  typeof value === 'object' && value !== null && SOURCES.some((source) => source in value)

/**
 * Checks one region, as far as that goes without asking the kernel.
 * @throws {InvalidOptionError} `ERR_OPTION_*`
 * @throws {GuestMemoryError} `ERR_GPA_ALIGN`
 */
export function checkAdoption(value: unknown, path = ''): CheckedAdoption {
  const given = checkObject(value, ['guestAddress', 'size', ...SOURCES, 'offset', 'owner'], path)
  const option = (name: string) => (path === '' ? name : `${path}.${name}`)
  const sources = SOURCES.filter((source) => given[source] !== undefined)
  if (sources.length !== 1) {
    const problem = `must be of one of ${SOURCES.join(', ')}, not of ${sources.join(' and ') || 'none'}`
    throw new InvalidOptionError('ERR_OPTION_CONFLICT', path || 'region', problem)
  }
  if (given.fd !== undefined) return checkFile(given, path, option)
  const place = (size: unknown) => checkRegion({ guestAddress: given.guestAddress, size }, PAGE_SIZE, path)
  if (given.buffer !== undefined) return checkBuffer(given.buffer, place, option)
  return checkAddress(given, place(given.size), option)
}

type Option = (name: string) => string

function checkFile({ guestAddress, size, ...given }: Unchecked, path: string, option: Option): CheckedAdoption {
  const fd = checkInteger(given.fd, option('fd'), 0, 2 ** 31 - 1)
  const offset = checkInteger(given.offset, option('offset'), 0, Number.MAX_SAFE_INTEGER, 0)
  const region = checkRegion({ guestAddress, size }, PAGE_SIZE, path)
  return { ...region, map: (files) => mapFile(files.take(fd), { ...region, fd, offset }, option) }
}

function checkBuffer(buffer: unknown, place: (size: number) => MemoryRegion, option: Option): CheckedAdoption {
  if (!types.isSharedArrayBuffer(buffer)) {
    throw new InvalidOptionError('ERR_OPTION_TYPE', option('buffer'), 'must be a SharedArrayBuffer', {
      hint: 'An ArrayBuffer can be transferred and then freed, while the kernel still writes to where it was.',
    })
  }
  const origin = { backing: 'buffer', pageSize: PAGE_SIZE, seals: [] } as const
  const borrow = () => new Mapping(binding().borrowShared(new Uint8Array(buffer)), 'a SharedArrayBuffer')
  return { ...place(buffer.byteLength), map: () => ({ mapping: borrow(), origin }) }
}

const borrowHints = {
  ENOMEM: 'Not every page from there on is mapped in this process.',
  EINVAL: `An address is that of a page, a multiple of ${PAGE_SIZE}.`,
}

function checkAddress({ address, owner }: Unchecked, region: MemoryRegion, option: Option): CheckedAdoption {
  const first = checkBigInt(address, option('address'))
  if (typeof owner !== 'object' || owner === null) {
    throw new InvalidOptionError('ERR_OPTION_TYPE', option('owner'), 'must be the object that keeps the memory mapped')
  }
  if (types.isArrayBuffer(owner) || (ArrayBuffer.isView(owner) && types.isArrayBuffer(owner.buffer))) {
    throw new InvalidOptionError('ERR_OPTION_TYPE', option('owner'), 'must not be an ArrayBuffer or a view of one', {
      hint: 'It can be transferred, and no longer keeps its memory then: name what the ArrayBuffer was made from.',
    })
  }
  const origin = { backing: 'address', pageSize: PAGE_SIZE, seals: [] } as const
  const subject = `${region.size} bytes at 0x${first.toString(16)}`
  const borrow = () =>
    systemCall(() => binding().borrowRange(first, region.size, owner), { subject, hints: borrowHints })
  return { ...region, map: () => ({ mapping: new Mapping(borrow(), subject), origin }) }
}

const mapHints = {
  EACCES: 'The fd must be open for reading and writing.',
  EPERM: 'The memfd is sealed against writing (F_SEAL_WRITE).',
  ENODEV: 'The fd is not of a file that can be mapped: hand a memfd over.',
  ENOMEM: 'Less memory, or a higher limit of address space (ulimit -v), is needed; or too few huge pages are free.',
}

interface FilePlace extends MemoryRegion {
  fd: number
  offset: number
}

function mapFile(file: NativeFd, place: FilePlace, option: Option): { mapping: Mapping; origin: RegionOrigin } {
  const { fd, offset, guestAddress, size } = place
  const subject = `memory fd ${fd}`
  const call = <T>(operation: () => T) => systemCall(operation, { subject, hints: mapHints, context: { fd, offset } })
  const { type, bsize } = call(() => binding().fstatfs(file))
  const pageSize = type === HUGETLBFS_MAGIC ? bsize : PAGE_SIZE
  checkRegion({ guestAddress, size }, pageSize)
  if (offset % pageSize !== 0) {
    throw new InvalidOptionError('ERR_OPTION_RANGE', option('offset'), `must be a multiple of ${pageSize}`)
  }
  const length = fstatSync(fd).size
  // Access behind a file's end is a SIGBUS, and in a vhost worker a fault of the ring.
  if (length - offset < size) {
    const problem = `the file of fd ${fd} has ${length} bytes, not those at ${formatRange(offset, size)}`
    throw new GuestMemoryError('ERR_GPA_RANGE', `${option('size')}: ${problem}`, {
      context: { fd, offset, size, length },
    })
  }
  const seals = sealsOf(file, call)
  const native = call(() => binding().mmapShared(file, offset, size, pageSize !== PAGE_SIZE))
  return { mapping: new Mapping(native, subject), origin: { backing: 'fd', pageSize, seals } }
}

function sealsOf(file: NativeFd, call: <T>(operation: () => T) => T): string[] {
  try {
    const bits = call(() => binding().getSeals(file))
    return Object.entries(F_SEAL).flatMap(([name, seal]) => ((bits & seal) === 0 ? [] : [name]))
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EINVAL') return []
    throw error
  }
}

/** The fds handed over in one call: all of them are taken over, or none. */
export class HandedFiles {
  readonly #files = new Map<number, NativeFd>()

  /** The file of an fd number, for this call. @throws {SystemCallError} `EBADF` */
  take(fd: number): NativeFd {
    const file = this.#files.get(fd) ?? adoptFd(fd, `memory fd ${fd}`)
    this.#files.set(fd, file)
    return file
  }

  /** Ends what `take` began, with the fds closed. */
  close(): void {
    for (const file of this.#files.values()) binding().closeFd(file)
  }

  /** Ends what `take` began, with the fds their giver's again. */
  giveBack(): void {
    for (const file of this.#files.values()) binding().detachFd(file)
  }
}
