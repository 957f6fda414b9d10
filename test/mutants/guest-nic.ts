// Faults in the part of the driver room that reaches a device through registers.

import type { Fault } from './fault.ts'

const DEVICE = 'a device over MMIO, in the hands of a driver'
const INITIALISE = 'a driver that initialises a device'
const NIC = 'a NIC driven through registers'
const CONTROL = 'a driver’s control queue'

export const GUEST_NIC: readonly Fault[] = [
  {
    name: 'a device of id 0 is driven',
    file: 'lib/driver/mmio-device.ts',
    line: 'return deviceId === 0 ? undefined : new MmioDevice(registers, deviceId, bus)',
    faulty: 'return deviceId < 0 ? undefined : new MmioDevice(registers, deviceId, bus)',
    test: 'unit/mmio-device',
    title:
      'the probe of a device over MMIO [MMIO-D08] [MMIO-D09] [MMIO-D22] takes device id 0 for no device, without an error or another access',
  },
  {
    name: 'configuration is taken as it comes',
    file: 'lib/driver/probed-device.ts',
    line: 'if (this.generation === before) return found',
    faulty: 'if (this.generation >= before) return found',
    test: 'unit/mmio-device',
    title: `${DEVICE} and its configuration [BASE-CFG-D01] [BASE-CFG-D02] [BASE-CFG-D03] is read again where it changed meanwhile`,
  },
  {
    name: 'interrupts that nobody knows are acknowledged',
    file: 'lib/driver/mmio-device.ts',
    line: "if (bits !== 0) this.#write('VIRTIO_MMIO_INTERRUPT_ACK', bits)",
    faulty: "if (bits !== 0) this.#write('VIRTIO_MMIO_INTERRUPT_ACK', 0xff)",
    test: 'unit/mmio-device',
    title: `${DEVICE} and its interrupts [MMIO-D16] [MMIO-D18] ignores bits that nobody defined, and acknowledges none of them`,
  },
  {
    name: 'a reset is over when it was asked for',
    file: 'lib/driver/probed-device.ts',
    line: 'await until(() => this.status === 0, signal)',
    faulty: 'await until(() => this.status >= 0, signal)',
    test: 'unit/mmio-device',
    title: `${DEVICE} [BASE-RESET-D01] takes a reset for done when the status reads 0`,
  },
  {
    name: 'the device’s answer to the features is not looked at',
    file: 'lib/driver/initialise.ts',
    line: 'if ((device.status & FEATURES_OK) !== 0) return',
    faulty: 'if ((device.status | FEATURES_OK) !== 0) return',
    test: 'unit/initialise',
    title: `${INITIALISE} [BASE-INIT-D04] reads FEATURES_OK again, and stops where it is clear`,
  },
  {
    name: 'what was set up stays where the device fails',
    file: 'lib/driver/initialise.ts',
    line: 'const reason = undo.unwind(error)',
    faulty: 'const reason = error',
    test: 'unit/initialise',
    title: `${INITIALISE} undoes what was set up where the device fails at the last step`,
  },
  {
    name: 'pairs are used until the device has stopped them',
    file: 'lib/driver/guest-nic.ts',
    line: 'this.#active = Math.min(before, pairs)',
    faulty: 'this.#active = Math.max(before, 1)',
    test: 'unit/guest-nic',
    title: `${NIC} and its pairs [NET-CTRL-MQ-D04] are unused above a number from the moment on at which the device may know it`,
  },
  {
    name: 'rings go while the device may use them',
    file: 'lib/driver/guest-nic.ts',
    line: 'await this.#device.reset(signal)',
    faulty: 'this.#driver.destroy(); await this.#device.reset(signal)',
    test: 'unit/guest-nic',
    title: `${NIC} [BASE-CLEAN-D02] resets the device before it takes anything back`,
  },
  {
    name: 'a refused command refuses those behind it',
    file: 'lib/driver/control-queue.ts',
    line: 'this.#last = answered.catch(() => undefined)',
    faulty: 'this.#last = answered.then((answer) => (answer === 0 ? answer : Promise.reject(answer)))',
    test: 'unit/control-queue',
    title: `${CONTROL} sends one command after the other, in the order of the calls, whatever the device says of the first`,
  },
  {
    name: 'an answer that was not written is taken',
    file: 'lib/driver/command-ring.ts',
    line: 'if (waiting > u16(this.#sent - this.#taken) || id !== 0 || length === 0) {',
    faulty: 'if (waiting > u16(this.#sent - this.#taken) || id !== 0 || length === -1) {',
    test: 'unit/control-queue',
    title: 'a ring of commands is broken where the device returns no answer',
  },
  {
    name: 'frames are as large as the ring takes them',
    file: 'lib/driver/frame-sender.ts',
    line: 'if (bytes.length <= most) return',
    faulty: 'if (bytes.length <= most + 1) return',
    test: 'unit/guest-nic',
    title: `${NIC} [NET-CFG-D09] sends no frame above the MTU but what the device is to cut`,
  },
  {
    name: 'what was kicked before there was a doorbell is lost',
    file: 'lib/driver/queue.ts',
    line: 'if (this.kick.read() > 0n) doorbell.signal()',
    faulty: 'this.kick.read()',
    test: 'unit/guest-nic',
    title: `${NIC} and doorbells [BASE-INIT-D07] signals none before DRIVER_OK, and then passes on what was kicked before`,
  },
  {
    name: 'an interrupt that is looked for while it is masked is taken away',
    file: 'lib/driver/local-events.ts',
    line: 'const signals = call.read() + line.held',
    faulty: 'const signals = call.read()',
    test: 'unit/local-events',
    title:
      'events of devices in this process an interrupt is held back while its vector is masked, and raised once then',
  },
]
