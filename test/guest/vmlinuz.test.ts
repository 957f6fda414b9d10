// The file that Debian ships boots as it is, and finds the machine that it was told of.

import assert from 'node:assert/strict'
import { StockGuest } from '../../scripts/guest/stock-guest.ts'
import { leavesNothing } from '../support/leaves-nothing.ts'

describe("Debian's own vmlinuz", () => {
  const closing = leavesNothing()

  it('boots, on one socket of two cores, with a NIC whose host answers, and switches the machine off', async () => {
    const guest = closing.own(
      await StockGuest.boot({
        kernel: '6.12',
        image: 'vmlinuz',
        smp: 2,
        // It unpacks itself: moving itself afterwards takes longer than its boot should.
        append: 'nokaslr',
        nics: [{ ifname: 'vz0', address: '192.0.2.1' }],
      }),
    )
    const cpus = '/sys/devices/system/cpu/cpu*'
    assert.equal(await guest.run(`cat ${cpus}/topology/physical_package_id`), '0\n0\n')
    assert.equal(await guest.run(`cat ${cpus}/topology/core_id`), '0\n1\n')
    assert.equal(await guest.run(`cat ${cpus}/topology/package_cpus_list`), '0-1\n0-1\n')
    assert.equal(await guest.run(`cat ${cpus}/topology/thread_siblings_list`), '0\n1\n')
    // What boot_params says (arch/x86/kernel/ksysfs.c), and the loader's version in it.
    assert.equal(await guest.run('cat /proc/sys/kernel/bootloader_type'), '255\n')
    await guest.run('ip addr add 192.0.2.2/24 dev eth0 && ip link set eth0 up && ping -c 1 -w 30 192.0.2.1')
    guest.vm.console.write('poweroff -f\n')
    assert.deepEqual(await guest.end(60), { why: 'poweroff' })
  })
})
