// An entropy device (virtio 1.x section 5.4), the least that is a virtio device at all: one queue, whose buffers it fills.

import { VIRTIO_F } from '../../lib/abi/virtio.ts'
import type { GuestMemory } from '../../lib/memory/index.ts'
import {
  type FeatureRule,
  featureSet,
  type QueueService,
  VirtioDevice,
  type VirtioDeviceOptions,
  type Virtqueue,
} from '../../lib/virtio/index.ts'

/** Largest answer, however long the buffer. */
export const MAX_ANSWER = 4096

export const RNG_FEATURES = featureSet(
  VIRTIO_F.VIRTIO_RING_F_INDIRECT_DESC,
  VIRTIO_F.VIRTIO_RING_F_EVENT_IDX,
  VIRTIO_F.VIRTIO_F_RING_RESET,
)

/** Bits that no entropy device has: one that needs another, in the third word of the set, and the other. */
export const NEEDY = 70
export const NEEDED = 0
const rules: readonly FeatureRule[] = [{ feature: NEEDY, needs: [[NEEDED]] }]

export class VirtioRng extends VirtioDevice {
  /** What the hooks were called with, in order. */
  readonly log: string[] = []
  /** Buffers served since it was made. */
  served = 0
  /** Called before each answer. */
  onServe: (() => void) | undefined
  /** Called in each hook, with its name. */
  onHook: ((hook: string) => void) | undefined
  readonly #services = new Map<Virtqueue, QueueService>()
  #next = 0

  constructor(memory: GuestMemory, options: Partial<VirtioDeviceOptions> = {}) {
    const features = RNG_FEATURES | featureSet(NEEDY, NEEDED)
    super({ deviceId: 4, memory, features, rules, queueSizes: [8], ...options })
  }

  #hook(name: string): void {
    this.log.push(name)
    this.onHook?.(name)
  }

  protected override activate(): void {
    this.#hook('activate')
  }

  protected override deactivate(): void {
    this.#hook('deactivate')
  }

  protected override startQueue(queue: Virtqueue): void {
    this.#hook(`start ${queue.index}`)
    const service = this.serveQueue(queue, (chain) => {
      this.onServe?.()
      this.served++
      chain.write(this.#random(Math.min(chain.writable, MAX_ANSWER)))
    })
    this.#services.set(queue, service)
  }

  protected override stopQueue(queue: Virtqueue): void {
    this.#services.get(queue)?.stop()
    this.#services.delete(queue)
    this.#hook(`stop ${queue.index}`)
  }

  protected override writeConfig(offset: number, bytes: Uint8Array): void {
    this.#hook(`config ${offset} ${bytes.join(' ')}`)
  }

  /** Never 0, so that a test sees what was filled; else as good as any. */
  #random(length: number): Uint8Array {
    return Uint8Array.from({ length }, () => (this.#next++ % 255) + 1)
  }
}
