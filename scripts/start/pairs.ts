// Who has each queue pair: read in the guest, in guest memory, and in the host's kernel.

import type { VirtioNet } from '../../lib/index.ts'
import type { GuestInterrupts } from '../guest/interrupts.ts'
import type { NicCounters } from '../guest/queue-counters.ts'
import type { StockGuest } from '../guest/stock-guest.ts'
import type { PairPicture, RingPicture } from './measured.ts'
import { pictureWorker } from './workers.ts'

/** The vCPU of a mask as sysfs has it (`'00000000,00000004'`); undefined where there is none, or not one alone. */
export function onlyCpu(mask: string): number | undefined {
  const bits = BigInt(`0x${mask.trim().replaceAll(',', '')}`)
  const cpu = bits.toString(2).length - 1
  return bits === 1n << BigInt(cpu) ? cpu : undefined
}

/** The vCPU that sends through each pair: the guest's driver says so to its network stack (XPS). */
export async function sendingVcpus(guest: Pick<StockGuest, 'run'>, queuePairs: number): Promise<number[]> {
  const files = Array.from({ length: queuePairs }, (_, pair) => `/sys/class/net/eth0/queues/tx-${pair}/xps_cpus`)
  const masks = (await guest.run(`cat ${files.join(' ')}`)).trim().split('\n')
  return masks.map((mask, pair) => {
    const vcpu = onlyCpu(mask)
    if (vcpu === undefined) throw new Error(`pair ${pair} of the guest is no one vCPU's: xps_cpus is ${mask}`)
    return vcpu
  })
}

export interface Counted {
  counters: NicCounters
  /** While iperf3 ran. */
  interrupts: GuestInterrupts
  /** By pair. */
  vcpus: readonly number[]
}

/** But for where vhost stands, which is exact only once it stands still. */
function movingRing(
  nic: VirtioNet,
  pair: number,
  ring: 'rx' | 'tx',
  { counters, interrupts }: Counted,
): Omit<RingPicture, 'vhostBase'> {
  const name = `virtio0-${ring === 'rx' ? 'input' : 'output'}.${pair}`
  const interrupt = interrupts.get(name)
  const counted = counters[ring][pair]
  const usedIdx = nic.queues[2 * pair + (ring === 'rx' ? 0 : 1)]?.usedIndex()
  if (interrupt?.vector === undefined) throw new Error(`the guest has no message for ${name}`)
  if (counted === undefined || usedIdx === undefined)
    throw new Error(`the guest does not use the ${ring} ring of pair ${pair}`)
  const { irq, vector, counts } = interrupt
  return { vector, irq, interrupts: counts, ...counted, usedIdx }
}

/** Reads what stands in guest memory, and stops the device to learn where vhost stands. */
export function picturePairs(nic: VirtioNet, counted: Counted): PairPicture[] {
  const before = nic.backend.inspect().pairs
  const rings = before.map((_, index) => ({
    rx: movingRing(nic, index, 'rx', counted),
    tx: movingRing(nic, index, 'tx', counted),
  }))
  nic.setLink(false)
  return nic.backend.inspect().pairs.map(({ bases, fds, worker }, index) => {
    const { rx, tx } = rings[index]!
    return {
      index,
      vcpu: counted.vcpus[index]!,
      rx: { ...rx, vhostBase: bases!.rx },
      tx: { ...tx, vhostBase: bases!.tx },
      worker: worker === null ? null : pictureWorker(worker.tid),
      tapFd: fds!.tap,
      vhostFd: fds!.vhost,
    }
  })
}
