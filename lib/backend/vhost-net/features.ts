// Which virtio feature bits vhost-net and a tap serve, and what they mean to each.

import { TUN_F } from '../../abi/tun.ts'
import { VHOST_F } from '../../abi/vhost.ts'
import { VIRTIO_F } from '../../abi/virtio.ts'
import { VIRTIO_NET_F } from '../../abi/virtio-net.ts'
import { FeatureNegotiationError } from '../../errors.ts'

const bit = (number: number): bigint => 1n << BigInt(number)

/** `'VIRTIO_F_VERSION_1 (32)'` by bit number. */
const names = new Map<number, string>(
  Object.entries({ ...VIRTIO_F, ...VIRTIO_NET_F }).map(([name, number]) => [number, `${name} (${number})`]),
)

/**
 * Bits in VHOST_GET_FEATURES that a guest must never reach: 24 is of legacy devices only; 26 is our dirty log; 27 means "vhost adds the header", not
 * ANY_LAYOUT; 33 puts an IOTLB in front of memory, without which SET_BACKEND answers EFAULT (drivers/vhost/net.c).
 */
const NOT_FOR_GUESTS =
  bit(VIRTIO_F.VIRTIO_F_NOTIFY_ON_EMPTY) |
  bit(VHOST_F.VHOST_F_LOG_ALL) |
  bit(VHOST_F.VHOST_NET_F_VIRTIO_NET_HDR) |
  bit(VIRTIO_F.VIRTIO_F_ACCESS_PLATFORM)

/** What the driver may send needs nothing but IFF_VNET_HDR. */
const HOST_OFFLOADS =
  bit(VIRTIO_NET_F.VIRTIO_NET_F_CSUM) |
  bit(VIRTIO_NET_F.VIRTIO_NET_F_HOST_TSO4) |
  bit(VIRTIO_NET_F.VIRTIO_NET_F_HOST_TSO6) |
  bit(VIRTIO_NET_F.VIRTIO_NET_F_HOST_ECN)

/** What the driver may be sent, and what allows the tap to do so. */
const GUEST_OFFLOADS: readonly (readonly [feature: number, offload: number])[] = [
  [VIRTIO_NET_F.VIRTIO_NET_F_GUEST_CSUM, TUN_F.TUN_F_CSUM],
  [VIRTIO_NET_F.VIRTIO_NET_F_GUEST_TSO4, TUN_F.TUN_F_TSO4],
  [VIRTIO_NET_F.VIRTIO_NET_F_GUEST_TSO6, TUN_F.TUN_F_TSO6],
  [VIRTIO_NET_F.VIRTIO_NET_F_GUEST_ECN, TUN_F.TUN_F_TSO_ECN],
]

/** The bits that a vhost-net with these features and a tap serve together. */
export function servedFeatures(vhost: bigint): bigint {
  const guest = GUEST_OFFLOADS.reduce((bits, [feature]) => bits | bit(feature), 0n)
  return (vhost & ~NOT_FOR_GUESTS) | HOST_OFFLOADS | guest
}

/** The part of the agreed bits that VHOST_SET_FEATURES takes. */
export function vhostFeatures(agreed: bigint, vhost: bigint): bigint {
  return agreed & vhost & ~NOT_FOR_GUESTS
}

/** The TUN_F_* that the agreed bits allow. */
export function tapOffload(agreed: bigint): number {
  return GUEST_OFFLOADS.reduce((flags, [feature, offload]) => flags | (agreed & bit(feature) ? offload : 0), 0)
}

/**
 * Checks that the agreed bits can be served.
 * @throws {FeatureNegotiationError} `ERR_FEATURE_MISSING`
 */
export function checkFeatures(agreed: bigint, served: bigint): void {
  const missing = agreed & ~served
  const context = { features: `0x${agreed.toString(16)}` }
  if (missing !== 0n) {
    throw new FeatureNegotiationError('ERR_FEATURE_MISSING', `vhost-net does not serve ${featureNames(missing)}`, {
      hint: "Agree only on bits of the backend's `features`.",
      context,
    })
  }
  if ((agreed & bit(VIRTIO_F.VIRTIO_F_VERSION_1)) === 0n) {
    throw new FeatureNegotiationError('ERR_FEATURE_MISSING', 'the driver did not accept VIRTIO_F_VERSION_1 (32)', {
      hint: 'Legacy devices are not supported.',
      context,
    })
  }
}

/** `'VIRTIO_NET_F_MRG_RXBUF (15), VIRTIO_F_VERSION_1 (32)'` */
export function featureNames(features: bigint): string {
  const list: string[] = []
  for (let number = 0, rest = features; rest !== 0n; number++, rest >>= 1n) {
    if (rest & 1n) list.push(names.get(number) ?? `bit ${number}`)
  }
  return list.join(', ')
}
