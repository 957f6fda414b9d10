// What all scenarios of a stock guest share: which guest it is, and what lies where.

import type { StockGuest, TransportName } from '../../../scripts/guest/stock-guest.ts'
import type { GuestKernelName } from '../../../scripts/lab/kernels.ts'

export interface Story {
  readonly kernel: GuestKernelName
  readonly smp: number
  readonly queuePairs: number
  readonly transport: TransportName
}

/** The guest once it has booted. */
export type Booted = () => StockGuest

export const MAC = '52:54:00:12:34:56'
export const MTU = 9000
export const HOST = '10.5.0.1'
/** The second NIC's, with one pair and the usual MTU. */
export const SECOND = { mac: '52:54:00:12:34:57', host: '10.6.0.1', guest: '10.6.0.2' } as const

/** Accesses to registers so far: exits to this process for other things than the console. */
export const memoryAccesses = ({ vm }: StockGuest): number =>
  vm.counters().reduce((sum, counters) => sum + counters.memoryAccesses, 0)

/** Accesses that JavaScript answered so far. */
export const asked = ({ vm }: StockGuest): number => vm.counters().reduce((sum, { asked }) => sum + asked, 0)

/** Resolves once a NIC of the guest has a link, or has none: it is told by an interrupt, and looks by itself a moment later. */
export const seesCarrier = (guest: StockGuest, carrier: 0 | 1, nic = 'eth0') =>
  guest.run(`until [ "$(cat /sys/class/net/${nic}/carrier)" = ${carrier} ]; do :; done`)

/** The index of a tap in the host. */
export const tapOf = ({ netlink, nics }: StockGuest, nic = 0): number =>
  netlink.getLink({ ifname: nics[nic]!.backend.ifname })!.index
