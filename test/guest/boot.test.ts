// A stock Debian kernel on KVM: it finds the machine's devices by itself, and uses them with its own drivers.

import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { RtNetlink } from '../../lib/host/index.ts'
import { VirtioNet } from '../../lib/nic.ts'
import { Teardown } from '../../lib/teardown.ts'
import { Vm, type VmEnd } from '../../lib/vmm/index.ts'
import { provideKernel } from '../../scripts/lab/kernels.ts'
import { sections, writeGuestInitramfs } from '../support/guest-initramfs.ts'
import { diffSoon, resources } from '../support/resources.ts'

const HOST = '10.5.0.1'
const GUEST = '10.5.0.2'
const APPEND =
  'console=ttyS0 quiet panic=-1 mitigations=off no_timer_check tsc=reliable 8250.nr_uarts=1 i8042.noaux i8042.nokbd pci=off'

describe('a stock guest of Linux 6.1 with one NIC over MMIO', () => {
  let held: ReturnType<typeof resources>
  let output = ''
  let end: VmEnd | undefined
  let guest: Map<string, string>
  let offered: bigint
  let agreed: bigint | undefined

  before('boots, and runs to its end', async () => {
    held = resources()
    const all = new Teardown()
    try {
      const kernel = await provideKernel('6.1')
      const directory = mkdtempSync(path.join(tmpdir(), 'guest-'))
      all.add(() => rmSync(directory, { recursive: true }))
      const initrd = path.join(directory, 'initrd')
      writeGuestInitramfs(kernel, initrd, {
        uname: 'uname -r; nproc',
        link: `ip addr add ${GUEST}/24 dev eth0; ip link set eth0 up; cat /sys/class/net/eth0/address /sys/class/net/eth0/mtu`,
        ping: `ping -c 5 -i 0.2 ${HOST}`,
        features: 'cat /sys/bus/virtio/devices/virtio0/features',
        interrupts: 'grep virtio0 /proc/interrupts',
        off: 'poweroff -f',
      })
      const vm = new Vm({ kernel: kernel.vmlinux, initrd, append: APPEND })
      const mac = '52:54:00:12:34:56'
      const nic = all.own(await VirtioNet.open({ memory: vm.memory, mac, backend: { tap: { ifname: 'guest0' } } }))
      all.own(vm)
      vm.on('console', (bytes) => {
        output += Buffer.from(bytes).toString('latin1')
        // Before it is off: a driver may reset its device then.
        if (output.includes('=== off')) agreed ??= nic.accepted
      })
      const netlink = all.own(RtNetlink.open())
      const index = (await netlink.getLink({ ifname: 'guest0' }))?.index as number
      await netlink.addAddress(index, { address: HOST, prefixLength: 24 })
      await netlink.setLink(index, { up: true })
      vm.attach(nic)
      const ended = new Promise<VmEnd>((resolve) => {
        vm.once('end', resolve)
      })
      vm.start()
      end = await Promise.race([ended, setTimeout(120_000, undefined, { ref: false })])
      guest = sections(output)
      offered = nic.offered
    } finally {
      all.run()
    }
  })

  it('is that kernel, on one processor', () => {
    assert.match(guest.get('uname') ?? output, /^6\.1\.0-\d+-amd64\n1\n/)
  })

  it('has the NIC with its address and MTU', () => {
    assert.match(guest.get('link') ?? '', /52:54:00:12:34:56\n1500\n/)
  })

  it('reaches the host', () => {
    assert.match(guest.get('ping') ?? '', /5 packets transmitted, 5 packets received, 0% packet loss/)
  })

  it('agrees with the device on the features, bit for bit', () => {
    const bits = (guest.get('features') ?? '').trim()
    assert.equal(bits.length, 64)
    assert.equal(
      [...bits].reduceRight((mask, bit) => (mask << 1n) | BigInt(bit), 0n),
      agreed,
    )
    assert.equal((agreed as bigint) & ~offered, 0n)
  })

  it('is interrupted by an edge of a pin of the I/O APIC', () => {
    assert.match(guest.get('interrupts') ?? '', /IO-APIC +5-edge +virtio0/)
  })

  it('switches the machine off', () => {
    assert.deepEqual(end, { why: 'poweroff' })
  })

  it('leaves nothing behind', async () => {
    assert.deepEqual(await diffSoon(held, 5000), [])
  })
})
