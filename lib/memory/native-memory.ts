// Guest memory that the kernel's vhost worker can reach.

import { EventEmitter } from 'node:events'
import { binding, type MemTableRegion, type NativeMapping, systemCall } from '../binding/index.ts'
import { GuestMemoryError, InvalidOptionError, StateError } from '../errors.ts'
import { checkObject } from '../options.ts'
import { Teardown } from '../teardown.ts'
import { BACKING_OPTIONS, type Backing, type BackingOptions, checkBacking, type Mapping, mapMemory } from './backing.ts'
import { describeRegions, formatRange, type GuestMemory, type MemoryRegion, regionOf } from './guest-memory.ts'
import { checkRegion, checkRegionCount, checkSize, GUEST_ADDRESS_LIMIT, inOrder, overlap } from './regions.ts'

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

/** A range of guest memory as its mapping's offset: what the driver's rings need. */
export interface MappedRange {
  mapping: NativeMapping
  /** Bytes from the mapping's first byte. */
  offset: number
  /** Guest-physical address of the mapping's first byte. */
  guestAddress: number
}

export interface NativeMemoryEvents {
  /** A region came or went; all there were then. Emitted once the caller of the change has returned. */
  regionsChanged: [regions: readonly MemoryRegion[]]
}

interface MappedRegion extends MemoryRegion {
  readonly mapping: Mapping
}

/** Something that must stay where it is. */
interface Pin extends MemoryRegion {
  readonly owner: string
}

function checkAllocation(options: unknown): { backing: Backing; regions: MemoryRegion[] } {
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
  if (!Array.isArray(regions)) throw new InvalidOptionError('ERR_OPTION_TYPE', 'regions', 'must be an array')
  if (regions.length === 0) throw new InvalidOptionError('ERR_OPTION_RANGE', 'regions', 'must be one at least')
  const checked = regions.map((region, i) => checkRegion(region, backing.pageSize, `regions[${i}]`))
  return { backing, regions: inOrder(checked) }
}

/** Regions in memory of this process, each a mapping of its own. Belongs to the thread that made it. */
export class NativeMemory extends EventEmitter<NativeMemoryEvents> implements GuestMemory {
  readonly #backing: Backing
  readonly #followers = new Set<() => void>()
  readonly #pins = new Set<Pin>()
  #mapped: readonly MappedRegion[]
  #regions: readonly MemoryRegion[] = []
  #closed = false

  private constructor(backing: Backing, mapped: readonly MappedRegion[]) {
    super()
    this.#backing = backing
    this.#mapped = mapped
    this.#list()
  }

  /**
   * Maps new memory, filled with zeros; pages are taken when first touched, unless `prefault` or `hugetlb` takes them now.
   * @throws {InvalidOptionError} `ERR_OPTION_TYPE`, `ERR_OPTION_RANGE`, `ERR_OPTION_UNKNOWN`, `ERR_OPTION_CONFLICT`
   * @throws {GuestMemoryError} `ERR_GPA_ALIGN`, `ERR_GPA_OVERLAP`
   * @throws {SystemCallError} `ENOMEM`, `EMFILE`; `ENODEV` of huge pages; `EFAULT`, `EINVAL` of `prefault` and `thp`
   */
  static allocate(options: AllocateOptions): NativeMemory {
    const { backing, regions } = checkAllocation(options)
    const made = new Teardown()
    try {
      const mapped = regions.map((region) => ({ ...region, mapping: made.own(mapMemory(region.size, backing)) }))
      return new NativeMemory(backing, mapped)
    } catch (error) {
      throw made.unwind(error)
    }
  }

  get regions(): readonly MemoryRegion[] {
    return this.#regions
  }

  get closed(): boolean {
    return this.#closed
  }

  read(guestAddress: number, target: Uint8Array): void {
    const { mapping, offset } = this.locate(guestAddress, target.byteLength)
    binding().mappingRead(mapping, offset, target)
  }

  write(guestAddress: number, source: Uint8Array): void {
    const { mapping, offset } = this.locate(guestAddress, source.byteLength)
    binding().mappingWrite(mapping, offset, source)
  }

  /** One also has no bytes any more once its region was removed. @see {@link GuestMemory.window} */
  window(guestAddress: number, length: number): Uint8Array {
    const { mapping, offset } = this.locate(guestAddress, length)
    const subject = `a window of ${length} bytes`
    return new Uint8Array(systemCall(() => binding().mappingView(mapping, offset, length), { subject }))
  }

  /**
   * Adds a region, backed like the others. Queue pairs that know this memory take the new table while they run; where
   * one cannot, all keep the former table and there is no new region.
   * @throws {InvalidOptionError} `ERR_OPTION_*`
   * @throws {GuestMemoryError} `ERR_GPA_ALIGN`, `ERR_GPA_OVERLAP`; `ERR_GPA_TOO_MANY_REGIONS` of a queue pair
   * @throws {SystemCallError} as `allocate`, or of `VHOST_SET_MEM_TABLE`
   * @throws {StateError} `ERR_CLOSED`
   */
  addRegion(region: MemoryRegion): void {
    this.#assertOpen()
    const added = checkRegion(region, this.#backing.pageSize)
    inOrder([...this.#regions, added])
    const undo = new Teardown()
    try {
      const mapping = undo.own(mapMemory(added.size, this.#backing))
      this.#change(inOrder([...this.#mapped, { ...added, mapping }]))
    } catch (error) {
      throw undo.unwind(error)
    }
  }

  /**
   * Removes the region that begins at `guestAddress`. Its windows lose their bytes; it is unmapped once no vhost fd's
   * table has it. Where a queue pair cannot take the new table, all keep the former one and the region stays. Buffers
   * that a driver still offers in it are lost, and the ring reports a fault.
   * @throws {GuestMemoryError} `ERR_GPA_RANGE` where no region begins there, `ERR_GPA_IN_USE` where a running ring or a
   * driver lies in it
   * @throws {SystemCallError} of `VHOST_SET_MEM_TABLE`
   * @throws {StateError} `ERR_CLOSED`
   */
  removeRegion(guestAddress: number): void {
    this.#assertOpen()
    const removed = this.#mapped.find((region) => region.guestAddress === guestAddress)
    if (removed === undefined) {
      throw new GuestMemoryError('ERR_GPA_RANGE', `no region of guest memory begins at ${guestAddress}`, {
        hint: describeRegions(this.#regions),
        context: { guestAddress },
      })
    }
    for (const pin of this.#pins) {
      if (!overlap(pin, removed)) continue
      const range = formatRange(removed.guestAddress, removed.size)
      throw new GuestMemoryError('ERR_GPA_IN_USE', `the region ${range} cannot go: ${pin.owner} lies in it`, {
        hint: 'Stop the queue pair, or close the driver, first.',
        context: { guestAddress, owner: pin.owner },
      })
    }
    this.#change(this.#mapped.filter((region) => region !== removed))
    removed.mapping.close()
  }

  // Followers ask for the table themselves, so the list is the new one while they are told, and the former one again
  // where they are told to go back.
  #change(mapped: readonly MappedRegion[]): void {
    const former = this.#mapped
    const undo = new Teardown()
    this.#mapped = mapped
    try {
      for (const reload of this.#followers) {
        reload()
        undo.add(reload)
      }
    } catch (error) {
      this.#mapped = former
      throw undo.unwind(error)
    }
    this.#list()
    const regions = this.#regions
    queueMicrotask(() => this.emit('regionsChanged', regions))
  }

  #list(): void {
    this.#regions = this.#mapped.map(({ guestAddress, size }) => ({ guestAddress, size }))
  }

  #assertOpen(): void {
    if (this.#closed) throw new StateError('ERR_CLOSED', 'guest memory is closed')
  }

  /**
   * @internal Has `reload` called whenever the regions change, until the returned function is called. It takes the table
   * anew; where it throws, it must still have the former one.
   */
  follow(reload: () => void): () => void {
    this.#assertOpen()
    this.#followers.add(reload)
    return () => {
      this.#followers.delete(reload)
    }
  }

  /**
   * @internal Keeps the region of a range from being removed, until the returned function is called.
   * @param owner what lies there, for the message: `'the used ring of pair 0 rx'`.
   * @throws {GuestMemoryError} `ERR_GPA_RANGE`
   */
  pin(guestAddress: number, size: number, owner: string): () => void {
    this.#assertOpen()
    regionOf(this.#mapped, guestAddress, size)
    const pin: Pin = { guestAddress, size, owner }
    this.#pins.add(pin)
    return () => {
      this.#pins.delete(pin)
    }
  }

  /** @internal Where a range lies in native memory. @throws {GuestMemoryError} `ERR_GPA_RANGE` */
  locate(guestAddress: number, length: number): MappedRange {
    const region = regionOf(this.#mapped, guestAddress, length)
    return {
      mapping: region.mapping.native,
      offset: guestAddress - region.guestAddress,
      guestAddress: region.guestAddress,
    }
  }

  /** @internal The host virtual address of a range. @throws {GuestMemoryError} `ERR_GPA_RANGE` */
  hostAddress(guestAddress: number, length: number): bigint {
    const { mapping, offset } = this.locate(guestAddress, length)
    return binding().mappingAddress(mapping) + BigInt(offset)
  }

  /**
   * @internal All regions, as VHOST_SET_MEM_TABLE wants them.
   * @throws {GuestMemoryError} `ERR_GPA_TOO_MANY_REGIONS`
   * @throws {StateError} `ERR_CLOSED`
   */
  memTable(): MemTableRegion[] {
    this.#assertOpen()
    checkRegionCount(this.#mapped.length)
    return this.#mapped.map(({ guestAddress, size, mapping }) => ({
      guest_phys_addr: guestAddress,
      memory_size: size,
      mapping: mapping.native,
      offset: 0,
    }))
  }

  close(): void {
    this.#closed = true
    const all = new Teardown()
    for (const { mapping } of this.#mapped) all.own(mapping)
    all.run()
  }

  [Symbol.dispose](): void {
    this.close()
  }
}
