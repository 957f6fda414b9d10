// Where everything lies in a guest's physical memory.

import type { MemoryRegion } from '../memory/index.ts'

const KiB = 1 << 10
const GiB = 2 ** 30

export const MEMORY_MAP = {
  /** What the kernel is handed at its entry (PVH): start_info, its modules, its memory. */
  startInfo: 0x6000,
  modules: 0x6100,
  memoryTable: 0x6200,
  stack: 0x8000,
  /** And at its 64-bit entry: boot_params, segments, page tables for 4 GiB. */
  gdt: 0x5000,
  bootParams: 0x1_0000,
  pageTables: 0x1_1000,
  commandLine: 0x2_0000,
  /** Where conventional memory ends, as on a PC. */
  lowEnd: 0x9_fc00,
  /** System description tables, in what a PC has for its BIOS. */
  acpi: 0xe_0000,
  rsdp: 0xf_0000,
  /** Where a processor begins that is reset the old way, in real mode: f000:fff0. */
  resetVector: 0xf_fff0,
  high: 0x10_0000,
  /** No memory lies from here up to 4 GiB. */
  hole: 3 * GiB,
  /** Where a guest places what is behind its PCI bus. */
  pciWindow: 0xc000_0000,
  virtioMmio: 0xd000_0000,
  /** Configuration space of the PCI bus. */
  ecam: 0xe000_0000,
  ioApic: 0xfec0_0000,
  localApic: 0xfee0_0000,
  /** Pages that KVM takes for itself on Intel's processors. */
  identityMap: 0xfffb_c000,
  tss: 0xfffb_d000,
  aboveHole: 4 * GiB,
} as const

export const PCI_WINDOW_SIZE = 256 << 20
/** As much as one bus has. */
export const ECAM_SIZE = 1 << 20

/** Bytes for the kernel's command line, NUL included. */
export const COMMAND_LINE_SIZE = 64 * KiB

/** The regions of a machine with so many bytes of memory. */
export function memoryRegions(size: number): MemoryRegion[] {
  const low = Math.min(size, MEMORY_MAP.hole)
  const regions = [{ guestAddress: 0, size: low }]
  if (size > low) regions.push({ guestAddress: MEMORY_MAP.aboveHole, size: size - low })
  return regions
}

export interface MemoryRange extends MemoryRegion {
  readonly usable: boolean
}

/** What the kernel is told of these regions: its first one has the PC's hole below 1 MiB. */
export function memoryRanges([first, ...others]: readonly MemoryRegion[]): MemoryRange[] {
  const { lowEnd, high } = MEMORY_MAP
  return [
    { guestAddress: 0, size: lowEnd, usable: true },
    { guestAddress: lowEnd, size: high - lowEnd, usable: false },
    { guestAddress: high, size: (first?.size ?? high) - high, usable: true },
    // Linux wants to see that nobody else has it.
    { guestAddress: MEMORY_MAP.ecam, size: ECAM_SIZE, usable: false },
    ...others.map((region) => ({ ...region, usable: true })),
  ]
}
