// The virtio-net header in front of each frame: what it asks of the device, and what the device says by it.

import { VIRTIO_NET_HDR, VIRTIO_NET_HDR_F, VIRTIO_NET_HDR_GSO } from '../abi/virtio-net.ts'
import { NetHeaderError } from '../errors.ts'
import { onesComplementSum } from './internet-checksum.ts'
import { IPPROTO_TCP, IPPROTO_UDP, TransportHeader } from './transport-header.ts'

const { VIRTIO_NET_HDR_F_NEEDS_CSUM, VIRTIO_NET_HDR_F_DATA_VALID, VIRTIO_NET_HDR_F_RSC_INFO } = VIRTIO_NET_HDR_F
const {
  VIRTIO_NET_HDR_GSO_NONE,
  VIRTIO_NET_HDR_GSO_TCPV4,
  VIRTIO_NET_HDR_GSO_TCPV6,
  VIRTIO_NET_HDR_GSO_UDP,
  VIRTIO_NET_HDR_GSO_UDP_L4,
  VIRTIO_NET_HDR_GSO_ECN,
} = VIRTIO_NET_HDR_GSO

const transport = new TransportHeader()

function le16(bytes: Uint8Array, at: number): number {
  return (bytes[at] as number) | ((bytes[at + 1] as number) << 8)
}

function setLe16(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value
  bytes[at + 1] = value >> 8
}

function setBe16(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value >> 8
  bytes[at + 1] = value
}

/**
 * A `virtio_net_hdr_v1` of 12 bytes (virtio 1.x section 5.1.6). The fields are the standard's; the methods fill them in
 * and read their meaning. One header may serve for any number of frames, one after the other: no method allocates.
 *
 * Where a method takes a frame it takes `bytes` that it lies in, the offset of its first byte (default 0) and its length
 * (default: all that follows), so that a frame may be worked on where it lies in a pool. It must lie there in one piece.
 */
export class NetHeader {
  /** VIRTIO_NET_HDR_F_*. */
  flags = 0
  /** VIRTIO_NET_HDR_GSO_*. */
  gso_type = 0
  /** Bytes of all headers of a frame to be cut; a hint only in what is received. */
  hdr_len = 0
  /** Bytes of payload in each piece. */
  gso_size = 0
  /** From the first byte of the frame to the first byte that is summed. */
  csum_start = 0
  /** From `csum_start` to the checksum. */
  csum_offset = 0
  /** Buffers that a received frame took; 0 in what is sent. */
  num_buffers = 0

  /** Asks for nothing, says nothing. */
  clear(): this {
    this.flags = 0
    this.gso_type = VIRTIO_NET_HDR_GSO_NONE
    this.hdr_len = 0
    this.gso_size = 0
    this.csum_start = 0
    this.csum_offset = 0
    this.num_buffers = 0
    return this
  }

  /** Takes over all fields of another header. */
  copy(other: NetHeader): this {
    this.flags = other.flags
    this.gso_type = other.gso_type
    this.hdr_len = other.hdr_len
    this.gso_size = other.gso_size
    this.csum_start = other.csum_start
    this.csum_offset = other.csum_offset
    this.num_buffers = other.num_buffers
    return this
  }

  /** Reads the 12 bytes at `at`. */
  read(bytes: Uint8Array, at: number): this {
    this.flags = bytes[at + VIRTIO_NET_HDR.flags] as number
    this.gso_type = bytes[at + VIRTIO_NET_HDR.gso_type] as number
    this.hdr_len = le16(bytes, at + VIRTIO_NET_HDR.hdr_len)
    this.gso_size = le16(bytes, at + VIRTIO_NET_HDR.gso_size)
    this.csum_start = le16(bytes, at + VIRTIO_NET_HDR.csum_start)
    this.csum_offset = le16(bytes, at + VIRTIO_NET_HDR.csum_offset)
    this.num_buffers = le16(bytes, at + VIRTIO_NET_HDR.num_buffers)
    return this
  }

  /** Writes the 12 bytes at `at`. */
  write(bytes: Uint8Array, at: number): void {
    bytes[at + VIRTIO_NET_HDR.flags] = this.flags
    bytes[at + VIRTIO_NET_HDR.gso_type] = this.gso_type
    setLe16(bytes, at + VIRTIO_NET_HDR.hdr_len, this.hdr_len)
    setLe16(bytes, at + VIRTIO_NET_HDR.gso_size, this.gso_size)
    setLe16(bytes, at + VIRTIO_NET_HDR.csum_start, this.csum_start)
    setLe16(bytes, at + VIRTIO_NET_HDR.csum_offset, this.csum_offset)
    setLe16(bytes, at + VIRTIO_NET_HDR.num_buffers, this.num_buffers)
  }

  /** Whether the frame's checksum is still to be made. */
  get needsCsum(): boolean {
    return (this.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) !== 0
  }

  /** Whether the device looked at the frame's checksum and found it right. */
  get dataValid(): boolean {
    return (this.flags & VIRTIO_NET_HDR_F_DATA_VALID) !== 0
  }

  /** What the frame is to be cut into: a VIRTIO_NET_HDR_GSO_* without ECN; 0 where it stays in one piece. */
  get gso(): number {
    return this.gso_type & ~VIRTIO_NET_HDR_GSO_ECN
  }

  /** Whether the TCP segment to be cut has a mark of ECN. */
  get ecn(): boolean {
    return (this.gso_type & VIRTIO_NET_HDR_GSO_ECN) !== 0
  }

  /**
   * Leaves the checksum of a TCP or UDP frame to the device: puts the sum of the pseudo-header into the frame, where the
   * checksum belongs, and fills this header in (section 5.1.6.2.1). The frame's other fields must be right already, an
   * IPv4 header's checksum among them. Needs VIRTIO_NET_F_CSUM.
   * @throws {NetHeaderError} `ERR_HEADER_FRAME` where the device could not; neither frame nor header was changed
   */
  offloadChecksum(bytes: Uint8Array, at = 0, length = bytes.length - at): this {
    transport.find(bytes, at, length)
    // The device sums all that there is, padding included.
    for (let padding = at + transport.end; padding < at + length; padding++) {
      if (bytes[padding] !== 0) refuse('the frame is padded with other than zeros', 'Cut it off, or make it zeros.')
    }
    this.#requestChecksum(bytes, at)
    return this
  }

  /**
   * Leaves it to the device to cut a large TCP segment, or a large UDP datagram into smaller datagrams (TSO, USO), and
   * to make their checksums. The lengths in the frame are those of the whole. Needs VIRTIO_NET_F_HOST_TSO4, HOST_TSO6 or
   * HOST_USO, and HOST_ECN for a segment with the flag CWR.
   * @param gsoSize bytes of payload in each piece, 1..65534: for TCP the maximum segment size.
   * @throws {NetHeaderError} `ERR_HEADER_FRAME` where the device could not; neither frame nor header was changed
   */
  offloadSegmentation(gsoSize: number, bytes: Uint8Array, at = 0, length = bytes.length - at): this {
    transport.find(bytes, at, length)
    this.#requestGso(gsoSize, bytes, at, length)
    if (transport.protocol === IPPROTO_UDP) this.gso_type = VIRTIO_NET_HDR_GSO_UDP_L4
    else {
      this.gso_type = transport.ipv6 ? VIRTIO_NET_HDR_GSO_TCPV6 : VIRTIO_NET_HDR_GSO_TCPV4
      if (transport.cwr) this.gso_type |= VIRTIO_NET_HDR_GSO_ECN
    }
    return this
  }

  /**
   * Leaves it to the device to cut a large UDP datagram into IP fragments (UFO). Needs VIRTIO_NET_F_HOST_UFO.
   * @param gsoSize bytes of IP payload in each fragment, a multiple of 8.
   * @throws {NetHeaderError} `ERR_HEADER_FRAME` where the device could not; neither frame nor header was changed
   */
  offloadFragmentation(gsoSize: number, bytes: Uint8Array, at = 0, length = bytes.length - at): this {
    transport.find(bytes, at, length)
    if (transport.protocol === IPPROTO_TCP) refuse('TCP is cut into segments', 'Use offloadSegmentation().')
    if (gsoSize % 8 !== 0) refuse(`gso_size ${gsoSize} of fragments is no multiple of 8`, 'So IP counts their offsets.')
    this.#requestGso(gsoSize, bytes, at, length)
    this.gso_type = VIRTIO_NET_HDR_GSO_UDP
    return this
  }

  #requestChecksum(bytes: Uint8Array, at: number): void {
    this.clear()
    this.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM
    this.csum_start = transport.start
    this.csum_offset = transport.checksumOffset
    setBe16(bytes, at + this.csum_start + this.csum_offset, transport.pseudoHeaderSum(bytes, at))
  }

  #requestGso(gsoSize: number, bytes: Uint8Array, at: number, length: number): void {
    checkGsoSize(gsoSize)
    if (transport.end !== length) refuse('the frame has bytes behind its IP packet', 'Cut them off.')
    this.#requestChecksum(bytes, at)
    this.hdr_len = transport.payload
    this.gso_size = gsoSize
  }

  /**
   * Makes the checksum that a received frame still lacks, and takes the request for it out of this header; does nothing
   * where `needsCsum` is false, nor with RSC_INFO, which has another meaning for the place of the checksum (section
   * 5.1.6.4.2). For who hands the frame on to something that looks at its checksum.
   * @returns whether there was one to make
   * @throws {NetHeaderError} `ERR_HEADER_FRAME` where the header points outside the frame
   */
  completeChecksum(bytes: Uint8Array, at = 0, length = bytes.length - at): boolean {
    if (!this.needsCsum || (this.flags & VIRTIO_NET_HDR_F_RSC_INFO) !== 0) return false
    const { csum_start, csum_offset } = this
    if (csum_start + csum_offset + 2 > length) {
      refuse(`its checksum is to be at ${csum_start} + ${csum_offset}, of ${length} bytes`, 'Drop the frame.')
    }
    const sum = onesComplementSum(bytes, at + csum_start, at + length)
    // 0 says of UDP that there is no checksum (RFC 768); 0xffff is as right, of TCP too.
    setBe16(bytes, at + csum_start + csum_offset, sum === 0xffff ? 0xffff : 0xffff - sum)
    this.flags &= ~VIRTIO_NET_HDR_F_NEEDS_CSUM
    this.csum_start = 0
    this.csum_offset = 0
    return true
  }
}

/** @throws {NetHeaderError} `ERR_HEADER_FRAME` */
export function checkGsoSize(gsoSize: number): void {
  // 0xffff is GSO_BY_FRAGS of the kernel, which it refuses (__virtio_net_hdr_to_skb).
  if (Number.isInteger(gsoSize) && gsoSize >= 1 && gsoSize <= 0xfffe) return
  refuse(`gso_size must be an integer in 1..65534, not ${gsoSize}`, 'For TCP it is the maximum segment size.')
}

function refuse(problem: string, hint: string): never {
  throw new NetHeaderError('ERR_HEADER_FRAME', problem, { hint })
}
