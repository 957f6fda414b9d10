// The virtio-net header as bytes, also the long one with tunnel offsets, for tests that write into it what no driver would.

import { VIRTIO_NET_HDR, VIRTIO_NET_HDR_SIZE, VIRTIO_NET_HDR_TUNNEL } from '../../lib/abi/virtio-net.ts'

const BYTES = ['flags', 'gso_type'] as const
const WORDS = ['hdr_len', 'gso_size', 'csum_start', 'csum_offset', 'num_buffers'] as const
const TUNNEL_WORDS = ['outer_th_offset', 'inner_nh_offset'] as const

/** Its fields; those of tunnels are 0 where the header has none. */
export type VnetHdr = Record<(typeof BYTES | typeof WORDS | typeof TUNNEL_WORDS)[number], number>

/** A header that is 0 but for these fields. */
export const vnetHdr = (fields: Partial<VnetHdr> = {}): VnetHdr => ({
  ...(Object.fromEntries([...BYTES, ...WORDS, ...TUNNEL_WORDS].map((name) => [name, 0])) as VnetHdr),
  ...fields,
})

/** The same in so many bytes. */
export function encodeVnetHdr(fields: Partial<VnetHdr>, size: number): Buffer {
  const bytes = Buffer.alloc(size)
  for (const name of BYTES) bytes.writeUInt8(fields[name] ?? 0, VIRTIO_NET_HDR[name])
  for (const name of WORDS) bytes.writeUInt16LE(fields[name] ?? 0, VIRTIO_NET_HDR[name])
  if (size > VIRTIO_NET_HDR_SIZE) {
    for (const name of TUNNEL_WORDS) bytes.writeUInt16LE(fields[name] ?? 0, VIRTIO_NET_HDR_TUNNEL[name])
  }
  return bytes
}

/** The header of so many bytes in front of `packet`. */
export function decodeVnetHdr(packet: Buffer, size: number): VnetHdr {
  const tunnel = (name: (typeof TUNNEL_WORDS)[number]): number =>
    size > VIRTIO_NET_HDR_SIZE ? packet.readUInt16LE(VIRTIO_NET_HDR_TUNNEL[name]) : 0
  return Object.fromEntries([
    ...BYTES.map((name) => [name, packet.readUInt8(VIRTIO_NET_HDR[name])]),
    ...WORDS.map((name) => [name, packet.readUInt16LE(VIRTIO_NET_HDR[name])]),
    ...TUNNEL_WORDS.map((name) => [name, tunnel(name)]),
  ]) as VnetHdr
}
