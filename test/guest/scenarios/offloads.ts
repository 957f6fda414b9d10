// Offloads that a guest switches off and on: what goes through the tap is cut by the guest, or left whole.

import assert from 'node:assert/strict'
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { VIRTIO_NET_F } from '../../../lib/abi/virtio-net.ts'
import { startIperfServer } from '../../../scripts/guest/iperf-server.ts'
import type { Server } from '../../../scripts/guest/server.ts'
import type { StockGuest } from '../../../scripts/guest/stock-guest.ts'
import { type Booted, HOST, MTU } from './story.ts'

/** No frame is larger than the MTU and this, unless somebody was left to cut it. */
const ETHERNET = 14
const DATAGRAM = 1000
const DATAGRAMS = 8

/** Bytes per frame that the tap saw while `run` ran; received is what the guest sent. */
async function frameSizes(guest: StockGuest, run: () => Promise<unknown>): Promise<{ received: number; sent: number }> {
  const stats = () => guest.netlink.getLink({ ifname: guest.nics[0]!.backend.ifname })!.stats
  const before = stats()
  await run()
  const after = stats()
  return {
    received: Number(after.rx_bytes - before.rx_bytes) / Number(after.rx_packets - before.rx_packets),
    sent: Number(after.tx_bytes - before.tx_bytes) / Number(after.tx_packets - before.tx_packets),
  }
}

export function offloads(guest: Booted): void {
  describe('switches offloads', () => {
    let server: Server

    before(async () => {
      server = await startIperfServer(HOST)
    })
    after(() => server?.stop())

    const sends = () => guest().run(`iperf3 -c ${HOST} -n 10M > /tmp/out`)
    const receives = () => guest().run(`iperf3 -c ${HOST} -n 10M -R > /tmp/out`)

    it('of sending TCP (tso)', async () => {
      const whole = await frameSizes(guest(), sends)
      assert.ok(whole.received > MTU + ETHERNET, `${whole.received} bytes per frame`)
      await guest().run('ethtool -K eth0 tso off')
      const cut = await frameSizes(guest(), sends)
      assert.ok(cut.received <= MTU + ETHERNET, `${cut.received} bytes per frame`)
      await guest().run('ethtool -K eth0 tso on')
      const again = await frameSizes(guest(), sends)
      assert.ok(again.received > MTU + ETHERNET, `${again.received} bytes per frame`)
    })

    it('of receiving TCP, which is a command to the device (rx-gro-hw), and of putting it together itself (gro)', async () => {
      const whole = await frameSizes(guest(), receives)
      assert.ok(whole.sent > MTU + ETHERNET, `${whole.sent} bytes per frame`)
      assert.ok(guest().nics[0]!.inspect().offloads.includes('VIRTIO_NET_F_GUEST_TSO4'))
      await guest().run('ethtool -K eth0 gro off; ethtool -K eth0 rx-gro-hw off')
      assert.ok(!guest().nics[0]!.inspect().offloads.includes('VIRTIO_NET_F_GUEST_TSO4'))
      const cut = await frameSizes(guest(), receives)
      assert.ok(cut.sent <= MTU + ETHERNET, `${cut.sent} bytes per frame`)
      await guest().run('ethtool -K eth0 rx-gro-hw on; ethtool -K eth0 gro on')
      const again = await frameSizes(guest(), receives)
      assert.ok(again.sent > MTU + ETHERNET, `${again.sent} bytes per frame`)
    })

    it('of sending UDP (tx-udp-segmentation), where its kernel has agreed on that', async () => {
      const hasUso = guest().nics[0]!.negotiated(VIRTIO_NET_F.VIRTIO_NET_F_HOST_USO)
      const socket = createSocket('udp4').bind(0, HOST)
      try {
        await once(socket, 'listening')
        const { port } = socket.address() as AddressInfo
        const datagrams: number[] = []
        socket.on('message', ({ length }) => datagrams.push(length))
        // UDP_SEGMENT: one write, cut into datagrams of this size.
        const segment = `setsockopt-int=17:103:${DATAGRAM}`
        const sends = () =>
          guest().run(
            `head -c ${DATAGRAM * DATAGRAMS} /dev/zero | socat -u -b 65536 - UDP-SENDTO:${HOST}:${port},${segment}`,
          )
        const arrived = async (state: 'on' | 'off', frames: number) => {
          await guest().try(`ethtool -K eth0 tx-udp-segmentation ${state}`)
          datagrams.length = 0
          const { netlink, nics } = guest()
          const received = () => Number(netlink.getLink({ ifname: nics[0]!.backend.ifname })!.stats.rx_packets)
          const before = received()
          await sends()
          while (datagrams.length < DATAGRAMS) await once(socket, 'message')
          assert.deepEqual(datagrams, Array(DATAGRAMS).fill(DATAGRAM))
          assert.equal(received() - before, frames)
        }
        await arrived('on', hasUso ? 1 : DATAGRAMS)
        await arrived('off', DATAGRAMS)
        await arrived('on', hasUso ? 1 : DATAGRAMS)
      } finally {
        socket.close()
        await once(socket, 'close')
      }
    })
  })
}
