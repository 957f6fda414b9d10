// A quick run through the installed package, without rights and without vhost-net: prints what it found as JSON.
// Needs nothing but the package, so that it can run in an empty project and on any Node.js.

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { Burst, Driver, EventFd, GuestMemory, watchReadable } from 'vhost-net'

assert.equal(createRequire(import.meta.url)('vhost-net').EventFd, EventFd, 'import and require give the same')

for (const [room, name] of Object.entries({ kvm: 'KvmInterrupts', network: 'plug', interop: 'parseNics', vmm: 'Vm' })) {
  assert.equal(typeof (await import(`vhost-net/${room}`))[name], 'function', `vhost-net/${room} has ${name}`)
}

const event = EventFd.create()
const counted = await new Promise((resolve) => {
  const watch = watchReadable(
    event,
    () => {
      resolve(event.read())
      watch.stop()
    },
    { keepAlive: true },
  )
  event.signal(7n)
})
assert.equal(counted, 7n)
event.close()

const memory = GuestMemory.allocate({ size: 2 ** 20 })
memory.write(4096, Uint8Array.of(1, 2, 3))
assert.deepEqual([...memory.window(4096, 3)], [1, 2, 3])

// VERSION_1, and nobody at the other end: the frame lies in the ring, and the device has been kicked.
const driver = Driver.create({ memory, features: 1n << 32n, queueSize: 16 })
const [pair] = driver.pairs
assert.ok(pair)
const { tx } = pair
const burst = new Burst(1)
assert.equal(tx.allocate(burst.offsets), 1)
burst.add(burst.offsets[0] ?? 0, 12 + 60)
assert.equal(tx.send(burst), 1)
assert.equal(tx.inFlight, 1)
assert.equal(tx.kick.read(), 1n)
driver.destroy()
memory.close()

const addon = /\S+\.node$/m.exec(readFileSync('/proc/self/maps', 'utf8'))?.[0]
console.log(JSON.stringify({ node: process.versions.node, arch: process.arch, addon }))
