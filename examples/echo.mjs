// Sends every UDP datagram back to where it came from, as 192.0.2.2 behind a real vhost-net. Run as root: node examples/echo.mjs
import { createSocket } from 'node:dgram'
import { Driver, FramePort, GuestMemory, RtNetlink, VhostNetBackend } from 'vhost-net'

const features = (1n << 32n) | (1n << 15n) | (1n << 1n) | 1n // VERSION_1, MRG_RXBUF, GUEST_CSUM, CSUM
const memory = GuestMemory.allocate({ size: 16 * 2 ** 20 })
const backend = await VhostNetBackend.open({ memory, tap: { ifname: 'vnet%d' } })
const driver = Driver.create({ memory, features })
const { rx, tx } = driver.pairs[0]
backend.start(0, { features, rx: rx.vring, tx: tx.vring })

const netlink = RtNetlink.open()
const { index } = netlink.getLink({ ifname: backend.ifname })
netlink.addAddress(index, { address: '192.0.2.1', prefixLength: 24 })
netlink.addNeighbour(index, { address: '192.0.2.2', mac: '02:00:00:00:00:02' })
netlink.setLink(index, { up: true })

const port = new FramePort(driver)
const socket = createSocket('udp4', (text, { address }) => {
  console.log(`${address} says ${text}`)
  port.close()
})
socket.send('hello', 7, '192.0.2.2')

function swap(frame, a, b, size) {
  const first = Buffer.from(frame.subarray(a, a + size))
  frame.copyWithin(a, b, b + size).set(first, b)
}

for await (const { bytes: frame, header } of port) {
  if (frame.readUInt16BE(12) !== 0x0800 || frame[23] !== 17) continue
  swap(frame, 0, 6, 6) // Ethernet addresses
  swap(frame, 26, 30, 4) // IPv4 addresses
  swap(frame, 34, 36, 2) // UDP ports
  await port.send({ bytes: frame, header }) // the checksum is as good as before: made, or to be made by the kernel
}
for (const open of [socket, netlink, driver, backend, memory]) await open.close()
