// What a kernel finds at its 64-bit entry: struct boot_params (Documentation/arch/x86/zero-page.rst), page tables, and segments.

import type { GuestMemory } from '../memory/index.ts'
import { SETUP } from './bz-image.ts'
import { MEMORY_MAP, memoryRanges } from './memory-map.ts'

const PAGE = 4096
const ACPI_RSDP_ADDR = 0x070
const E820_ENTRIES = 0x1e8
const E820_TABLE = 0x2d0
const E820_ENTRY_SIZE = 20
const E820_TYPE_RAM = 1
const E820_TYPE_RESERVED = 2
/** Of a boot loader that has no number of its own. */
const UNDEFINED_LOADER = 0xff

/** Its command line is to be in its place. */
export function writeBootParams(
  memory: GuestMemory,
  { setupHeader, initrd }: { setupHeader: Uint8Array; initrd: { address: number; size: number } | undefined },
): void {
  const bytes = new Uint8Array(PAGE)
  bytes.set(setupHeader, SETUP.setup_sects)
  const params = new DataView(bytes.buffer)
  params.setUint8(SETUP.type_of_loader, UNDEFINED_LOADER)
  params.setUint32(SETUP.ramdisk_image, initrd?.address ?? 0, true)
  params.setUint32(SETUP.ramdisk_size, initrd?.size ?? 0, true)
  params.setUint32(SETUP.cmd_line_ptr, MEMORY_MAP.commandLine, true)
  params.setBigUint64(ACPI_RSDP_ADDR, BigInt(MEMORY_MAP.rsdp), true)
  const ranges = memoryRanges(memory.regions)
  params.setUint8(E820_ENTRIES, ranges.length)
  for (const [i, { guestAddress, size, usable }] of ranges.entries()) {
    const at = E820_TABLE + E820_ENTRY_SIZE * i
    params.setBigUint64(at, BigInt(guestAddress), true)
    params.setBigUint64(at + 8, BigInt(size), true)
    params.setUint32(at + 16, usable ? E820_TYPE_RAM : E820_TYPE_RESERVED, true)
  }
  memory.write(MEMORY_MAP.bootParams, bytes)
}

/** Code at selector 0x10 and data at 0x18, as the protocol demands: flat, present, of ring 0. */
export const BOOT_GDT = BigUint64Array.of(0n, 0n, 0x00af_9b00_0000_ffffn, 0x00cf_9300_0000_ffffn)

const PRESENT_WRITABLE = 0b11n
const LARGE = 1n << 7n
const LARGE_PAGE = 2n << 20n
const ENTRIES = 512
/** GiB. */
const MAPPED = 4

/** The first 4 GiB at their own addresses, in pages of 2 MiB. */
export function writePageTables(memory: GuestMemory): void {
  const tables = new BigUint64Array(ENTRIES * (2 + MAPPED))
  const at = (table: number) => BigInt(MEMORY_MAP.pageTables + PAGE * table)
  tables[0] = at(1) | PRESENT_WRITABLE
  for (let i = 0; i < MAPPED; i++) tables[ENTRIES + i] = at(2 + i) | PRESENT_WRITABLE
  for (let i = 0; i < ENTRIES * MAPPED; i++) {
    tables[2 * ENTRIES + i] = (BigInt(i) * LARGE_PAGE) | PRESENT_WRITABLE | LARGE
  }
  memory.write(MEMORY_MAP.pageTables, new Uint8Array(tables.buffer))
  memory.write(MEMORY_MAP.gdt, new Uint8Array(BOOT_GDT.buffer))
}
