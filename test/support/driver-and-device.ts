// A driver on memory of its own, and a device in TypeScript at the other end of each of its rings.

import { VIRTIO_F } from '../../lib/abi/virtio.ts'
import { VIRTIO_NET_F } from '../../lib/abi/virtio-net.ts'
import { Driver, type DriverOptions, type RxQueue, type TxQueue } from '../../lib/driver/index.ts'
import { GuestMemory } from '../../lib/memory/index.ts'
import { RingDevice } from './ring-device.ts'

export interface DriverAndDevice {
  driver: Driver
  rx: RxQueue
  tx: TxQueue
  rxDevice: RingDevice
  txDevice: RingDevice
  [Symbol.dispose](): void
}

const FEATURES = [
  VIRTIO_F.VIRTIO_F_VERSION_1,
  VIRTIO_F.VIRTIO_RING_F_EVENT_IDX,
  VIRTIO_NET_F.VIRTIO_NET_F_MRG_RXBUF,
].reduce((features, bit) => features | (1n << BigInt(bit)), 0n)

/** One pair with VERSION_1, EVENT_IDX and MRG_RXBUF, unless told otherwise. */
export function openDriverAndDevice(options: Omit<Partial<DriverOptions>, 'memory'> = {}): DriverAndDevice {
  const layout = { features: FEATURES, queueSize: 8, bufferSize: 256, ...options }
  const memory = GuestMemory.allocate({ size: Driver.memoryNeeded(layout), backing: 'anonymous' })
  const driver = Driver.create({ ...layout, memory })
  const { rx, tx } = driver.pairs[0]!
  return {
    driver,
    rx,
    tx,
    rxDevice: new RingDevice(memory, rx.layout),
    txDevice: new RingDevice(memory, tx.layout),
    [Symbol.dispose]() {
      driver.destroy()
      memory.close()
    },
  }
}
