// What a kernel finds at its PVH entry: start_info (include/xen/interface/hvm/start_info.h).

import type { GuestMemory } from '../memory/index.ts'
import { MEMORY_MAP, memoryRanges } from './memory-map.ts'

/** XEN_HVM_START_MAGIC_VALUE. */
const START_MAGIC = 0x336e_c578
const START_INFO_SIZE = 56
const MEMORY_ENTRY_SIZE = 24
const XEN_HVM_MEMMAP_TYPE_RAM = 1
const XEN_HVM_MEMMAP_TYPE_RESERVED = 2

/** Its command line is to be in its place. @param module the initial RAM disk, where there is one */
export function writeStartInfo(memory: GuestMemory, module: { address: number; size: number } | undefined): void {
  const ranges = memoryRanges(memory.regions)
  const table = new DataView(new ArrayBuffer(MEMORY_ENTRY_SIZE * ranges.length))
  for (const [i, { guestAddress, size, usable }] of ranges.entries()) {
    const at = MEMORY_ENTRY_SIZE * i
    table.setBigUint64(at, BigInt(guestAddress), true)
    table.setBigUint64(at + 8, BigInt(size), true)
    table.setUint32(at + 16, usable ? XEN_HVM_MEMMAP_TYPE_RAM : XEN_HVM_MEMMAP_TYPE_RESERVED, true)
  }
  memory.write(MEMORY_MAP.memoryTable, new Uint8Array(table.buffer))

  const info = new DataView(new ArrayBuffer(START_INFO_SIZE))
  info.setUint32(0, START_MAGIC, true)
  info.setUint32(4, 1, true)
  if (module !== undefined) {
    const entry = new DataView(new ArrayBuffer(32))
    entry.setBigUint64(0, BigInt(module.address), true)
    entry.setBigUint64(8, BigInt(module.size), true)
    memory.write(MEMORY_MAP.modules, new Uint8Array(entry.buffer))
    info.setUint32(12, 1, true)
    info.setBigUint64(16, BigInt(MEMORY_MAP.modules), true)
  }
  info.setBigUint64(24, BigInt(MEMORY_MAP.commandLine), true)
  info.setBigUint64(32, BigInt(MEMORY_MAP.rsdp), true)
  info.setBigUint64(40, BigInt(MEMORY_MAP.memoryTable), true)
  info.setUint32(48, ranges.length, true)
  memory.write(MEMORY_MAP.startInfo, new Uint8Array(info.buffer))
}
