// Taps as an administrator makes them, with iproute2, and everything about one that can be seen from outside.

import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { IFF } from '../../lib/abi/tun.ts'
import { ethtoolFeatures, Tap } from '../../lib/host/index.ts'

/** Runs `ip` and returns what it prints. */
export function ip(...args: string[]): string {
  return execFileSync('ip', args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] })
}

/** Makes a persistent tap: `ip tuntap add`. @param options `'multi_queue'`, `'vnet_hdr'`, `'pi'`, `'user', '1000'` */
export function addTap(ifname: string, ...options: string[]): void {
  ip('tuntap', 'add', 'dev', ifname, 'mode', 'tap', ...options)
  // IPv6 would give it an address of its own some time after it is up.
  ip('link', 'set', ifname, 'addrgenmode', 'none')
}

/** A file below /sys/class/net. */
export function sysfs(ifname: string, file: string): string {
  return readFileSync(`/sys/class/net/${ifname}/${file}`, 'utf8').trim()
}

/** Attaches with the flags that the device has, so that they stay, and calls back with the queue. */
export function withQueue<T>(ifname: string, body: (queue: Tap) => T): T {
  const queue = Tap.attach(ifname, Number(sysfs(ifname, 'tun_flags')) & ~IFF.IFF_PERSIST)
  try {
    return body(queue)
  } finally {
    queue.close()
  }
}

/** What a tap is set to; it must have a queue to spare, and is as it was afterwards. */
export interface TapSettings {
  flags: string
  vnetHdrSz: number
  vnetLe: boolean
  offloads: Record<string, boolean>
}

/** What only an open queue, sysfs and ethtool show. */
export function tapSettings(ifname: string): TapSettings {
  const flags = sysfs(ifname, 'tun_flags')
  const offloads = ethtoolFeatures(ifname)
  return withQueue(ifname, (queue) => ({
    flags,
    vnetHdrSz: queue.getVnetHdrSz(),
    vnetLe: queue.getVnetLe(),
    offloads,
  }))
}

/** What `ip -d address` shows of a device, without what follows its carrier by itself, some time later. */
export function ipState(ifname: string): object {
  const [{ flags, operstate, qdisc, ...rest }] = JSON.parse(ip('-j', '-d', 'address', 'show', 'dev', ifname))
  return { ...rest, flags: flags.filter((flag: string) => flag !== 'NO-CARRIER' && flag !== 'LOWER_UP') }
}
