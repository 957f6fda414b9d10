// The feature bits that the driver in this process keeps to.

import { VIRTIO_F } from '../abi/virtio.ts'
import { VIRTIO_NET_F, VIRTIO_NET_F_NEEDS } from '../abi/virtio-net.ts'
import { type FeatureRule, featureSet } from '../virtio/features.ts'

/** What may be received unfinished, which GUEST_OFFLOADS_SET switches by these bits. */
export const GUEST_OFFLOADS = featureSet(
  VIRTIO_NET_F.VIRTIO_NET_F_GUEST_CSUM,
  VIRTIO_NET_F.VIRTIO_NET_F_GUEST_TSO4,
  VIRTIO_NET_F.VIRTIO_NET_F_GUEST_TSO6,
  VIRTIO_NET_F.VIRTIO_NET_F_GUEST_ECN,
  VIRTIO_NET_F.VIRTIO_NET_F_GUEST_UFO,
  VIRTIO_NET_F.VIRTIO_NET_F_GUEST_USO4,
  VIRTIO_NET_F.VIRTIO_NET_F_GUEST_USO6,
)

/**
 * Bits that change how the driver's rings and headers are, or ask nothing of them. Not among them: RING_PACKED and
 * IN_ORDER; HASH_REPORT and UDP_TUNNEL_GSO, which make the header longer; what takes a control queue.
 */
export const DRIVER_FEATURES =
  featureSet(
    VIRTIO_F.VIRTIO_F_VERSION_1,
    VIRTIO_F.VIRTIO_RING_F_INDIRECT_DESC,
    VIRTIO_F.VIRTIO_RING_F_EVENT_IDX,
    VIRTIO_NET_F.VIRTIO_NET_F_MRG_RXBUF,
    VIRTIO_NET_F.VIRTIO_NET_F_CSUM,
    VIRTIO_NET_F.VIRTIO_NET_F_HOST_TSO4,
    VIRTIO_NET_F.VIRTIO_NET_F_HOST_TSO6,
    VIRTIO_NET_F.VIRTIO_NET_F_HOST_ECN,
    VIRTIO_NET_F.VIRTIO_NET_F_HOST_UFO,
    VIRTIO_NET_F.VIRTIO_NET_F_HOST_USO,
    VIRTIO_NET_F.VIRTIO_NET_F_GUEST_HDRLEN,
  ) | GUEST_OFFLOADS

/** What a driver that reaches its device through registers knows: the same, and what is in them or takes commands. */
export const NIC_FEATURES =
  DRIVER_FEATURES |
  featureSet(
    VIRTIO_F.VIRTIO_F_ACCESS_PLATFORM,
    VIRTIO_NET_F.VIRTIO_NET_F_CTRL_GUEST_OFFLOADS,
    VIRTIO_NET_F.VIRTIO_NET_F_MTU,
    VIRTIO_NET_F.VIRTIO_NET_F_MAC,
    VIRTIO_NET_F.VIRTIO_NET_F_STATUS,
    VIRTIO_NET_F.VIRTIO_NET_F_CTRL_VQ,
    VIRTIO_NET_F.VIRTIO_NET_F_CTRL_RX,
    VIRTIO_NET_F.VIRTIO_NET_F_CTRL_RX_EXTRA,
    VIRTIO_NET_F.VIRTIO_NET_F_GUEST_ANNOUNCE,
    VIRTIO_NET_F.VIRTIO_NET_F_MQ,
    VIRTIO_NET_F.VIRTIO_NET_F_CTRL_MAC_ADDR,
    VIRTIO_NET_F.VIRTIO_NET_F_SPEED_DUPLEX,
  )

const F = VIRTIO_NET_F
const needs = (feature: number, ...others: readonly number[]): FeatureRule => ({
  feature,
  needs: others.map((other) => [other]),
})

/**
 * What this driver accepts only together with something else. Besides what the specification says: what is received large
 * fits into its buffers only where several make one, and commands need a queue for them.
 */
export const NIC_RULES: readonly FeatureRule[] = [
  ...VIRTIO_NET_F_NEEDS,
  needs(F.VIRTIO_NET_F_GUEST_TSO4, F.VIRTIO_NET_F_MRG_RXBUF),
  needs(F.VIRTIO_NET_F_GUEST_TSO6, F.VIRTIO_NET_F_MRG_RXBUF),
  needs(F.VIRTIO_NET_F_GUEST_UFO, F.VIRTIO_NET_F_MRG_RXBUF),
  needs(F.VIRTIO_NET_F_GUEST_USO4, F.VIRTIO_NET_F_MRG_RXBUF),
  needs(F.VIRTIO_NET_F_GUEST_USO6, F.VIRTIO_NET_F_MRG_RXBUF),
  needs(F.VIRTIO_NET_F_CTRL_GUEST_OFFLOADS, F.VIRTIO_NET_F_CTRL_VQ),
  needs(F.VIRTIO_NET_F_CTRL_RX_EXTRA, F.VIRTIO_NET_F_CTRL_VQ),
  needs(F.VIRTIO_NET_F_GUEST_ANNOUNCE, F.VIRTIO_NET_F_STATUS),
]
