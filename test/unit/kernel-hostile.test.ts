// Files that are nearly a kernel: each is loaded into memory that there is, or refused as a kernel that cannot be.

import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import fc from 'fast-check'
import { BootError } from '../../lib/errors.ts'
import { GuestMemory, type NativeMemory } from '../../lib/memory/index.ts'
import { loadBootFiles } from '../../lib/vmm/boot.ts'

const MiB = 1 << 20
const SIZE = 8 * MiB

/** As an ELF file with a PVH entry begins: header, one segment, one note. */
function elf(): Buffer {
  const file = Buffer.alloc(64 + 2 * 56 + 24 + 4)
  file.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1])
  file.writeUInt16LE(62, 18)
  file.writeBigUInt64LE(64n, 32)
  file.writeUInt16LE(56, 54)
  file.writeUInt16LE(2, 56)
  const notes = 64 + 2 * 56
  for (const [i, [type, ...words]] of [
    [1, notes + 24, 0, 2 * MiB, 4, 0x1000],
    [4, notes, 0, 0, 20, 20],
  ].entries()) {
    file.writeUInt32LE(type!, 64 + 56 * i)
    for (const [j, word] of words.entries()) file.writeBigUInt64LE(BigInt(word), 64 + 56 * i + 8 + 8 * j)
  }
  for (const [j, word] of [4, 4, 18].entries()) file.writeUInt32LE(word, notes + 4 * j)
  file.write('Xen\0', notes + 12, 'latin1')
  file.writeUInt32LE(0x20_0010, notes + 16)
  return file
}

/** As a bzImage has it (Documentation/arch/x86/boot.rst). */
function bzImage(): Buffer {
  const file = Buffer.alloc(512 * 2 + 0x300)
  file.writeUInt8(1, 0x1f1)
  file.writeUInt32LE(0x30, 0x1f4)
  file.writeUInt16LE(0xaa55, 0x1fe)
  file.set([0xeb, 0x6a], 0x200)
  file.write('HdrS', 0x202)
  file.writeUInt16LE(0x20f, 0x206)
  file.writeUInt8(1, 0x211)
  file.writeUInt32LE(0x7fff_ffff, 0x22c)
  file.writeUInt16LE(0x3f, 0x236)
  file.writeUInt32LE(2047, 0x238)
  file.writeBigUInt64LE(BigInt(2 * MiB), 0x258)
  file.writeUInt32LE(0x1000, 0x260)
  return file
}

interface Change {
  at: number
  width: 1 | 2 | 4 | 8
  value: bigint
}

const change: fc.Arbitrary<Change> = fc.record({
  at: fc.nat(0x270),
  width: fc.constantFrom(1, 2, 4, 8),
  value: fc.oneof(
    fc.constantFrom(
      0n,
      1n,
      4n,
      0xffn,
      0xffffn,
      0x7fff_ffffn,
      0xffff_fff8n,
      2n ** 53n,
      2n ** 64n - 8n,
      BigInt(SIZE - 4),
    ),
    fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
  ),
})

function changed(file: Buffer, changes: readonly Change[], cut: number): Buffer {
  for (const { at, width, value } of changes) {
    const bytes = Buffer.alloc(8)
    bytes.writeBigUInt64LE(value)
    bytes.copy(file, at % file.length, 0, width)
  }
  return file.subarray(0, file.length - cut)
}

describe('a file that is nearly a kernel', () => {
  let directory: string
  let memory: NativeMemory

  before(() => {
    directory = mkdtempSync(path.join(tmpdir(), 'kernel-'))
    memory = GuestMemory.allocate({ size: SIZE })
  })

  after(() => {
    memory.close()
    rmSync(directory, { recursive: true })
  })

  for (const [name, make] of Object.entries({ 'an ELF file': elf, 'a bzImage': bzImage })) {
    it(`is loaded, or refused: ${name}`, () => {
      const kernel = path.join(directory, 'kernel')
      const ends = new Set<string>()
      const boot = (bytes: Uint8Array): string => {
        writeFileSync(kernel, bytes)
        try {
          loadBootFiles(memory, { kernel, commandLine: '' })
          return 'loaded'
        } catch (error) {
          assert.ok(error instanceof BootError, String(error))
          return error.code
        }
      }
      assert.equal(boot(make()), 'loaded')
      const cut = fc.oneof({ weight: 9, arbitrary: fc.constant(0) }, fc.nat(0x600))
      fc.assert(
        fc.property(fc.array(change, { minLength: 1, maxLength: 2 }), cut, (changes, missing) => {
          const file = make()
          ends.add(boot(changed(file, changes, Math.min(missing, file.length))))
        }),
        { numRuns: 250 },
      )
      assert.deepEqual([...ends].sort(), ['ERR_KERNEL_IMAGE', 'ERR_MEMORY_TOO_SMALL', 'loaded'])
    })
  }
})
