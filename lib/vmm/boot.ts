// Puts a kernel, its initial RAM disk and its command line into memory, and a processor at its entry (PVH).

import { closeSync, fstatSync, openSync } from 'node:fs'
import { KVM_SEGMENT, KVM_SREGS } from '../abi/kvm.ts'
import { BootError, InvalidOptionError } from '../errors.ts'
import type { KvmVcpu } from '../host/index.ts'
import type { GuestMemory } from '../memory/index.ts'
import { loadElfKernel } from './elf-kernel.ts'
import { loadBytes } from './load-bytes.ts'
import { COMMAND_LINE_SIZE, MEMORY_MAP, memoryRanges } from './memory-map.ts'

const PAGE = 4096
/** XEN_HVM_START_MAGIC_VALUE (include/xen/interface/hvm/start_info.h). */
const START_MAGIC = 0x336e_c578
const START_INFO_SIZE = 56
const MEMORY_ENTRY_SIZE = 24
const XEN_HVM_MEMMAP_TYPE_RAM = 1
const XEN_HVM_MEMMAP_TYPE_RESERVED = 2

export interface BootFiles {
  kernel: string
  initrd?: string | undefined
  commandLine: string
}

/** Loads them. @returns the address at which the kernel is entered */
export function loadBootFiles(memory: GuestMemory, { kernel, initrd, commandLine }: BootFiles): number {
  const line = Buffer.from(`${commandLine}\0`)
  if (line.length > COMMAND_LINE_SIZE) {
    throw new InvalidOptionError(
      'ERR_OPTION_RANGE',
      'append',
      `has ${line.length} bytes, and there is room for ${COMMAND_LINE_SIZE}`,
    )
  }
  const { entry, end } = loadElfKernel(kernel, memory)
  memory.write(MEMORY_MAP.commandLine, line)
  const module = initrd === undefined ? undefined : loadInitrd(initrd, memory, end)
  writeStartInfo(memory, module)
  return entry
}

/** As high as there is memory below the hole, where the kernel does not grow into it. */
function loadInitrd(path: string, memory: GuestMemory, kernelEnd: number): { address: number; size: number } {
  const file = openSync(path, 'r')
  try {
    const { size } = fstatSync(file)
    const low = memory.regions[0]?.size ?? 0
    const address = Math.floor((low - size) / PAGE) * PAGE
    if (address < kernelEnd) {
      throw new BootError(
        'ERR_MEMORY_TOO_SMALL',
        `${path} has ${size} bytes, of which memory has ${low - kernelEnd} left`,
        {
          hint: 'Give the machine more memory.',
          context: { path, size },
        },
      )
    }
    if (!loadBytes({ file, position: 0, length: size }, memory, address)) {
      throw new BootError('ERR_KERNEL_IMAGE', `${path} became shorter while it was read`)
    }
    return { address, size }
  } finally {
    closeSync(file)
  }
}

function writeStartInfo(memory: GuestMemory, module: { address: number; size: number } | undefined): void {
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

/** 32-bit protected mode without paging, segments flat, RBX at start_info. */
export function enterKernel(vcpu: KvmVcpu, entry: number): void {
  const bytes = vcpu.getSystemRegisters()
  const view = new DataView(bytes.buffer)
  const { segments, registers } = KVM_SREGS
  const segment = (
    at: number,
    selector: number,
    type: number,
    flags: { limit: number; s: number; db: number; g: number },
  ) => {
    bytes.fill(0, at, at + 24)
    view.setUint32(at + KVM_SEGMENT.limit, flags.limit, true)
    view.setUint16(at + KVM_SEGMENT.selector, selector, true)
    bytes[at + KVM_SEGMENT.type] = type
    bytes[at + KVM_SEGMENT.present] = 1
    for (const flag of ['s', 'db', 'g'] as const) bytes[at + KVM_SEGMENT[flag]] = flags[flag]
  }
  const flat = { limit: 0xffff_ffff, s: 1, db: 1, g: 1 }
  segment(segments.cs, 0x08, 0xb, flat)
  for (const name of ['ds', 'es', 'fs', 'gs', 'ss'] as const) segment(segments[name], 0x10, 0x3, flat)
  segment(segments.tr, 0, 0xb, { limit: 0x67, s: 0, db: 0, g: 0 })
  view.setBigUint64(registers.cr0, 0x11n, true)
  view.setBigUint64(registers.cr4, 0n, true)
  view.setBigUint64(registers.efer, 0n, true)
  vcpu.setSystemRegisters(bytes)
  vcpu.setRegisters({
    rip: BigInt(entry),
    rbx: BigInt(MEMORY_MAP.startInfo),
    rsp: BigInt(MEMORY_MAP.stack),
    rflags: 2n,
  })
}
