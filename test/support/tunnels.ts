// A large packet inside a VXLAN datagram, and the header that leaves it to the device to cut it (virtio, section 5.1.6.2).

import { VIRTIO_NET_HDR_F, VIRTIO_NET_HDR_GSO } from '../../lib/abi/virtio-net.ts'
import { NetHeader } from '../../lib/driver/index.ts'
import { type Built, build, internetChecksum, type Packet } from './packets.ts'
import type { VnetHdr } from './vnet-hdr.ts'

const { VIRTIO_NET_HDR_F_UDP_TUNNEL_CSUM } = VIRTIO_NET_HDR_F
const { VIRTIO_NET_HDR_GSO_UDP_TUNNEL_IPV4, VIRTIO_NET_HDR_GSO_UDP_TUNNEL_IPV6 } = VIRTIO_NET_HDR_GSO
const VXLAN_PORT = 4789
const VXLAN_HEADER = Buffer.from([8, 0, 0, 0, 0, 0, 7, 0])

/** What of the frame a header speaks of; `outer` is the datagram. */
export interface Tunnel {
  frame: Buffer
  header: Partial<VnetHdr>
  outer: Built
  /** Its offsets count from the inner frame. */
  inner: Built
  /** Where the inner frame begins. */
  at: number
}

/**
 * @param inner what is inside.
 * @param options.ipv6 the datagram goes over IPv6.
 * @param options.outerChecksum its checksum, too, is left to the device; default: it has none.
 */
export function tunnel(inner: Packet, gsoSize: number, { ipv6 = false, outerChecksum = false } = {}): Tunnel {
  const built = build(inner)
  const asked = new NetHeader().offloadSegmentation(gsoSize, built.frame)
  const payload = Buffer.concat([VXLAN_HEADER, built.frame])
  const outer = build({ protocol: 'udp', destinationPort: VXLAN_PORT, payload, ipv6 })
  const { frame } = outer
  const at = outer.payload + VXLAN_HEADER.length
  frame.writeUInt16BE(outerChecksum ? pseudoHeaderSum(frame, outer) : 0, outer.checksum)
  return {
    ...{ frame, outer, inner: built, at },
    header: {
      flags: asked.flags | (outerChecksum ? VIRTIO_NET_HDR_F_UDP_TUNNEL_CSUM : 0),
      gso_type: asked.gso_type | (ipv6 ? VIRTIO_NET_HDR_GSO_UDP_TUNNEL_IPV6 : VIRTIO_NET_HDR_GSO_UDP_TUNNEL_IPV4),
      hdr_len: at + built.payload,
      gso_size: gsoSize,
      csum_start: at + built.transport,
      csum_offset: asked.csum_offset,
      outer_th_offset: outer.transport,
      inner_nh_offset: at + built.network,
    },
  }
}

/** What is in the place of a UDP checksum that is still to be made. */
function pseudoHeaderSum(frame: Buffer, { network, transport }: Built): number {
  const ipv6 = frame.readUInt16BE(network - 2) === 0x86dd
  const addresses = ipv6 ? frame.subarray(network + 8, network + 40) : frame.subarray(network + 12, network + 20)
  const rest = Buffer.alloc(8)
  rest.writeUInt32BE(frame.length - transport)
  rest[7] = 17
  return ~internetChecksum(addresses, rest) & 0xffff
}
