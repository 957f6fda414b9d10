// What the bytes of guest memory are made of: options, and the system calls that make one mapping of them.

import { F_SEAL, MADV, MFD_HUGE_SHIFT, MFD_HUGETLB } from '../abi/mman.ts'
import { binding, Handle, type NativeFd, type NativeMapping, systemCall } from '../binding/index.ts'
import { InvalidOptionError } from '../errors.ts'
import { checkString, type Unchecked } from '../options.ts'
import { Teardown } from '../teardown.ts'

export const PAGE_SIZE = 4096
const MiB = 2 ** 20
const GiB = 2 ** 30

export interface BackingOptions {
  /**
   * `memfd` (shared, default), `anonymous` (private to this process), or `hugetlb` (a memfd of huge pages, which are
   * set aside at once and must have been reserved: vm.nr_hugepages).
   */
  backing?: 'memfd' | 'anonymous' | 'hugetlb'
  /** Bytes of a huge page of `hugetlb`: 2 MiB (default) or 1 GiB. Regions begin and end on it. */
  pageSize?: number
  /** Takes every page now, which blocks this thread meanwhile, instead of at its first touch. Default false. */
  prefault?: boolean
  /**
   * Asks for transparent huge pages, or for none; without it the system's policy holds. Not with `hugetlb`. On a memfd
   * it counts only where /sys/kernel/mm/transparent_hugepage/shmem_enabled is `advise`.
   */
  thp?: boolean
  /**
   * Fixes the size of the memfd for ever, whoever has it: access to a memfd that somebody shrank ends this process with
   * SIGBUS. Not with `anonymous`. Default true.
   */
  seal?: boolean
  /** Name of the memfd in `/proc/self/maps`. Default `vhost-net-memory`. */
  name?: string
}

export const BACKING_OPTIONS = ['backing', 'name', 'pageSize', 'prefault', 'thp', 'seal'] as const

export interface Backing {
  kind: 'memfd' | 'anonymous' | 'hugetlb'
  name: string
  pageSize: number
  prefault: boolean
  thp: boolean | undefined
  seal: boolean
}

const isKind = (value: unknown): value is Backing['kind'] =>
  value === 'memfd' || value === 'anonymous' || value === 'hugetlb'

function checkFlag(value: unknown, option: string): boolean | undefined {
  if (value === undefined || typeof value === 'boolean') return value
  throw new InvalidOptionError('ERR_OPTION_TYPE', option, `must be a boolean, not ${typeof value}`)
}

function conflict(option: string, problem: string): InvalidOptionError {
  return new InvalidOptionError('ERR_OPTION_CONFLICT', option, problem)
}

/** @throws {InvalidOptionError} `ERR_OPTION_TYPE`, `ERR_OPTION_RANGE`, `ERR_OPTION_CONFLICT` */
export function checkBacking(options: Unchecked): Backing {
  const { backing: kind = 'memfd', pageSize } = options
  const name = checkString(options.name, 'name', 'vhost-net-memory')
  const prefault = checkFlag(options.prefault, 'prefault') ?? false
  const thp = checkFlag(options.thp, 'thp')
  const seal = checkFlag(options.seal, 'seal')
  if (!isKind(kind)) {
    const problem = `must be 'memfd' or 'anonymous' or 'hugetlb', not '${kind}'`
    throw new InvalidOptionError('ERR_OPTION_RANGE', 'backing', problem)
  }
  if (kind === 'anonymous' && seal) throw conflict('seal', `there is no file to seal behind 'anonymous' memory`)
  const common = { kind, name, prefault, thp, seal: kind !== 'anonymous' && (seal ?? true) }
  if (kind !== 'hugetlb') {
    if (pageSize !== undefined) throw conflict('pageSize', `is of 'hugetlb' memory, not of '${kind}'`)
    return { ...common, pageSize: PAGE_SIZE }
  }
  if (thp !== undefined) throw conflict('thp', `'hugetlb' memory has huge pages of its own`)
  if (pageSize !== undefined && pageSize !== 2 * MiB && pageSize !== GiB) {
    throw new InvalidOptionError('ERR_OPTION_RANGE', 'pageSize', `must be 2 MiB or 1 GiB, not ${pageSize}`)
  }
  return { ...common, pageSize: pageSize ?? 2 * MiB }
}

/** One mapping of guest memory. */
export class Mapping extends Handle<NativeMapping> {
  constructor(native: NativeMapping, label: string) {
    super(native, label, (mapping) => binding().closeMapping(mapping))
  }
}

function hintsOf({ kind, pageSize }: Backing): Record<string, string> {
  const room = 'Less memory, or a higher limit of address space (ulimit -v), is needed.'
  const page = 'Not every page could be had: less memory, or a higher limit of the cgroup, is needed.'
  const populate = { 'madvise ENOMEM': page, 'madvise EFAULT': page }
  if (kind !== 'hugetlb') return { ENOMEM: room, ...populate }
  const directory = `/sys/kernel/mm/hugepages/hugepages-${pageSize / 1024}kB`
  return {
    ENOMEM: `Too few huge pages are free: raise vm.nr_hugepages, or ${directory}/nr_hugepages for pages of this size.`,
    ENODEV: `This machine has no pages of ${pageSize / MiB} MiB; see /sys/kernel/mm/hugepages.`,
    ...populate,
  }
}

const MISSING_POPULATE = 'MADV_POPULATE_WRITE needs Linux 5.14: leave prefault out.'
const MISSING_THP = 'This kernel was built without transparent huge pages: leave thp out.'

/**
 * Maps new memory of `size` bytes, a multiple of the backing's page size, filled with zeros.
 * @throws {SystemCallError} `ENOMEM`, `EMFILE`; `ENODEV` of huge pages; `EFAULT`, `EINVAL` of `prefault` and `thp`
 */
export function mapMemory(size: number, backing: Backing): Mapping {
  const subject = `${size} bytes of guest memory`
  const hints = hintsOf(backing)
  const call = <T>(operation: () => T, extra = {}) => systemCall(operation, { subject, hints: { ...hints, ...extra } })
  const { kind, name, pageSize, prefault, thp, seal } = backing

  const mapFile = (fd: NativeFd): NativeMapping => {
    call(() => binding().ftruncate(fd, size))
    if (seal) call(() => binding().addSeals(fd, F_SEAL.F_SEAL_SHRINK | F_SEAL.F_SEAL_GROW | F_SEAL.F_SEAL_SEAL))
    return call(() => binding().mmapShared(fd, 0, size, kind === 'hugetlb'))
  }
  const mapNewFile = (): NativeMapping => {
    const flags = kind === 'hugetlb' ? MFD_HUGETLB + Math.log2(pageSize) * 2 ** MFD_HUGE_SHIFT : 0
    const fd = call(() => binding().memfdCreate(name, flags))
    try {
      return mapFile(fd)
    } finally {
      binding().closeFd(fd)
    }
  }

  const made = new Teardown()
  try {
    const native = kind === 'anonymous' ? call(() => binding().mmapAnonymous(size)) : mapNewFile()
    const mapping = made.own(new Mapping(native, subject))
    if (thp !== undefined) {
      const advice = thp ? MADV.MADV_HUGEPAGE : MADV.MADV_NOHUGEPAGE
      call(() => binding().mappingAdvise(native, advice), { 'madvise EINVAL': MISSING_THP })
    }
    if (prefault) {
      const hint = { 'madvise EINVAL': MISSING_POPULATE }
      call(() => binding().mappingAdvise(native, MADV.MADV_POPULATE_WRITE), hint)
    }
    return mapping
  } catch (error) {
    throw made.unwind(error)
  }
}
