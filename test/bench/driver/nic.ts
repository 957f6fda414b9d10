// What every measured path of ours stands on: one queue pair on vhost-net with a driver, and a tap that is up.

import { writeFileSync } from 'node:fs'
import { VIRTIO_F } from '../../../lib/abi/virtio.ts'
import { VIRTIO_NET_F, VIRTIO_NET_HDR_SIZE } from '../../../lib/abi/virtio-net.ts'
import { VhostNetBackend } from '../../../lib/backend/index.ts'
import { Driver, type DriverPair } from '../../../lib/driver/index.ts'
import { RtNetlink } from '../../../lib/host/index.ts'
import { GuestMemory } from '../../../lib/memory/index.ts'
import { Teardown } from '../../../lib/teardown.ts'

/** Entries of each ring, the most that QEMU's rx_queue_size takes; of the program in C, too. */
export const RING = 1024
/** Packets in a call, and in a kick. */
export const BATCH = 64
/** The largest a tap takes: drivers/net/tun.c, MAX_MTU. */
const MTU = 65521

const features = [
  VIRTIO_F.VIRTIO_F_VERSION_1,
  VIRTIO_F.VIRTIO_RING_F_EVENT_IDX,
  VIRTIO_NET_F.VIRTIO_NET_F_MRG_RXBUF,
].reduce((bits, bit) => bits | (1n << BigInt(bit)), 0n)

/** Sets a tap up for any size of frame, and silences the kernel's own traffic on it. */
export function prepareLink(ifname: string): void {
  writeFileSync(`/proc/sys/net/ipv6/conf/${ifname}/disable_ipv6`, '1')
  using netlink = RtNetlink.open()
  const link = netlink.getLink({ ifname })
  if (link === undefined) throw new Error(`${ifname} is gone`)
  netlink.setLink(link.index, { mtu: MTU, up: true })
}

/** A broadcast-free IPv4 ethertype frame that the host's stack drops at once: it is for somebody else. */
export function writeFrame(bytes: Uint8Array, at: number): void {
  bytes.fill(0, at, at + VIRTIO_NET_HDR_SIZE)
  bytes.fill(2, at + VIRTIO_NET_HDR_SIZE, at + VIRTIO_NET_HDR_SIZE + 12)
  bytes.set([8, 0], at + VIRTIO_NET_HDR_SIZE + 12)
}

export interface Nic extends DriverPair {
  ifname: string
  close(): Promise<void>
}

/** @param bufferSize bytes of a buffer of the pools; frames of more take several. @param queueSize entries of a ring. */
export async function openNic(bufferSize: number, queueSize = RING): Promise<Nic> {
  const opened = new Teardown()
  try {
    const layout = { features, queueSize, bufferSize }
    const memory = opened.own(GuestMemory.allocate({ size: Driver.memoryNeeded(layout), prefault: true }))
    const backend = opened.own(await VhostNetBackend.open({ memory, tap: { ifname: 'bench%d' } }))
    const driver = Driver.create({ memory, ...layout })
    opened.add(() => driver.destroy())
    const { rx, tx } = driver.pairs[0] as DriverPair
    for (let at = 0; at < tx.pool.length; at += bufferSize) writeFrame(tx.pool, at)
    prepareLink(backend.ifname)
    backend.start(0, { features, rx: rx.vring, tx: tx.vring })
    const close = async () => {
      await driver.close({ drainTimeoutMs: 60_000 })
      opened.run()
    }
    return { ifname: backend.ifname, rx, tx, close }
  } catch (error) {
    throw opened.unwind(error)
  }
}
