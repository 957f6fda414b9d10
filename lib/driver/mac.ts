// MAC addresses as text and as the six bytes that configuration space and commands have.

import { randomBytes } from 'node:crypto'
import { InvalidOptionError } from '../errors.ts'
import { checkString } from '../options.ts'

/** `'52:54:00:12:34:56'` */
export function formatMac(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join(':')
}

/** @throws {InvalidOptionError} `ERR_OPTION_TYPE`, `ERR_OPTION_RANGE` */
export function parseMac(mac: unknown, option: string): Uint8Array {
  const text = checkString(mac, option)
  if (!/^[\da-f]{2}(:[\da-f]{2}){5}$/i.test(text)) {
    throw new InvalidOptionError('ERR_OPTION_RANGE', option, `must be like 52:54:00:12:34:56, not ${text}`)
  }
  return Uint8Array.from(text.split(':'), (byte) => Number.parseInt(byte, 16))
}

/** A random unicast address that is locally administered, as a NIC without one of its own takes. */
export function localMac(): string {
  const bytes = randomBytes(6)
  bytes[0] = (bytes[0]! & 0xfc) | 2
  return formatMac(bytes)
}
