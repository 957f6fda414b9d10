// What has to agree between the guest's driver, the rings and the host's kernel, and whether it does. Pure.

import { count } from '../count.ts'
import type { Measured, PairPicture, RingPicture } from './measured.ts'

/** Of a queue's interrupts, those that are to come to its own vCPU. */
export const OWN_SHARE = 0.95
/** Positions in a ring are 16 bits wide (virtio 1.x section 2.7.6). */
const WRAP = 0x10000

export interface Sum {
  name: 'tx packets' | 'tx bytes' | 'rx packets' | 'rx bytes' | 'used.idx' | 'vhost' | 'interrupts' | 'exits'
  /** As people read it. */
  sentence: string
  holds: boolean
}

const sum = (numbers: readonly number[]): number => numbers.reduce((total, number) => total + number, 0)

/** What is 1 at most: of these interrupts, those that came to that vCPU. */
export function share({ interrupts }: Pick<RingPicture, 'interrupts'>, vcpu: number): number {
  const all = sum(interrupts)
  return all === 0 ? 0 : (interrupts[vcpu] ?? 0) / all
}

/**
 * What tun is given by vhost ends in one of three counters of the tap, as the loop's report has it. The driver counts a packet
 * once its buffer has come back, which it has where all is at rest.
 */
function sent({ pairs, tap }: Measured): Sum {
  const packets = sum(pairs.map(({ tx }) => tx.packets))
  const { rx_packets, rx_dropped, rx_frame_errors } = tap
  const right = `${count(rx_packets)} rx_packets + ${count(rx_dropped)} rx_dropped + ${count(rx_frame_errors)} rx_frame_errors`
  return {
    name: 'tx packets',
    sentence: `${count(packets)} packets sent by the guest = ${right}`,
    holds: packets === rx_packets + rx_dropped + rx_frame_errors,
  }
}

/** tx_packets counts what vhost has taken from the tap (tun_put_user); tx_dropped never got into its queue. */
function received({ pairs, tap }: Measured): Sum {
  const packets = sum(pairs.map(({ rx }) => rx.packets))
  return {
    name: 'rx packets',
    sentence: `${count(packets)} packets received by the guest = ${count(tap.tx_packets)} tx_packets`,
    holds: packets === tap.tx_packets,
  }
}

/** Neither counts virtio's headers; bytes of dropped frames are nowhere. */
function bytes({ pairs, tap }: Measured): Sum[] {
  const of = (ring: 'rx' | 'tx') => sum(pairs.map((pair) => pair[ring].bytes))
  const [tx, rx] = [of('tx'), of('rx')]
  const lost = tap.rx_dropped + tap.rx_frame_errors > 0
  return [
    {
      name: 'tx bytes',
      sentence: `${count(tx)} bytes sent by the guest ${lost ? '≥' : '='} ${count(tap.rx_bytes)} rx_bytes`,
      holds: lost ? tx >= tap.rx_bytes : tx === tap.rx_bytes,
    },
    {
      name: 'rx bytes',
      sentence: `${count(rx)} bytes received by the guest = ${count(tap.tx_bytes)} tx_bytes`,
      holds: rx === tap.tx_bytes,
    },
  ]
}

/**
 * A packet that is sent is one chain of descriptors. One that is received may need several (MRG_RXBUF): there the index says
 * how many buffers were filled, which the driver does not count.
 */
function usedIndexes({ pairs }: Measured): Sum {
  const agreeing = pairs.filter(({ tx }) => tx.usedIdx === tx.packets % WRAP).length
  return {
    name: 'used.idx',
    sentence: `the used index of ${agreeing} of ${pairs.length} transmit rings = packets sent modulo ${WRAP}`,
    holds: agreeing === pairs.length,
  }
}

const rings = ({ rx, tx }: PairPicture): RingPicture[] => [rx, tx]

function positions({ pairs }: Measured): Sum {
  const all = pairs.flatMap(rings)
  const agreeing = all.filter(({ usedIdx, vhostBase }) => usedIdx === vhostBase).length
  return {
    name: 'vhost',
    sentence: `${agreeing} of ${all.length} rings are where vhost left them (used.idx = vhost's own position)`,
    holds: agreeing === all.length,
  }
}

function interrupts({ pairs }: Measured): Sum {
  const shares = pairs.flatMap((pair) => rings(pair).map((ring) => share(ring, pair.vcpu)))
  const least = Math.min(...shares)
  const percent = (Math.floor(least * 1000) / 10).toFixed(1)
  return {
    name: 'interrupts',
    sentence: `at least ${percent} % of each ring's interrupts came to its own vCPU (${OWN_SHARE * 100} % are asked for)`,
    holds: least >= OWN_SHARE,
  }
}

/** Kicks and interrupts stay in the kernel. */
function exits({ exits: { registers, asked } }: Measured): Sum {
  const sentence = `${count(registers)} accesses to registers while iperf3 ran, ${count(asked)} of them answered in JavaScript`
  return { name: 'exits', sentence, holds: registers === 0 && asked === 0 }
}

export function sumsOf(measured: Measured): Sum[] {
  return [
    sent(measured),
    received(measured),
    ...bytes(measured),
    usedIndexes(measured),
    positions(measured),
    interrupts(measured),
    exits(measured),
  ]
}
