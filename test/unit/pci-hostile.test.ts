// A guest that writes anything anywhere into a virtio device over PCI: nothing throws, nothing is left behind, and after a
// reset of the bus the device is as good as new.

import assert from 'node:assert/strict'
import { setImmediate } from 'node:timers/promises'
import fc from 'fast-check'
import type { Doorbell, EventFd } from '../../lib/event/index.ts'
import { BufferMemory } from '../../lib/memory/index.ts'
import { ConfigPorts } from '../../lib/pci/index.ts'
import { VirtioPciTransport } from '../../lib/transport/index.ts'
import { GuestRing } from '../support/guest-ring.ts'
import { NotedMessages, NotedPin, TestBus } from '../support/pci-bus.ts'
import { PciGuest } from '../support/pci-guest.ts'
import { soon } from '../support/soon.ts'
import { VirtioRng } from '../support/virtio-rng.ts'

const width = fc.constantFrom(1, 2, 4)
const value = fc.oneof(fc.constantFrom(0, 1, 2, 3, 6, 8, 0x0b, 0x0f, 0xffff, 0xc000, 0xffff_ffff), fc.nat(0xffff_ffff))
/** Where, what: configuration space by ECAM or by ports, the structures, and the table of MSI-X. */
const access = fc.record({
  where: fc.constantFrom('config', 'ports', 'structures', 'msix'),
  offset: fc.oneof(fc.nat(0x7f), fc.nat(0x4fff)),
  width,
  value,
  write: fc.boolean(),
})

describe('virtio over PCI, whatever its guest does', () => {
  it('throws nothing, and works after a reset of the bus', async () => {
    await fc.assert(
      fc.asyncProperty(fc.boolean(), fc.array(access, { maxLength: 120 }), async (started, accesses) => {
        const buffer = new ArrayBuffer(0x10000)
        const device = new VirtioRng(new BufferMemory(buffer), { queueSizes: [8, 8], config: new Uint8Array(8) })
        const kicks = new Map<number, EventFd>()
        const doorbells = {
          assign({ address }: Doorbell, kick: EventFd): void {
            if (kicks.has(address)) throw new Error('another doorbell takes the same writes')
            kicks.set(address, kick)
          },
          deassign: ({ address }: Doorbell) => assert.ok(kicks.delete(address)),
        }
        const [interrupts, pin, machine] = [new NotedMessages(3), new NotedPin(), new TestBus()]
        const transport = new VirtioPciTransport(device, { interrupts, pin, doorbells })
        machine.bus.plug(4, transport.function)
        const ports = new ConfigPorts(machine.bus)
        let guest = new PciGuest(machine.config(4), machine.memory)
        const [structures, msix] = transport.function.bars.map(({ registers }) => registers)
        const windows = { config: guest.config, ports, structures: structures!, msix: msix! }
        if (started) {
          guest.enableMsix()
          guest.start(new GuestRing(buffer, 0x1000, 8), undefined, 1)
        }
        ports.write(0, 4, 0x8000_2000)
        for (const { where, offset, ...each } of accesses) {
          const window = windows[where as keyof typeof windows]
          if (each.write) window.write(offset % window.size, each.width, each.value)
          else assert.ok(window.read(offset % window.size, each.width) <= 0xffff_ffff)
        }
        await setImmediate()
        machine.bus.reset()
        guest = new PciGuest(machine.config(4), machine.memory)
        const ring = new GuestRing(buffer, 0x1000, 8)
        guest.enableMsix()
        guest.start(ring, undefined, 2)
        interrupts.take()
        ring.chain([{ address: 0x8000, length: 16, deviceWrites: true }])
        ring.offer(0)
        guest.kick()
        await soon('the buffer', () => ring.usedIdx === 1)
        await setImmediate()
        assert.deepEqual([interrupts.take(), pin.held], [{ 2: 1 }, false])
        machine.bus.unplug(4)
        transport.close()
        ports.close()
        device.close()
        assert.deepEqual([interrupts.connected.size, kicks.size, machine.memory.windows.size], [0, 0, 0])
      }),
      { numRuns: 150 },
    )
  }).timeout(60_000)
})
