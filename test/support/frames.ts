// Ethernet frames whose every byte follows from who sent them as which of how many: built by the sender, checked by the
// receiver.

import assert from 'node:assert/strict'
import { VIRTIO_NET_HDR, VIRTIO_NET_HDR_F, VIRTIO_NET_HDR_GSO, VIRTIO_NET_HDR_SIZE } from '../../lib/abi/virtio-net.ts'

/** `raw`: local experimental ethertype 0x88b5. `udp`: UDP over IPv4. `tcp-gso`: a TCPv4 segment for others to cut. */
export const FRAME_KINDS = ['raw', 'udp', 'tcp-gso'] as const

export type FrameKind = (typeof FRAME_KINDS)[number]

/** What the frames of one flow have in common. */
export interface FlowFrame {
  kind: FrameKind
  /** Which of the two NICs sends them, 0 or 1. */
  source: number
  /** The queue pair they are sent on; it picks the ports, so that a pair is a flow. */
  pair: number
  /** Bytes from the Ethernet header to the end. */
  size: number
}

const ETHERNET_SIZE = 14
const IPV4_SIZE = 20
const UDP_SIZE = 8
const TCP_SIZE = 20

/** Bytes in front of the payload. */
const HEADER_SIZES: Record<FrameKind, number> = {
  raw: ETHERNET_SIZE,
  udp: ETHERNET_SIZE + IPV4_SIZE + UDP_SIZE,
  'tcp-gso': ETHERNET_SIZE + IPV4_SIZE + TCP_SIZE,
}

const IPPROTO_TCP = 6
const IPPROTO_UDP = 17

/** The payload begins with u16 magic, u8 source, u8 pair, u32 sequence, u32 size. */
const MAGIC = 0x564e
const IDENTITY_SIZE = 12

/** Payload bytes of each TCP segment that a GSO frame stands for: what MTU 1500 leaves, with timestamps. */
export const GSO_SIZE = 1448

// Pseudo-random bytes that do not repeat; a payload is a run of them that begins where its identity says.
const patternStarts = 8191
const pattern = Buffer.alloc(patternStarts + 65536)
for (let at = 0, state = 0x2545f491; at < pattern.length; at++) {
  state ^= state << 13
  state ^= state >>> 17
  state ^= state << 5
  pattern[at] = state >>> 24
}

function patternStart(source: number, pair: number, sequence: number): number {
  const seed = Math.imul(sequence + 1, 0x9e3779b1) ^ Math.imul(pair + 1, 0x85ebca6b) ^ Math.imul(source + 1, 0xc2b2ae35)
  return ((seed ^ (seed >>> 15)) >>> 0) % patternStarts
}

/** The one's complement sum of big-endian 16-bit words (RFC 1071), folded, not complemented. */
function checksum(words: Iterable<number>): number {
  let sum = 0
  for (const word of words) sum += word
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16)
  return sum
}

function* wordsOf(bytes: Buffer, from: number, to: number): Generator<number> {
  for (let at = from; at < to; at += 2) yield bytes.readUInt16BE(at)
}

/** Ethernet, and what of IPv4 and UDP or TCP is the same for a whole flow. */
function flowHeader({ kind, source, pair, size }: FlowFrame): Buffer {
  const header = Buffer.alloc(HEADER_SIZES[kind])
  const address = (nic: number): number[] => [2, 0, 0, 0, 0, 0x0a + nic]
  header.set(address(1 - source), 0)
  header.set(address(source), 6)
  header.writeUInt16BE(kind === 'raw' ? 0x88b5 : 0x0800, 12)
  if (kind === 'raw') return header

  const ip = ETHERNET_SIZE
  header[ip] = 0x45
  header.writeUInt16BE(size - ETHERNET_SIZE, ip + 2)
  header[ip + 8] = 64
  header[ip + 9] = kind === 'udp' ? IPPROTO_UDP : IPPROTO_TCP
  header.set([10, 0, 0, 1 + source], ip + 12)
  header.set([10, 0, 0, 2 - source], ip + 16)
  header.writeUInt16BE(0xffff - checksum(wordsOf(header, ip, ip + IPV4_SIZE)), ip + 10)

  // Both directions of a pair are one flow: the ports of one are those of the other, swapped.
  const transport = ip + IPV4_SIZE
  header.writeUInt16BE(40_000 + source * 1000 + pair, transport)
  header.writeUInt16BE(40_000 + (1 - source) * 1000 + pair, transport + 2)
  const length = size - transport
  if (kind === 'udp') {
    // Checksum 0: there is none (RFC 768).
    header.writeUInt16BE(length, transport + 4)
  } else {
    header[transport + 12] = (TCP_SIZE / 4) << 4
    header[transport + 13] = 0x10
    header.writeUInt16BE(0xffff, transport + 14)
    // Who sends it adds the segment to the sum of the pseudo-header (virtio 1.x section 5.1.6.2).
    header.writeUInt16BE(checksum([...wordsOf(header, ip + 12, ip + 20), IPPROTO_TCP, length]), transport + 16)
  }
  return header
}

const headers = new Map<number, Buffer>()

function cachedHeader(frame: FlowFrame): Buffer {
  const { kind, source, pair, size } = frame
  const key = ((FRAME_KINDS.indexOf(kind) * 2 + source) * 256 + pair) * 2 ** 17 + size
  const known = headers.get(key)
  if (known !== undefined) return known
  const made = flowHeader(frame)
  headers.set(key, made)
  return made
}

/** Writes the frame, without virtio header, and returns its size. */
export function writeFrame(target: Buffer, at: number, frame: FlowFrame, sequence: number): number {
  const { kind, source, pair, size } = frame
  const header = cachedHeader(frame)
  header.copy(target, at)
  let next = at + header.length
  if (kind === 'tcp-gso') target.writeUInt32BE(sequence, next - TCP_SIZE + 4)
  next = target.writeUInt16BE(MAGIC, next)
  next = target.writeUInt8(source, next)
  next = target.writeUInt8(pair, next)
  next = target.writeUInt32BE(sequence, next)
  next = target.writeUInt32BE(size, next)
  const start = patternStart(source, pair, sequence)
  pattern.copy(target, next, start, start + at + size - next)
  return size
}

/** Writes the virtio-net header that goes in front of such a frame. */
export function writeVirtioHeader(target: Buffer, at: number, kind: FrameKind): void {
  target.fill(0, at, at + VIRTIO_NET_HDR_SIZE)
  if (kind !== 'tcp-gso') return
  target[at + VIRTIO_NET_HDR.flags] = VIRTIO_NET_HDR_F.VIRTIO_NET_HDR_F_NEEDS_CSUM
  target[at + VIRTIO_NET_HDR.gso_type] = VIRTIO_NET_HDR_GSO.VIRTIO_NET_HDR_GSO_TCPV4
  target.writeUInt16LE(HEADER_SIZES['tcp-gso'], at + VIRTIO_NET_HDR.hdr_len)
  target.writeUInt16LE(GSO_SIZE, at + VIRTIO_NET_HDR.gso_size)
  target.writeUInt16LE(ETHERNET_SIZE + IPV4_SIZE, at + VIRTIO_NET_HDR.csum_start)
  target.writeUInt16LE(16, at + VIRTIO_NET_HDR.csum_offset)
}

export interface ReceivedFrame extends FlowFrame {
  sequence: number
}

const expected = Buffer.alloc(65536)

/**
 * Says which frame this is, after checking every byte of it and of the virtio header in front.
 * @param packet the virtio header and the frame, in one piece.
 */
export function checkFrame(packet: Buffer): ReceivedFrame {
  const frame = packet.subarray(VIRTIO_NET_HDR_SIZE)
  const identified = identify(frame)
  assert.ok(
    identified,
    `a frame that nobody here sent: ${frame.subarray(0, 64).toString('hex')}, ${frame.length} bytes`,
  )
  writeFrame(expected, 0, identified, identified.sequence)
  if (frame.compare(expected, 0, identified.size) !== 0) {
    const at = frame.findIndex((byte, index) => byte !== expected[index] || index >= identified.size)
    const { kind, source, pair, sequence, size } = identified
    assert.fail(
      `frame ${sequence} of pair ${pair} of NIC ${source} (${kind}, ${size} bytes sent, ${frame.length} received) ` +
        `differs from what was sent at byte ${at}`,
    )
  }
  checkVirtioHeader(packet, identified.kind)
  return identified
}

function identify(frame: Buffer): ReceivedFrame | undefined {
  if (frame.length < ETHERNET_SIZE + IPV4_SIZE) return undefined
  const kind = kindOf(frame)
  if (kind === undefined) return undefined
  const at = HEADER_SIZES[kind]
  if (frame.length < at + IDENTITY_SIZE || frame.readUInt16BE(at) !== MAGIC) return undefined
  const source = frame.readUInt8(at + 2)
  const size = frame.readUInt32BE(at + 8)
  if (source > 1 || size > expected.length) return undefined
  return { kind, source, pair: frame.readUInt8(at + 3), sequence: frame.readUInt32BE(at + 4), size }
}

function kindOf(frame: Buffer): FrameKind | undefined {
  const ethertype = frame.readUInt16BE(12)
  if (ethertype === 0x88b5) return 'raw'
  if (ethertype !== 0x0800) return undefined
  const protocol = frame.readUInt8(ETHERNET_SIZE + 9)
  if (protocol === IPPROTO_UDP) return 'udp'
  return protocol === IPPROTO_TCP ? 'tcp-gso' : undefined
}

function checkVirtioHeader(packet: Buffer, kind: FrameKind): void {
  const { flags, gso_type, hdr_len, gso_size, csum_start, csum_offset } = VIRTIO_NET_HDR
  const header = {
    flags: packet.readUInt8(flags),
    gso_type: packet.readUInt8(gso_type),
    gso_size: packet.readUInt16LE(gso_size),
    csum_start: packet.readUInt16LE(csum_start),
    csum_offset: packet.readUInt16LE(csum_offset),
  }
  if (kind === 'tcp-gso') {
    assert.deepEqual(header, {
      flags: VIRTIO_NET_HDR_F.VIRTIO_NET_HDR_F_NEEDS_CSUM,
      gso_type: VIRTIO_NET_HDR_GSO.VIRTIO_NET_HDR_GSO_TCPV4,
      gso_size: GSO_SIZE,
      csum_start: ETHERNET_SIZE + IPV4_SIZE,
      csum_offset: 16,
    })
    // The kernel says how much of the frame it has in one piece (virtio_net_hdr_from_skb): the headers at least.
    assert.ok(packet.readUInt16LE(hdr_len) >= HEADER_SIZES['tcp-gso'])
  } else {
    assert.deepEqual(header, { flags: 0, gso_type: 0, gso_size: 0, csum_start: 0, csum_offset: 0 })
  }
}
