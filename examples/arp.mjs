// Asks the host's kernel for a MAC address, through a real vhost-net. Run as root: node examples/arp.mjs
import { Burst, Driver, GuestMemory, RtNetlink, VhostNetBackend } from 'vhost-net'

const features = (1n << 32n) | (1n << 29n) | (1n << 15n) // VERSION_1, EVENT_IDX, MRG_RXBUF
const memory = GuestMemory.allocate({ size: 16 * 2 ** 20 })
const backend = await VhostNetBackend.open({ memory, tap: { ifname: 'vnet%d' } })
const driver = Driver.create({ memory, features })
const { rx, tx } = driver.pairs[0]
backend.start(0, { features, rx: rx.vring, tx: tx.vring }) // from here the kernel's worker serves both rings

const netlink = RtNetlink.open()
const { index } = netlink.getLink({ ifname: backend.ifname })
netlink.addAddress(index, { address: '192.0.2.1', prefixLength: 24 })
netlink.setLink(index, { up: true })

const burst = new Burst(64)
tx.allocate(burst.offsets.subarray(0, 1)) // one buffer of the pool: 12 bytes of virtio header, then the frame
const arp = 'ffffffffffff 020000000002 0806 0001 0800 06 04 0001 020000000002 c0000202 000000000000 c0000201'
tx.pool.fill(0, burst.offsets[0], burst.offsets[0] + 12)
tx.pool.set(Buffer.from(arp.replaceAll(' ', ''), 'hex'), burst.offsets[0] + 12)
burst.add(burst.offsets[0], 12 + 42)
tx.send(burst)

for (let answer; answer === undefined; rx.releaseBurst(burst)) {
  await rx.readable()
  const frames = Array.from({ length: rx.receive(burst) }, (_, i) => rx.pool.subarray(burst.offsets[i] + 12))
  answer = frames.find((frame) => frame[12] === 8 && frame[13] === 6 && frame[21] === 2)
  if (answer) console.log(`192.0.2.1 is at ${Buffer.from(answer.subarray(22, 28)).toString('hex')}`)
}
for (const open of [netlink, driver, backend, memory]) await open.close()
