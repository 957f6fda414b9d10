// What `npm start` measures, from which everything else follows.

import type { TapCounters } from '../../lib/cli/loop/report.ts'
import type { FeatureExplanation } from '../../lib/index.ts'

/** One ring, as the guest's driver counted it, and as it stands in guest memory and in the host's kernel. */
export interface RingPicture {
  /** The vector of MSI-X that the driver gave it, and the guest's number for that. */
  vector: number
  irq: number
  /** How often it came to each vCPU while iperf3 ran. */
  interrupts: number[]
  /** Since the driver started. */
  packets: number
  bytes: number
  kicks: number
  /** Written by vhost's worker into guest memory. */
  usedIdx: number
  /** VHOST_GET_VRING_BASE after the stop: the available index that vhost would take next. */
  vhostBase: number
}

/** The thread of the host's kernel that serves a pair. */
export interface WorkerPicture {
  name: string
  tid: number
  /** CPU time since it was started. */
  cpuMs: number
}

export interface PairPicture {
  index: number
  /** The vCPU that sends through it (XPS). */
  vcpu: number
  rx: RingPicture
  tx: RingPicture
  /** Null where this process cannot see it. */
  worker: WorkerPicture | null
  /** Open files of this process: the tap's queue, and vhost-net. */
  tapFd: number
  vhostFd: number
}

export interface PingReport {
  sent: number
  answered: number
  /** Null where none was answered. */
  minMs: number | null
  avgMs: number | null
  maxMs: number | null
}

export interface IperfReport {
  /** For how long each sent. */
  seconds: number
  /** What arrived, by the vCPU that sent or received it. */
  kbits: number[]
}

/** `ethtool -L` while each vCPU pings, and what followed. */
export interface PairsChange {
  pairs: number
  /** Receive and transmit queues that the guest has then (/sys/class/net/eth0/queues). */
  guest: { rx: number; tx: number }
  /** Pairs that run in the device. */
  device: number
  /** Queues of the tap that take frames, and those that wait, as the host's kernel has it. */
  tap: { attached: number; waiting: number }
  /** What each pair sent in the moment that followed. */
  sent: number[]
  /** Whether a pair that is not in use moved. */
  idleMoved: boolean
}

/** What was measured, from which everything else follows. */
export interface Measured {
  host: { kernel: string; cpu: string; cpus: number; lab: boolean }
  guest: { kernel: string; image: string; vcpus: number; memory: number; bootMs: number }
  nic: { ifname: string; mac: string; address: string; mtu: number; queuePairs: number }
  features: FeatureExplanation[]
  dhcp: { address: string; server: string; leaseSeconds: number }
  /** From the guest by vCPU. */
  ping: { fromGuest: PingReport[]; fromHost: PingReport }
  changes: { steps: PairsChange[]; pings: { sent: number; answered: number } }
  iperf: { toHost: IperfReport; toGuest: IperfReport }
  /** Accesses of the guest while iperf3 ran for which its vCPUs left the kernel, but for those to its console. */
  exits: { registers: number; asked: number }
  pairs: PairPicture[]
  /** Since it was made: rx is what the guest sent. */
  tap: TapCounters
  /** What the device or vhost could not go on with, and what did not come to rest in time. */
  faults: string[]
}
