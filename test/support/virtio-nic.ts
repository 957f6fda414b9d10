// A network device of the tests' own: what is sent on a pair is received on it, commands are noted and answered.

import { VIRTIO_F } from '../../lib/abi/virtio.ts'
import { VIRTIO_NET_F } from '../../lib/abi/virtio-net.ts'
import { VIRTIO_NET_OK } from '../../lib/abi/virtio-net-control.ts'
import type { GuestMemory } from '../../lib/memory/index.ts'
import {
  type DescriptorChain,
  featureSet,
  type QueueService,
  SplitRing,
  VirtioDevice,
  type VirtioDeviceOptions,
  type Virtqueue,
} from '../../lib/virtio/index.ts'

/** What the rings can do, what configuration space has, and all commands of the driver. */
export const TEST_NIC_FEATURES = featureSet(
  VIRTIO_F.VIRTIO_RING_F_EVENT_IDX,
  VIRTIO_F.VIRTIO_RING_F_INDIRECT_DESC,
  VIRTIO_NET_F.VIRTIO_NET_F_MRG_RXBUF,
  VIRTIO_NET_F.VIRTIO_NET_F_CSUM,
  VIRTIO_NET_F.VIRTIO_NET_F_GUEST_CSUM,
  VIRTIO_NET_F.VIRTIO_NET_F_GUEST_TSO4,
  VIRTIO_NET_F.VIRTIO_NET_F_MAC,
  VIRTIO_NET_F.VIRTIO_NET_F_STATUS,
  VIRTIO_NET_F.VIRTIO_NET_F_MTU,
  VIRTIO_NET_F.VIRTIO_NET_F_SPEED_DUPLEX,
  VIRTIO_NET_F.VIRTIO_NET_F_CTRL_VQ,
  VIRTIO_NET_F.VIRTIO_NET_F_CTRL_RX,
  VIRTIO_NET_F.VIRTIO_NET_F_CTRL_RX_EXTRA,
  VIRTIO_NET_F.VIRTIO_NET_F_CTRL_MAC_ADDR,
  VIRTIO_NET_F.VIRTIO_NET_F_CTRL_GUEST_OFFLOADS,
  VIRTIO_NET_F.VIRTIO_NET_F_GUEST_ANNOUNCE,
  VIRTIO_NET_F.VIRTIO_NET_F_MQ,
)

/** Its features but for these. */
export const withoutFeatures = (...bits: readonly number[]): bigint => TEST_NIC_FEATURES & ~featureSet(...bits)

/** Link up, 3 pairs, MTU 1500, 10 Gbit/s, full duplex. */
export const TEST_NIC_CONFIG = Uint8Array.of(0x52, 0x54, 0, 1, 2, 3, 1, 0, 3, 0, 0xdc, 5, 0x10, 0x27, 0, 0, 1)

export class VirtioNic extends VirtioDevice {
  /** Commands in the order in which they came, each in one piece. */
  readonly commands: number[][] = []
  /** Frames that were sent on each transmit queue, by index of that. */
  readonly sent = new Map<number, number>()
  /** What the next commands are answered with; later ones with VIRTIO_NET_OK. */
  readonly answers: number[] = []
  /** Called before a command is answered. */
  onCommand: ((command: readonly number[]) => void) | undefined
  /** Called with each control buffer before it is read. */
  onControl: ((chain: DescriptorChain) => void) | undefined
  readonly #services = new Map<Virtqueue, QueueService>()
  readonly #receivers = new Map<Virtqueue, SplitRing>()

  /** Three pairs, then the control queue. */
  constructor(memory: GuestMemory, options: Partial<VirtioDeviceOptions> = {}) {
    super({
      deviceId: 1,
      memory,
      features: TEST_NIC_FEATURES,
      names: VIRTIO_NET_F,
      queueSizes: [16, 16, 16, 16, 16, 16, 8],
      config: TEST_NIC_CONFIG,
      ...options,
    })
  }

  protected override activate(): void {
    this.sent.clear()
  }

  protected override deactivate(): void {
    // There is nothing that goes on without queues.
  }

  protected override startQueue(queue: Virtqueue): void {
    const control = this.negotiated(VIRTIO_NET_F.VIRTIO_NET_F_MQ) ? 6 : 2
    if (queue.index === control)
      this.#services.set(
        queue,
        this.serveQueue(queue, (chain) => this.#answer(chain)),
      )
    else if (queue.index % 2 === 1)
      this.#services.set(
        queue,
        this.serveQueue(queue, (chain) => this.#turnBack(queue, chain)),
      )
    else this.#receivers.set(queue, this.#receiver(queue))
  }

  #receiver({ vring }: Virtqueue): SplitRing {
    return new SplitRing(this.memory, vring!, {
      indirect: this.negotiated(VIRTIO_F.VIRTIO_RING_F_INDIRECT_DESC),
      eventIdx: this.negotiated(VIRTIO_F.VIRTIO_RING_F_EVENT_IDX),
    })
  }

  protected override stopQueue(queue: Virtqueue): void {
    this.#services.get(queue)?.stop()
    this.#services.delete(queue)
    this.#receivers.delete(queue)
  }

  #answer(chain: DescriptorChain): void {
    this.onControl?.(chain)
    const command = [...chain.read(chain.readable)]
    this.commands.push(command)
    this.onCommand?.(command)
    chain.write(Uint8Array.of(this.answers.shift() ?? VIRTIO_NET_OK))
  }

  #turnBack(queue: Virtqueue, sent: DescriptorChain): void {
    this.sent.set(queue.index, (this.sent.get(queue.index) ?? 0) + 1)
    const receiver = this.queues[queue.index - 1]!
    const ring = this.#receivers.get(receiver)
    const buffer = ring?.take()
    if (ring === undefined || buffer === undefined) return
    const packet = sent.read(sent.readable)
    // One buffer was taken.
    packet[10] = 1
    buffer.write(packet)
    ring.giveBack(buffer)
    if (ring.interruptWanted()) receiver.call.signal()
  }
}
