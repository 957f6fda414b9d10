// Guest memory that the kernel's vhost worker can reach.

import { EventEmitter } from 'node:events'
import { binding, type MemTableRegion, type NativeMapping, systemCall } from '../binding/index.ts'
import { GuestMemoryError, InvalidOptionError, StateError } from '../errors.ts'
import { checkObject } from '../options.ts'
import { Teardown } from '../teardown.ts'
import {
  type AdoptedRegion,
  type CheckedAdoption,
  checkAdoption,
  HandedFiles,
  isAdopted,
  type RegionOrigin,
} from './adopted.ts'
import { type AllocateOptions, checkAllocation, checkList, originOf } from './allocation.ts'
import { type Backing, type Mapping, mapMemory } from './backing.ts'
import { describeRegions, formatRange, type GuestMemory, type MemoryRegion, regionOf } from './guest-memory.ts'
import { checkRegion, checkRegionCount, inOrder, overlap } from './regions.ts'

/** A range of guest memory as its mapping's offset: what the driver's rings need. */
export interface MappedRange {
  mapping: NativeMapping
  /** Bytes from the mapping's first byte. */
  offset: number
  /** Guest-physical address of the mapping's first byte. */
  guestAddress: number
}

/** What guest memory is now; JSON-safe. */
export interface NativeMemoryState {
  closed: boolean
  /** By ascending address. */
  regions: (MemoryRegion & RegionOrigin)[]
  /** What keeps its region from being removed. */
  pins: { guestAddress: number; size: number; owner: string }[]
  /** How many take the table anew when regions change: queue pairs that have started once. */
  followers: number
}

export interface NativeMemoryEvents {
  /** A region came or went; all there were then. Emitted once the caller of the change has returned. */
  regionsChanged: [regions: readonly MemoryRegion[]]
}

interface MappedRegion extends MemoryRegion {
  readonly mapping: Mapping
  readonly origin: RegionOrigin
}

/** Something that must stay where it is. */
interface Pin extends MemoryRegion {
  readonly owner: string
}

/** Regions in memory of this process, each a mapping of its own. Belongs to the thread that made it. */
export class NativeMemory extends EventEmitter<NativeMemoryEvents> implements GuestMemory {
  /** What a region is made of that says nothing itself; undefined where all were adopted. */
  readonly #backing: Backing | undefined
  readonly #followers = new Set<() => void>()
  readonly #pins = new Set<Pin>()
  #mapped: readonly MappedRegion[]
  #regions: readonly MemoryRegion[] = []
  #closed = false

  private constructor(backing: Backing | undefined, mapped: readonly MappedRegion[]) {
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
      const origin = originOf(backing)
      const mapped = regions.map((region) => ({
        ...region,
        origin,
        mapping: made.own(mapMemory(region.size, backing)),
      }))
      return new NativeMemory(backing, mapped)
    } catch (error) {
      throw made.unwind(error)
    }
  }

  /**
   * Memory that somebody else made, in at least one region. Fds handed over are taken over on success only. What an
   * `address` or a `buffer` stands for is kept until this memory is closed and no vhost fd can see it any more.
   * @throws {InvalidOptionError} `ERR_OPTION_TYPE`, `ERR_OPTION_RANGE`, `ERR_OPTION_UNKNOWN`, `ERR_OPTION_CONFLICT`
   * @throws {GuestMemoryError} `ERR_GPA_ALIGN`, `ERR_GPA_OVERLAP`; `ERR_GPA_RANGE` where a file is too short
   * @throws {SystemCallError} `EBADF`, `EACCES`, `EPERM`, `ENODEV` of an fd; `EINVAL` of an address; `ENOMEM`
   */
  static adopt(options: { regions: readonly AdoptedRegion[] }): NativeMemory {
    const { regions } = checkObject(options, ['regions'])
    const adopted = inOrder(checkList(regions).map((region, i) => checkAdoption(region, `regions[${i}]`)))
    const files = new HandedFiles()
    const made = new Teardown()
    try {
      const mapped = adopted.map(({ map, guestAddress, size }) => {
        const region = { guestAddress, size, ...map(files) }
        made.own(region.mapping)
        return region
      })
      files.close()
      return new NativeMemory(undefined, mapped)
    } catch (error) {
      files.giveBack()
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
   * Adds a region: backed like those of `allocate`, or adopted as by `adopt`. Queue pairs that know this memory take the
   * new table while they run; where one cannot, all keep the former table and there is no new region.
   * @throws {InvalidOptionError} `ERR_OPTION_*`
   * @throws {GuestMemoryError} `ERR_GPA_ALIGN`, `ERR_GPA_OVERLAP`; `ERR_GPA_TOO_MANY_REGIONS` of a queue pair
   * @throws {SystemCallError} as `allocate` or `adopt`, or of `VHOST_SET_MEM_TABLE`
   * @throws {StateError} `ERR_CLOSED`
   */
  addRegion(region: MemoryRegion | AdoptedRegion): void {
    this.#assertOpen()
    const files = new HandedFiles()
    const undo = new Teardown()
    undo.add(() => files.giveBack())
    const { map, guestAddress, size } = isAdopted(region) ? checkAdoption(region) : this.#checkOwn(region)
    inOrder([...this.#regions, { guestAddress, size }])
    try {
      const added = { guestAddress, size, ...map(files) }
      undo.own(added.mapping)
      this.#change(inOrder([...this.#mapped, added]))
    } catch (error) {
      throw undo.unwind(error)
    }
    files.close()
  }

  #checkOwn(region: MemoryRegion): CheckedAdoption {
    const backing = this.#backing
    if (backing === undefined) {
      throw new InvalidOptionError('ERR_OPTION_CONFLICT', 'region', 'must be of an fd, buffer or address', {
        hint: 'This memory was adopted, so there is nothing that a region of it would be made of.',
      })
    }
    const checked = checkRegion(region, backing.pageSize)
    return { ...checked, map: () => ({ mapping: mapMemory(checked.size, backing), origin: originOf(backing) }) }
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

  /** What it is now. */
  inspect(): NativeMemoryState {
    return {
      closed: this.#closed,
      regions: this.#mapped.map(({ guestAddress, size, origin }) => ({ guestAddress, size, ...origin })),
      pins: [...this.#pins].map(({ guestAddress, size, owner }) => ({ guestAddress, size, owner })),
      followers: this.#followers.size,
    }
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
