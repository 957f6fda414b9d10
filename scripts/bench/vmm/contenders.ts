// Who is measured against each other, and with which command line: the same guest, memory, ring sizes and vectors.

import path from 'node:path'
import { projectRoot } from '../../lab/project.ts'

export const CONTENDERS = ['ours', 'pc', 'microvm', 'user-space'] as const
export type Contender = (typeof CONTENDERS)[number]

export const TITLES: Readonly<Record<Contender, string>> = {
  ours: 'vhost-net run',
  pc: 'QEMU pc',
  microvm: 'QEMU microvm',
  'user-space': 'QEMU pc, vhost=off',
}

/** What all of them boot. */
export interface Guest {
  kernel: string
  initrd: string
  append: string
  /** Processors, with a queue pair each. */
  smp: number
  /** MiB. */
  memory: number
  /** A tap that is there. */
  ifname: string
}

const QUEUE_SIZE = 256
const MAC = '52:54:00:12:34:56'

/** Words of the NIC that both understand. */
const nicOf = (smp: number): string[] => [
  `netdev=n0,mac=${MAC},vectors=${2 * smp + 2}`,
  `rx_queue_size=${QUEUE_SIZE},tx_queue_size=${QUEUE_SIZE}`,
  'guest_ufo=off',
  ...(smp === 1 ? [] : ['mq=on']),
]

/** What the other one does not have. */
const OURS_ALONE = ['guest_uso4=off', 'guest_uso6=off', 'host_uso=off']
const QEMU_ALONE = ['ctrl_vlan=off', 'ctrl_rx_extra=off']

function ours({ kernel, initrd, append, smp, memory, ifname }: Guest): string[] {
  return [
    ...[process.execPath, path.join(projectRoot, 'dist/lib/cli/main.js'), 'run'],
    ...['--kernel', kernel, '--initrd', initrd, '--append', append],
    ...['--smp', String(smp), '--memory', `${memory}M`],
    ...['--netdev', `tap,id=n0,ifname=${ifname},queues=${smp}`],
    ...['--device', ['virtio-net-pci', ...nicOf(smp), ...OURS_ALONE].join()],
  ]
}

/** Without what the guest has no use for: firmware for booting from a NIC, legacy devices, a display. */
function qemu(machine: string, vhost: 'on' | 'off', { kernel, initrd, append, smp, memory, ifname }: Guest): string[] {
  const tap = ['tap', 'id=n0', `ifname=${ifname}`, 'script=no', 'downscript=no', `vhost=${vhost}`]
  const nic = ['virtio-net-pci', ...nicOf(smp), ...QEMU_ALONE, 'disable-legacy=on', 'romfile=']
  return [
    ...['qemu-system-x86_64', '-M', `${machine},memory-backend=ram`, '-accel', 'kvm', '-cpu', 'host'],
    // Shared, as ours is.
    ...['-object', `memory-backend-memfd,id=ram,size=${memory}M,share=on`, '-m', String(memory), '-smp', String(smp)],
    ...['-nodefaults', '-no-user-config', '-display', 'none', '-no-reboot'],
    ...['-chardev', 'stdio,id=console', '-serial', 'chardev:console'],
    ...['-kernel', kernel, '-initrd', initrd, '-append', append],
    ...['-netdev', [...tap, ...(smp === 1 ? [] : [`queues=${smp}`])].join()],
    ...['-device', nic.join()],
  ]
}

const PC = 'pc,usb=off,vmport=off,hpet=off'
const MICROVM = 'microvm,pcie=on,pit=off,pic=off,rtc=off,ioapic2=off'

export function commandOf(contender: Contender, guest: Guest): string[] {
  if (contender === 'ours') return ours(guest)
  return qemu(contender === 'microvm' ? MICROVM : PC, contender === 'user-space' ? 'off' : 'on', guest)
}

/** As it would be typed. */
export const quote = (command: readonly string[]): string =>
  command.map((word) => (/^[\w./:=,+-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`)).join(' ')

/** Each round begins with another one. */
export function orderOf(round: number, contenders: readonly Contender[] = CONTENDERS): Contender[] {
  const first = round % contenders.length
  return [...contenders.slice(first), ...contenders.slice(0, first)]
}
