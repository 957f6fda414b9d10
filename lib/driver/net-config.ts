// The configuration space of a network device as its driver reads it (virtio 1.x section 5.1.4).

import { VIRTIO_NET_F } from '../abi/virtio-net.ts'
import {
  DUPLEX,
  SPEED_MAX,
  VIRTIO_NET_CONFIG,
  VIRTIO_NET_CTRL_MQ_VQ_PAIRS_MAX,
  VIRTIO_NET_S,
} from '../abi/virtio-net-control.ts'
import { formatMac } from '../address.ts'
import { DeviceError } from '../errors.ts'
import { hasFeature } from '../virtio/features.ts'
import type { ProbedDevice } from './probed-device.ts'

/** What the device says of itself; undefined where it does not say, or does not know. */
export interface NetConfig {
  readonly mac: string | undefined
  /** Up, too, where the device says nothing of its link. */
  readonly linkUp: boolean
  /** Whether the driver is to tell its peers where it is now. */
  readonly announce: boolean
  /** Queue pairs at most. */
  readonly maxQueuePairs: number
  /** Bytes of the largest packet, without Ethernet header. */
  readonly mtu: number | undefined
  /** Mbit/s. */
  readonly speed: number | undefined
  readonly duplex: 'half' | 'full' | undefined
}

/**
 * Reads the fields that belong to these features, as they are at one moment.
 * @param features of those offered: a field is there whether or not its feature is accepted.
 * @throws {DeviceError} `ERR_DEVICE_BROKEN`
 */
export function readNetConfig(device: ProbedDevice, features: bigint): NetConfig {
  const field = (feature: keyof typeof VIRTIO_NET_F, name: keyof typeof VIRTIO_NET_CONFIG, width: 1 | 2 | 4) =>
    hasFeature(features, VIRTIO_NET_F[feature]) ? device.readConfig(VIRTIO_NET_CONFIG[name], width) : undefined
  return device.consistently(() => {
    const status = field('VIRTIO_NET_F_STATUS', 'status', 2) ?? VIRTIO_NET_S.VIRTIO_NET_S_LINK_UP
    const speed = field('VIRTIO_NET_F_SPEED_DUPLEX', 'speed', 4)
    return {
      mac: hasFeature(features, VIRTIO_NET_F.VIRTIO_NET_F_MAC) ? readMac(device) : undefined,
      linkUp: (status & VIRTIO_NET_S.VIRTIO_NET_S_LINK_UP) !== 0,
      announce: (status & VIRTIO_NET_S.VIRTIO_NET_S_ANNOUNCE) !== 0,
      maxQueuePairs: checkPairs(field('VIRTIO_NET_F_MQ', 'max_virtqueue_pairs', 2) ?? 1),
      mtu: field('VIRTIO_NET_F_MTU', 'mtu', 2),
      speed: speed !== undefined && speed <= SPEED_MAX ? speed : undefined,
      duplex: duplexOf(field('VIRTIO_NET_F_SPEED_DUPLEX', 'duplex', 1)),
    }
  })
}

function readMac(device: ProbedDevice): string {
  return formatMac(Uint8Array.from({ length: 6 }, (_, i) => device.readConfig(VIRTIO_NET_CONFIG.mac + i, 1)))
}

function duplexOf(value: number | undefined): 'half' | 'full' | undefined {
  if (value === DUPLEX.DUPLEX_HALF) return 'half'
  return value === DUPLEX.DUPLEX_FULL ? 'full' : undefined
}

function checkPairs(pairs: number): number {
  if (pairs >= 1 && pairs <= VIRTIO_NET_CTRL_MQ_VQ_PAIRS_MAX) return pairs
  throw new DeviceError('ERR_DEVICE_BROKEN', `the device says that it has ${pairs} queue pairs`)
}
