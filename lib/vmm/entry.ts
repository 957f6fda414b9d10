// Puts a processor at the entry of a kernel that is in memory, in the mode that it expects there.

import { KVM_SEGMENT, KVM_SREGS } from '../abi/kvm.ts'
import type { KvmVcpu } from '../host/index.ts'
import { BOOT_GDT } from './boot-params.ts'
import { MEMORY_MAP } from './memory-map.ts'

export interface KernelEntry {
  /** 32-bit protected mode with start_info (PVH), or 64-bit mode with boot_params. */
  protocol: 'pvh' | 'linux64'
  address: number
}

/** Control registers, and EFER (Intel SDM volume 3, section 2.5). */
const CR0 = { PE: 1n, ET: 1n << 4n, PG: 1n << 31n } as const
const CR4_PAE = 1n << 5n
const EFER = { LME: 1n << 8n, LMA: 1n << 10n } as const
/** Bit 1 is always set; interrupts are off. */
const RFLAGS = 2n

const CODE = 0xb
const DATA = 0x3
const BUSY_TSS = 0xb

export function enterKernel(vcpu: KvmVcpu, { protocol, address }: KernelEntry): void {
  const bytes = vcpu.getSystemRegisters()
  const long = protocol === 'linux64'
  setSegments(bytes, long)
  const view = new DataView(bytes.buffer)
  const { registers, tables } = KVM_SREGS
  view.setBigUint64(registers.cr0, CR0.PE | CR0.ET | (long ? CR0.PG : 0n), true)
  view.setBigUint64(registers.cr3, long ? BigInt(MEMORY_MAP.pageTables) : 0n, true)
  view.setBigUint64(registers.cr4, long ? CR4_PAE : 0n, true)
  view.setBigUint64(registers.efer, long ? EFER.LME | EFER.LMA : 0n, true)
  if (long) {
    view.setBigUint64(tables.gdt, BigInt(MEMORY_MAP.gdt), true)
    view.setUint16(tables.gdt + 8, BOOT_GDT.byteLength - 1, true)
  }
  vcpu.setSystemRegisters(bytes)
  vcpu.setRegisters({
    rip: BigInt(address),
    ...(long ? { rsi: BigInt(MEMORY_MAP.bootParams) } : { rbx: BigInt(MEMORY_MAP.startInfo) }),
    rsp: BigInt(MEMORY_MAP.stack),
    rflags: RFLAGS,
  })
}

/** Flat ones. */
function setSegments(bytes: Uint8Array, long: boolean): void {
  const view = new DataView(bytes.buffer)
  const { segments } = KVM_SREGS
  const segment = (at: number, selector: number, type: number, flags: { limit: number } & Record<string, number>) => {
    bytes.fill(0, at, at + 24)
    view.setUint32(at + KVM_SEGMENT.limit, flags.limit, true)
    view.setUint16(at + KVM_SEGMENT.selector, selector, true)
    bytes[at + KVM_SEGMENT.type] = type
    bytes[at + KVM_SEGMENT.present] = 1
    for (const flag of ['s', 'db', 'l', 'g'] as const) bytes[at + KVM_SEGMENT[flag]] = flags[flag] ?? 0
  }
  const flat = { limit: 0xffff_ffff, s: 1, g: 1 }
  const code = long ? 0x10 : 0x08
  segment(segments.cs, code, CODE, long ? { ...flat, l: 1 } : { ...flat, db: 1 })
  for (const name of ['ds', 'es', 'fs', 'gs', 'ss'] as const)
    segment(segments[name], code + 8, DATA, { ...flat, db: 1 })
  segment(segments.tr, 0, BUSY_TSS, { limit: 0x67 })
}
