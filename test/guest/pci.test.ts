// A stock guest's PCI bus: devices that come and go while it runs, and interrupts where it uses no messages.

import assert from 'node:assert/strict'
import { StockGuest } from '../../scripts/guest/stock-guest.ts'
import { leavesNothing } from '../support/leaves-nothing.ts'

const HOST = '10.5.0.1'
const GUEST = '10.5.0.2'
const nic = { ifname: 'guest0', address: HOST, mac: '52:54:00:12:34:56' }

describe('the PCI bus of a stock guest', () => {
  const closing = leavesNothing()

  it('has slots that are filled and emptied while it runs', async () => {
    const guest = closing.own(await StockGuest.boot({ kernel: '6.12', nics: [] }))
    assert.equal(await guest.run('ls /sys/bus/pci/devices'), '0000:00:00.0\n')
    const plugged = await guest.open(nic)
    for (let time = 0; time < 3; time++) {
      const transport = guest.vm.attachPci(plugged)
      await guest.run('echo 1 > /sys/bus/pci/rescan')
      assert.equal((await guest.run('cat /sys/class/net/eth0/address')).trim(), nic.mac)
      await guest.run(`ip addr add ${GUEST}/24 dev eth0; ip link set eth0 up`)
      assert.match(await guest.run(`ping -c 3 -i 0.1 ${HOST}`), / 0% packet loss/)
      await guest.run('echo 1 > /sys/bus/pci/devices/0000:00:01.0/remove')
      guest.vm.detachPci(transport)
      assert.equal(await guest.run('echo 1 > /sys/bus/pci/rescan; ls /sys/bus/pci/devices'), '0000:00:00.0\n')
    }
  })

  it('survives the loss of a device that is in use', async () => {
    const guest = closing.own(await StockGuest.boot({ kernel: '6.12', nics: [] }))
    const plugged = await guest.open(nic)
    const transport = guest.vm.attachPci(plugged)
    await guest.run(`echo 1 > /sys/bus/pci/rescan; ip addr add ${GUEST}/24 dev eth0; ip link set eth0 up`)
    await guest.run(`ping -c 1000000 -i 0.02 ${HOST} > /tmp/ping & pinging=$!`)
    guest.vm.detachPci(transport)
    assert.deepEqual(plugged.inspect().status, [])
    assert.match((await guest.try(`ping -c 3 -i 0.1 -W 1 ${HOST}`)).output, /100% packet loss/)
  })

  it('carries the pin of a device whose driver may not use messages', async () => {
    const guest = closing.own(await StockGuest.boot({ kernel: '6.12', nics: [nic], append: 'pci=nomsi' }))
    assert.match(await guest.run('grep virtio /proc/interrupts'), /IO-APIC +\d+-fasteoi +virtio0/)
    await guest.run(`ip addr add ${GUEST}/24 dev eth0; ip link set eth0 up`)
    assert.match(await guest.run(`ping -c 10 -i 0.1 ${HOST}`), / 0% packet loss/)
  })
})
