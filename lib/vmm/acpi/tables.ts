// The tables that describe a machine to its kernel (ACPI 6.5 section 5.2): hardware-reduced, without firmware.

import type { GuestMemory } from '../../memory/index.ts'
import { MEMORY_MAP } from '../memory-map.ts'
import {
  busNumbers,
  device,
  edgeInterrupt,
  eisaId,
  integer,
  memory32,
  memoryWindow,
  named,
  packageOf,
  ports,
  resources,
  scope,
  string,
} from './aml.ts'

export interface MmioDevice {
  address: number
  size: number
  gsi: number
}

export interface DescribedMachine {
  /** Processors, whose APIC ids count from 0. */
  cpus: number
  /** Ports of the console, and its GSI. */
  serial: { port: number; gsi: number }
  /** The port of {@link PvPanic}. */
  pvpanic: number
  /** Ports of {@link PowerRegisters}. */
  power: { sleepControl: number; sleepStatus: number; reset: number; resetValue: number; sleepTypeOff: number }
  virtioMmio: readonly MmioDevice[]
  pci: DescribedPci
}

/** A PCI bus, number 0. */
export interface DescribedPci {
  /** Where its configuration space is memory. */
  ecam: { address: number; size: number }
  /** Where the guest places what is behind it. */
  window: { address: number; size: number }
  /** Ports of its configuration space. */
  ports: { first: number; count: number }
  /** The GSI of each slot's INTA#: level-triggered. */
  pins: readonly number[]
}

const HEADER_SIZE = 36
const ALIGN = 64

/** A generic address structure: one byte at a port (section 5.2.3.2). */
function putPort(table: DataView, at: number, port: number): void {
  table.setUint8(at, 1)
  table.setUint8(at + 1, 8)
  table.setUint8(at + 3, 1)
  table.setBigUint64(at + 4, BigInt(port), true)
}

function checksum(bytes: Uint8Array): number {
  return -bytes.reduce((sum, byte) => sum + byte, 0) & 0xff
}

function describe(signature: string, revision: number, body: Uint8Array): Uint8Array {
  const table = new Uint8Array(HEADER_SIZE + body.length)
  const view = new DataView(table.buffer)
  table.set(Buffer.from(signature, 'ascii'))
  view.setUint32(4, table.length, true)
  view.setUint8(8, revision)
  table.set(Buffer.from('VHOSTN', 'ascii'), 10)
  table.set(Buffer.from('VHOSTNET', 'ascii'), 16)
  view.setUint32(24, 1, true)
  table.set(Buffer.from('VHNT', 'ascii'), 28)
  view.setUint32(32, 1, true)
  table.set(body, HEADER_SIZE)
  view.setUint8(9, checksum(table))
  return table
}

function hostBridge({ window, ports: { first, count }, pins }: DescribedPci): number[] {
  // Any function of the slot, INTA#, a GSI without a link device (section 6.2.14).
  const routes = pins.map((gsi, slot) =>
    packageOf(integer(((slot << 16) | 0xffff) >>> 0), integer(0), integer(0), integer(gsi)),
  )
  return device(
    'PCI0',
    named('_HID', eisaId('PNP0A08')),
    named('_CID', eisaId('PNP0A03')),
    named('_UID', integer(0)),
    named('_SEG', integer(0)),
    named('_BBN', integer(0)),
    named('_CRS', resources(busNumbers(0, 0), ports(first, count), memoryWindow(window.address, window.size))),
    named('_PRT', packageOf(...routes)),
  )
}

/** What no device has may be used by one, unless it is said to be the board's. */
function board({ ecam }: DescribedPci): number[] {
  return device('BRD0', named('_HID', eisaId('PNP0C02')), named('_CRS', resources(memory32(ecam.address, ecam.size))))
}

function dsdt({ serial, pvpanic, power, virtioMmio, pci }: DescribedMachine): Uint8Array {
  const console = device(
    'COM1',
    named('_HID', eisaId('PNP0501')),
    named('_UID', integer(0)),
    named('_CRS', resources(ports(serial.port, 8), edgeInterrupt(serial.gsi))),
  )
  const panic = device('PEVT', named('_HID', string('QEMU0001')), named('_CRS', resources(ports(pvpanic, 1))))
  const virtio = virtioMmio.map(({ address, size, gsi }, i) =>
    device(
      `V${i.toString(16).toUpperCase().padStart(3, '0')}`,
      named('_HID', string('LNRO0005')),
      named('_UID', integer(i)),
      named('_CRS', resources(memory32(address, size), edgeInterrupt(gsi))),
    ),
  )
  const off = packageOf(integer(power.sleepTypeOff), integer(0), integer(0), integer(0))
  return describe(
    'DSDT',
    6,
    Uint8Array.from([
      ...named('_S5_', off),
      ...scope('\\_SB_', console, panic, board(pci), hostBridge(pci), ...virtio),
    ]),
  )
}

function fadt({ power }: DescribedMachine, dsdtAddress: number): Uint8Array {
  const body = new Uint8Array(276 - HEADER_SIZE)
  const table = new DataView(body.buffer)
  // Offsets are those of the specification, which count the header.
  const at = (offset: number) => offset - HEADER_SIZE
  // No VGA to probe for.
  table.setUint16(at(109), 1 << 2, true)
  // Power and sleep buttons are not fixed hardware; the reset register; hardware-reduced.
  table.setUint32(at(112), (1 << 4) | (1 << 5) | (1 << 10) | (1 << 20), true)
  putPort(table, at(116), power.reset)
  table.setUint8(at(128), power.resetValue)
  table.setUint8(at(131), 5)
  table.setBigUint64(at(140), BigInt(dsdtAddress), true)
  putPort(table, at(244), power.sleepControl)
  putPort(table, at(256), power.sleepStatus)
  body.set(Buffer.from('VHOSTNET', 'ascii'), at(268))
  return describe('FACP', 6, body)
}

function madt({ cpus }: DescribedMachine): Uint8Array {
  const body = new Uint8Array(8 + 8 * cpus + 12)
  const table = new DataView(body.buffer)
  table.setUint32(0, MEMORY_MAP.localApic, true)
  for (let id = 0; id < cpus; id++) body.set([0, 8, id, id, 1, 0, 0, 0], 8 + 8 * id)
  const ioApic = 8 + 8 * cpus
  body.set([1, 12, 0, 0], ioApic)
  table.setUint32(ioApic + 4, MEMORY_MAP.ioApic, true)
  return describe('APIC', 5, body)
}

function mcfg({ ecam }: DescribedPci): Uint8Array {
  const body = new DataView(new ArrayBuffer(24))
  body.setBigUint64(8, BigInt(ecam.address), true)
  return describe('MCFG', 1, new Uint8Array(body.buffer))
}

function xsdt(tables: readonly number[]): Uint8Array {
  const body = new DataView(new ArrayBuffer(8 * tables.length))
  for (const [i, address] of tables.entries()) body.setBigUint64(8 * i, BigInt(address), true)
  return describe('XSDT', 1, new Uint8Array(body.buffer))
}

function rsdp(xsdtAddress: number): Uint8Array {
  const table = new Uint8Array(36)
  const view = new DataView(table.buffer)
  table.set(Buffer.from('RSD PTR ', 'ascii'))
  table.set(Buffer.from('VHOSTN', 'ascii'), 9)
  view.setUint8(15, 2)
  view.setUint32(20, table.length, true)
  view.setBigUint64(24, BigInt(xsdtAddress), true)
  view.setUint8(8, checksum(table.subarray(0, 20)))
  view.setUint8(32, checksum(table))
  return table
}

/** Writes them where {@link MEMORY_MAP} has them. @returns the address of the RSDP, which is what the kernel looks for */
export function writeTables(memory: GuestMemory, machine: DescribedMachine): number {
  let next: number = MEMORY_MAP.acpi
  const place = (table: Uint8Array): number => {
    const address = next
    memory.write(address, table)
    next = Math.ceil((address + table.length) / ALIGN) * ALIGN
    return address
  }
  const described = place(dsdt(machine))
  const tables = [place(fadt(machine, described)), place(madt(machine)), place(mcfg(machine.pci))]
  memory.write(MEMORY_MAP.rsdp, rsdp(place(xsdt(tables))))
  return MEMORY_MAP.rsdp
}
