// Virtio network device: feature bits, configuration, control commands and the header in front of each frame (section 5.1;
// linux/virtio_net.h, linux/virtio_ids.h).

/** Device type (section 5). */
export const VIRTIO_ID_NET = 1

/** Feature bits, by number (section 5.1.3). Those of a legacy device only are left out, but for GSO. */
export const VIRTIO_NET_F = {
  VIRTIO_NET_F_CSUM: 0,
  VIRTIO_NET_F_GUEST_CSUM: 1,
  VIRTIO_NET_F_CTRL_GUEST_OFFLOADS: 2,
  VIRTIO_NET_F_MTU: 3,
  VIRTIO_NET_F_MAC: 5,
  /** Legacy: CSUM and every HOST_* bit at once (section 5.1.3.3). */
  VIRTIO_NET_F_GSO: 6,
  VIRTIO_NET_F_GUEST_TSO4: 7,
  VIRTIO_NET_F_GUEST_TSO6: 8,
  VIRTIO_NET_F_GUEST_ECN: 9,
  VIRTIO_NET_F_GUEST_UFO: 10,
  VIRTIO_NET_F_HOST_TSO4: 11,
  VIRTIO_NET_F_HOST_TSO6: 12,
  VIRTIO_NET_F_HOST_ECN: 13,
  VIRTIO_NET_F_HOST_UFO: 14,
  VIRTIO_NET_F_MRG_RXBUF: 15,
  VIRTIO_NET_F_STATUS: 16,
  VIRTIO_NET_F_CTRL_VQ: 17,
  VIRTIO_NET_F_CTRL_RX: 18,
  VIRTIO_NET_F_CTRL_VLAN: 19,
  VIRTIO_NET_F_CTRL_RX_EXTRA: 20,
  VIRTIO_NET_F_GUEST_ANNOUNCE: 21,
  VIRTIO_NET_F_MQ: 22,
  VIRTIO_NET_F_CTRL_MAC_ADDR: 23,
  VIRTIO_NET_F_DEVICE_STATS: 50,
  VIRTIO_NET_F_HASH_TUNNEL: 51,
  VIRTIO_NET_F_VQ_NOTF_COAL: 52,
  VIRTIO_NET_F_NOTF_COAL: 53,
  VIRTIO_NET_F_GUEST_USO4: 54,
  VIRTIO_NET_F_GUEST_USO6: 55,
  VIRTIO_NET_F_HOST_USO: 56,
  VIRTIO_NET_F_HASH_REPORT: 57,
  VIRTIO_NET_F_GUEST_HDRLEN: 59,
  VIRTIO_NET_F_RSS: 60,
  VIRTIO_NET_F_RSC_EXT: 61,
  VIRTIO_NET_F_STANDBY: 62,
  VIRTIO_NET_F_SPEED_DUPLEX: 63,
  VIRTIO_NET_F_RSS_CONTEXT: 64,
  VIRTIO_NET_F_GUEST_UDP_TUNNEL_GSO: 65,
  VIRTIO_NET_F_GUEST_UDP_TUNNEL_GSO_CSUM: 66,
  VIRTIO_NET_F_HOST_UDP_TUNNEL_GSO: 67,
  VIRTIO_NET_F_HOST_UDP_TUNNEL_GSO_CSUM: 68,
  VIRTIO_NET_F_OUT_NET_HEADER: 69,
  VIRTIO_NET_F_IPSEC: 70,
} as const

/** `virtio_net_hdr.flags` (section 5.1.6). */
export const VIRTIO_NET_HDR_F = {
  /** The checksum at csum_start + csum_offset is still to be made, of all bytes from csum_start on. */
  VIRTIO_NET_HDR_F_NEEDS_CSUM: 1,
  /** Received only: the checksum was looked at and is right. */
  VIRTIO_NET_HDR_F_DATA_VALID: 2,
  /** Received only, with RSC_EXT: csum_start and csum_offset count coalesced segments and duplicate ACKs instead. */
  VIRTIO_NET_HDR_F_RSC_INFO: 4,
  /** With UDP_TUNNEL_GSO_CSUM: the outer UDP checksum is to be made too. */
  VIRTIO_NET_HDR_F_UDP_TUNNEL_CSUM: 8,
} as const

/** `virtio_net_hdr.gso_type`: one type, and the bits ECN and UDP_TUNNEL_* beside it (section 5.1.6). */
export const VIRTIO_NET_HDR_GSO = {
  VIRTIO_NET_HDR_GSO_NONE: 0,
  VIRTIO_NET_HDR_GSO_TCPV4: 1,
  /** UFO: cut into IP fragments. */
  VIRTIO_NET_HDR_GSO_UDP: 3,
  VIRTIO_NET_HDR_GSO_TCPV6: 4,
  /** USO: cut into UDP datagrams. */
  VIRTIO_NET_HDR_GSO_UDP_L4: 5,
  VIRTIO_NET_HDR_GSO_UDP_TUNNEL_IPV4: 0x20,
  VIRTIO_NET_HDR_GSO_UDP_TUNNEL_IPV6: 0x40,
  VIRTIO_NET_HDR_GSO_ECN: 0x80,
} as const

/** Bytes of the header with VERSION_1 or MRG_RXBUF, and neither hash nor tunnel fields (section 5.1.6). */
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

/** Bytes of the header with HASH_REPORT, and with UDP_TUNNEL_GSO in either direction (section 5.1.6). */
export const VIRTIO_NET_HDR_SIZE_HASH = 20
export const VIRTIO_NET_HDR_SIZE_TUNNEL = 24

/** Offsets behind {@link VIRTIO_NET_HDR}: le32 hash_value, le16 hash_report; le16 outer_th_offset, inner_nh_offset. */
export const VIRTIO_NET_HDR_HASH = { hash_value: 12, hash_report: 16 } as const
export const VIRTIO_NET_HDR_TUNNEL = { outer_th_offset: 20, inner_nh_offset: 22 } as const

/**
 * Features that are nothing without others (section 5.1.3.1): a feature must neither be offered nor accepted without one of
 * each of its lists.
 */
export const VIRTIO_NET_F_NEEDS: readonly { feature: number; needs: readonly (readonly number[])[] }[] = [
  { feature: VIRTIO_NET_F.VIRTIO_NET_F_GUEST_TSO4, needs: [[VIRTIO_NET_F.VIRTIO_NET_F_GUEST_CSUM]] },
  { feature: VIRTIO_NET_F.VIRTIO_NET_F_GUEST_TSO6, needs: [[VIRTIO_NET_F.VIRTIO_NET_F_GUEST_CSUM]] },
  {
    feature: VIRTIO_NET_F.VIRTIO_NET_F_GUEST_ECN,
    needs: [[VIRTIO_NET_F.VIRTIO_NET_F_GUEST_TSO4, VIRTIO_NET_F.VIRTIO_NET_F_GUEST_TSO6]],
  },
  { feature: VIRTIO_NET_F.VIRTIO_NET_F_GUEST_UFO, needs: [[VIRTIO_NET_F.VIRTIO_NET_F_GUEST_CSUM]] },
  { feature: VIRTIO_NET_F.VIRTIO_NET_F_GUEST_USO4, needs: [[VIRTIO_NET_F.VIRTIO_NET_F_GUEST_CSUM]] },
  { feature: VIRTIO_NET_F.VIRTIO_NET_F_GUEST_USO6, needs: [[VIRTIO_NET_F.VIRTIO_NET_F_GUEST_CSUM]] },
  {
    feature: VIRTIO_NET_F.VIRTIO_NET_F_GUEST_UDP_TUNNEL_GSO,
    needs: [
      [VIRTIO_NET_F.VIRTIO_NET_F_GUEST_TSO4],
      [VIRTIO_NET_F.VIRTIO_NET_F_GUEST_TSO6],
      [VIRTIO_NET_F.VIRTIO_NET_F_GUEST_USO4],
      [VIRTIO_NET_F.VIRTIO_NET_F_GUEST_USO6],
    ],
  },
  {
    feature: VIRTIO_NET_F.VIRTIO_NET_F_GUEST_UDP_TUNNEL_GSO_CSUM,
    needs: [[VIRTIO_NET_F.VIRTIO_NET_F_GUEST_UDP_TUNNEL_GSO]],
  },
  { feature: VIRTIO_NET_F.VIRTIO_NET_F_HOST_TSO4, needs: [[VIRTIO_NET_F.VIRTIO_NET_F_CSUM]] },
  { feature: VIRTIO_NET_F.VIRTIO_NET_F_HOST_TSO6, needs: [[VIRTIO_NET_F.VIRTIO_NET_F_CSUM]] },
  {
    feature: VIRTIO_NET_F.VIRTIO_NET_F_HOST_ECN,
    needs: [[VIRTIO_NET_F.VIRTIO_NET_F_HOST_TSO4, VIRTIO_NET_F.VIRTIO_NET_F_HOST_TSO6]],
  },
  { feature: VIRTIO_NET_F.VIRTIO_NET_F_HOST_UFO, needs: [[VIRTIO_NET_F.VIRTIO_NET_F_CSUM]] },
  { feature: VIRTIO_NET_F.VIRTIO_NET_F_HOST_USO, needs: [[VIRTIO_NET_F.VIRTIO_NET_F_CSUM]] },
  {
    feature: VIRTIO_NET_F.VIRTIO_NET_F_HOST_UDP_TUNNEL_GSO,
    needs: [
      [VIRTIO_NET_F.VIRTIO_NET_F_HOST_TSO4],
      [VIRTIO_NET_F.VIRTIO_NET_F_HOST_TSO6],
      [VIRTIO_NET_F.VIRTIO_NET_F_HOST_USO],
    ],
  },
  {
    feature: VIRTIO_NET_F.VIRTIO_NET_F_HOST_UDP_TUNNEL_GSO_CSUM,
    needs: [[VIRTIO_NET_F.VIRTIO_NET_F_HOST_UDP_TUNNEL_GSO]],
  },
  { feature: VIRTIO_NET_F.VIRTIO_NET_F_CTRL_RX, needs: [[VIRTIO_NET_F.VIRTIO_NET_F_CTRL_VQ]] },
  { feature: VIRTIO_NET_F.VIRTIO_NET_F_GUEST_ANNOUNCE, needs: [[VIRTIO_NET_F.VIRTIO_NET_F_CTRL_VQ]] },
  { feature: VIRTIO_NET_F.VIRTIO_NET_F_MQ, needs: [[VIRTIO_NET_F.VIRTIO_NET_F_CTRL_VQ]] },
  { feature: VIRTIO_NET_F.VIRTIO_NET_F_CTRL_MAC_ADDR, needs: [[VIRTIO_NET_F.VIRTIO_NET_F_CTRL_VQ]] },
]
