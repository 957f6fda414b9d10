// The tables that describe a machine: found as a kernel finds them, from the root pointer on.

import assert from 'node:assert/strict'
import { GuestMemory, type NativeMemory } from '../../lib/memory/index.ts'
import { device, eisaId, named, scope, string } from '../../lib/vmm/acpi/aml.ts'
import { writeTables } from '../../lib/vmm/acpi/tables.ts'
import { bytesAt } from '../support/bytes-at.ts'

const machine = {
  cpus: 3,
  serial: { port: 0x3f8, gsi: 4 },
  pvpanic: 0x505,
  power: { sleepControl: 0x600, sleepStatus: 0x601, reset: 0x602, resetValue: 1, sleepTypeOff: 5 },
  virtioMmio: Array.from({ length: 18 }, (_, i) => ({ address: 0xd000_0000 + 0x1000 * i, size: 0x1000, gsi: 5 + i })),
  pci: {
    ecam: { address: 0xe000_0000, size: 1 << 20 },
    window: { address: 0xc000_0000, size: 256 << 20 },
    ports: { first: 0xcf8, count: 8 },
    pins: Array.from({ length: 32 }, (_, slot) => 16 + (slot % 4)),
  },
}

describe('the ACPI tables', () => {
  let memory: NativeMemory
  let root: number

  before(() => {
    memory = GuestMemory.allocate({ size: 1 << 20 })
    root = writeTables(memory, machine)
  })

  after(() => memory.close())

  const sum = (bytes: Uint8Array): number => bytes.reduce((total, byte) => (total + byte) & 0xff, 0)
  const tableAt = (address: number): { signature: string; bytes: Uint8Array; view: DataView } => {
    const length = new DataView(bytesAt(memory, address + 4, 4).buffer).getUint32(0, true)
    const bytes = bytesAt(memory, address, length)
    return { signature: Buffer.from(bytes.subarray(0, 4)).toString(), bytes, view: new DataView(bytes.buffer) }
  }
  const tables = () => {
    const rsdp = bytesAt(memory, root, 36)
    const xsdt = tableAt(Number(new DataView(rsdp.buffer).getBigUint64(24, true)))
    const entries = Array.from({ length: (xsdt.bytes.length - 36) / 8 }, (_, i) =>
      tableAt(Number(xsdt.view.getBigUint64(36 + 8 * i, true))),
    )
    const named = new Map(entries.map((table) => [table.signature, table]))
    const dsdt = tableAt(Number(named.get('FACP')?.view.getBigUint64(140, true)))
    return { rsdp, all: [xsdt, ...entries, dsdt], fadt: named.get('FACP'), madt: named.get('APIC'), dsdt }
  }

  it('are reached from the root pointer, on a boundary of 16 bytes below 1 MiB', () => {
    assert.ok(root >= 0xe_0000 && root < 0x10_0000 && root % 16 === 0)
    assert.equal(Buffer.from(tables().rsdp.subarray(0, 8)).toString(), 'RSD PTR ')
    assert.deepEqual(
      tables().all.map(({ signature }) => signature),
      ['XSDT', 'FACP', 'APIC', 'MCFG', 'DSDT'],
    )
  })

  it('have sums of 0, the root pointer both of its first 20 bytes and of all', () => {
    const { rsdp, all } = tables()
    assert.equal(sum(rsdp.subarray(0, 20)), 0)
    assert.equal(sum(rsdp), 0)
    for (const { signature, bytes } of all) assert.equal(sum(bytes), 0, signature)
  })

  it('have every processor, and the I/O APIC', () => {
    const { madt } = tables()
    const kinds: number[][] = []
    for (let at = 44; at < (madt?.bytes.length ?? 0); at += madt?.bytes[at + 1] ?? 0) {
      kinds.push([...(madt?.bytes.subarray(at, at + (madt.bytes[at + 1] ?? 0)) ?? [])])
    }
    assert.deepEqual(kinds, [
      ...[0, 1, 2].map((id) => [0, 8, id, id, 1, 0, 0, 0]),
      [1, 12, 0, 0, 0, 0, 0xc0, 0xfe, 0, 0, 0, 0],
    ])
  })

  it('say where the machine is switched off and reset', () => {
    const { fadt } = tables()
    const port = (at: number) => [
      ...(fadt?.bytes.subarray(at, at + 4) ?? []),
      Number(fadt?.view.getBigUint64(at + 4, true)),
    ]
    assert.deepEqual(port(116), [1, 8, 0, 1, 0x602])
    assert.deepEqual(port(244), [1, 8, 0, 1, 0x600])
    assert.deepEqual(port(256), [1, 8, 0, 1, 0x601])
    assert.equal((fadt?.view.getUint32(112, true) ?? 0) & (1 << 20), 1 << 20, 'hardware-reduced')
  })

  it('have a device for each window of virtio, with a name of its own', () => {
    const text = Buffer.from(tables().dsdt.bytes).toString('latin1')
    const names = [...text.matchAll(/V0[0-9A-F]{2}/g)].map(([name]) => name)
    assert.equal(new Set(names).size, 18)
    assert.equal([...text.matchAll(/LNRO0005\0/g)].length, 18)
    assert.ok(text.includes('\\_SB_'))
  })

  describe('in their machine language', () => {
    it('count a package in as many bytes as it needs (section 20.2.4)', () => {
      const body = (length: number) => string('x'.repeat(length - 2))
      const lead = (length: number) => scope('ABCD', body(length)).slice(1, 4)
      assert.deepEqual(lead(0x3e - 4).slice(0, 1), [0x3f])
      assert.deepEqual(lead(0x3f - 4).slice(0, 2), [0x41, 0x04])
      assert.deepEqual(lead(0xffd - 4).slice(0, 2), [0x4f, 0xff])
      assert.deepEqual(lead(0xffe - 4), [0x81, 0x00, 0x01])
    })

    it('spell names, strings and numbers of plug and play', () => {
      assert.deepEqual(eisaId('PNP0501'), [0x0c, 0x41, 0xd0, 0x05, 0x01])
      assert.deepEqual(named('_HID', string('AB')), [0x08, 0x5f, 0x48, 0x49, 0x44, 0x0d, 0x41, 0x42, 0])
      assert.deepEqual(device('COM1'), [0x5b, 0x82, 5, 0x43, 0x4f, 0x4d, 0x31])
    })
  })
})
