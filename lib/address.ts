// MAC and IP addresses between text and bytes.

import { randomBytes } from 'node:crypto'
import { isIP, isIPv4, SocketAddress } from 'node:net'
import { InvalidOptionError } from './errors.ts'

/**
 * The six bytes of `'52:54:00:12:34:56'`.
 * @throws {InvalidOptionError} `ERR_OPTION_TYPE`, `ERR_OPTION_RANGE`
 */
export function parseMac(value: unknown, option: string): Uint8Array {
  if (typeof value !== 'string') {
    throw new InvalidOptionError('ERR_OPTION_TYPE', option, `expected a string, received ${typeof value}`)
  }
  if (!/^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/i.test(value)) {
    const problem = `${JSON.stringify(value)} is not six pairs of hexadecimal digits with colons between them`
    throw new InvalidOptionError('ERR_OPTION_RANGE', option, problem, { context: { received: value } })
  }
  return Uint8Array.from(value.split(':'), (pair) => Number.parseInt(pair, 16))
}

/** A hardware address of any length as `'52:54:00:12:34:56'`. */
export function formatMac(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join(':')
}

/** A random unicast address that is locally administered, as a NIC without one of its own takes. */
export function localMac(): string {
  const bytes = randomBytes(6)
  bytes[0] = (bytes[0]! & 0xfc) | 2
  return formatMac(bytes)
}

/**
 * The 4 bytes of an IPv4 or the 16 of an IPv6 address, without zone.
 * @throws {InvalidOptionError} `ERR_OPTION_TYPE`, `ERR_OPTION_RANGE`
 */
export function parseIp(value: unknown, option: string): Uint8Array {
  if (typeof value !== 'string') {
    throw new InvalidOptionError('ERR_OPTION_TYPE', option, `expected a string, received ${typeof value}`)
  }
  // isIP() takes 'fe80::1%eth0' too; here the link is named by its index.
  if (isIP(value) === 0 || value.includes('%')) {
    const problem = `${JSON.stringify(value)} is not an IPv4 or IPv6 address without zone`
    throw new InvalidOptionError('ERR_OPTION_RANGE', option, problem, { context: { received: value } })
  }
  return isIPv4(value) ? parseIpv4(value) : parseIpv6(value)
}

function parseIpv4(text: string): Uint8Array {
  return Uint8Array.from(text.split('.'), Number)
}

function parseIpv6(text: string): Uint8Array {
  const [head = [], tail] = text.split('::').map(hextets)
  const bytes = new Uint8Array(16)
  bytes.set(head)
  if (tail !== undefined) bytes.set(tail, 16 - tail.length)
  return bytes
}

/** The bytes of the groups on one side of `::`, of which the last may be an IPv4 address. */
function hextets(text: string): number[] {
  if (text === '') return []
  return text.split(':').flatMap((group) => {
    if (group.includes('.')) return [...parseIpv4(group)]
    const value = Number.parseInt(group, 16)
    return [value >> 8, value & 0xff]
  })
}

/** An address of 4 or 16 bytes, IPv6 in the form of RFC 5952. */
export function formatIp(bytes: Uint8Array): string {
  if (bytes.length === 4) return bytes.join('.')
  const groups = Array.from({ length: 8 }, (_, index) =>
    ((bytes[2 * index]! << 8) | bytes[2 * index + 1]!).toString(16),
  )
  return new SocketAddress({ address: groups.join(':'), family: 'ipv6' }).address
}
