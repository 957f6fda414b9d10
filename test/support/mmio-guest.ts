// A guest's driver over virtio-mmio, register by register, for tests; and the bus and the interrupts around the device.

import assert from 'node:assert/strict'
import { VIRTIO_CONFIG_S, VIRTIO_F } from '../../lib/abi/virtio.ts'
import { VIRTIO_MMIO } from '../../lib/abi/virtio-mmio.ts'
import type { EventFd, Interrupts, Registers } from '../../lib/event/index.ts'
import { FEATURE_WORDS } from '../../lib/virtio/features.ts'
import { featureSet, featureWord, withFeatureWord } from '../../lib/virtio/index.ts'
import type { GuestRing } from './guest-ring.ts'

const { VIRTIO_CONFIG_S_ACKNOWLEDGE: ACKNOWLEDGE, VIRTIO_CONFIG_S_DRIVER: DRIVER } = VIRTIO_CONFIG_S
const { VIRTIO_CONFIG_S_FEATURES_OK: FEATURES_OK, VIRTIO_CONFIG_S_DRIVER_OK: DRIVER_OK } = VIRTIO_CONFIG_S

export const VERSION_1 = featureSet(VIRTIO_F.VIRTIO_F_VERSION_1)

/** Interrupts that count instead of reaching a CPU. */
export class CountedInterrupts implements Interrupts {
  readonly connected = new Set<EventFd>()

  connect(vector: number, call: EventFd): void {
    assert.equal(vector, 0)
    assert.ok(!this.connected.has(call))
    this.connected.add(call)
  }

  disconnect(_vector: number, call: EventFd): void {
    assert.ok(this.connected.delete(call))
  }

  mask(): void {
    assert.fail('an MMIO transport masks nothing')
  }

  pending(): boolean {
    assert.fail('an MMIO transport asks for nothing')
  }

  /** How many came since this was asked last. */
  take(): number {
    return [...this.connected].reduce((sum, call) => sum + Number(call.read()), 0)
  }
}

export class MmioGuest {
  readonly registers: Registers

  constructor(registers: Registers) {
    this.registers = registers
  }

  read(register: keyof typeof VIRTIO_MMIO): number {
    return this.registers.read(VIRTIO_MMIO[register], 4)
  }

  write(register: keyof typeof VIRTIO_MMIO, value: number): void {
    this.registers.write(VIRTIO_MMIO[register], 4, value)
  }

  get status(): number {
    return this.read('VIRTIO_MMIO_STATUS')
  }

  /** Adds bits to the status, as a driver does. */
  addStatus(bits: number): void {
    this.write('VIRTIO_MMIO_STATUS', this.status | bits)
  }

  /** Resets the device and makes itself known. */
  begin(): void {
    this.write('VIRTIO_MMIO_STATUS', 0)
    assert.equal(this.status, 0)
    this.addStatus(ACKNOWLEDGE)
    this.addStatus(DRIVER)
  }

  get offered(): bigint {
    let set = 0n
    for (let select = 0; select < FEATURE_WORDS; select++) {
      this.write('VIRTIO_MMIO_DEVICE_FEATURES_SEL', select)
      set = withFeatureWord(set, select, this.read('VIRTIO_MMIO_DEVICE_FEATURES'))
    }
    return set
  }

  /** Writes what it accepts, and FEATURES_OK. Returns whether that sticks. */
  accept(features: bigint): boolean {
    for (let select = 0; select < FEATURE_WORDS; select++) {
      this.write('VIRTIO_MMIO_DRIVER_FEATURES_SEL', select)
      this.write('VIRTIO_MMIO_DRIVER_FEATURES', featureWord(features, select))
    }
    this.addStatus(FEATURES_OK)
    return (this.status & FEATURES_OK) !== 0
  }

  /** Says where a queue lies, without enabling it. */
  place(index: number, { num, desc, avail, used }: Pick<GuestRing, 'num' | 'desc' | 'avail' | 'used'>): void {
    this.write('VIRTIO_MMIO_QUEUE_SEL', index)
    this.write('VIRTIO_MMIO_QUEUE_NUM', num)
    const low = (address: number): number => address % 2 ** 32
    const high = (address: number): number => Math.floor(address / 2 ** 32)
    this.write('VIRTIO_MMIO_QUEUE_DESC_LOW', low(desc))
    this.write('VIRTIO_MMIO_QUEUE_DESC_HIGH', high(desc))
    this.write('VIRTIO_MMIO_QUEUE_AVAIL_LOW', low(avail))
    this.write('VIRTIO_MMIO_QUEUE_AVAIL_HIGH', high(avail))
    this.write('VIRTIO_MMIO_QUEUE_USED_LOW', low(used))
    this.write('VIRTIO_MMIO_QUEUE_USED_HIGH', high(used))
  }

  /** Enables the selected queue. Returns whether it is. */
  enable(): boolean {
    this.write('VIRTIO_MMIO_QUEUE_READY', 1)
    return this.read('VIRTIO_MMIO_QUEUE_READY') === 1
  }

  /** All the way to DRIVER_OK, with one queue. */
  start(ring: GuestRing, features: bigint = VERSION_1): void {
    this.begin()
    assert.ok(this.accept(features))
    this.place(0, ring)
    assert.ok(this.enable())
    this.addStatus(DRIVER_OK)
    assert.equal(this.status, ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK)
  }

  kick(index = 0): void {
    this.write('VIRTIO_MMIO_QUEUE_NOTIFY', index)
  }

  /** Reads the interrupt status and acknowledges what it read, as a handler does. */
  handleInterrupt(): number {
    const status = this.read('VIRTIO_MMIO_INTERRUPT_STATUS')
    this.write('VIRTIO_MMIO_INTERRUPT_ACK', status)
    return status
  }
}
