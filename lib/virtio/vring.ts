// A split virtqueue as a driver describes it to a device, and what a device must refuse.

import { VIRTQUEUE_MAX_SIZE, VRING_AVAIL_ALIGN, VRING_DESC_ALIGN, VRING_USED_ALIGN, vringSizes } from '../abi/virtio.ts'
import { GuestMemoryError, InvalidOptionError, QueueError } from '../errors.ts'
import { EventFd } from '../event/index.ts'
import { formatRange, type MemoryRegion, regionOf } from '../memory/index.ts'
import { checkObject } from '../options.ts'

/** One ring; addresses are guest-physical (virtio 1.x section 2.7). */
export interface Vring {
  /** Entries: a power of two, 1..32768. */
  num: number
  /** Descriptor table, aligned to 16. */
  desc: number
  /** Available ring, which the driver writes; aligned to 2. */
  avail: number
  /** Used ring, which the device writes; aligned to 4. */
  used: number
  /** Available index the device takes next; 0 for a fresh ring, what `stop` returned for a stopped one. Default 0. */
  base?: number
  /** What the driver signals. */
  kick: EventFd
  /** What the device signals. */
  call: EventFd
}

/**
 * Checks what the kernel does not: alignment of the descriptor table, and that each part lies within one region of
 * guest memory and the parts do not overlap (drivers/vhost/vhost.c takes any user address).
 * @param name the ring's, for messages: `'pair 0 rx'`.
 * @throws {InvalidOptionError} `ERR_OPTION_TYPE`, `ERR_OPTION_UNKNOWN`
 * @throws {QueueError} `ERR_QUEUE_SIZE`
 * @throws {GuestMemoryError} `ERR_GPA_ALIGN`, `ERR_GPA_RANGE`, `ERR_GPA_OVERLAP`
 */
export function checkVring(ring: Vring, regions: readonly MemoryRegion[], name: string): void {
  checkObject(ring, ['num', 'desc', 'avail', 'used', 'base', 'kick', 'call'], name)
  for (const event of ['kick', 'call'] as const) {
    if (ring[event] instanceof EventFd) continue
    throw new InvalidOptionError('ERR_OPTION_TYPE', `${name}.${event}`, 'must be an EventFd', {
      hint: 'Make it with EventFd.create(), or take over a number with EventFd.fromFd().',
    })
  }
  for (const address of ['desc', 'avail', 'used'] as const) {
    if (typeof ring[address] === 'number') continue
    throw new InvalidOptionError(
      'ERR_OPTION_TYPE',
      `${name}.${address}`,
      `must be a number, not ${typeof ring[address]}`,
    )
  }
  const { num, base = 0 } = ring
  if (!Number.isInteger(num) || num < 1 || num > VIRTQUEUE_MAX_SIZE || (num & (num - 1)) !== 0) {
    throw new QueueError('ERR_QUEUE_SIZE', `${name}: a ring of ${num} entries`, {
      hint: `A split virtqueue has a power of two of entries, 1..${VIRTQUEUE_MAX_SIZE}.`,
      context: { ring: name, num },
    })
  }
  if (!Number.isInteger(base) || base < 0 || base > 0xffff) {
    throw new QueueError('ERR_QUEUE_SIZE', `${name}: base ${base} is not a 16-bit index`, { context: { ring: name } })
  }
  const sizes = vringSizes(num)
  const parts = [
    { part: 'descriptor table', address: ring.desc, size: sizes.desc, align: VRING_DESC_ALIGN },
    { part: 'available ring', address: ring.avail, size: sizes.avail, align: VRING_AVAIL_ALIGN },
    { part: 'used ring', address: ring.used, size: sizes.used, align: VRING_USED_ALIGN },
  ]
  for (const { part, address, size, align } of parts) {
    const context = { ring: name, part, address }
    if (address % align !== 0) {
      throw new GuestMemoryError('ERR_GPA_ALIGN', `${name}: ${part} at 0x${address.toString(16)}`, {
        hint: `It must be aligned to ${align} bytes.`,
        context,
      })
    }
    try {
      regionOf(regions, address, size)
    } catch (cause) {
      const message = `${name}: ${part} at ${formatRange(address, size)} is not within guest memory`
      throw new GuestMemoryError('ERR_GPA_RANGE', message, { context, cause })
    }
  }
  for (const [i, a] of parts.entries()) {
    for (const b of parts.slice(i + 1)) {
      if (a.address >= b.address + b.size || b.address >= a.address + a.size) continue
      throw new GuestMemoryError('ERR_GPA_OVERLAP', `${name}: ${a.part} and ${b.part} overlap`, {
        context: { ring: name },
      })
    }
  }
}
