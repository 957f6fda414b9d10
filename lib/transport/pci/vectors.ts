// Which vector of MSI-X each event of a virtio device raises (virtio 1.x section 4.1.5.1.2).

import { VIRTIO_MSI_NO_VECTOR } from '../../abi/virtio-pci.ts'
import { EventFd, type MessageInterrupts } from '../../event/index.ts'
import type { VirtioDevice, Virtqueue } from '../../virtio/index.ts'

/** One event. Its eventfd is connected while MSI-X is on and it has a vector. */
interface Line {
  readonly call: EventFd
  vector: number
  connected: number | undefined
}

/**
 * Every queue and the configuration have a vector of their own choice, or none; several may share one. An event without
 * a vector counts in its eventfd, and wakes nobody.
 */
export class PciVectors {
  /** How many there are to choose from. */
  readonly count: number
  readonly #interrupts: MessageInterrupts
  readonly #config: Line
  readonly #queues: ReadonlyMap<Virtqueue, Line>
  #enabled = false

  /** @throws {SystemCallError} `EMFILE` */
  constructor(device: VirtioDevice, interrupts: MessageInterrupts, count: number) {
    const line = (call: EventFd): Line => ({ call, vector: VIRTIO_MSI_NO_VECTOR, connected: undefined })
    this.count = count
    this.#interrupts = interrupts
    this.#config = line(EventFd.create('the configuration interrupt'))
    this.#queues = new Map(device.queues.map((queue) => [queue, line(queue.call)]))
  }

  get #lines(): Line[] {
    return [this.#config, ...this.#queues.values()]
  }

  /** Whether the guest uses MSI-X. */
  set enabled(enabled: boolean) {
    this.#enabled = enabled
    for (const line of this.#lines) this.#connect(line)
  }

  /** The vector of configuration changes. */
  get config(): number {
    return this.#config.vector
  }

  set config(vector: number) {
    this.#map(this.#config, vector)
  }

  /** The vector of a queue; none where there is no such queue. */
  of(queue: Virtqueue | undefined): number {
    return this.#lineOf(queue)?.vector ?? VIRTIO_MSI_NO_VECTOR
  }

  /** The driver maps a queue to a vector. One that there is not is none, as it reads back then. */
  map(queue: Virtqueue | undefined, vector: number): void {
    const line = this.#lineOf(queue)
    if (line !== undefined) this.#map(line, vector)
  }

  #lineOf(queue: Virtqueue | undefined): Line | undefined {
    return queue === undefined ? undefined : this.#queues.get(queue)
  }

  #map(line: Line, vector: number): void {
    line.vector = vector < this.count ? vector : VIRTIO_MSI_NO_VECTOR
    this.#connect(line)
  }

  /** Where the host cannot connect it, the driver reads that back as a mapping that was refused. */
  #connect(line: Line): void {
    const wanted = this.#enabled && line.vector !== VIRTIO_MSI_NO_VECTOR ? line.vector : undefined
    if (wanted === line.connected) return
    if (line.connected !== undefined) this.#interrupts.disconnect(line.connected, line.call)
    line.connected = undefined
    if (wanted === undefined) return
    try {
      this.#interrupts.connect(wanted, line.call)
      line.connected = wanted
    } catch {
      line.vector = VIRTIO_MSI_NO_VECTOR
    }
  }

  /** Configuration space or status changed. */
  signalConfig(): void {
    if (this.#config.connected !== undefined) this.#config.call.signal()
  }

  /** The queue was reset: it has no vector, and what it signalled is of the past. */
  forget(queue: Virtqueue): void {
    const line = this.#queues.get(queue)
    if (line !== undefined) this.#forget(line)
  }

  /** The device was reset. */
  reset(): void {
    for (const line of this.#lines) this.#forget(line)
  }

  #forget(line: Line): void {
    this.#map(line, VIRTIO_MSI_NO_VECTOR)
    line.call.read()
  }

  /** Disconnects everything. */
  close(): void {
    this.enabled = false
    this.#config.call.close()
  }
}
