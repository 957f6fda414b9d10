// Pages of 2 MiB of this host.

import { readFileSync, writeFileSync } from 'node:fs'

const RESERVED = '/proc/sys/vm/nr_hugepages'

/** How many there are: that nobody has touched, and those of them that are somebody's all the same. */
export function hugePages(): { free: number; reserved: number } {
  const meminfo = readFileSync('/proc/meminfo', 'utf8')
  const count = (name: string) => Number(new RegExp(`^HugePages_${name}: +(\\d+)$`, 'm').exec(meminfo)?.[1])
  return { free: count('Free'), reserved: count('Rsvd') }
}

/** Sets so many more aside. @returns what gives them back */
export function reserveHugePages(count: number): { close(): void } {
  const before = Number(readFileSync(RESERVED, 'utf8'))
  const set = (reserved: number): void => writeFileSync(RESERVED, String(reserved))
  // Memory is in one piece again where it can be.
  writeFileSync('/proc/sys/vm/compact_memory', '1')
  set(before + count)
  const close = () => set(before)
  const reserved = Number(readFileSync(RESERVED, 'utf8'))
  if (reserved === before + count) return { close }
  close()
  throw new Error(`the kernel has ${reserved - before} of ${count} huge pages left`)
}
