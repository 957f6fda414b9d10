// Which kind of kernel a file is, by its bytes: that decides how it is loaded and entered.

import { isBzImage, SETUP } from './bz-image.ts'
import { KernelFile } from './kernel-file.ts'

export type KernelImage = 'bzImage' | 'elf'

const ELF = 0x7f45_4c46
/** `MZ`, then `zimg`: what EFI unpacks (drivers/firmware/efi/libstub/zboot-header.S); not of x86. */
const ZIMG = 0x7a69_6d67
const GZIP = 0x1f8b

/** `ARM\x64` (Documentation/arch/arm64/booting.rst), and `RSC\x05` (Documentation/arch/riscv/boot-image-header.rst). */
const OTHERS = new Map([
  [0x4152_4d64, 'arm64'],
  [0x5253_4305, 'riscv'],
])

/**
 * @throws {BootError} `ERR_KERNEL_IMAGE` where it is neither, or another architecture's
 * @throws {Error} what `openSync` throws
 */
export function kindOfKernel(path: string): KernelImage {
  return KernelFile.with(path, (file) => {
    if (file.size === 0) throw file.refusal('is empty')
    const bytes = new Uint8Array(SETUP.version)
    const some = Math.min(file.size, bytes.length)
    bytes.set(new Uint8Array(file.read(0, some).buffer))
    const head = new DataView(bytes.buffer)
    if (isBzImage(head)) return 'bzImage'
    if (head.getUint32(0) === ELF) return 'elf'
    const other = OTHERS.get(head.getUint32(0x38))
    if (other !== undefined) throw file.refusal(`is a kernel of ${other}, not of x86-64`)
    if (head.getUint32(4) === ZIMG) throw file.refusal('is an image for EFI that packs itself, not of x86-64')
    if (head.getUint16(0) === GZIP) throw file.refusal('is compressed by gzip, as kernels of other processors are')
    throw file.refusal('is no Linux kernel: neither a bzImage nor an ELF file')
  })
}
