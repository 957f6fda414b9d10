// Virtio network device: feature bits and the header in front of each frame (section 5.1; linux/virtio_net.h).

/** Feature bits, by number (section 5.1.3). */
export const VIRTIO_NET_F = {
  VIRTIO_NET_F_CSUM: 0,
  VIRTIO_NET_F_GUEST_CSUM: 1,
  VIRTIO_NET_F_GUEST_TSO4: 7,
  VIRTIO_NET_F_GUEST_TSO6: 8,
  VIRTIO_NET_F_GUEST_ECN: 9,
  VIRTIO_NET_F_GUEST_UFO: 10,
  VIRTIO_NET_F_HOST_TSO4: 11,
  VIRTIO_NET_F_HOST_TSO6: 12,
  VIRTIO_NET_F_HOST_ECN: 13,
  VIRTIO_NET_F_HOST_UFO: 14,
  VIRTIO_NET_F_MRG_RXBUF: 15,
  VIRTIO_NET_F_GUEST_USO4: 54,
  VIRTIO_NET_F_GUEST_USO6: 55,
  VIRTIO_NET_F_HOST_USO: 56,
} as const

/** Those of UDP tunnel offload, with which the header is longer. */
export const VIRTIO_NET_F_TUNNEL = {
  VIRTIO_NET_F_GUEST_UDP_TUNNEL_GSO: 65,
  VIRTIO_NET_F_GUEST_UDP_TUNNEL_GSO_CSUM: 66,
  VIRTIO_NET_F_HOST_UDP_TUNNEL_GSO: 67,
  VIRTIO_NET_F_HOST_UDP_TUNNEL_GSO_CSUM: 68,
} as const

/** `virtio_net_hdr.flags`. */
export const VIRTIO_NET_HDR_F = { VIRTIO_NET_HDR_F_NEEDS_CSUM: 1, VIRTIO_NET_HDR_F_DATA_VALID: 2 } as const

/** `virtio_net_hdr.gso_type`. */
export const VIRTIO_NET_HDR_GSO = {
  VIRTIO_NET_HDR_GSO_NONE: 0,
  VIRTIO_NET_HDR_GSO_TCPV4: 1,
  VIRTIO_NET_HDR_GSO_TCPV6: 4,
} as const

/** Bytes of the header with VERSION_1 or MRG_RXBUF (section 5.1.6). */
export const VIRTIO_NET_HDR_SIZE = 12

/** Bytes of it with UDP tunnel offload of either direction (section 5.1.6; linux/virtio_net.h: virtio_net_hdr_v1_hash_tunnel). */
export const VIRTIO_NET_HDR_TUNNEL_SIZE = 24

/** Offsets in that header: u8 flags, u8 gso_type, le16 hdr_len, gso_size, csum_start, csum_offset, num_buffers. */
export const VIRTIO_NET_HDR = {
  flags: 0,
  gso_type: 1,
  hdr_len: 2,
  gso_size: 4,
  csum_start: 6,
  csum_offset: 8,
  num_buffers: 10,
} as const
