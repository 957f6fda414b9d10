// Faults in the virtio and the transport room.

import type { Fault } from './fault.ts'

const DEVICE = 'a virtio device'
const RING = 'the device end of a split virtqueue'
const MMIO = 'virtio over MMIO'

export const VIRTIO: readonly Fault[] = [
  {
    name: 'a driver takes a step before its turn',
    file: 'lib/virtio/status.ts',
    line: 'if (!done && ((written & step) === 0 || (step === FEATURES_OK && !acceptable()))) break',
    faulty: 'if (!done && ((written & step) === 0 || (step === FEATURES_OK && !acceptable()))) continue',
    test: 'unit/virtio-features',
    title: 'the device status takes no step before its turn',
  },
  {
    name: 'a feature is taken that was not offered',
    file: 'lib/virtio/device.ts',
    line: 'return extra === 0n && !legacy && unmetFeatures(this.#accepted, this.#rules) === 0n',
    faulty: 'return extra >= 0n && !legacy && unmetFeatures(this.#accepted, this.#rules) === 0n',
    test: 'unit/virtio-mmio',
    title: `${MMIO} and features [BASE-FEAT-03] does not take a bit that it does not offer, or one without what it needs`,
  },
  {
    name: 'features change after they were agreed on',
    file: 'lib/virtio/status.ts',
    line: 'return (status & (DRIVER | FEATURES_OK | FAILED)) === DRIVER',
    faulty: 'return (status & (DRIVER | FAILED)) === DRIVER',
    test: 'unit/virtio-mmio',
    title: `${MMIO} and features takes them between DRIVER and FEATURES_OK only`,
  },
  {
    name: 'a fault takes DRIVER_OK away, and with it the notification',
    file: 'lib/virtio/device.ts',
    line: 'this.#setStatus(this.#status | NEEDS_RESET)',
    faulty: 'this.#status = NEEDS_RESET',
    test: 'unit/virtio-mmio',
    title: `${MMIO} and the status [BASE-STATUS-03] [BASE-STATUS-04] needs a reset for a broken ring, says so, and works after it`,
  },
  {
    name: 'the generation moves though nobody looked',
    file: 'lib/virtio/config-space.ts',
    line: 'if (this.#seen) this.#generation = (this.#generation + 1) >>> 0',
    faulty: 'if (this.#seen || this.size > 0) this.#generation = (this.#generation + 1) >>> 0',
    test: 'unit/virtio-features',
    title: 'configuration space keeps its generation however often it changes, while nobody looks',
  },
  {
    name: 'a read of configuration space is no look',
    file: 'lib/virtio/config-space.ts',
    line: 'let value = 0',
    faulty: 'let value = 0; this.#seen = false',
    test: 'unit/virtio-features',
    title:
      'configuration space [MMIO-07] has another generation wherever a driver could have read old and new together',
  },
  {
    name: 'a loop of descriptors is followed to the limit',
    file: 'lib/virtio/descriptors.ts',
    line: 'let inTable = 0',
    faulty: 'let inTable = -2048',
    test: 'unit/virtio-ring',
    title: `${RING} refuses a loop in the ring and in a table, of one descriptor or several`,
  },
  {
    name: 'an indirect table may have another one in it',
    file: 'lib/virtio/descriptors.ts',
    line: 'if (table !== this.#ring) {',
    faulty: 'if (table === undefined) {',
    test: 'unit/virtio-ring',
    title: `${RING} refuses a table without INDIRECT_DESC, in a table, with another behind it, of no or of half an entry`,
  },
  {
    name: 'a readable buffer may come behind a writable one',
    file: 'lib/virtio/descriptors.ts',
    line: 'else if (writable.length === 0) readable.push(...pieces)',
    faulty: 'else if (writable.length < 1000) readable.push(...pieces)',
    test: 'unit/virtio-ring',
    title: `${RING} refuses a readable buffer behind a writable one`,
  },
  {
    name: 'the used index moves before the element is there',
    file: 'lib/virtio/split-ring.ts',
    line: 'Atomics.store(this.#elements, at, head)',
    faulty: 'Atomics.store(this.#used, IDX, this.#returned + 1); Atomics.store(this.#elements, at, head)',
    test: 'unit/virtio-ring',
    title: `${RING} [RING-USED-01] publishes a used element only with the used index`,
  },
  {
    name: 'an interrupt is judged by the last buffer of a batch only',
    file: 'lib/virtio/split-ring.ts',
    line: 'return passesEvent(Atomics.load(this.#avail, ENTRIES + this.#num), now, before)',
    faulty: 'return passesEvent(Atomics.load(this.#avail, ENTRIES + this.#num), now, now - 1)',
    test: 'unit/virtio-ring',
    title: `${RING} and interrupts [RING-UNOTIF-05] [RING-UNOTIF-06] with EVENT_IDX wants one where a batch passes used_event, and no other`,
  },
  {
    name: 'a turn has no end',
    file: 'lib/virtio/queue-service.ts',
    line: 'for (let buffers = 0; buffers < MAX_BUFFERS && descriptors < MAX_DESCRIPTORS && !this.#paused; buffers++) {',
    faulty: 'for (let buffers = 0; buffers < 100_000 && descriptors < 1e9; buffers++) {',
    test: 'unit/virtio-device',
    title: `${DEVICE} that serves a queue leaves others their time while its driver never pauses`,
  },
  {
    name: 'a queue that was stopped is served once more',
    file: 'lib/virtio/queue-service.ts',
    line: 'clearImmediate(this.#next)',
    faulty: 'void this.#next',
    test: 'unit/virtio-device',
    title: `${DEVICE} that serves a queue [BASE-RESET-03] [BASE-RESET-02] touches no memory and tells nothing once it was reset, whatever was waiting`,
  },
  {
    name: 'an acknowledgement takes back what came after the read',
    file: 'native/sys/interrupt_status.cc',
    line: 'if ((bits & kConfig) && config_.shown) config_ = {};',
    faulty: 'if (bits & kConfig) config_ = {};',
    test: 'unit/virtio-mmio',
    title: `${MMIO} and interrupts acknowledges what was read, and not what came between read and acknowledgement`,
  },
  {
    name: 'a register answers at any width',
    file: 'lib/transport/mmio.ts',
    line: 'return width === 4 ? this.#readRegister(offset) : 0',
    faulty: 'return width > 0 ? this.#readRegister(offset) : 0',
    test: 'unit/virtio-mmio',
    title: `${MMIO} and accesses that no register takes [MMIO-18] reads 0 at any other width or alignment, between registers, and where writing is all there is`,
  },
  {
    name: 'an event of a disabled queue is forgotten',
    file: 'native/sys/interrupt_status.cc',
    line: 'if (ended.enabled && ended.used_index() != ended.acknowledged) left_ = {.pending = true};',
    faulty: 'static_cast<void>(ended);',
    test: 'unit/virtio-mmio',
    title: `${MMIO} and interrupts keeps an event of a queue that was disabled meanwhile`,
  },
  {
    name: 'a device that is held answers commands',
    file: 'lib/virtio/queue-service.ts',
    line: 'this.#paused = true',
    faulty: 'this.#paused = false',
    test: 'unit/net-pairs',
    title:
      'queue pairs of a virtio-net device of a device that is held are held by the backend, once, and commands wait for their answers',
  },
]
