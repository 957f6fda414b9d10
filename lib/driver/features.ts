// The feature bits that the driver in this process keeps to.

import { VIRTIO_F } from '../abi/virtio.ts'
import { VIRTIO_NET_F } from '../abi/virtio-net.ts'
import { featureSet } from '../virtio/features.ts'

/**
 * Bits that change how the driver's rings and headers are, or ask nothing of them. Not among them: RING_PACKED and
 * IN_ORDER; HASH_REPORT and UDP_TUNNEL_GSO, which make the header longer; what takes a control queue.
 */
export const DRIVER_FEATURES = featureSet(
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
  VIRTIO_NET_F.VIRTIO_NET_F_GUEST_CSUM,
  VIRTIO_NET_F.VIRTIO_NET_F_GUEST_TSO4,
  VIRTIO_NET_F.VIRTIO_NET_F_GUEST_TSO6,
  VIRTIO_NET_F.VIRTIO_NET_F_GUEST_ECN,
  VIRTIO_NET_F.VIRTIO_NET_F_GUEST_UFO,
  VIRTIO_NET_F.VIRTIO_NET_F_GUEST_USO4,
  VIRTIO_NET_F.VIRTIO_NET_F_GUEST_USO6,
)
