// Bugs planted into the device from outside, for a run that has to find them.

import { VhostNetBackend } from '../../../lib/backend/index.ts'
import { BufferMemory, NativeMemory } from '../../../lib/memory/index.ts'
import { DescriptorReader } from '../../../lib/virtio/descriptors.ts'
import { DescriptorChain } from '../../../lib/virtio/index.ts'
import { BrokenRing } from '../../../lib/virtio/ring-fault.ts'
import { END } from './fuzz-nic.ts'

/** Plants it; what is returned takes it away. */
type Plant = () => () => void

/** Replaces a method of a class. */
function replace<T extends object, K extends keyof T>(
  prototype: T,
  name: K,
  made: (original: T[K]) => T[K],
): () => void {
  const original = prototype[name]
  prototype[name] = made(original)
  return () => {
    prototype[name] = original
  }
}

const PAGE = 4096

export const PLANTS = {
  /** Memory is taken to end a page later than it does, wherever a ring's place is checked. */
  bounds: () => {
    const { get } = Object.getOwnPropertyDescriptor(NativeMemory.prototype, 'regions')!
    const regions = Object.getOwnPropertyDescriptor(NativeMemory.prototype, 'regions')!
    Object.defineProperty(NativeMemory.prototype, 'regions', {
      ...regions,
      get(this: NativeMemory) {
        return (get!.call(this) as NativeMemory['regions']).map((region) =>
          region.guestAddress + region.size === END ? { ...region, size: region.size + PAGE } : region,
        )
      },
    })
    const inside = (address: number, length: number): [number, number] =>
      address < END && address + length > END ? [address, END - address] : [Math.min(address, END - length), length]
    const undo = [
      replace(
        NativeMemory.prototype,
        'pin',
        (pin) =>
          function (this: NativeMemory, address, size, owner) {
            return pin.call(this, ...inside(address, size), owner)
          },
      ),
      replace(
        NativeMemory.prototype,
        'locate',
        (locate) =>
          function (this: NativeMemory, address, length) {
            return locate.call(this, ...inside(address, length))
          },
      ),
      () => Object.defineProperty(NativeMemory.prototype, 'regions', regions),
    ]
    return () => {
      for (const step of undo) step()
    }
  },
  /** A command that reaches outside of memory is taken for one without content, and answered. */
  command: () =>
    replace(
      DescriptorReader.prototype,
      'chain',
      (chain) =>
        function (this: DescriptorReader, head) {
          try {
            return chain.call(this, head)
          } catch (error) {
            if (!(error instanceof BrokenRing) || error.fault !== 'outside-memory') throw error
            return new DescriptorChain(new BufferMemory(new ArrayBuffer(1)), head, 1, [], [{ address: 0, length: 1 }])
          }
        },
    ),
  /** What is wrong with a ring is not told. */
  silence: () =>
    replace(
      VhostNetBackend.prototype,
      'emit',
      (emit) =>
        function (this: VhostNetBackend, ...event: Parameters<typeof emit>) {
          return event[0] === 'fault' ? false : emit.apply(this, event)
        },
    ),
} as const satisfies Record<string, Plant>

export type PlantName = keyof typeof PLANTS
