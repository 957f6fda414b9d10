// Guest memory that the kernel's vhost worker can reach.

import { binding, Handle, type MemTableRegion, type NativeMapping, systemCall } from '../binding/index.ts'
import { InvalidOptionError } from '../errors.ts'
import { checkObject, checkString } from '../options.ts'
import { type GuestMemory, type MemoryRegion, regionOf } from './guest-memory.ts'

const PAGE_SIZE = 4096

export interface AllocateOptions {
  /** Bytes, a multiple of 4096. */
  size: number
  /** `memfd` (shared, default) or `anonymous` (private to this process). */
  backing?: 'memfd' | 'anonymous'
  /** Name of the memfd in `/proc/self/maps`. Default `vhost-net-memory`. */
  name?: string
}

/** A range of guest memory as its mapping's offset: what the driver's rings need. */
export interface MappedRange {
  mapping: NativeMapping
  /** Bytes from the mapping's first byte. */
  offset: number
  /** Guest-physical address of the mapping's first byte. */
  guestAddress: number
}

class Mapping extends Handle<NativeMapping> {
  constructor(native: NativeMapping, label: string) {
    super(native, label, (mapping) => binding().closeMapping(mapping))
  }
}

/** One region at guest-physical address 0, in memory of this process. Belongs to the thread that made it. */
export class NativeMemory implements GuestMemory {
  readonly regions: readonly MemoryRegion[]
  readonly #mapping: Mapping

  private constructor(mapping: Mapping, size: number) {
    this.#mapping = mapping
    this.regions = [{ guestAddress: 0, size }]
  }

  /**
   * Maps new memory, filled with zeros; pages are taken when first touched.
   * @throws {InvalidOptionError} `ERR_OPTION_TYPE`, `ERR_OPTION_RANGE`, `ERR_OPTION_UNKNOWN`
   * @throws {SystemCallError} `ENOMEM`, `EMFILE`
   */
  static allocate(options: AllocateOptions): NativeMemory {
    checkObject(options, ['size', 'backing', 'name'])
    const { size, backing = 'memfd' } = options
    const name = checkString(options.name, 'name', 'vhost-net-memory')
    if (typeof size !== 'number') throw new InvalidOptionError('ERR_OPTION_TYPE', 'size', 'must be a number of bytes')
    if (!Number.isSafeInteger(size) || size <= 0 || size % PAGE_SIZE !== 0) {
      throw new InvalidOptionError(
        'ERR_OPTION_RANGE',
        'size',
        `must be a positive multiple of ${PAGE_SIZE}, not ${size}`,
      )
    }
    if (backing !== 'memfd' && backing !== 'anonymous') {
      throw new InvalidOptionError('ERR_OPTION_RANGE', 'backing', `must be 'memfd' or 'anonymous', not '${backing}'`)
    }
    const subject = `${size} bytes of guest memory`
    const hints = { ENOMEM: 'Less memory, or a higher limit of address space (ulimit -v), is needed.' }
    const call = <T>(operation: () => T) => systemCall(operation, { subject, hints })
    if (backing === 'anonymous') {
      return new NativeMemory(
        new Mapping(
          call(() => binding().mmapAnonymous(size)),
          subject,
        ),
        size,
      )
    }
    const fd = call(() => binding().memfdCreate(name))
    try {
      call(() => binding().ftruncate(fd, size))
      return new NativeMemory(
        new Mapping(
          call(() => binding().mmapShared(fd, size)),
          subject,
        ),
        size,
      )
    } finally {
      binding().closeFd(fd)
    }
  }

  get closed(): boolean {
    return this.#mapping.closed
  }

  read(guestAddress: number, target: Uint8Array): void {
    const { mapping, offset } = this.locate(guestAddress, target.byteLength)
    binding().mappingRead(mapping, offset, target)
  }

  write(guestAddress: number, source: Uint8Array): void {
    const { mapping, offset } = this.locate(guestAddress, source.byteLength)
    binding().mappingWrite(mapping, offset, source)
  }

  window(guestAddress: number, length: number): Uint8Array {
    const { mapping, offset } = this.locate(guestAddress, length)
    const subject = `a window of ${length} bytes`
    return new Uint8Array(systemCall(() => binding().mappingView(mapping, offset, length), { subject }))
  }

  /** @internal Where a range lies in native memory. @throws {GuestMemoryError} `ERR_GPA_RANGE` */
  locate(guestAddress: number, length: number): MappedRange {
    const region = regionOf(this.regions, guestAddress, length)
    return {
      mapping: this.#mapping.native,
      offset: guestAddress - region.guestAddress,
      guestAddress: region.guestAddress,
    }
  }

  /** @internal The host virtual address of a range. @throws {GuestMemoryError} `ERR_GPA_RANGE` */
  hostAddress(guestAddress: number, length: number): bigint {
    const { mapping, offset } = this.locate(guestAddress, length)
    return binding().mappingAddress(mapping) + BigInt(offset)
  }

  /** @internal All regions, as VHOST_SET_MEM_TABLE wants them. */
  memTable(): MemTableRegion[] {
    return this.regions.map(({ guestAddress, size }) => ({
      guest_phys_addr: guestAddress,
      memory_size: size,
      mapping: this.#mapping.native,
      offset: 0,
    }))
  }

  close(): void {
    this.#mapping.close()
  }

  [Symbol.dispose](): void {
    this.close()
  }
}
