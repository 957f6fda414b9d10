// The guest that every contender boots: it says on its console how far it is, and then does what the host wants.

import { copyFileSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { type GuestInit, writeGuestInitramfs } from '../../guest/initramfs.ts'
import { type GuestKernelName, provideKernel } from '../../lab/kernels.ts'
import { type Guest, NETWORK_WORD, type Network } from './contenders.ts'

const addressOf = (network: number | string, host: 1 | 2): string => `10.7.${network}.${host}`
export const hostAddress = ({ number }: Network): string => addressOf(number, 1)
export const portOf = ({ number }: Network): number => 5433 + number

/** What begins a line of its console that is for us. */
export const MARK = '@'

const APPEND = [
  'console=ttyS0 quiet panic=-1 mitigations=off no_timer_check tsc=reliable 8250.nr_uarts=1 i8042.noaux i8042.nokbd',
  // A kernel that takes the lab's processor for an Opteron looks for its AGP bridge, in each slot of 256 buses.
  'pci=noearly',
].join(' ')

const [HOST, GUEST, GUEST_PORT] = [
  addressOf('$network', 1),
  addressOf('$network', 2),
  `$((${portOf({ number: 0, ifname: '' })} + network))`,
]

/** virtio_net sets DRIVER_OK before insmod returns. */
const INIT: GuestInit = {
  beforeDriver: `echo ${MARK}probe`,
  loaded: [
    `echo ${MARK}driver-ok`,
    `network=$(sed 's/.*${NETWORK_WORD}=//; s/ .*//' /proc/cmdline)`,
    `ip addr add ${GUEST}/24 dev eth0`,
    'ip link set eth0 up',
    `ping -i 0.1 ${HOST} | grep -q -m 1 'bytes from'`,
    `echo ${MARK}answered`,
    `echo "${MARK}features $(cat /sys/bus/virtio/devices/virtio0/features)"`,
    `echo "${MARK}vectors $(grep -c virtio0 /proc/interrupts)"`,
    `echo "${MARK}rings $(ethtool -g eth0 | awk '/^Current/ { now = 1 } now && /^[RT]X:/ { print $2 }' | tr '\\n' ' ')"`,
    `traffic guest ${HOST} ${GUEST_PORT} &`,
  ].join('\n'),
}

export interface GuestOptions {
  kernel: GuestKernelName
  image: 'vmlinux' | 'vmlinuz'
  /** The program of traffic.c, linked statically. */
  traffic: string
  smp: number
  memory: number
  /** Where its files are put. */
  directory: string
}

export async function makeGuest({ kernel: name, image, traffic, directory, ...machine }: GuestOptions): Promise<Guest> {
  const kernel = await provideKernel(name)
  const files = { kernel: path.join(directory, image), initrd: path.join(directory, 'initrd') }
  // Nobody is to read it through the lab's share, which is slow the first time.
  copyFileSync(kernel[image], files.kernel)
  writeGuestInitramfs(kernel, files.initrd, { files: { '/bin/traffic': readFileSync(traffic) }, init: INIT })
  return { ...files, ...machine, append: APPEND }
}
