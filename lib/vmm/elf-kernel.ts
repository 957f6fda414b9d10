// Loads a Linux kernel that is an ELF file with a PVH entry (Xen's docs/misc/pvh.pandoc; System V ABI, chapter 4).

import { closeSync, fstatSync, openSync, readSync } from 'node:fs'
import { BootError } from '../errors.ts'
import { type GuestMemory, regionOf } from '../memory/index.ts'
import { loadBytes } from './load-bytes.ts'

const HEADER_SIZE = 64
const PROGRAM_HEADER_SIZE = 56
const EM_X86_64 = 62
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
  const file = openSync(path, 'r')
  try {
    const segments = readSegments(file, path)
    const entry = segments
      .filter(({ type }) => type === PT_NOTE)
      .map((segment) => findEntry(file, segment, path))
      .find((found) => found !== undefined)
    if (entry === undefined) throw refusal(path, 'has no PVH entry')
    let end = 0
    for (const segment of segments.filter(({ type }) => type === PT_LOAD)) {
      load(file, segment, memory, path)
      end = Math.max(end, segment.address + segment.size)
    }
    if (end === 0) throw refusal(path, 'has nothing to load')
    return { entry, end }
  } finally {
    closeSync(file)
  }
}

function refusal(path: string, problem: string): BootError {
  return new BootError('ERR_KERNEL_IMAGE', `${path} ${problem}`, {
    hint: "Give it a vmlinux with CONFIG_PVH; a distribution's vmlinuz is compressed: the kernel's scripts/extract-vmlinux unpacks it.",
    context: { path },
  })
}

function readAt(file: number, position: number, length: number, path: string): DataView {
  if (position + length > fstatSync(file).size) throw refusal(path, 'is cut short')
  const bytes = new Uint8Array(length)
  readSync(file, bytes, 0, length, position)
  return new DataView(bytes.buffer)
}

function readSegments(file: number, path: string): Segment[] {
  if (fstatSync(file).size < HEADER_SIZE) throw refusal(path, 'is no ELF file')
  const header = readAt(file, 0, HEADER_SIZE, path)
  // 0x7f ELF, 64 bits, little-endian.
  if (header.getUint32(0) !== 0x7f454c46 || header.getUint16(4) !== 0x0201) throw refusal(path, 'is no 64-bit ELF file')
  if (header.getUint16(18, true) !== EM_X86_64) throw refusal(path, 'is not of x86-64')
  if (header.getUint16(54, true) !== PROGRAM_HEADER_SIZE) throw refusal(path, 'has program headers of another size')
  const at = Number(header.getBigUint64(32, true))
  const count = header.getUint16(56, true)
  const table = readAt(file, at, count * PROGRAM_HEADER_SIZE, path)
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

function findEntry(file: number, { offset, fileSize }: Segment, path: string): number | undefined {
  if (fileSize > MOST_NOTES) throw refusal(path, 'has too many notes')
  const notes = readAt(file, offset, fileSize, path)
  for (let at = 0; at + 12 <= fileSize; ) {
    const nameSize = notes.getUint32(at, true)
    const size = notes.getUint32(at + 4, true)
    const descriptor = at + 12 + aligned(nameSize)
    if (descriptor + size > fileSize) throw refusal(path, 'has a broken note')
    const name = Buffer.from(notes.buffer, at + 12, nameSize).toString('latin1')
    if (name === 'Xen\0' && notes.getUint32(at + 8, true) === PHYS32_ENTRY && size >= 4) {
      return notes.getUint32(descriptor, true)
    }
    at = descriptor + aligned(size)
  }
  return undefined
}

function load(file: number, segment: Segment, memory: GuestMemory, path: string): void {
  const { offset, address, fileSize, size } = segment
  if (fileSize > size || offset + fileSize > fstatSync(file).size) throw refusal(path, 'is cut short')
  try {
    regionOf(memory.regions, address, size)
  } catch (cause) {
    throw new BootError('ERR_MEMORY_TOO_SMALL', `${path} needs memory up to 0x${(address + size).toString(16)}`, {
      hint: 'Give the machine more memory: 128 MiB are little for Linux.',
      context: { path, address, size },
      cause,
    })
  }
  if (!loadBytes({ file, position: offset, length: fileSize }, memory, address)) throw refusal(path, 'is cut short')
}
