// What a virtio-net header must not say of a frame to be sent. The kernel drops some of it; on some vhost-net's worker
// spins at 100 % of a CPU (vhost_net_build_xdp puts the chain back and polls again).

import { VIRTIO_NET_F, VIRTIO_NET_HDR_F, VIRTIO_NET_HDR_GSO } from '../abi/virtio-net.ts'
import { type ErrorCode, NetHeaderError } from '../errors.ts'
import { hasFeature } from '../virtio/features.ts'
import { checkGsoSize, type NetHeader } from './net-header.ts'
import { IPPROTO_TCP, IPPROTO_UDP, TransportHeader } from './transport-header.ts'

const FIELDS = ['hdr_len', 'gso_size', 'csum_start', 'csum_offset', 'num_buffers'] as const

interface GsoKind {
  name: string
  feature: keyof typeof VIRTIO_NET_F
  protocol: number
  /** Undefined: of either. */
  ipv6?: boolean
}

const GSO_KINDS: ReadonlyMap<number, GsoKind> = new Map([
  [
    VIRTIO_NET_HDR_GSO.VIRTIO_NET_HDR_GSO_TCPV4,
    { name: 'TCPV4', feature: 'VIRTIO_NET_F_HOST_TSO4', protocol: IPPROTO_TCP, ipv6: false },
  ],
  [
    VIRTIO_NET_HDR_GSO.VIRTIO_NET_HDR_GSO_TCPV6,
    { name: 'TCPV6', feature: 'VIRTIO_NET_F_HOST_TSO6', protocol: IPPROTO_TCP, ipv6: true },
  ],
  [VIRTIO_NET_HDR_GSO.VIRTIO_NET_HDR_GSO_UDP, { name: 'UDP', feature: 'VIRTIO_NET_F_HOST_UFO', protocol: IPPROTO_UDP }],
  [
    VIRTIO_NET_HDR_GSO.VIRTIO_NET_HDR_GSO_UDP_L4,
    { name: 'UDP_L4', feature: 'VIRTIO_NET_F_HOST_USO', protocol: IPPROTO_UDP },
  ],
])

const transport = new TransportHeader()

/**
 * Checks a header against the features agreed on and against the frame that it is to go in front of; a header without
 * any request is always in order. `FramePort` does this by itself; who sends bursts may.
 * @param at first byte of the frame in `bytes`; default 0. @param length bytes of the frame; default all that follows.
 * @throws {NetHeaderError} `ERR_HEADER_FEATURE`, `ERR_HEADER_FRAME`
 * @see virtio 1.x section 5.1.6.2.1; include/linux/virtio_net.h __virtio_net_hdr_to_skb
 */
export function checkSendHeader(
  header: NetHeader,
  features: bigint,
  bytes: Uint8Array,
  at = 0,
  length = bytes.length - at,
): void {
  checkFields(header)
  const { flags, gso_type, hdr_len, gso_size, csum_start, csum_offset } = header
  const unknown = flags & ~VIRTIO_NET_HDR_F.VIRTIO_NET_HDR_F_NEEDS_CSUM
  if (unknown !== 0) refuse('ERR_HEADER_FRAME', `flags has 0x${unknown.toString(16)}, which is not for sending`)
  if (hdr_len > length) refuse('ERR_HEADER_FRAME', `hdr_len is ${hdr_len}, the frame has ${length} bytes`)
  if (header.needsCsum) {
    demand(features, 'VIRTIO_NET_F_CSUM', 'NEEDS_CSUM')
    if (csum_start + csum_offset + 2 > length) {
      refuse(
        'ERR_HEADER_FRAME',
        `csum_start ${csum_start} + csum_offset ${csum_offset} is beyond the frame of ${length} bytes`,
      )
    }
  }
  if (gso_type !== 0) checkGso(header, features, bytes, at, length)
  else if (gso_size !== 0) refuse('ERR_HEADER_FRAME', `gso_size is ${gso_size}, and there is no gso_type`)
}

function checkFields(header: NetHeader): void {
  for (const field of ['flags', 'gso_type'] as const) checkRange(field, header[field], 0xff)
  for (const field of FIELDS) checkRange(field, header[field], 0xffff)
  if (header.num_buffers !== 0) refuse('ERR_HEADER_FRAME', `num_buffers is ${header.num_buffers}, and must be 0`)
}

function checkRange(field: string, value: number, most: number): void {
  if (Number.isInteger(value) && value >= 0 && value <= most) return
  refuse('ERR_HEADER_FRAME', `${field} must be an integer in 0..${most}, not ${value}`)
}

function gsoKind({ gso, gso_type }: NetHeader): GsoKind {
  return (
    GSO_KINDS.get(gso) ??
    refuse('ERR_HEADER_FRAME', `gso_type 0x${gso_type.toString(16)} is none that this driver knows`)
  )
}

function checkGso(header: NetHeader, features: bigint, bytes: Uint8Array, at: number, length: number): void {
  const kind = gsoKind(header)
  demand(features, kind.feature, `gso_type ${kind.name}`)
  if (!header.needsCsum) refuse('ERR_HEADER_FRAME', `gso_type ${kind.name} without NEEDS_CSUM`)
  checkGsoSize(header.gso_size)
  transport.find(bytes, at, length)
  const { protocol, ipv6, start, checksumOffset, payload, cwr } = transport
  if (protocol !== kind.protocol || (kind.ipv6 !== undefined && kind.ipv6 !== ipv6)) {
    const carried = `${protocol === IPPROTO_TCP ? 'TCP' : 'UDP'} over ${ipv6 ? 'IPv6' : 'IPv4'}`
    refuse('ERR_HEADER_FRAME', `gso_type ${kind.name}, and the frame is ${carried}`)
  }
  if (header.csum_start !== start || header.csum_offset !== checksumOffset) {
    const said = `${header.csum_start} + ${header.csum_offset}`
    refuse('ERR_HEADER_FRAME', `the checksum is said to be at ${said}, and is at ${start} + ${checksumOffset}`)
  }
  if (hasFeature(features, VIRTIO_NET_F.VIRTIO_NET_F_GUEST_HDRLEN) && header.hdr_len !== payload) {
    refuse('ERR_HEADER_FRAME', `hdr_len is ${header.hdr_len}, and GUEST_HDRLEN promises the headers' ${payload} bytes`)
  }
  if (header.hdr_len < payload) {
    refuse('ERR_HEADER_FRAME', `hdr_len is ${header.hdr_len}, the frame's headers have ${payload} bytes`)
  }
  if (header.ecn && protocol !== IPPROTO_TCP) refuse('ERR_HEADER_FRAME', 'gso_type ECN, and the frame is not TCP')
  if (header.ecn || cwr) {
    demand(features, 'VIRTIO_NET_F_HOST_ECN', 'a large TCP segment with CWR')
    if (!header.ecn) refuse('ERR_HEADER_FRAME', 'a large TCP segment with CWR needs gso_type ECN')
  }
}

function demand(features: bigint, name: keyof typeof VIRTIO_NET_F, what: string): void {
  const bit = VIRTIO_NET_F[name]
  if (hasFeature(features, bit)) return
  throw new NetHeaderError('ERR_HEADER_FEATURE', `${what} needs ${name} (${bit}), which was not agreed on`, {
    hint: "Agree on it where the backend's `features` have it, or do without.",
  })
}

function refuse(code: ErrorCode, problem: string): never {
  throw new NetHeaderError(code, problem, {
    hint: 'NetHeader.offloadChecksum() and offloadSegmentation() fill a header in.',
  })
}
