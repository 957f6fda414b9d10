// The tests' own network device over MMIO, with a witness at its registers and its interrupts brought to its driver.

import { FramePort, GuestNic, type GuestNicOptions, type MmioBus, MmioDevice } from '../../lib/driver/index.ts'
import { GuestMemory, type NativeMemory } from '../../lib/memory/index.ts'
import { VirtioMmioTransport } from '../../lib/transport/index.ts'
import type { VirtioDeviceOptions } from '../../lib/virtio/index.ts'
import { InterruptLine } from './interrupt-line.ts'
import { VirtioNic } from './virtio-nic.ts'
import { WatchedRegisters } from './watched-registers.ts'

/** Where guest memory begins: not at 0, so that an offset is no address. */
export const MEMORY_BASE = 0x4000_0000

const SMALL = { address: MEMORY_BASE, queueSize: 16, queuePairs: 2 } as const

export class NicOverMmio {
  readonly memory: NativeMemory
  readonly device: VirtioNic
  readonly registers: WatchedRegisters
  readonly line = new InterruptLine()
  readonly #transport: VirtioMmioTransport
  readonly #bus: MmioBus | undefined
  #nic: GuestNic | undefined

  /** @param bus what takes kicks; default nothing does, and they come to the registers. */
  constructor(options: Partial<VirtioDeviceOptions> = {}, bus?: MmioBus) {
    this.memory = GuestMemory.allocate({ regions: [{ guestAddress: MEMORY_BASE, size: 2 ** 23 }] })
    this.device = new VirtioNic(this.memory, options)
    this.#bus = bus
    const doorbells = bus === undefined ? {} : { doorbells: bus.events, address: bus.address }
    this.#transport = new VirtioMmioTransport(this.device, { interrupts: this.line, ...doorbells })
    this.registers = new WatchedRegisters(this.#transport)
  }

  /** Starts a NIC on it, whose interrupts are handled. */
  async start(options: Partial<GuestNicOptions> = {}): Promise<GuestNic> {
    this.line.handler = () => this.#nic?.handleInterrupt()
    this.#nic = await GuestNic.start(MmioDevice.probe(this.registers, this.#bus)!, {
      memory: this.memory,
      ...SMALL,
      ...options,
    })
    return this.#nic
  }

  async close(): Promise<void> {
    this.registers.onAccess = undefined
    await this.#nic?.close()
    this.#transport.close()
    this.device.close()
    this.memory.close()
  }
}

/** Sends a frame on a pair and returns what is received there, which the device turned back. */
export async function roundTrip(nic: GuestNic, pair = 0, size = 100): Promise<Buffer> {
  const port = new FramePort(nic, pair)
  const received = port.frames().next()
  await port.send(Buffer.alloc(size, 7))
  const { value } = await received
  port.close()
  return Buffer.from(value!.bytes)
}
