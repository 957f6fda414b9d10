// A kernel of a few instructions: an ELF file with a PVH entry, for machines that need no Linux.

import { writeFileSync } from 'node:fs'

const HEADER = 64
const PROGRAM_HEADER = 56
const NOTE = 20

/** Where its code is, and is entered: in 32-bit mode, with flat segments and interrupts off. */
const ADDRESS = 0x10_0000

/** `jmp $` */
export const FOREVER = [0xeb, 0xfe] as const

/** `mov dx, port; mov al, value; out dx, al` */
export const out = (port: number, value: number): number[] => [0x66, 0xba, port & 0xff, port >> 8, 0xb0, value, 0xee]

/** Switches the machine off. */
export const POWER_OFF = [...out(0x600, (5 << 2) | (1 << 5)), ...FOREVER] as const

export function writeTinyKernel(path: string, code: readonly number[]): void {
  const notes = HEADER + 2 * PROGRAM_HEADER
  const file = Buffer.alloc(notes + NOTE + code.length)
  // 0x7f ELF, 64 bits, little-endian; an executable file of x86-64.
  file.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1])
  file.writeUInt16LE(2, 16)
  file.writeUInt16LE(62, 18)
  file.writeBigUInt64LE(BigInt(HEADER), 32)
  file.writeUInt16LE(PROGRAM_HEADER, 54)
  file.writeUInt16LE(2, 56)
  const segments = [
    { type: 1, offset: notes + NOTE, address: ADDRESS, size: code.length },
    { type: 4, offset: notes, address: 0, size: NOTE },
  ]
  for (const [i, { type, offset, address, size }] of segments.entries()) {
    const at = HEADER + PROGRAM_HEADER * i
    file.writeUInt32LE(type, at)
    for (const [j, word] of [offset, 0, address, size, size].entries()) {
      file.writeBigUInt64LE(BigInt(word), at + 8 + 8 * j)
    }
  }
  // XEN_ELFNOTE_PHYS32_ENTRY.
  for (const [i, word] of [4, 4, 18].entries()) file.writeUInt32LE(word, notes + 4 * i)
  file.write('Xen\0', notes + 12, 'latin1')
  file.writeUInt32LE(ADDRESS, notes + 16)
  file.set(code, notes + NOTE)
  writeFileSync(path, file)
}
