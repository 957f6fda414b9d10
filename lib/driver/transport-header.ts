// Where the TCP or UDP header of an Ethernet frame is.

import { NetHeaderError } from '../errors.ts'
import { fold, onesComplementSum } from './internet-checksum.ts'

export const IPPROTO_TCP = 6
export const IPPROTO_UDP = 17

const ETHERNET_SIZE = 14
const ETHERTYPE_IPV4 = 0x0800
const ETHERTYPE_IPV6 = 0x86dd
/** IEEE 802.1Q and 802.1ad. */
const ETHERTYPES_VLAN = [0x8100, 0x88a8]

const IPV4_SIZE = 20
const IPV6_SIZE = 40
const UDP_SIZE = 8
const TCP_SIZE = 20
/** Of the congestion window reduced: the bit of byte 13 that the kernel marks segments with ECN by (RFC 3168). */
const TCP_CWR = 0x80

/** IPv6 extension headers, by their protocol numbers (RFC 8200; RFC 4302 of AH). */
const HOP_BY_HOP = 0
const ROUTING = 43
const FRAGMENT = 44
const AUTHENTICATION = 51
const DESTINATION_OPTIONS = 60

const be16 = (bytes: Uint8Array, at: number): number => (bytes[at] as number) * 256 + (bytes[at + 1] as number)

const refuse = (problem: string): never => {
  throw new NetHeaderError('ERR_HEADER_FRAME', `offload: the frame ${problem}`, {
    hint: 'The device can do this for TCP and UDP over IPv4 or IPv6, in one piece. Send it fully checksummed instead.',
  })
}

/** What `find` saw last; all offsets are from the first byte of the frame. To be reused: nothing is allocated per frame. */
export class TransportHeader {
  ipv6 = false
  /** IPPROTO_TCP or IPPROTO_UDP. */
  protocol = 0
  /** First byte of the IP header. */
  network = 0
  /** First byte of the TCP or UDP header. */
  start = 0
  /** First byte behind it. */
  payload = 0
  /** First byte behind the IP packet: what follows is padding. */
  end = 0
  /** Of TCP: whether the segment says that the congestion window was reduced. */
  cwr = false

  /** Where the checksum is, from the first byte of the TCP or UDP header. */
  get checksumOffset(): number {
    return this.protocol === IPPROTO_TCP ? 16 : 6
  }

  /**
   * Looks through VLAN tags, IPv4 options and IPv6 extension headers.
   * @param at first byte of the frame in `bytes`. @param length bytes of the frame.
   * @throws {NetHeaderError} `ERR_HEADER_FRAME` where it is no whole TCP or UDP packet
   */
  find(bytes: Uint8Array, at: number, length: number): this {
    let type = ETHERNET_SIZE - 2
    if (length < ETHERNET_SIZE) refuse('is shorter than an Ethernet header')
    while (ETHERTYPES_VLAN.includes(be16(bytes, at + type))) {
      type += 4
      if (length < type + 2) refuse('ends in a VLAN tag')
    }
    this.network = type + 2
    const ethertype = be16(bytes, at + type)
    if (ethertype === ETHERTYPE_IPV4) this.#ipv4(bytes, at, length)
    else if (ethertype === ETHERTYPE_IPV6) this.#ipv6(bytes, at, length)
    else refuse(`is of ethertype 0x${ethertype.toString(16).padStart(4, '0')}, neither IPv4 nor IPv6`)
    this.#transport(bytes, at)
    return this
  }

  #ipv4(bytes: Uint8Array, at: number, length: number): void {
    const { network } = this
    if (length < network + IPV4_SIZE) refuse('ends in its IPv4 header')
    const header = ((bytes[at + network] as number) & 0x0f) * 4
    this.ipv6 = false
    this.start = network + header
    this.end = network + be16(bytes, at + network + 2)
    this.protocol = bytes[at + network + 9] as number
    if ((bytes[at + network] as number) >> 4 !== 4 || header < IPV4_SIZE) refuse('has a malformed IPv4 header')
    if (this.end > length || this.end < this.start) refuse('is not as long as its IPv4 header says')
    // Offset, or more to come.
    if ((be16(bytes, at + network + 6) & 0x3fff) !== 0) refuse('is an IPv4 fragment')
  }

  #ipv6(bytes: Uint8Array, at: number, length: number): void {
    const { network } = this
    if (length < network + IPV6_SIZE) refuse('ends in its IPv6 header')
    this.ipv6 = true
    this.start = network + IPV6_SIZE
    this.end = this.start + be16(bytes, at + network + 4)
    this.protocol = bytes[at + network + 6] as number
    if ((bytes[at + network] as number) >> 4 !== 6) refuse('has a malformed IPv6 header')
    if (this.end > length) refuse('is not as long as its IPv6 header says')
    while (this.#skipExtension(bytes, at)) {
      if (this.start > this.end) refuse('ends in an IPv6 extension header')
    }
  }

  /** Goes past the extension header at `start`; false where there is none. */
  #skipExtension(bytes: Uint8Array, at: number): boolean {
    const { protocol, start, end } = this
    const known = [HOP_BY_HOP, ROUTING, FRAGMENT, AUTHENTICATION, DESTINATION_OPTIONS]
    if (!known.includes(protocol)) return false
    if (start + 8 > end) refuse('ends in an IPv6 extension header')
    const extension = at + start
    const units = bytes[extension + 1] as number
    // The pseudo-header would need the last of its destinations (RFC 8200 section 8.1).
    if (protocol === ROUTING && bytes[extension + 3] !== 0) refuse('has an IPv6 routing header with segments left')
    if (protocol === FRAGMENT && (be16(bytes, extension + 2) & 0xfff9) !== 0) refuse('is an IPv6 fragment')
    if (protocol === FRAGMENT) this.start += 8
    else this.start += protocol === AUTHENTICATION ? (units + 2) * 4 : (units + 1) * 8
    this.protocol = bytes[extension] as number
    return true
  }

  #transport(bytes: Uint8Array, at: number): void {
    const { protocol, start, end } = this
    if (protocol === IPPROTO_TCP) {
      const header = ((bytes[at + start + 12] as number) >> 4) * 4
      this.payload = start + header
      this.cwr = ((bytes[at + start + 13] as number) & TCP_CWR) !== 0
      if (header < TCP_SIZE || this.payload > end) refuse('has a malformed TCP header')
    } else if (protocol === IPPROTO_UDP) {
      if (start + UDP_SIZE > end) refuse('ends in its UDP header')
      this.payload = start + UDP_SIZE
      this.cwr = false
      if (be16(bytes, at + start + 4) !== end - start) refuse('is not as long as its UDP header says')
    } else {
      refuse(`carries IP protocol ${protocol}, neither TCP nor UDP`)
    }
  }

  /** The sum of the pseudo-header: addresses, protocol and length (RFC 9293, RFC 768, RFC 8200 section 8.1). */
  pseudoHeaderSum(bytes: Uint8Array, at: number): number {
    const addresses = at + this.network + (this.ipv6 ? 8 : 12)
    const sum = onesComplementSum(bytes, addresses, addresses + (this.ipv6 ? 32 : 8))
    return fold(sum + this.protocol + this.end - this.start)
  }
}
