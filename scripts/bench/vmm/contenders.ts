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
}

/** Of each contender's own, since all run at the same time. */
export interface Network {
  /** A tap that is there. */
  ifname: string
  /** Third number of its addresses. */
  number: number
}

export const networkOf = (contender: Contender): Network => {
  const number = CONTENDERS.indexOf(contender)
  return { ifname: `bench${number}`, number }
}

/** On a guest's command line: the number of its network. */
export const NETWORK_WORD = 'bench.network'

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

const appendOf = ({ append }: Guest, { number }: Network): string => `${append} ${NETWORK_WORD}=${number}`

function ours(guest: Guest, network: Network): string[] {
  const { kernel, initrd, smp, memory } = guest
  return [
    ...[process.execPath, path.join(projectRoot, 'dist/bin/vhost-net.cjs'), 'run'],
    ...['--kernel', kernel, '--initrd', initrd, '--append', appendOf(guest, network)],
    ...['--smp', String(smp), '--memory', `${memory}M`],
    ...['--netdev', `tap,id=n0,ifname=${network.ifname},queues=${smp}`],
    ...['--device', ['virtio-net-pci', ...nicOf(smp), ...OURS_ALONE].join()],
  ]
}

/** Without what the guest has no use for: firmware for booting from a NIC, legacy devices, a display. */
function qemu(machine: string, vhost: 'on' | 'off', guest: Guest, network: Network): string[] {
  const { kernel, initrd, smp, memory } = guest
  const tap = ['tap', 'id=n0', `ifname=${network.ifname}`, 'script=no', 'downscript=no', `vhost=${vhost}`]
  const nic = ['virtio-net-pci', ...nicOf(smp), ...QEMU_ALONE, 'disable-legacy=on', 'romfile=']
  return [
    ...['qemu-system-x86_64', '-M', machine, '-accel', 'kvm', '-cpu', 'host'],
    ...['-m', String(memory), '-smp', String(smp)],
    ...['-nodefaults', '-no-user-config', '-display', 'none', '-no-reboot'],
    ...['-chardev', 'stdio,id=console', '-serial', 'chardev:console'],
    ...['-kernel', kernel, '-initrd', initrd, '-append', appendOf(guest, network)],
    ...['-netdev', [...tap, ...(smp === 1 ? [] : [`queues=${smp}`])].join()],
    ...['-device', nic.join()],
  ]
}

const PC = 'pc,usb=off,vmport=off,hpet=off'
const MICROVM = 'microvm,pcie=on,pit=off,pic=off,rtc=off,ioapic2=off'

export function commandOf(contender: Contender, guest: Guest): string[] {
  const network = networkOf(contender)
  if (contender === 'ours') return ours(guest, network)
  return qemu(contender === 'microvm' ? MICROVM : PC, contender === 'user-space' ? 'off' : 'on', guest, network)
}

function quoted(word: string): string {
  if (/^[\w./:=,+-]+$/.test(word)) return word
  return /["$`\\!]/.test(word) ? `'${word.replaceAll("'", "'\\''")}'` : `"${word}"`
}

/** As it would be typed. */
export const quote = (command: readonly string[]): string => command.map(quoted).join(' ')

/** Each round begins with another one. */
export function orderOf(round: number, contenders: readonly Contender[] = CONTENDERS): Contender[] {
  const first = round % contenders.length
  return [...contenders.slice(first), ...contenders.slice(0, first)]
}
