// A virtio-net device on the kernel's vhost-net whose guest writes registers and rings word by word, and anything into them.

import assert from 'node:assert/strict'
import { VIRTIO_CONFIG_S } from '../../lib/abi/virtio.ts'
import { RtNetlink, VhostWorker } from '../../lib/host/index.ts'
import { VirtioNet } from '../../lib/index.ts'
import { GuestMemory } from '../../lib/memory/index.ts'
import { Teardown } from '../../lib/teardown.ts'
import { VirtioMmioTransport, VirtioPciTransport } from '../../lib/transport/index.ts'
import { type DeviceFault, featureSet } from '../../lib/virtio/index.ts'
import { GuestRing } from './guest-ring.ts'
import { setUpHost } from './host-frames.ts'
import { CountedInterrupts, MmioGuest } from './mmio-guest.ts'
import { NotedMessages, TestBus } from './pci-bus.ts'
import { PciGuest } from './pci-guest.ts'
import type { Victim } from './ring-faults.ts'

const NUM = 64
const POOL = 0x20000
const TABLE = 0x10000
const END = 0x40000
const FRAME = 72
const SLOT = 3
/** MRG_RXBUF, STATUS, INDIRECT_DESC, VERSION_1, and EVENT_IDX where it is asked for. */
const FEATURES = featureSet(15, 16, 28, 32)

export const MAC = '52:54:00:12:34:56'

export type RawTransport = 'mmio' | 'pci'

/** A guest's driver that reaches the device so. */
function guestOver(transport: RawTransport, nic: VirtioNet, closing: Teardown): MmioGuest | PciGuest {
  if (transport === 'mmio') {
    return new MmioGuest(closing.own(new VirtioMmioTransport(nic, { interrupts: new CountedInterrupts() })))
  }
  const machine = new TestBus()
  const pci = closing.own(new VirtioPciTransport(nic, { interrupts: new NotedMessages() }))
  machine.bus.plug(SLOT, pci.function)
  closing.add(() => machine.bus.unplug(SLOT))
  return new PciGuest(machine.config(SLOT), machine.memory)
}

export class RawNic {
  readonly nic: VirtioNet
  readonly faults: DeviceFault[] = []
  readonly guest: MmioGuest | PciGuest
  readonly #bytes: ArrayBuffer
  readonly #netlink: RtNetlink
  readonly #closing: Teardown
  rings!: Record<'rx' | 'tx', GuestRing>

  private constructor(nic: VirtioNet, guest: RawNic['guest'], bytes: ArrayBuffer, closing: Teardown) {
    this.nic = nic
    this.#bytes = bytes
    this.#closing = closing
    this.#netlink = closing.own(RtNetlink.open())
    this.guest = guest
    nic.on('fault', (fault) => this.faults.push(fault))
  }

  static async open(ifname: string, transport: RawTransport = 'mmio'): Promise<RawNic> {
    const closing = new Teardown()
    try {
      const memory = closing.own(GuestMemory.allocate({ size: END }))
      const nic = closing.own(await VirtioNet.open({ memory, mac: MAC, backend: { tap: { ifname } } }))
      setUpHost(ifname)
      const guest = guestOver(transport, nic, closing)
      return new RawNic(nic, guest, memory.window(0, END).buffer as ArrayBuffer, closing)
    } catch (error) {
      throw closing.unwind(error)
    }
  }

  /** A driver comes, or comes again, with rings in which nothing is. */
  up(eventIdx = false): void {
    const { guest } = this
    guest.begin()
    assert.ok(guest.accept(FEATURES | (eventIdx ? featureSet(29) : 0n)))
    new Uint8Array(this.#bytes).fill(0)
    const rx = new GuestRing(this.#bytes, 0, NUM)
    const tx = new GuestRing(this.#bytes, Math.ceil(rx.end / 4096) * 4096, NUM)
    this.rings = { rx, tx }
    for (const [index, ring] of [rx, tx].entries()) {
      guest.place(index, ring)
      assert.ok(guest.enable())
    }
    guest.addStatus(VIRTIO_CONFIG_S.VIRTIO_CONFIG_S_DRIVER_OK)
    assert.equal(this.nic.inspect().fault, null)
    this.faults.length = 0
  }

  victim(name: 'rx' | 'tx'): Victim {
    return { ring: this.rings[name], pool: POOL, table: TABLE, end: END, bytes: new DataView(this.#bytes) }
  }

  kick(name: 'rx' | 'tx'): void {
    this.guest.kick(name === 'rx' ? 0 : 1)
  }

  /** Offers one good buffer at the next free place, and kicks. */
  offer(name: 'rx' | 'tx'): void {
    const ring = this.rings[name]
    const index = ring.offered % ring.num
    ring.chain([{ address: POOL, length: name === 'rx' ? 2048 : FRAME, deviceWrites: name === 'rx' }], index)
    ring.offer(index)
    this.kick(name)
  }

  /** Frames that the tap has taken from the guest. */
  get sent(): number {
    return this.#netlink.getLink({ ifname: this.nic.backend.ifname })?.stats?.rx_packets ?? 0
  }

  /** Milliseconds for which its worker ran. */
  get cpuMs(): number {
    const { worker } = this.nic.backend.inspect().pairs[0]!
    return new VhostWorker(worker!.tid).cpuTime() / 1e6
  }

  [Symbol.dispose](): void {
    this.#closing.run()
  }
}
