// Faults in the pci room, and in virtio over PCI.

import type { Fault } from './fault.ts'

const FUNCTION = 'a PCI function'
const EVENTS = 'the events of virtio over PCI'
const VIRTIO = 'virtio over PCI'

export const PCI: readonly Fault[] = [
  {
    name: 'a BAR lies where it is being sized',
    file: 'lib/pci/bar.ts',
    line: 'return address !== 0n && end !== BELOW_4G && end <= ADDRESSES',
    faulty: 'return address !== 0n && end <= ADDRESSES && end !== BELOW_4G + 1n',
    test: 'unit/pci-function',
    title: `${FUNCTION} and its base addresses put the registers nowhere at 0, while they are being sized, and where no processor reaches`,
  },
  {
    name: 'a read-only bit of configuration space is written',
    file: 'lib/pci/config-part.ts',
    line: 'bytes[i] = (bytes[i]! & ~allowed) | ((value >>> (8 * (i - offset))) & allowed)',
    faulty: 'bytes[i] = ((bytes[i]! & ~allowed) | (value >>> (8 * (i - offset)))) & 0xff',
    test: 'unit/pci-function',
    title: `${FUNCTION} and its header keeps what is read-only, whoever writes it and how`,
  },
  {
    name: 'a disabled pin is held',
    file: 'lib/pci/function.ts',
    line: 'const held = this.#plugged && this.#interrupt && (this.#command & PCI_COMMAND.PCI_COMMAND_INTX_DISABLE) === 0',
    faulty: 'const held = this.#plugged && this.#interrupt && this.#command >= 0',
    test: 'unit/pci-function',
    title: `${FUNCTION} and its pin is let go where the guest has disabled it: the status bit stays`,
  },
  {
    name: 'a message is committed for each vector',
    file: 'lib/pci/msix.ts',
    line: 'this.#uncommitted = true',
    faulty: 'this.#interrupts.commit()',
    test: 'unit/pci-msix',
    title: 'MSI-X commits all messages together, however many vectors are let go at once',
  },
  {
    name: 'a vector is let go before the device is live',
    file: 'lib/pci/msix.ts',
    line: 'return !this.#enabled || !this.#live || (this.#flags & MASKALL) !== 0 || this.#table.isMasked(vector)',
    faulty: 'return !this.#enabled || (this.#flags & MASKALL) !== 0 || this.#table.isMasked(vector)',
    test: 'unit/virtio-pci-interrupts',
    title: `${EVENTS} by MSI-X commits all messages once, when the device starts, however they were set up`,
  },
  {
    name: 'a message is let go before it is in force',
    file: 'lib/pci/msix.ts',
    line: 'if (this.#uncommitted) this.#interrupts.commit()',
    faulty: 'if (this.#uncommitted && release.length === 0) this.#interrupts.commit()',
    test: 'unit/pci-msix',
    title: 'MSI-X lets a vector go once nothing masks it any more: with its message, which is committed before',
  },
  {
    name: 'a queue keeps the vector that it had before',
    file: 'lib/transport/pci/vectors.ts',
    line: 'if (line.connected !== undefined) this.#interrupts.disconnect(line.connected, line.call)',
    faulty: 'if (line.connected !== undefined) return',
    test: 'unit/virtio-pci-interrupts',
    title: `${EVENTS} by MSI-X neither loses nor invents one while vectors are masked, function masked or mapped elsewhere`,
  },
  {
    name: 'what was pending outlives a reset',
    file: 'lib/transport/pci/vectors.ts',
    line: 'line.call.read()',
    faulty: 'void line.call',
    test: 'unit/virtio-pci-interrupts',
    title: `${EVENTS} by MSI-X forgets what was pending where the device is reset`,
  },
  {
    name: 'a vector that there is not is taken',
    file: 'lib/transport/pci/vectors.ts',
    line: 'line.vector = vector < this.count ? vector : VIRTIO_MSI_NO_VECTOR',
    faulty: 'line.vector = vector <= this.count ? vector : VIRTIO_MSI_NO_VECTOR',
    test: 'unit/virtio-pci-interrupts',
    title: `${EVENTS} by MSI-X [PCI-MSIX-08] [PCI-MSIX-09] refuses vectors that there are not, which reads back as none, and takes all others`,
  },
  {
    name: 'a read leaves the ISR status as it is',
    file: 'lib/transport/pci/isr.ts',
    line: 'const bits = this.#bits',
    faulty: 'const bits = this.#bits; if (bits !== 0) return bits',
    test: 'unit/virtio-pci-interrupts',
    title: `${EVENTS} by its pin [PCI-ISR-03] [PCI-ISR-04] [PCI-ISR-05] holds it from an event until the ISR status is read`,
  },
  {
    name: 'doorbells stay where the registers were',
    file: 'lib/transport/pci/doorbells.ts',
    line: 'for (const { doorbell, kick } of this.#assigned) doorbells.deassign(doorbell, kick)',
    faulty:
      'if (address === undefined) for (const { doorbell, kick } of this.#assigned) doorbells.deassign(doorbell, kick)',
    test: 'unit/virtio-pci-interrupts',
    title: `${EVENTS} and doorbells kick each queue at an address of its own, wherever the guest places and moves the registers`,
  },
  {
    name: 'a field answers at any width',
    file: 'lib/transport/pci/common-config.ts',
    line: 'return field !== undefined && VIRTIO_PCI_COMMON[field].width === width ? field : undefined',
    faulty: 'return field !== undefined && width > 0 ? field : undefined',
    test: 'unit/virtio-pci',
    title: `${VIRTIO} and accesses that no register takes reads 0 at any width but a field’s own, between structures and behind them`,
  },
  {
    name: 'the window shows its registers for any BAR',
    file: 'lib/transport/pci/config-window.ts',
    line: 'return { at: inside && this.bytes[BAR] === this.#bar ? at : undefined, length }',
    faulty: 'return { at: inside && this.bytes[BAR] !== this.#bar + 9 ? at : undefined, length }',
    test: 'unit/virtio-pci-function',
    title:
      'the PCI function of a virtio device has a window to its registers reads 0 and writes nothing where what was chosen is not there',
  },
  {
    name: 'a guest’s address makes the whole table invalid',
    file: 'lib/kvm/gsi-routes.ts',
    line: 'return (address & MESSAGE_ADDRESS_BITS) === MESSAGE_ADDRESS',
    faulty: 'return (address & MESSAGE_ADDRESS_BITS) >= 0n || address === MESSAGE_ADDRESS',
    test: 'kernel/kvm',
    title:
      'KVM interrupts that are messages go nowhere, and keep none of the others from their way, where a guest’s address is of no interrupt',
  },
  {
    name: 'a structure that is too short is used',
    file: 'lib/driver/pci-structures.ts',
    line: 'if (length < least || base === undefined || base === 0n || base > BigInt(Number.MAX_SAFE_INTEGER)) continue',
    faulty: 'if (base === undefined || base === 0n || base > BigInt(Number.MAX_SAFE_INTEGER)) continue',
    test: 'unit/pci-device',
    title: 'the probe of a device over PCI [PCI-CAP-D02] takes the first of each type that it can use',
  },
]
