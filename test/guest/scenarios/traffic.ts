// Packets of a guest: that they arrive as they were, and that this process has nothing to do with it.

import assert from 'node:assert/strict'
import { performance } from 'node:perf_hooks'
import { startDhcpServer } from '../../../scripts/guest/dhcp-server.ts'
import { startIperfServer } from '../../../scripts/guest/iperf-server.ts'
import { guestReceives, guestSends } from '../../support/guest-bulk.ts'
import { asked, type Booted, HOST, memoryAccesses, SECOND, type Story } from './story.ts'

/**
 * Turns that the event loop may take for what a guest says on its console, for V8's compiler and collector. One for every
 * interrupt would be thousands.
 */
const TURNS = 100
const MEBIBYTES = 100

const turns = (): number => performance.nodeTiming.uvMetricsInfo.loopCount

export function traffic(guest: Booted, { transport }: Story): void {
  describe('exchanges packets', () => {
    it('to get its address by DHCP, with checksums left to whoever takes them off the tap', async () => {
      const server = await startDhcpServer({
        ifname: guest().nics[0]!.backend.ifname,
        range: ['10.5.0.10', '10.5.0.20'],
      })
      try {
        await guest().run('udhcpc -i eth0 -n -q -f -s /bin/udhcpc.script')
      } finally {
        await server.stop()
      }
      assert.match(await guest().run('ip addr show eth0'), /inet 10\.5\.0\.\d\d\/24/)
    })

    it('with its other NIC, at an address of its own', async () => {
      await guest().run(`ip addr add ${SECOND.guest}/24 dev eth1; ip link set eth1 up`)
      assert.match(await guest().run(`ping -c 3 -i 0.1 ${SECOND.host}`), / 0% packet loss/)
    })

    it('as large as the MTU', async () => {
      for (const size of [0, 56, 8972]) {
        assert.match(await guest().run(`ping -c 3 -i 0.1 -s ${size} ${HOST}`), / 0% packet loss/)
      }
      // ping has no way to forbid fragments: the MTU is what the stack cuts at.
      assert.match(await guest().run('ip link show eth0'), /mtu 9000 /)
    })

    it(`of ${MEBIBYTES} MiB from the host, every byte as it was sent`, () => guestReceives(guest(), HOST, MEBIBYTES))

    it(`of ${MEBIBYTES} MiB to the host, every byte as it was sent`, () => guestSends(guest(), HOST, MEBIBYTES))

    it('and neither kicks nor interrupts come to JavaScript', async () => {
      const server = await startIperfServer(HOST)
      const { netlink } = guest()
      const packets = () => {
        const { rx_packets, tx_packets } = netlink.getLink({ ifname: guest().nics[0]!.backend.ifname })!.stats
        return Number(rx_packets) + Number(tx_packets)
      }
      try {
        const before = {
          asked: asked(guest()),
          accesses: memoryAccesses(guest()),
          turns: turns(),
          packets: packets(),
        }
        await guest().run(
          `iperf3 -c ${HOST} -n 20M -M 1400 > /tmp/out && iperf3 -c ${HOST} -n 20M -M 1400 -R > /tmp/out`,
        )
        assert.equal(asked(guest()) - before.asked, 0)
        // Over MMIO each interrupt is looked at and acknowledged, on the vCPU's thread.
        if (transport === 'pci') assert.equal(memoryAccesses(guest()) - before.accesses, 0)
        const taken = turns() - before.turns
        const moved = packets() - before.packets
        assert.ok(moved > 10 * TURNS, `${moved} packets`)
        assert.ok(taken <= TURNS, `the event loop went round ${taken} times for ${moved} packets`)
      } finally {
        await server.stop()
      }
    })
  })
}
