// A driver that is not Linux's, over PCI: DPDK's, in the userspace of a stock guest. It polls its queues, and has the pin
// for what it does not poll.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { StockGuest } from '../../scripts/guest/stock-guest.ts'
import { provideDpdk } from '../../scripts/test/dpdk.ts'
import { leavesNothing } from '../support/leaves-nothing.ts'
import { soon } from '../support/soon.ts'
import { giveTo, Testpmd, testpmdExtras } from '../support/testpmd.ts'
import { asked, memoryAccesses } from './scenarios/story.ts'

const HOST = '10.5.0.1'
const GUEST = '10.5.0.2'
/** Of the guest's only NIC. */
const ADDRESS = '0000:00:01.0'
const QUEUE_PAIRS = 2
/** So many that both pairs get some of them: which one is up to a hash. */
const FLOWS = 16
const PINGS = 3
const nic = { ifname: 'guest0', address: HOST, mac: '52:54:00:12:34:56', queuePairs: QUEUE_PAIRS }

describe('DPDK’s driver in a stock guest, over PCI', () => {
  const closing = leavesNothing('all')
  let guest: StockGuest
  let testpmd: Testpmd

  const device = () => guest.nics[0]!
  /** Frames that the tap got from the guest. */
  const received = () => Number(guest.netlink.getLink({ ifname: nic.ifname })!.stats.rx_packets)

  const ping = async (address: string) => {
    const options = ['ping', '-c', String(PINGS), '-i', '0.1', '-W', '10', address]
    assert.match((await promisify(execFile)('busybox', options)).stdout, / 0% packet loss/)
  }
  /** Addresses that nobody has: testpmd answers for any. */
  const pingAll = () => Promise.all(Array.from({ length: FLOWS }, (_, i) => ping(`10.5.0.${100 + i}`)))

  before('boots', async () => {
    const dpdk = await provideDpdk()
    guest = closing.own(await StockGuest.boot({ kernel: '6.12', nics: [nic], extras: testpmdExtras(dpdk) }))
    await giveTo(guest, ADDRESS, 'uio_pci_generic')
    testpmd = await Testpmd.start(guest, dpdk, {
      address: ADDRESS,
      queuePairs: QUEUE_PAIRS,
      forwardMode: 'icmpecho',
    })
  })

  it('agrees with the device on features, and has all of its queues', () => {
    const { status, features, queues, activePairs, pairs, controlQueue, fault } = device().inspect()
    assert.deepEqual([...status].sort(), ['ACKNOWLEDGE', 'DRIVER', 'DRIVER_OK', 'FEATURES_OK'])
    for (const name of ['VIRTIO_F_VERSION_1', 'VIRTIO_NET_F_MQ', 'VIRTIO_NET_F_CTRL_VQ', 'VIRTIO_NET_F_MRG_RXBUF'])
      assert.ok(features.accepted.includes(name), name)
    assert.ok(queues.every(({ ready }) => ready))
    assert.ok(pairs.every(({ active, running }) => active && running))
    assert.deepEqual([activePairs, controlQueue, fault], [QUEUE_PAIRS, 2 * QUEUE_PAIRS, null])
  })

  it('answers each of the host’s packets, in both pairs, and asks JavaScript nothing', async () => {
    await testpmd.say('start')
    const before = { asked: asked(guest), accesses: memoryAccesses(guest), received: received() }
    await pingAll()
    assert.deepEqual([asked(guest) - before.asked, memoryAccesses(guest) - before.accesses], [0, 0])
    const sent = [...(await testpmd.say('stop')).matchAll(/RX-packets: \d+ +TX-packets: (\d+) +TX-dropped: 0/g)]
    const [ofFirst, ofSecond] = sent.map(([, packets]) => Number(packets))
    assert.equal(sent.length, QUEUE_PAIRS)
    assert.ok(ofFirst! > 0 && ofSecond! > 0, `${ofFirst} and ${ofSecond}`)
    assert.equal(received() - before.received, ofFirst! + ofSecond!)
    // Where the host's neighbours are is asked before.
    assert.ok(ofFirst! + ofSecond! >= FLOWS * (PINGS + 1), `${ofFirst} and ${ofSecond}`)
  })

  it('is told by an interrupt that the link went and came', async () => {
    for (const up of [false, true]) {
      device().setLink(up)
      await testpmd.hears('link state change event')
      assert.match(await testpmd.say('show port info 0'), up ? /^Link status: up$/m : /^Link status: down$/m)
    }
  })

  // It does not say that it has: its virtio_send_command (drivers/net/virtio/virtio_cvq.c) refuses a command without data.
  it('announces itself when it is asked to', async () => {
    const before = received()
    assert.equal(device().announce(), true)
    await soon('its announcement', () => received() > before)
  })

  it('stops its port, starts it, and answers as before', async () => {
    await testpmd.say('port stop 0')
    await testpmd.say('port start 0')
    await testpmd.say('start')
    await pingAll()
    assert.equal(device().inspect().fault, null)
  })

  it('resets the device when it ends', async () => {
    await testpmd.quit()
    const { status, link, queues, pairs, fault } = device().inspect()
    assert.deepEqual([status, link.announcing, fault], [[], false, null])
    assert.ok(queues.every(({ ready }) => !ready))
    assert.ok(pairs.every(({ running }) => !running))
  })

  it('and leaves it to Linux’s as that one knows it', async () => {
    await giveTo(guest, ADDRESS)
    await guest.run(`ip addr add ${GUEST}/24 dev eth0; ip link set eth0 up`)
    assert.match(await guest.run(`ping -c 3 -i 0.1 ${HOST}`), / 0% packet loss/)
    await ping(GUEST)
    assert.equal(device().inspect().fault, null)
  })
})
