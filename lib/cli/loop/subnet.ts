// IPv4 subnets: parsing, overlap, and the choice of a private one that nothing here uses. Pure.

import { formatIp, parseIp } from '../../address.ts'
import { InvalidOptionError } from '../../errors.ts'

/** An address with the length of its network's prefix; addresses are 32-bit numbers. */
export interface Cidr {
  address: number
  prefixLength: number
}

export function ipv4FromBytes(bytes: Uint8Array): number {
  return new DataView(bytes.buffer, bytes.byteOffset, 4).getUint32(0)
}

export function ipv4ToBytes(address: number): Uint8Array {
  return Uint8Array.of(address >>> 24, address >>> 16, address >>> 8, address)
}

export function formatCidr({ address, prefixLength }: Cidr): string {
  return `${formatIp(ipv4ToBytes(address))}/${prefixLength}`
}

/** Addresses in a network of that prefix length. */
export function networkSize(prefixLength: number): number {
  return 2 ** (32 - prefixLength)
}

/** The network's first address. */
export function networkOf({ address, prefixLength }: Cidr): number {
  return address - (address % networkSize(prefixLength))
}

export function overlap(a: Cidr, b: Cidr): boolean {
  const prefixLength = Math.min(a.prefixLength, b.prefixLength)
  return networkOf({ address: a.address, prefixLength }) === networkOf({ address: b.address, prefixLength })
}

/** @throws {InvalidOptionError} `ERR_OPTION_RANGE` */
export function parseCidr(text: string, option: string): Cidr {
  const match = /^([0-9.]+)\/(\d{1,2})$/.exec(text)
  const prefixLength = Number(match?.[2])
  if (match === null || prefixLength < 8 || prefixLength > 30) {
    const problem = `'${text}' is not an IPv4 address with a prefix length of 8..30, such as 10.9.0.1/24`
    throw new InvalidOptionError('ERR_OPTION_RANGE', option, problem)
  }
  const cidr = { address: ipv4FromBytes(parseIp(match[1], option)), prefixLength }
  const host = cidr.address - networkOf(cidr)
  if (host === 0 || host === networkSize(prefixLength) - 1) {
    const problem = `${text} is the address of the network itself or its broadcast address`
    throw new InvalidOptionError('ERR_OPTION_RANGE', option, problem)
  }
  return cidr
}

/** Addresses that are left for others, besides the host's, the network's and the broadcast address. */
export function roomBeside({ prefixLength }: Cidr): number {
  return networkSize(prefixLength) - 3
}

/** The first `count` addresses of the network that are free beside the host's. */
export function addressesBeside(host: Cidr, count: number): number[] {
  const first = networkOf(host) + 1
  return Array.from({ length: count + 1 }, (_, index) => first + index)
    .filter((address) => address !== host.address)
    .slice(0, count)
}

/** Private networks (RFC 1918) of /16, those that routers and container engines take by default last. */
function* privateNetworks(): Generator<number> {
  const of = (a: number, b: number): number => ((a << 24) | (b << 16)) >>> 0
  for (let b = 255; b >= 0; b--) yield of(10, b)
  for (let b = 31; b >= 16; b--) yield of(172, b)
  yield of(192, 168)
}

/** The `.1` of a private network for that many others that overlaps with none in use; undefined where all do. */
export function chooseSubnet(others: number, inUse: readonly Cidr[]): Cidr | undefined {
  const prefixLength = others > 250 ? 16 : 24
  for (const network of privateNetworks()) {
    const cidr = { address: network + 1, prefixLength }
    if (!inUse.some((used) => overlap(cidr, used))) return cidr
  }
  return undefined
}
