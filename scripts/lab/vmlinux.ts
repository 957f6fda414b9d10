// Takes the plain kernel out of a bzImage: QEMU starts it directly, which spares the guest the slow decompression.

import { exitCodes, LabError } from './failure.ts'
import { runTool } from './tool.ts'

// Offsets in the boot sector, from the kernel's Documentation/arch/x86/boot.rst.
const setupSectorsAt = 0x1f1
const payloadOffsetAt = 0x248
const payloadLengthAt = 0x24c
const sectorSize = 512

const formats = [
  { magic: 'fd377a585a00', tool: 'xz' },
  { magic: '28b52ffd', tool: 'zstd' },
  { magic: '02214c18', tool: 'lz4' },
] as const

export const extractVmlinux = (bzImage: Buffer): Buffer => {
  // A zero means four, for the sake of very old boot loaders.
  const setupSectors = bzImage.readUInt8(setupSectorsAt) || 4
  const start = (setupSectors + 1) * sectorSize + bzImage.readUInt32LE(payloadOffsetAt)
  const payload = bzImage.subarray(start, start + bzImage.readUInt32LE(payloadLengthAt))
  const format = formats.find(({ magic }) => payload.subarray(0, magic.length / 2).toString('hex') === magic)
  if (format === undefined) {
    throw new LabError(exitCodes.notReady, `unknown kernel compression: ${payload.subarray(0, 6).toString('hex')}`)
  }
  // The kernel's build appends the uncompressed size, which the tools would take for garbage.
  const compressed = payload.subarray(0, -4)
  const vmlinux = runTool(format.tool, ['-dc'], { input: compressed })
  if (vmlinux.length !== payload.readUInt32LE(payload.length - 4) || vmlinux.toString('latin1', 1, 4) !== 'ELF') {
    throw new LabError(exitCodes.notReady, 'the kernel image did not decompress to an ELF file of the announced size')
  }
  return vmlinux
}
