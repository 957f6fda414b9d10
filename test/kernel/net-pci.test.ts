// A virtio-net device on vhost-net behind PCI: its packets' interrupts go from the kernel's workers to a local APIC of KVM's,
// by the vectors that the driver chose, whatever it does with them meanwhile.

import assert from 'node:assert/strict'
import { createSocket } from 'node:dgram'
import { FramePort, GuestNic, LocalEvents, LocalMemorySpace, PciDevice, placeBars } from '../../lib/driver/index.ts'
import { VirtioNet } from '../../lib/index.ts'
import { GsiRoutes, KvmMessageInterrupts } from '../../lib/kvm/index.ts'
import { GuestMemory } from '../../lib/memory/index.ts'
import { PciBus } from '../../lib/pci/index.ts'
import { Teardown } from '../../lib/teardown.ts'
import { defaultVectors, VirtioPciTransport } from '../../lib/transport/index.ts'
import { sendFrames, setUpHost } from '../support/host-frames.ts'
import { IdleApic } from '../support/idle-apic.ts'
import { MAC } from '../support/kernel-nic.ts'
import { diffSoon, resources } from '../support/resources.ts'
import { soon } from '../support/soon.ts'

const ifname = 'vnp0'
const QUEUE_PAIRS = 2
const LAYOUT = { queuePairs: QUEUE_PAIRS, queueSize: 64 }
/** The driver's first queue has it: the one before is the configuration's. */
const RX_VECTOR = 1
/** The CPU's vectors that messages raise: as the driver starts, and 64 that the receive queue is moved among. */
const FIRST = 0x90
const MOVED = 0x50
/** Where the pending bits begin, behind a table of less than a page. */
const PENDING_BITS = 4096

describe('a virtio-net device over PCI on vhost-net', () => {
  let all: Teardown
  let held: ReturnType<typeof resources>

  beforeEach(() => {
    held = resources()
    all = new Teardown()
  })

  afterEach('nothing is left', async () => {
    all.run()
    assert.deepEqual(await diffSoon(held, 5000), [])
  })

  const open = async () => {
    const apic = all.own(new IdleApic())
    const memory = all.own(GuestMemory.allocate({ size: GuestNic.memoryNeeded(LAYOUT) }))
    const backend = { tap: { ifname } }
    const device = all.own(await VirtioNet.open({ memory, queuePairs: QUEUE_PAIRS, mac: MAC, backend }))
    const interrupts = all.own(new KvmMessageInterrupts(apic.vm, new GsiRoutes(apic.vm), defaultVectors(device)))
    const events = new LocalEvents()
    const transport = all.own(new VirtioPciTransport(device, { interrupts, doorbells: events }))
    const space = new LocalMemorySpace()
    new PciBus(space).plug(1, transport.function)
    placeBars(transport.function, 0xd000_0000)
    const found = PciDevice.probe(transport.function, { memory: space, events })!
    const table = transport.function.bars[1]!.registers
    for (let vector = 0; vector < defaultVectors(device); vector++) table.write(16 * vector + 8, 4, FIRST + vector)
    const nic = await GuestNic.start(found, { memory, ...LAYOUT })
    setUpHost(ifname)
    return { apic, nic, table }
  }

  it('is interrupted once for each frame, masked and let go and given another message in between', async () => {
    const { apic, nic, table } = await open()
    const port = new FramePort(nic)
    const frames = port.frames()
    const pending = (): boolean => (table.read(PENDING_BITS, 4) & (1 << RX_VECTOR)) !== 0
    await sendFrames(ifname, MAC)
    await soon('the interrupt', () => apic.requested(FIRST + RX_VECTOR))
    apic.acknowledge()
    nic.handleInterrupt(RX_VECTOR)
    await frames.next()
    const socket = createSocket('udp4')
    all.add(() => socket.close())
    const send = (): Promise<unknown> => new Promise((resolve) => socket.send('once more', 7, '10.79.0.2', resolve))
    for (let flip = 0; flip < 300; flip++) {
      const vector = MOVED + (flip % 64)
      const frame = frames.next()
      table.write(16 * RX_VECTOR + 12, 4, 1)
      if (flip % 3 === 0) {
        await send()
        await soon('the pending bit', pending)
      }
      assert.equal(apic.requested(vector), false)
      table.write(16 * RX_VECTOR + 8, 4, vector)
      table.write(16 * RX_VECTOR + 12, 4, 0)
      if (flip % 3 !== 0) await send()
      await soon('the interrupt', () => apic.requested(vector))
      assert.equal(pending(), false)
      apic.acknowledge()
      nic.handleInterrupt(RX_VECTOR)
      const { value } = await frame
      assert.equal(value!.bytes.readUInt16BE(12), 0x0800)
    }
    port.close()
    await nic.close()
  }).timeout(120_000)
})
