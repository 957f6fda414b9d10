// Stock kernels of Debian, with the drivers that came with them, on our machine and our NICs.

import assert from 'node:assert/strict'
import { setTimeout } from 'node:timers/promises'
import type { KernelName } from '../../scripts/lab/kernels.ts'
import { diffSoon, resources } from '../support/resources.ts'
import { StockGuest } from '../support/stock-guest.ts'

const MAC = '52:54:00:12:34:56'
const MTU = 9000
const HOST = '10.5.0.1'
const GUEST = '10.5.0.2'

const stories: { kernel: KernelName; smp: number; queuePairs: number }[] = [
  { kernel: '6.1', smp: 1, queuePairs: 1 },
  { kernel: '6.12', smp: 4, queuePairs: 4 },
]

for (const { kernel, smp, queuePairs } of stories) {
  describe(`a stock guest of Linux ${kernel} with ${smp} processors and ${queuePairs} queue pairs`, () => {
    let held: ReturnType<typeof resources>
    let guest: StockGuest

    before('boots', async () => {
      held = resources()
      const nic = { ifname: 'guest0', address: HOST, mac: MAC, host_mtu: MTU, queuePairs }
      guest = await StockGuest.boot({ kernel, smp, nics: [nic] })
    })

    after('is closed', () => guest?.close())

    const nic = () => guest.nics[0]!
    const asked = () => guest.vm.counters().reduce((sum, counters) => sum + counters.asked, 0)

    it('is that kernel, on that many processors', async () => {
      const [release, processors] = (await guest.run('uname -r; nproc')).split('\n')
      assert.ok(release?.startsWith(`${kernel}.`), release)
      assert.equal(processors, String(smp))
    })

    it('finds the NIC with its address and its MTU', async () => {
      const found = await guest.run('cat /sys/class/net/eth0/address /sys/class/net/eth0/mtu; ls -1 /sys/class/net')
      assert.equal(found, `${MAC}\n${MTU}\neth0\nlo\n`)
    })

    it('agrees with the device on the features, bit for bit', async () => {
      await guest.run(`ip addr add ${GUEST}/24 dev eth0; ip link set eth0 up`)
      const bits = (await guest.run('cat /sys/class/net/eth0/device/features')).trim()
      assert.equal(bits.length, 64)
      assert.equal(BigInt(`0b${[...bits].reverse().join('')}`), nic().accepted & ((1n << 64n) - 1n))
      assert.equal(nic().accepted & ~nic().offered, 0n)
    })

    it('reaches the host, and neither kicks nor interrupts wake anybody here', async () => {
      const before = asked()
      for (const size of [0, 56, 8972]) {
        assert.match(await guest.run(`ping -c 3 -i 0.1 -s ${size} ${HOST}`), / 0% packet loss/)
      }
      assert.equal(asked() - before, 0)
    })

    it('is told by ethtool what drives it, and how many queues it has', async () => {
      assert.match(await guest.run('ethtool -i eth0'), /^driver: virtio_net\n/)
      const [most, current] = [...(await guest.run('ethtool -l eth0')).matchAll(/^Combined:\s+(\d+)/gm)]
      assert.equal(most?.[1], String(queuePairs))
      assert.equal(current?.[1], String(queuePairs))
    })

    it('is interrupted by edges of a pin of the I/O APIC', async () => {
      assert.match(await guest.run('grep virtio /proc/interrupts'), /IO-APIC +5-edge +virtio0/)
    })

    it('switches the machine off', async () => {
      guest.vm.write('poweroff -f\n')
      const late = setTimeout(60_000, undefined, { ref: false })
      assert.deepEqual(await Promise.race([guest.ended, late]), { why: 'poweroff' })
    })

    it('leaves nothing behind', async () => {
      guest.close()
      assert.deepEqual(await diffSoon(held, 5000), [])
    })
  })
}
