// A virtio-net device on the kernel's vhost-net and a tap, from a driver's registers to the tap's queues, offloads and
// filter as the kernel shows them.

import assert from 'node:assert/strict'
import { constants } from 'node:os'
import { VIRTIO_MMIO, VIRTIO_MMIO_INT } from '../../lib/abi/virtio-mmio.ts'
import { VIRTIO_NET_CONFIG, VIRTIO_NET_S } from '../../lib/abi/virtio-net-control.ts'
import { ethtoolFeatures, RtNetlink } from '../../lib/host/index.ts'
import { moves } from '../support/bring-up.ts'
import { recording } from '../support/failing-binding.ts'
import { sendDatagram, sendFrames, setUpHost } from '../support/host-frames.ts'
import { KernelNic, MAC } from '../support/kernel-nic.ts'
import { soon } from '../support/soon.ts'
import { addTap, ip, sysfs } from '../support/tuntap.ts'

const ifname = 'vnn0'
const OTHER = '52:54:00:aa:bb:cc'
const address = (text: string): number[] => text.split(':').map((pair) => Number.parseInt(pair, 16))
const table = (...macs: string[]): number[] => [macs.length, 0, 0, 0, ...macs.flatMap(address)]

/** Queues of the tap that take frames, and those that are open besides. */
function queues(): { attached: number; detached: number } {
  using netlink = RtNetlink.open()
  const { numqueues = 0, numdisabled = 0 } = netlink.getLink({ ifname })!.tun!
  return { attached: numqueues, detached: numdisabled }
}

describe('a virtio-net device on vhost-net', () => {
  it('moves frames both ways, with one driver after the other', async () => {
    using machine = await KernelNic.open({ ifname })
    setUpHost(ifname)
    for (let round = 0; round < 3; round++) {
      machine.up()
      assert.ok(await moves(machine.driver, 0))
      await sendFrames(ifname, MAC, OTHER)
      assert.deepEqual(await machine.received(2), [MAC, OTHER])
    }
  })

  it('[NET-CTRL-MQ-03] [NET-CTRL-MQ-04] opens as many queues of the tap to frames as the driver asks for', async () => {
    using machine = await KernelNic.open({ ifname, queuePairs: 4 })
    assert.deepEqual(queues(), { attached: 1, detached: 3 })
    setUpHost(ifname)
    machine.up()
    assert.deepEqual(queues(), { attached: 1, detached: 3 })
    for (const pairs of [4, 2, 3, 1, 4]) {
      assert.ok(await machine.command(4, 0, pairs, 0))
      assert.deepEqual(queues(), { attached: pairs, detached: 4 - pairs })
      for (let pair = 0; pair < pairs; pair++) assert.ok(await moves(machine.driver, pair), `pair ${pair}`)
    }
    assert.equal(await machine.command(4, 0, 5, 0), false)
    machine.up()
    assert.deepEqual(queues(), { attached: 1, detached: 3 })
    await sendFrames(ifname, MAC)
    assert.deepEqual(await machine.received(1, 0), [MAC])
  })

  it('[NET-CTRL-GOFF-01] [NET-CTRL-GOFF-02] has the tap offload what the driver takes now, and nothing without a driver', async () => {
    using machine = await KernelNic.open({ ifname, queuePairs: 2 })
    const offloads = (): boolean[] => {
      const features = ethtoolFeatures(ifname)
      return ['tx-checksum-ip-generic', 'tx-tcp-segmentation', 'tx-tcp6-segmentation'].map((name) => features[name]!)
    }
    machine.up()
    assert.deepEqual(offloads(), [true, true, true])
    assert.ok(await machine.command(5, 0, 0x82, 0, 0, 0, 0, 0, 0, 0))
    assert.deepEqual(offloads(), [true, true, false])
    assert.ok(await machine.command(4, 0, 2, 0))
    assert.deepEqual(offloads(), [true, true, false], 'a pair that starts later changes nothing')
    machine.guest.write('VIRTIO_MMIO_STATUS', 0)
    assert.deepEqual(offloads(), [false, false, false])
    machine.up()
    assert.deepEqual(offloads(), [true, true, true])
  })

  it('[NET-CTRL-MAC-02] [NET-CTRL-MAC-04] [NET-CTRL-RX-02] delivers what is for its address and its table, or everything', async () => {
    using machine = await KernelNic.open({ ifname })
    setUpHost(ifname)
    machine.up()
    const third = '52:54:00:00:00:03'
    assert.ok(await machine.command(0, 0, 0))
    assert.ok(await machine.command(1, 0, ...table(OTHER), ...table()))
    assert.deepEqual(machine.nic.backend.inspect().rxFilter, { mode: 'exact', why: null })
    await sendFrames(ifname, third, OTHER, third, MAC)
    assert.deepEqual(await machine.received(2), [OTHER, MAC])
    assert.ok(await machine.command(1, 1, ...address(third)))
    await sendFrames(ifname, MAC, third)
    assert.deepEqual(await machine.received(1), [third])
    assert.ok(await machine.command(0, 0, 1))
    await sendFrames(ifname, MAC, third)
    assert.deepEqual(await machine.received(2), [MAC, third])
  })

  it('delivers everything where a tap cannot tell that many addresses apart, and says so', async () => {
    using machine = await KernelNic.open({ ifname })
    setUpHost(ifname)
    machine.up()
    assert.ok(await machine.command(0, 0, 0))
    const many = Array.from({ length: 8 }, (_, i) => `52:54:00:00:01:0${i}`)
    assert.ok(await machine.command(1, 0, ...table(...many), ...table()))
    const { mode, why } = machine.nic.backend.inspect().rxFilter
    assert.equal(mode, 'all')
    assert.match(why!, /8 unicast addresses, 9/)
    await sendFrames(ifname, OTHER)
    assert.deepEqual(await machine.received(1), [OTHER])
    machine.guest.write('VIRTIO_MMIO_STATUS', 0)
    assert.deepEqual(machine.nic.backend.inspect().rxFilter, { mode: 'all', why: null })
  })

  it('has link while its tap is switched on and the cable is in, and the guest is told', async () => {
    using machine = await KernelNic.open({ ifname })
    const { guest, nic } = machine
    machine.up()
    const { VIRTIO_MMIO_CONFIG } = VIRTIO_MMIO
    const hasLink = (): boolean => {
      const status = guest.registers.read(VIRTIO_MMIO_CONFIG + VIRTIO_NET_CONFIG.status, 2)
      return (status & VIRTIO_NET_S.VIRTIO_NET_S_LINK_UP) !== 0
    }
    assert.equal(hasLink(), false)
    guest.handleInterrupt()
    setUpHost(ifname)
    await soon('link', hasLink)
    assert.ok((guest.handleInterrupt() & VIRTIO_MMIO_INT.VIRTIO_MMIO_INT_CONFIG) !== 0)
    nic.setLink(false)
    assert.equal(hasLink(), false)
    ip('link', 'set', ifname, 'down')
    nic.setLink(true)
    await soon('no link', () => !hasLink())
    ip('link', 'set', ifname, 'up')
    await soon('link again', hasLink)
    ip('link', 'delete', ifname)
    await soon('no tap', () => !hasLink())
  })

  it('follows its tap through a storm of news of which some are lost', async () => {
    using machine = await KernelNic.open({ ifname })
    using netlink = RtNetlink.open()
    const { index } = netlink.getLink({ ifname })!
    assert.equal(machine.nic.inspect().link.up, false)
    // This thread reads none of them meanwhile, and 208 KiB are queued at most: the last, which matters, is lost.
    for (let times = 0; times < 1000; times++) netlink.setLink(index, { txqlen: 100 + (times % 2) })
    netlink.setLink(index, { up: true })
    await soon('link', () => machine.nic.inspect().link.up)
  })

  it('has link whatever its tap is where nobody may ask for that one’s network namespace', async () => {
    const machine = await recording((record) => {
      record.failWhen(({ name }) => name === 'tunGetDevNetNs', constants.errno.EPERM)
      return KernelNic.open({ ifname })
    })
    assert.equal(sysfs(ifname, 'operstate'), 'down')
    assert.equal(machine.nic.inspect().link.up, true)
    machine.nic.setLink(false)
    assert.equal(machine.nic.inspect().link.up, false)
    machine[Symbol.dispose]()
  })

  it('moves nothing without link, and what waited with it', async () => {
    using machine = await KernelNic.open({ ifname })
    setUpHost(ifname)
    machine.up()
    machine.nic.setLink(false)
    await sendFrames(ifname, MAC)
    assert.equal(machine.nic.backend.running(0), false)
    assert.deepEqual(machine.receive(), [])
    machine.nic.setLink(true)
    assert.deepEqual(await machine.received(1), [MAC])
    assert.ok(await moves(machine.driver, 0))
  })

  it('[NET-CFG-05] [NET-CFG-06] receives no larger packets than host_mtu says, and sends those, on a tap that it made', async () => {
    using machine = await KernelNic.open({ ifname, host_mtu: 1400 })
    assert.equal(sysfs(ifname, 'mtu'), '1400')
    setUpHost(ifname)
    machine.up()
    await sendDatagram(ifname, MAC, 3000)
    assert.deepEqual(await machine.receivedSizes(3), [14 + 1396, 14 + 1396, 14 + 20 + 8 + 3000 - 2 * 1376])
    const before = Number(sysfs(ifname, 'statistics/rx_bytes'))
    assert.ok(await moves(machine.driver, 0, 14 + 1400))
    assert.equal(Number(sysfs(ifname, 'statistics/rx_bytes')) - before, 14 + 1400)
  })

  it('leaves a tap that exists its MTU', async () => {
    addTap(ifname, 'vnet_hdr')
    try {
      using _machine = await KernelNic.open({ ifname, host_mtu: 1400 })
      assert.equal(sysfs(ifname, 'mtu'), '1500')
    } finally {
      ip('link', 'delete', ifname)
    }
  })

  for (const queuePairs of [1, 2]) {
    it(`[BASE-VQRST-01] [BASE-VQRST-04] goes on sending while its receive ring is reset, and receives again after it, ${queuePairs} pairs`, async () => {
      using machine = await KernelNic.open({ ifname, queuePairs })
      machine.up()
      assert.ok(await moves(machine.driver, 0))
      machine.guest.write('VIRTIO_MMIO_QUEUE_SEL', 0)
      machine.guest.write('VIRTIO_MMIO_QUEUE_RESET', 1)
      assert.equal(machine.guest.read('VIRTIO_MMIO_QUEUE_READY'), 0)
      if (queuePairs > 1) assert.deepEqual(queues(), { attached: 0, detached: 2 })
      assert.ok(await moves(machine.driver, 0))
      machine.guest.place(0, machine.driver.pairs[0]!.rx.vring)
      assert.ok(machine.guest.enable())
      setUpHost(ifname)
      await sendFrames(ifname, MAC)
      assert.deepEqual(await machine.received(1), [MAC])
      assert.ok(await moves(machine.driver, 0))
    })
  }

  it('goes on receiving while its transmit ring is reset, and sends again after it', async () => {
    using machine = await KernelNic.open({ ifname })
    setUpHost(ifname)
    machine.up()
    machine.guest.write('VIRTIO_MMIO_QUEUE_SEL', 1)
    machine.guest.write('VIRTIO_MMIO_QUEUE_RESET', 1)
    await sendFrames(ifname, MAC)
    assert.deepEqual(await machine.received(1), [MAC])
    machine.guest.place(1, machine.driver.pairs[0]!.tx.vring)
    assert.ok(machine.guest.enable())
    assert.ok(await moves(machine.driver, 0))
  })

  it('explains what this kernel does not serve', async () => {
    using machine = await KernelNic.open({ ifname })
    for (const { name, offeredBy, refused } of machine.nic.explainFeatures()) {
      assert.equal(offeredBy === null, refused !== null, name)
      assert.ok(refused === null || refused.why.length > 0, name)
    }
    const ufo = machine.nic.explainFeatures().find(({ name }) => name === 'VIRTIO_NET_F_GUEST_UFO')
    assert.equal(ufo?.refused?.by, 'backend')
  })

  it('shows what it is, JSON-safe', async () => {
    using machine = await KernelNic.open({ ifname, queuePairs: 2, host_mtu: 1500 })
    machine.up()
    for (const state of [machine.nic.inspect(), machine.nic.stats(), machine.nic.backend.inspect()]) {
      assert.deepEqual(JSON.parse(JSON.stringify(state)), state)
    }
    assert.deepEqual(
      machine.nic.backend.inspect().pairs.map(({ attached, running }) => [attached, running]),
      [
        [true, true],
        [false, false],
      ],
    )
  })
})
