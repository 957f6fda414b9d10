// A VMM that is not ours gives its guest a NIC that is. As root: npm install && npm start
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { GuestMemory, KvmVm, RtNetlink, VirtioMmioTransport, VirtioNet } from 'vhost-net'
import { GsiRoutes, KvmDoorbells, KvmInterrupts } from 'vhost-net/kvm'

const require = createRequire(import.meta.url)
const vmm = require('./build/Release/vmm.node')
const image = readFileSync(new URL('build/Release/guest.bin', import.meta.url))

const MEMORY_SIZE = 2 * 2 ** 20
const ENTRY = 0x10_0000
// guest.c has the same numbers; a real guest is told them by ACPI or a device tree.
const NIC = { address: 0xd000_0000, vector: 0x40 }
const OWN_INTERRUPT = { gsi: 24, vector: 0x30 }
const PORT = { console: 0xe9, end: 0xf4, askForInterrupt: 0xf5 }
const QUEUE_NOTIFY = 0x50

// The VM and its memory are the VMM's. vhost-net gets an fd of each, which it closes.
const vm = vmm.create(MEMORY_SIZE, ENTRY)
const kvm = KvmVm.fromFd(vmm.vmFd(vm))
const memory = GuestMemory.adopt({ regions: [{ guestAddress: 0, size: MEMORY_SIZE, fd: vmm.memoryFd(vm) }] })
memory.write(ENTRY, image)

// A range of GSIs is vhost-net's, the rest of the table the VMM's.
const others = vmm.messageRoute(OWN_INTERRUPT.gsi, OWN_INTERRUPT.vector)
const routes = new GsiRoutes(kvm, { first: 32, count: 8, others })
const gsis = routes.allocate(1)
routes.setMessage(gsis[0], { address: 0xfee0_0000n, data: NIC.vector })
routes.commit()

const nic = await VirtioNet.open({
  memory,
  mac: '52:54:00:12:34:56',
  ctrl_vq: false, // its commands are served by the event loop, which does not turn while the guest runs on its thread
  backend: { tap: { ifname: 'embed%d' } },
})
const transport = new VirtioMmioTransport(nic, {
  address: NIC.address,
  doorbells: new KvmDoorbells(kvm),
  interrupts: new KvmInterrupts(kvm, gsis),
})

const netlink = RtNetlink.open()
const { index } = netlink.getLink({ ifname: nic.backend.ifname })
netlink.addAddress(index, { address: '192.0.2.1', prefixLength: 24 })
netlink.setLink(index, { up: true })

// Registers take 1, 2 or 4 bytes; a wider access is several.
function access(registers, offset, { width, write }) {
  for (let at = 0; at < width; at += 4) {
    const bytes = Math.min(width - at, 4)
    if (write) registers.write(offset + at, bytes, data.readUIntLE(at, bytes))
    else data.writeUIntLE(registers.read(offset + at, bytes), at, bytes)
  }
}

// Until the guest has ended the event loop does not turn: no JavaScript hears of a kick, or of an interrupt.
const data = Buffer.alloc(8)
let registerExits = 0
let kicks = 0
let code
while (code === undefined) {
  const exit = vmm.run(vm, data)
  const offset = exit.address - NIC.address
  if (exit.reason === 'mmio' && offset >= 0 && offset + exit.width <= transport.size) {
    registerExits++
    if (exit.write && offset === QUEUE_NOTIFY) kicks++
    access(transport, offset, exit)
  } else if (exit.reason === 'io' && exit.address === PORT.console) {
    process.stdout.write(data.subarray(0, 1))
  } else if (exit.reason === 'io' && exit.address === PORT.askForInterrupt) {
    vmm.raise(vm, OWN_INTERRUPT.gsi)
  } else if (exit.reason === 'io' && exit.address === PORT.end) {
    code = data[0]
  } else if (exit.reason === 'mmio' || exit.reason === 'io') {
    data.fill(0xff) // nothing is there
  } else {
    console.error(`the guest cannot go on: KVM_EXIT ${exit.number}, ${exit.reason}`)
    code = 2
  }
}
const { fault } = nic.inspect()
if (fault !== null) console.error(`the NIC had to be reset: ${fault.message}`)
console.log(`${registerExits} accesses of registers passed through JavaScript, ${kicks} of them kicks.`)

for (const open of [netlink, transport, nic, kvm, memory]) open.close()
vmm.close(vm)
process.exitCode = code
