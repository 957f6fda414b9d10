// Reads memory without a window, which would keep the memory mapped until V8 collects it.

import type { GuestMemory } from '../../lib/memory/index.ts'

export function bytesAt(memory: GuestMemory, guestAddress: number, length: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(length)
  memory.read(guestAddress, bytes)
  return bytes
}
