// The device-specific configuration structure: the device's configuration space, at any width (virtio 1.x section 4.1.4.6).

import type { Registers } from '../../event/index.ts'
import type { VirtioDevice } from '../../virtio/index.ts'

export class DeviceConfig implements Registers {
  readonly size: number
  readonly #device: VirtioDevice

  constructor(device: VirtioDevice) {
    this.#device = device
    this.size = device.config.size
  }

  read(offset: number, width: number): number {
    return isWidth(width) ? this.#device.config.read(offset, width) : 0
  }

  write(offset: number, width: number, value: number): void {
    if (!isWidth(width)) return
    const bytes = Uint8Array.from({ length: width }, (_, i) => value >>> (8 * i))
    this.#device.writeConfigSpace(offset, bytes)
  }
}

function isWidth(width: number): boolean {
  return width === 1 || width === 2 || width === 4
}
