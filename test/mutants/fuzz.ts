// Faults in what keeps a hostile guest in its bounds, found by guests that are drawn by chance.

import type { Fault } from './fault.ts'

const test = 'kernel/fuzz'
const title =
  'a device under guests drawn by chance gives back what was kicked or says why it needs a reset, and works after that'

export const FUZZ: readonly Fault[] = [
  {
    name: 'a ring may end behind the memory that it lies in',
    file: 'lib/memory/guest-memory.ts',
    line: 'if (region !== undefined && length <= region.guestAddress + region.size - guestAddress) return region',
    faulty: 'if (region !== undefined) return region',
    test,
    title,
  },
  {
    name: 'a descriptor may have the one behind the last come next',
    file: 'lib/virtio/descriptors.ts',
    line: 'if (next >= table.entries) {',
    faulty: 'if (next > table.entries) {',
    test,
    title,
  },
  {
    name: 'a receive mode may be neither on nor off',
    file: 'lib/net/control-queue.ts',
    line: 'if (on > 1) return false',
    faulty: 'if (on > 255) return false',
    test,
    title,
  },
]
