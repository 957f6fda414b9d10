// The memory room's door.

import type { AdoptedRegion } from './adopted.ts'
import type { AllocateOptions } from './allocation.ts'
import { BufferMemory } from './buffer-memory.ts'
import type { GuestMemory as GuestMemoryInterface } from './guest-memory.ts'
import { NativeMemory } from './native-memory.ts'

export type { AdoptedRegion, RegionOrigin } from './adopted.ts'
export type { AllocateOptions } from './allocation.ts'
export type { BackingOptions } from './backing.ts'
export { BufferMemory } from './buffer-memory.ts'
export { formatRange, type MemoryRegion, regionOf } from './guest-memory.ts'
export {
  type MappedRange,
  NativeMemory,
  type NativeMemoryEvents,
  type NativeMemoryState,
} from './native-memory.ts'

/** Memory that a guest, or the in-process driver, shares with a device. */
export type GuestMemory = GuestMemoryInterface

/** Makers of {@link GuestMemory}. */
export const GuestMemory = {
  /** New memory that vhost can reach. @see {@link NativeMemory.allocate} */
  allocate: (options: AllocateOptions): NativeMemory => NativeMemory.allocate(options),
  /** Memory that somebody else made, and that vhost can reach. @see {@link NativeMemory.adopt} */
  adopt: (options: { regions: readonly AdoptedRegion[] }): NativeMemory => NativeMemory.adopt(options),
  /** Memory over a plain ArrayBuffer, for logic that needs no kernel. */
  fromArrayBuffer: (buffer: ArrayBuffer): BufferMemory => new BufferMemory(buffer),
}
