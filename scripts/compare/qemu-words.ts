// A NIC in QEMU's words.

import type { NicOptions } from './option-sets.ts'

/** Options have QEMU's names, but for the number of queue pairs, which is the tap's there. */
const property = ([name, value]: [string, unknown]): string =>
  `${name}=${typeof value === 'boolean' ? (value ? 'on' : 'off') : value}`

/** What QEMU is told besides what every NIC here has; empty for nothing. */
export function qemuOptions({ queuePairs = 1, ...options }: NicOptions): { tap: string; device: string } {
  return { tap: queuePairs === 1 ? '' : `queues=${queuePairs}`, device: Object.entries(options).map(property).join() }
}

/**
 * The arguments that make it.
 * @param index which of the machine's virtio-mmio buses it is on: QEMU by itself begins with the last.
 */
export function qemuNic(index: number, ifname: string, options: NicOptions): string[] {
  const { tap, device } = qemuOptions(options)
  const id = `net${index}`
  return [
    '-netdev',
    ['tap', `id=${id}`, `ifname=${ifname}`, 'script=no,downscript=no,vhost=on', tap].filter(Boolean).join(),
    '-device',
    ['virtio-net-device', `netdev=${id}`, `bus=virtio-mmio-bus.${index}`, device].filter(Boolean).join(),
  ]
}
