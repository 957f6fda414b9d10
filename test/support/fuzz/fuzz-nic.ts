// What is fuzzed: a network device on the kernel's vhost-net behind one transport, with its memory, and the host around it.

import { createSocket, type Socket } from 'node:dgram'
import { once } from 'node:events'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { RtNetlink, VhostWorker } from '../../../lib/host/index.ts'
import { VirtioNet } from '../../../lib/index.ts'
import { GuestMemory } from '../../../lib/memory/index.ts'
import { Teardown } from '../../../lib/teardown.ts'
import { VirtioMmioTransport, VirtioPciTransport } from '../../../lib/transport/index.ts'
import type { DeviceFault } from '../../../lib/virtio/index.ts'
import { CountedInterrupts, MmioGuest } from '../mmio-guest.ts'
import { NotedMessages, NotedPin, TestBus } from '../pci-bus.ts'
import { PciGuest } from '../pci-guest.ts'
import { type GuestRegisters, MmioRegisters, PciRegisters } from './registers.ts'

export const MAC = '52:54:00:12:34:56'
export const QUEUE_PAIRS = 2
/** Three regions that adjoin, the last of which ends where memory does. */
export const REGIONS = [
  { guestAddress: 0, size: 0xc0000 },
  { guestAddress: 0xc0000, size: 0x20000 },
  { guestAddress: 0xe0000, size: 0x20000 },
] as const
export const END = 0x100000
const SLOT = 3

export type Transport = GuestRegisters['transport']
const SUBNETS: Readonly<Record<Transport, string>> = { mmio: '10.80.0', pci: '10.81.0' }

export class FuzzNic {
  readonly nic: VirtioNet
  readonly registers: GuestRegisters
  /** The first region. Addresses in it are offsets. */
  readonly bytes: ArrayBuffer
  /** Since they were cleared. */
  readonly faults: DeviceFault[] = []
  readonly #workers: readonly VhostWorker[]
  readonly #messages: NotedMessages
  readonly #socket: Socket
  readonly #received: string
  readonly #closing: Teardown

  private constructor(nic: VirtioNet, registers: GuestRegisters, bytes: ArrayBuffer, host: Host, closing: Teardown) {
    this.nic = nic
    this.registers = registers
    this.bytes = bytes
    this.#messages = host.messages
    this.#socket = host.socket
    this.#received = `/sys/class/net/${nic.backend.ifname}/statistics/rx_packets`
    this.#workers = nic.backend.inspect().pairs.map(({ worker }) => new VhostWorker(worker!.tid))
    this.#closing = closing
    nic.on('fault', (fault) => this.faults.push(fault))
  }

  static async open(transport: Transport): Promise<FuzzNic> {
    const closing = new Teardown()
    try {
      const memory = closing.own(GuestMemory.allocate({ regions: REGIONS }))
      const backend = { tap: { ifname: `fuzz-${transport}` } }
      const nic = closing.own(await VirtioNet.open({ memory, mac: MAC, queuePairs: QUEUE_PAIRS, backend }))
      const messages = new NotedMessages()
      const registers = registersOf(transport, nic, messages, closing)
      const socket = await openHost(nic.backend.ifname, SUBNETS[transport], closing)
      const bytes = memory.window(0, REGIONS[0].size).buffer as ArrayBuffer
      return new FuzzNic(nic, registers, bytes, { messages, socket }, closing)
    } catch (error) {
      throw closing.unwind(error)
    }
  }

  /** The host's stack sends a frame to the guest; it is in the tap's queue, or lost, when this resolves. */
  async sendFrame(): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      this.#socket.send('a datagram of the host', (error) => (error === null ? resolve() : reject(error)))
    })
  }

  /** Frames that the tap has taken from the guest. */
  get received(): number {
    return Number(readFileSync(this.#received, 'utf8'))
  }

  /** Milliseconds for which the workers ran, that of each pair. */
  cpuMs(): number[] {
    return this.#workers.map((worker) => worker.cpuTime() / 1e6)
  }

  /** An episode is over: what was noted of it is of no more use. */
  forget(): void {
    this.faults.length = 0
    this.#messages.takeLog()
  }

  close(): void {
    this.#closing.run()
  }
}

interface Host {
  messages: NotedMessages
  socket: Socket
}

function registersOf(transport: Transport, nic: VirtioNet, messages: NotedMessages, closing: Teardown): GuestRegisters {
  if (transport === 'mmio') {
    const interrupts = new CountedInterrupts()
    return new MmioRegisters(new MmioGuest(closing.own(new VirtioMmioTransport(nic, { interrupts }))))
  }
  const machine = new TestBus()
  const pci = closing.own(new VirtioPciTransport(nic, { interrupts: messages, pin: new NotedPin() }))
  machine.bus.plug(SLOT, pci.function)
  closing.add(() => machine.bus.unplug(SLOT))
  return new PciRegisters(new PciGuest(machine.config(SLOT), machine.memory))
}

/** The tap is up, with the host's address and one for the guest, to which the socket sends. */
async function openHost(ifname: string, subnet: string, closing: Teardown): Promise<Socket> {
  const ipv6 = `/proc/sys/net/ipv6/conf/${ifname}/disable_ipv6`
  if (existsSync(ipv6)) writeFileSync(ipv6, '1')
  const netlink = RtNetlink.open()
  try {
    const { index } = netlink.getLink({ ifname })!
    netlink.addAddress(index, { address: `${subnet}.1`, prefixLength: 24 })
    netlink.setLink(index, { up: true })
    netlink.addNeighbour(index, { address: `${subnet}.2`, mac: MAC })
  } finally {
    netlink.close()
  }
  const socket = createSocket('udp4')
  closing.add(() => socket.close())
  socket.connect(7, `${subnet}.2`)
  await once(socket, 'connect')
  return socket
}
