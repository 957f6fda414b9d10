// Loads a Linux kernel that is an ELF file with a PVH entry (Xen's docs/misc/pvh.pandoc; System V ABI, chapter 4).

import type { GuestMemory } from '../memory/index.ts'
import { KernelFile } from './kernel-file.ts'

const HEADER_SIZE = 64
const PROGRAM_HEADER_SIZE = 56
const EM_X86_64 = 62
/** Of e_machine (include/uapi/linux/elf-em.h); each is named as in arch/. */
const OTHER_MACHINES = new Map([
  [3, '32-bit x86'],
  [21, 'powerpc'],
  [22, 's390'],
  [40, 'arm'],
  [183, 'arm64'],
  [243, 'riscv'],
  [258, 'loongarch'],
])
const ELFDATA2MSB = 2
const PT_LOAD = 1
const PT_NOTE = 4
/** XEN_ELFNOTE_PHYS32_ENTRY. */
const PHYS32_ENTRY = 18
const MOST_NOTES = 1 << 20

export interface LoadedKernel {
  /** Where it is entered, in 32-bit mode. */
  entry: number
  /** The first address behind it, with what it clears itself. */
  end: number
}

interface Segment {
  type: number
  offset: number
  address: number
  fileSize: number
  size: number
}

/**
 * @throws {BootError} `ERR_KERNEL_IMAGE` where it is none, `ERR_MEMORY_TOO_SMALL` where it does not fit
 * @throws {Error} what `openSync` throws
 */
export function loadElfKernel(path: string, memory: GuestMemory): LoadedKernel {
  return KernelFile.with(path, (file) => {
    const segments = readSegments(file)
    const entry = segments
      .filter(({ type }) => type === PT_NOTE)
      .map((segment) => findEntry(file, segment))
      .find((found) => found !== undefined)
    if (entry === undefined) throw file.refusal('has no PVH entry')
    let end = 0
    for (const segment of segments.filter(({ type }) => type === PT_LOAD)) {
      load(file, segment, memory)
      end = Math.max(end, segment.address + segment.size)
    }
    if (end === 0) throw file.refusal('has nothing to load')
    return { entry, end }
  })
}

function readSegments(file: KernelFile): Segment[] {
  if (file.size < HEADER_SIZE) throw file.refusal('is no ELF file')
  const header = file.read(0, HEADER_SIZE)
  const isElf = header.getUint32(0) === 0x7f454c46
  const machine = header.getUint16(18, header.getUint8(5) !== ELFDATA2MSB)
  const other = OTHER_MACHINES.get(machine)
  if (isElf && other !== undefined) throw file.refusal(`is a kernel of ${other}, not of x86-64`)
  // 64 bits, little-endian.
  if (!isElf || header.getUint16(4) !== 0x0201) throw file.refusal('is no 64-bit ELF file')
  if (machine !== EM_X86_64) throw file.refusal('is not of x86-64')
  if (header.getUint16(54, true) !== PROGRAM_HEADER_SIZE) throw file.refusal('has program headers of another size')
  const at = Number(header.getBigUint64(32, true))
  const count = header.getUint16(56, true)
  const table = file.read(at, count * PROGRAM_HEADER_SIZE)
  return Array.from({ length: count }, (_, i) => {
    const word = (offset: number) => Number(table.getBigUint64(i * PROGRAM_HEADER_SIZE + offset, true))
    return {
      type: table.getUint32(i * PROGRAM_HEADER_SIZE, true),
      offset: word(8),
      address: word(24),
      fileSize: word(32),
      size: word(40),
    }
  })
}

const aligned = (length: number): number => Math.ceil(length / 4) * 4

function findEntry(file: KernelFile, { offset, fileSize }: Segment): number | undefined {
  if (fileSize > MOST_NOTES) throw file.refusal('has too many notes')
  const notes = file.read(offset, fileSize)
  for (let at = 0; at + 12 <= fileSize; ) {
    const nameSize = notes.getUint32(at, true)
    const size = notes.getUint32(at + 4, true)
    const descriptor = at + 12 + aligned(nameSize)
    if (descriptor + size > fileSize) throw file.refusal('has a broken note')
    const name = Buffer.from(notes.buffer, at + 12, nameSize).toString('latin1')
    if (name === 'Xen\0' && notes.getUint32(at + 8, true) === PHYS32_ENTRY && size >= 4) {
      return notes.getUint32(descriptor, true)
    }
    at = descriptor + aligned(size)
  }
  return undefined
}

function load(file: KernelFile, { offset, address, fileSize, size }: Segment, memory: GuestMemory): void {
  if (fileSize > size) throw file.refusal('is cut short')
  file.load({ position: offset, length: fileSize }, memory, address, size)
}
