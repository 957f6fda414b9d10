// The ISR status, and the interrupt pin that follows it: how a guest without MSI-X is interrupted (virtio 1.x section 4.1.4.5).

import { VIRTIO_PCI_ISR } from '../../abi/virtio-pci.ts'
import { type Registers, type Watch, watchReadable } from '../../event/index.ts'
import type { VirtioDevice } from '../../virtio/index.ts'

/**
 * A level that the guest takes back by reading the status cannot be left to the kernel as a message can: while the device
 * runs without MSI-X, each notification of a queue comes through this process's event loop, which sets the bit and the pin
 * together. With MSI-X nothing is watched.
 */
export class IsrStatus implements Registers {
  /** One byte, read as such. */
  readonly size = 1
  readonly #device: VirtioDevice
  readonly #onChange: (pending: boolean) => void
  readonly #watches: Watch[] = []
  #bits = 0
  #live = false
  #messages = false

  /** @param onChange called with whether the guest is to be interrupted by the pin */
  constructor(device: VirtioDevice, onChange: (pending: boolean) => void) {
    this.#device = device
    this.#onChange = onChange
  }

  /** Reading it takes it back. */
  read(offset: number, width: number): number {
    if (offset !== 0 || width !== 1) return 0
    const bits = this.#bits
    this.#set(0)
    return bits
  }

  write(): void {
    // Read-only: a write has no effect.
  }

  /** What a read would find, without taking it back. */
  get bits(): number {
    return this.#bits
  }

  /** Whether the device may signal its queues. @throws {SystemCallError} `EMFILE` */
  set live(live: boolean) {
    this.#live = live
    this.#watch()
  }

  /** Whether the guest uses MSI-X. @throws {SystemCallError} `EMFILE` */
  set messages(messages: boolean) {
    this.#messages = messages
    this.#watch()
    this.#set(this.#bits)
  }

  #watch(): void {
    const wanted = this.#live && !this.#messages
    if (!wanted) for (const watch of this.#watches.splice(0)) watch.stop()
    if (!wanted || this.#watches.length > 0) return
    for (const { call } of this.#device.queues) {
      const watch = watchReadable(call, () => {
        if (call.read() > 0n) this.#set(this.#bits | VIRTIO_PCI_ISR.VIRTIO_PCI_ISR_QUEUE)
      })
      this.#watches.push(watch)
    }
  }

  configChanged(): void {
    this.#set(this.#bits | VIRTIO_PCI_ISR.VIRTIO_PCI_ISR_CONFIG)
  }

  #set(bits: number): void {
    this.#bits = bits
    this.#onChange(bits !== 0 && !this.#messages)
  }

  /** The device was reset, or goes. */
  reset(): void {
    this.live = false
    this.#set(0)
  }
}
