// TCP and UDP packets in Ethernet frames, built field by field, with checksums made and looked at in the plainest way:
// what the library says of a frame is compared with this.

export interface Packet {
  protocol: 'tcp' | 'udp'
  payload: Uint8Array
  ipv6?: boolean
  /** Ethertypes of VLAN tags, outermost first. */
  vlans?: readonly number[]
  /** Bytes of IPv4 options, a multiple of 4 up to 40. */
  ipOptions?: number
  /** IPv6 extension headers, in order: protocol number and bytes; the next-header field is filled in. */
  extensions?: readonly (readonly [protocol: number, bytes: Uint8Array])[]
  sourceMac?: string
  destinationMac?: string
  source?: string
  destination?: string
  sourcePort?: number
  destinationPort?: number
  /** Of TCP. */
  sequence?: number
  acknowledgement?: number
  flags?: number
  /** TCP options, a multiple of 4 bytes. */
  tcpOptions?: Uint8Array
}

export interface Built {
  frame: Buffer
  /** Offsets of the IP header, of the TCP or UDP header, of its checksum, and of the payload. */
  network: number
  transport: number
  checksum: number
  payload: number
}

export const TCP = { FIN: 0x01, SYN: 0x02, PSH: 0x08, ACK: 0x10, CWR: 0x80 } as const

const u16 = (value: number): Buffer => Buffer.from([value >> 8, value & 0xff])
const u32 = (value: number): Buffer =>
  Buffer.from([value >>> 24, (value >>> 16) & 255, (value >>> 8) & 255, value & 255])

/** RFC 1071, word by word; of an odd number of bytes the last is the high half of a word. */
export function internetChecksum(...parts: readonly Uint8Array[]): number {
  const bytes = [...Buffer.concat(parts), 0]
  let sum = 0
  for (let at = 0; at + 1 < bytes.length; at += 2) {
    sum += (bytes[at]! << 8) | bytes[at + 1]!
    if (sum > 0xffff) sum -= 0xffff
  }
  return ~sum & 0xffff
}

function address(text: string): Buffer {
  if (text.includes('.')) return Buffer.from(text.split('.').map(Number))
  const [head = '', tail = ''] = text.split('::')
  const groups = (part: string): string[] => (part === '' ? [] : part.split(':'))
  const zeros = new Array(8 - groups(head).length - groups(tail).length).fill('0')
  const all = [...groups(head), ...zeros, ...groups(tail)]
  return Buffer.concat(all.map((group) => u16(Number.parseInt(group, 16))))
}

const mac = (text: string): Buffer => Buffer.from(text.replaceAll(':', ''), 'hex')

/** The frame, every checksum in it complete. */
export function build(packet: Packet): Built {
  const { protocol, payload, ipv6 = false, vlans = [] } = packet
  const number = protocol === 'tcp' ? 6 : 17
  const source = address(packet.source ?? (ipv6 ? 'fd00::2' : '192.0.2.2'))
  const destination = address(packet.destination ?? (ipv6 ? 'fd00::1' : '192.0.2.1'))
  const header = protocol === 'tcp' ? tcpHeader(packet) : udpHeader(packet)
  const pseudo = Buffer.concat([source, destination, u32(header.length + payload.length), u32(number)])
  const offset = protocol === 'tcp' ? 16 : 6
  const sum = internetChecksum(pseudo, header, payload)
  // 0 would say of UDP that there is none, and 0xffff is as right; the kernel writes it for TCP too (skb_checksum_help).
  header.set(u16(sum === 0 ? 0xffff : sum), offset)

  const below = Buffer.concat([
    mac(packet.destinationMac ?? '02:00:00:00:00:01'),
    mac(packet.sourceMac ?? '02:00:00:00:00:02'),
    ...vlans.flatMap((type) => [u16(type), u16(5)]),
    u16(ipv6 ? 0x86dd : 0x0800),
  ])
  const length = header.length + payload.length
  const ip = ipv6
    ? ipv6Header(packet, number, length, source, destination)
    : ipv4Header(packet, number, length, source, destination)
  const frame = Buffer.concat([below, ip, header, payload])
  const transport = below.length + ip.length
  return { frame, network: below.length, transport, checksum: transport + offset, payload: transport + header.length }
}

function tcpHeader({
  sourcePort = 1000,
  destinationPort = 2000,
  sequence = 0,
  acknowledgement = 0,
  flags = 0x10,
  tcpOptions = Buffer.alloc(0),
}: Packet): Buffer {
  const words = (20 + tcpOptions.length) / 4
  return Buffer.concat([
    u16(sourcePort),
    u16(destinationPort),
    u32(sequence),
    u32(acknowledgement),
    Buffer.from([words << 4, flags, 0xff, 0xff, 0, 0, 0, 0]),
    tcpOptions,
  ])
}

function udpHeader({ sourcePort = 1000, destinationPort = 2000, payload }: Packet): Buffer {
  return Buffer.concat([u16(sourcePort), u16(destinationPort), u16(8 + payload.length), u16(0)])
}

function ipv4Header(
  { ipOptions = 0 }: Packet,
  protocol: number,
  length: number,
  source: Buffer,
  destination: Buffer,
): Buffer {
  const size = 20 + ipOptions
  const header = Buffer.concat([
    Buffer.from([0x40 | (size / 4), 0]),
    u16(size + length),
    // Identification 7, not to be fragmented, 64 hops, no checksum yet.
    Buffer.from([0, 7, 0x40, 0, 64, protocol, 0, 0]),
    source,
    destination,
    // Options that do nothing.
    Buffer.alloc(ipOptions, 1),
  ])
  header.set(u16(internetChecksum(header)), 10)
  return header
}

function ipv6Header(
  { extensions = [] }: Packet,
  protocol: number,
  length: number,
  source: Buffer,
  destination: Buffer,
): Buffer {
  const numbers = [...extensions.map(([number]) => number), protocol]
  const chain = extensions.map(([, bytes], index) => Buffer.from([numbers[index + 1]!, ...bytes.subarray(1)]))
  const size = chain.reduce((sum, bytes) => sum + bytes.length, 0)
  return Buffer.concat([
    Buffer.from([0x60, 0, 0, 0]),
    u16(size + length),
    Buffer.from([numbers[0]!, 64]),
    source,
    destination,
    ...chain,
  ])
}

/** What of a received TCP or UDP packet the tests look at. */
export interface Parsed {
  protocol: number
  sourcePort: number
  destinationPort: number
  sequence: number
  flags: number
  payload: Buffer
  /** Whether IPv4's checksum and that of TCP or UDP are right; of UDP, that there is one. */
  checksumsRight: boolean
}

/**
 * Undefined where the frame is no TCP or UDP.
 * @param built where its headers are to be; default: IPv4 without options, without VLAN tag.
 */
export function parse(frame: Buffer, built = { network: 14, transport: 34 }): Parsed | undefined {
  const { network, transport } = built
  const ethertype = frame.readUInt16BE(network - 2)
  if ((ethertype !== 0x0800 && ethertype !== 0x86dd) || frame.length < transport + 8) return undefined
  const ipv6 = ethertype === 0x86dd
  // Of IPv6, the next header of the last extension header, if there is one.
  const protocol = frame[ipv6 ? (transport === network + 40 ? network + 6 : network + 40) : network + 9]!
  if (protocol !== 6 && protocol !== 17) return undefined
  const end = ipv6 ? network + 40 + frame.readUInt16BE(network + 4) : network + frame.readUInt16BE(network + 2)
  const segment = frame.subarray(transport, end)
  const addresses = ipv6 ? frame.subarray(network + 8, network + 40) : frame.subarray(network + 12, network + 20)
  const pseudo = Buffer.concat([addresses, u32(segment.length), u32(protocol)])
  const present = protocol === 6 || segment.readUInt16BE(6) !== 0
  const ipRight = ipv6 || internetChecksum(frame.subarray(network, transport)) === 0
  return {
    protocol,
    sourcePort: segment.readUInt16BE(0),
    destinationPort: segment.readUInt16BE(2),
    sequence: protocol === 6 ? segment.readUInt32BE(4) : 0,
    flags: protocol === 6 ? segment[13]! : 0,
    payload: segment.subarray(protocol === 6 ? (segment[12]! >> 4) * 4 : 8),
    checksumsRight: present && ipRight && internetChecksum(pseudo, segment) === 0,
  }
}
