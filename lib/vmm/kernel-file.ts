// A file that is to be a kernel: its bytes, and what is said of one that is none.

import { closeSync, fstatSync, openSync, readSync } from 'node:fs'
import { BootError } from '../errors.ts'
import { type GuestMemory, regionOf } from '../memory/index.ts'
import { loadBytes } from './load-bytes.ts'

export class KernelFile {
  readonly path: string
  readonly size: number
  readonly #file: number

  private constructor(path: string) {
    this.path = path
    this.#file = openSync(path, 'r')
    this.size = fstatSync(this.#file).size
  }

  /** Runs `operation` on it, and closes it. @throws {Error} what `openSync` throws */
  static with<T>(path: string, operation: (file: KernelFile) => T): T {
    const file = new KernelFile(path)
    try {
      return operation(file)
    } finally {
      closeSync(file.#file)
    }
  }

  /** @throws {BootError} `ERR_KERNEL_IMAGE` where it has not so many */
  read(position: number, length: number): DataView {
    if (position + length > this.size) throw this.refusal('is cut short')
    const bytes = new Uint8Array(length)
    readSync(this.#file, bytes, 0, length, position)
    return new DataView(bytes.buffer)
  }

  /**
   * Copies a part of it to where there is memory for `room` bytes.
   * @throws {BootError} `ERR_KERNEL_IMAGE`, `ERR_MEMORY_TOO_SMALL`, before anything is written
   */
  load({ position, length }: { position: number; length: number }, memory: GuestMemory, address: number, room: number) {
    const { path } = this
    if (position + length > this.size) throw this.refusal('is cut short')
    try {
      regionOf(memory.regions, address, room)
    } catch (cause) {
      throw new BootError('ERR_MEMORY_TOO_SMALL', `${path} needs memory up to 0x${(address + room).toString(16)}`, {
        hint: 'Give the machine more memory: 128 MiB are little for Linux.',
        context: { path, address, size: room },
        cause,
      })
    }
    if (!loadBytes({ file: this.#file, position, length }, memory, address)) throw this.refusal('is cut short')
  }

  refusal(problem: string): BootError {
    const { path } = this
    return new BootError('ERR_KERNEL_IMAGE', `${path} ${problem}`, {
      hint: "Give it the vmlinuz of a distribution for x86-64 (a bzImage), or a kernel's vmlinux with CONFIG_PVH.",
      context: { path },
    })
  }
}
