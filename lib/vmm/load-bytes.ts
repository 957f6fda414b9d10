// Copies a part of a file into a machine's memory.

import { readSync } from 'node:fs'
import type { GuestMemory } from '../memory/index.ts'

const AT_ONCE = 1 << 20

/** @returns whether the file had all of it */
export function loadBytes(
  { file, position, length }: { file: number; position: number; length: number },
  memory: GuestMemory,
  guestAddress: number,
): boolean {
  // Not through a window, which keeps all of the memory until V8 comes to collect it.
  const bytes = new Uint8Array(Math.min(length, AT_ONCE))
  for (let done = 0; done < length; ) {
    const read = readSync(file, bytes, 0, Math.min(length - done, bytes.length), position + done)
    if (read === 0) return false
    memory.write(guestAddress + done, bytes.subarray(0, read))
    done += read
  }
  return true
}
