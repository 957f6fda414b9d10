// Frames as bytes: Ethernet, ARP for IPv4, ICMP echo. Pure; offsets instead of objects, since it is done per frame.
//
// RFC 826 (ARP), RFC 791 (IPv4), RFC 792 (ICMP), RFC 1071 and 1624 (checksum).

export const ETHERTYPE = { IPV4: 0x0800, ARP: 0x0806 } as const

/** `ar$op` of RFC 826. */
export const ARP_OPERATION = { REQUEST: 1, REPLY: 2 } as const

const ICMP_TYPE = { ECHO_REPLY: 0, ECHO_REQUEST: 8 } as const
const IPPROTO_ICMP = 1

const BROADCAST = new Uint8Array(6).fill(0xff)
const NO_MAC = new Uint8Array(6)

/** Where fields are, in bytes from the start of the frame. */
const AT = {
  ethernet: { destination: 0, source: 6, type: 12 },
  arp: { hardware: 14, protocol: 16, lengths: 18, operation: 20, senderMac: 22, sender: 28, targetMac: 32, target: 38 },
  ipv4: { version: 14, length: 16, fragment: 20, ttl: 22, protocol: 23, checksum: 24, source: 26, destination: 30 },
  icmp: { type: 34, code: 35, checksum: 36, identifier: 38, sequence: 40 },
  payload: 42,
  pattern: 46,
} as const

const ETHERNET_HEADER = 14
const ARP_FRAME = 42
/** IPv4 header without options, and ICMP echo header. */
const PACKET_OVERHEAD = AT.payload - ETHERNET_HEADER

/** What tun allows (MIN_MTU, MAX_MTU in drivers/net/tun.c). */
export const MIN_MTU = 68
export const MAX_MTU = 65535 - ETHERNET_HEADER

/** The sequence number that each payload begins with. */
export const MIN_ECHO_PAYLOAD = AT.pattern - AT.payload

/** Bytes of the largest frame under that MTU. */
export function frameRoom(mtu: number): number {
  return mtu + ETHERNET_HEADER
}

/** Bytes of the largest echo payload under that MTU. */
export function payloadRoom(mtu: number): number {
  return mtu - PACKET_OVERHEAD
}

export function readU16(bytes: Uint8Array, at: number): number {
  return ((bytes[at] as number) << 8) | (bytes[at + 1] as number)
}

export function readU32(bytes: Uint8Array, at: number): number {
  return readU16(bytes, at) * 0x10000 + readU16(bytes, at + 2)
}

function writeU16(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value >>> 8
  bytes[at + 1] = value
}

function writeU32(bytes: Uint8Array, at: number, value: number): void {
  writeU16(bytes, at, value >>> 16)
  writeU16(bytes, at + 2, value & 0xffff)
}

/** RFC 1071's ones' complement sum, not complemented, folded to 16 bits. */
export function onesSum(bytes: Uint8Array, from: number, to: number): number {
  let sum = 0
  for (let at = from; at + 1 < to; at += 2) sum += readU16(bytes, at)
  if ((to - from) % 2 === 1) sum += (bytes[to - 1] as number) << 8
  return fold(sum)
}

function fold(sum: number): number {
  let folded = sum
  while (folded > 0xffff) folded = (folded & 0xffff) + Math.floor(folded / 0x10000)
  return folded
}

/** `at` is where the frame begins, as everywhere below. */
export function etherType(bytes: Uint8Array, at: number): number {
  return readU16(bytes, at + AT.ethernet.type)
}

export function destinationIs(bytes: Uint8Array, at: number, mac: Uint8Array): boolean {
  for (let i = 0; i < 6; i++) if (bytes[at + AT.ethernet.destination + i] !== mac[i]) return false
  return true
}

function writeEthernet(frame: Uint8Array, destination: Uint8Array, source: Uint8Array, type: number): void {
  frame.set(destination, AT.ethernet.destination)
  frame.set(source, AT.ethernet.source)
  writeU16(frame, AT.ethernet.type, type)
}

export interface Arp {
  operation: number
  senderMac: Uint8Array
  /** IPv4 addresses as 32-bit numbers. */
  sender: number
  targetMac: Uint8Array
  target: number
}

/** A request is broadcast, a reply goes to its target. */
export function buildArp({ operation, senderMac, sender, targetMac, target }: Arp): Uint8Array {
  const frame = new Uint8Array(ARP_FRAME)
  writeEthernet(frame, operation === ARP_OPERATION.REQUEST ? BROADCAST : targetMac, senderMac, ETHERTYPE.ARP)
  writeU16(frame, AT.arp.hardware, 1)
  writeU16(frame, AT.arp.protocol, ETHERTYPE.IPV4)
  writeU16(frame, AT.arp.lengths, 0x0604)
  writeU16(frame, AT.arp.operation, operation)
  frame.set(senderMac, AT.arp.senderMac)
  writeU32(frame, AT.arp.sender, sender)
  frame.set(targetMac, AT.arp.targetMac)
  writeU32(frame, AT.arp.target, target)
  return frame
}

export function buildArpRequest(senderMac: Uint8Array, sender: number, target: number): Uint8Array {
  return buildArp({ operation: ARP_OPERATION.REQUEST, senderMac, sender, targetMac: NO_MAC, target })
}

// A copy, since the frame's buffer is used again: Buffer's own slice() would be a view.
function macAt(bytes: Uint8Array, at: number): Uint8Array {
  return Uint8Array.from(bytes.subarray(at, at + 6))
}

/** Undefined where it is not ARP for IPv4 on Ethernet. */
export function parseArp(bytes: Uint8Array, at: number, length: number): Arp | undefined {
  if (length < ARP_FRAME || etherType(bytes, at) !== ETHERTYPE.ARP) return undefined
  if (readU16(bytes, at + AT.arp.hardware) !== 1 || readU16(bytes, at + AT.arp.protocol) !== ETHERTYPE.IPV4) {
    return undefined
  }
  if (readU16(bytes, at + AT.arp.lengths) !== 0x0604) return undefined
  return {
    operation: readU16(bytes, at + AT.arp.operation),
    senderMac: macAt(bytes, at + AT.arp.senderMac),
    sender: readU32(bytes, at + AT.arp.sender),
    targetMac: macAt(bytes, at + AT.arp.targetMac),
    target: readU32(bytes, at + AT.arp.target),
  }
}

/** Whether it is a whole, unfragmented ICMP echo reply over IPv4 without options, long enough for a sequence number. */
export function isEchoReply(bytes: Uint8Array, at: number, length: number): boolean {
  return (
    length >= AT.pattern &&
    etherType(bytes, at) === ETHERTYPE.IPV4 &&
    bytes[at + AT.ipv4.version] === 0x45 &&
    bytes[at + AT.ipv4.protocol] === IPPROTO_ICMP &&
    (readU16(bytes, at + AT.ipv4.fragment) & 0x3fff) === 0 &&
    bytes[at + AT.icmp.type] === ICMP_TYPE.ECHO_REPLY &&
    bytes[at + AT.icmp.code] === 0
  )
}

/** The IPv4 destination, as a 32-bit number. */
export function ipv4Destination(bytes: Uint8Array, at: number): number {
  return readU32(bytes, at + AT.ipv4.destination)
}

export function echoIdentifier(bytes: Uint8Array, at: number): number {
  return readU16(bytes, at + AT.icmp.identifier)
}

/** The sequence number of the payload: 32 bits, of which ICMP's own is the lower half. */
export function echoSequence(bytes: Uint8Array, at: number): number {
  return readU32(bytes, at + AT.payload)
}

export interface EchoOptions {
  sourceMac: Uint8Array
  destinationMac: Uint8Array
  /** IPv4 addresses as 32-bit numbers. */
  source: number
  destination: number
  identifier: number
  payloadBytes: number
}

/** The echo requests of one flow: they differ in sequence number and checksum only. */
export class EchoTemplate {
  /** The request with sequence number 0, ready to send. */
  readonly frame: Uint8Array
  readonly identifier: number
  readonly #source: number
  readonly #destination: number
  /** Ones' complement sums of the ICMP message with sequence number and checksum 0. */
  readonly #requestSum: number
  readonly #replySum: number

  constructor({ sourceMac, destinationMac, source, destination, identifier, payloadBytes }: EchoOptions) {
    const frame = new Uint8Array(AT.payload + payloadBytes)
    writeEthernet(frame, destinationMac, sourceMac, ETHERTYPE.IPV4)
    frame[AT.ipv4.version] = 0x45
    writeU16(frame, AT.ipv4.length, frame.length - ETHERNET_HEADER)
    // Don't Fragment: with it the identification may be the same in all (RFC 6864 section 4.1).
    writeU16(frame, AT.ipv4.fragment, 0x4000)
    frame[AT.ipv4.ttl] = 64
    frame[AT.ipv4.protocol] = IPPROTO_ICMP
    writeU32(frame, AT.ipv4.source, source)
    writeU32(frame, AT.ipv4.destination, destination)
    writeU16(frame, AT.ipv4.checksum, ~onesSum(frame, AT.ipv4.version, AT.icmp.type) & 0xffff)
    writeU16(frame, AT.icmp.identifier, identifier)
    // Another pattern for each flow, in which neighbouring bytes differ.
    for (let at = AT.pattern; at < frame.length; at++) frame[at] = at * 37 + identifier * 11 + (at >>> 8)
    this.#replySum = onesSum(frame, AT.icmp.type, frame.length)
    frame[AT.icmp.type] = ICMP_TYPE.ECHO_REQUEST
    this.#requestSum = onesSum(frame, AT.icmp.type, frame.length)
    this.frame = frame
    this.identifier = identifier
    this.#source = source
    this.#destination = destination
    this.stamp(frame, 0, 0)
  }

  /** Makes a copy of `frame` that begins at `at` the request with this sequence number. */
  stamp(bytes: Uint8Array, at: number, sequence: number): void {
    writeU16(bytes, at + AT.icmp.checksum, checksum(this.#requestSum, sequence))
    writeU16(bytes, at + AT.icmp.sequence, sequence & 0xffff)
    writeU32(bytes, at + AT.payload, sequence)
  }

  /**
   * Whether an echo reply is, byte for byte, the one to the request with the sequence number that it carries.
   * @param bytes a Buffer, whose `compare` takes ranges and so makes no object per frame.
   */
  answeredBy(bytes: Buffer, at: number, length: number): boolean {
    const { frame } = this
    if (length !== frame.length || readU16(bytes, at + AT.ipv4.length) !== frame.length - ETHERNET_HEADER) return false
    const sequence = echoSequence(bytes, at)
    return (
      readU32(bytes, at + AT.ipv4.source) === this.#destination &&
      readU32(bytes, at + AT.ipv4.destination) === this.#source &&
      echoIdentifier(bytes, at) === this.identifier &&
      readU16(bytes, at + AT.icmp.sequence) === (sequence & 0xffff) &&
      readU16(bytes, at + AT.icmp.checksum) === checksum(this.#replySum, sequence) &&
      bytes.compare(frame, AT.pattern, frame.length, at + AT.pattern, at + length) === 0
    )
  }
}

// RFC 1624: the sum of what never changes, plus ICMP's sequence number and the payload's two halves.
function checksum(sum: number, sequence: number): number {
  return ~fold(sum + 2 * (sequence & 0xffff) + (sequence >>> 16)) & 0xffff
}
