// Guest offloads: as feature bits, and as the mask that GUEST_OFFLOADS_SET has (virtio 1.x section 5.1.6.5.6).

import { VIRTIO_NET_F } from '../abi/virtio-net.ts'
import { VIRTIO_NET_OFFLOAD } from '../abi/virtio-net-control.ts'
import { featureBits, featureSet } from '../virtio/index.ts'

const F = VIRTIO_NET_F

/** Feature bit by place in the mask: the same number, but where that is beyond the mask. */
const FEATURE_OF: ReadonlyMap<number, number> = new Map<number, number>([
  [F.VIRTIO_NET_F_GUEST_CSUM, F.VIRTIO_NET_F_GUEST_CSUM],
  [F.VIRTIO_NET_F_GUEST_TSO4, F.VIRTIO_NET_F_GUEST_TSO4],
  [F.VIRTIO_NET_F_GUEST_TSO6, F.VIRTIO_NET_F_GUEST_TSO6],
  [F.VIRTIO_NET_F_GUEST_ECN, F.VIRTIO_NET_F_GUEST_ECN],
  [F.VIRTIO_NET_F_GUEST_UFO, F.VIRTIO_NET_F_GUEST_UFO],
  [F.VIRTIO_NET_F_GUEST_USO4, F.VIRTIO_NET_F_GUEST_USO4],
  [F.VIRTIO_NET_F_GUEST_USO6, F.VIRTIO_NET_F_GUEST_USO6],
  [VIRTIO_NET_OFFLOAD.GUEST_UDP_TUNNEL_GSO, F.VIRTIO_NET_F_GUEST_UDP_TUNNEL_GSO],
  [VIRTIO_NET_OFFLOAD.GUEST_UDP_TUNNEL_GSO_CSUM, F.VIRTIO_NET_F_GUEST_UDP_TUNNEL_GSO_CSUM],
])

/** The feature bits that are guest offloads. */
export const GUEST_OFFLOADS = featureSet(...FEATURE_OF.values())

/** The feature bits that a mask means; undefined where it has a bit that means none. */
export function offloadsOf(mask: bigint): bigint | undefined {
  const features = featureBits(mask).map((place) => FEATURE_OF.get(place))
  if (!features.every((feature) => feature !== undefined)) return undefined
  return featureSet(...features)
}
