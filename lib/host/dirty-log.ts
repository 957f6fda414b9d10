// Whether all that a vhost worker writes has a bit in the dirty bitmap: the kernel takes its size on trust, and sets bits
// behind its end (drivers/vhost/vhost.c: log_write).

import { VHOST_F, VHOST_PAGE_SIZE, VHOST_VRING_F } from '../abi/vhost.ts'
import { vringSizes } from '../abi/virtio.ts'
import type { MemTableRegion, VringAddresses } from '../binding/index.ts'
import { GuestMemoryError } from '../errors.ts'
import { formatRange, regionOf } from '../memory/index.ts'

/** What was set on an fd that has to do with its log; what was not set is undefined. */
interface LogSettings {
  features: bigint
  /** Bytes of the bitmap. */
  bitmap?: number
  table?: readonly MemTableRegion[]
}

interface RingSettings {
  num: number
  addresses?: VringAddresses
}

const LOG_ALL = 1n << BigInt(VHOST_F.VHOST_F_LOG_ALL)
const RING_LOG = 1 << VHOST_VRING_F.VHOST_VRING_F_LOG

/** The settings of one fd. None changes: `with` makes the next ones, or refuses them. */
export class DirtyLog {
  readonly #settings: LogSettings
  readonly #rings: ReadonlyMap<number, RingSettings>

  private constructor(settings: LogSettings, rings: ReadonlyMap<number, RingSettings>) {
    this.#settings = settings
    this.#rings = rings
    this.#check()
  }

  /** Of an fd of which nothing was set. */
  static readonly none = new DirtyLog({ features: 0n }, new Map())

  /** @throws {GuestMemoryError} `ERR_GPA_NOT_LOGGED`; `ERR_GPA_RANGE` of a ring's `log_guest_addr` */
  with(change: Partial<LogSettings>): DirtyLog {
    return new DirtyLog({ ...this.#settings, ...change }, this.#rings)
  }

  /** As `with`, of one ring. */
  withRing(index: number, change: Partial<RingSettings>): DirtyLog {
    const ring = { num: 0, ...this.#rings.get(index), ...change }
    return new DirtyLog(this.#settings, new Map([...this.#rings, [index, ring]]))
  }

  /** @throws {GuestMemoryError} `ERR_GPA_NOT_LOGGED` where there are writes to log, and no bitmap */
  assertBitmap(): void {
    const { features, bitmap } = this.#settings
    if (bitmap !== undefined || ((features & LOG_ALL) === 0n && this.#loggedRings().length === 0)) return
    throw new GuestMemoryError('ERR_GPA_NOT_LOGGED', 'writes are to be logged, and there is no dirty bitmap', {
      hint: 'Call setLogBase() first.',
    })
  }

  #loggedRings(): { address: number; size: number }[] {
    return [...this.#rings.values()].flatMap(({ num, addresses }) => {
      if (addresses === undefined || (addresses.flags & RING_LOG) === 0) return []
      return [{ address: Number(addresses.log_guest_addr), size: vringSizes(num).used }]
    })
  }

  #check(): void {
    const { features, bitmap, table } = this.#settings
    if (table === undefined) return
    const regions = table.map(({ guest_phys_addr: guestAddress, memory_size: size }) => ({ guestAddress, size }))
    const ends = (features & LOG_ALL) === 0n ? [] : regions.map(({ guestAddress, size }) => guestAddress + size)
    for (const { address, size } of this.#loggedRings()) {
      regionOf(regions, address, size)
      ends.push(address + size)
    }
    const end = Math.max(0, ...ends)
    const needed = Math.ceil(end / VHOST_PAGE_SIZE / 8)
    if (bitmap === undefined || bitmap >= needed) return
    const logged = formatRange(0, bitmap * 8 * VHOST_PAGE_SIZE)
    throw new GuestMemoryError(
      'ERR_GPA_NOT_LOGGED',
      `the dirty bitmap stands for ${logged}, what is logged ends at 0x${end.toString(16)}`,
      { hint: `It must have ${needed} bytes: one bit for each 4 KiB.`, context: { bitmap, needed } },
    )
  }
}
