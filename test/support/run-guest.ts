// `vhost-net run` with the stock guest, which has one NIC on PCI.

import type { ChildProcessWithoutNullStreams } from 'node:child_process'
import path from 'node:path'
import { RtNetlink } from '../../lib/host/index.ts'
import { writeGuestInitramfs } from '../../scripts/guest/initramfs.ts'
import { APPEND } from '../../scripts/guest/stock-guest.ts'
import { provideKernel } from '../../scripts/lab/kernels.ts'
import { start } from './command.ts'

/** What the host, and its guest, have on the tap. */
export const ADDRESSES = { host: '192.0.2.1', guest: '192.0.2.2' } as const

/** What the guest does to have its own. */
export const configure = `ip addr add ${ADDRESSES.guest}/24 dev eth0 && ip link set eth0 up`

/** @param directory where its initial RAM disk is to be. @param words further options */
export async function startGuest(
  directory: string,
  ifname: string,
  ...words: string[]
): Promise<ChildProcessWithoutNullStreams> {
  const kernel = await provideKernel('6.12')
  const initrd = path.join(directory, 'initrd')
  writeGuestInitramfs(kernel, initrd)
  return start(
    'run',
    ...['--kernel', kernel.vmlinux, '--initrd', initrd, '--append', APPEND, '--smp', '2', '--memory', '512M'],
    ...['--netdev', `tap,id=n0,ifname=${ifname}`, '--device', 'virtio-net-pci,netdev=n0,mac=52:54:00:12:34:56,mq=on'],
    ...words,
  )
}

/** Gives the tap its address. @throws where the command has not switched it on */
export function addHostAddress(ifname: string): void {
  using netlink = RtNetlink.open()
  const link = netlink.getLink({ ifname })
  if (!link?.up) throw new Error(`${ifname} is not switched on`)
  netlink.addAddress(link.index, { address: ADDRESSES.host, prefixLength: 24 })
}
