// What virtio-net headers ask for is done by the real kernel, and what the kernel says by them is understood: checksums
// and segmentation, both ways, through vhost-net and a tap.

import assert from 'node:assert/strict'
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { type AddressInfo, createServer, type Socket } from 'node:net'
import { VIRTIO_NET_F } from '../../lib/abi/virtio-net.ts'
import { FramePort, NetHeader } from '../../lib/driver/index.ts'
import { GUEST, HOST, HostNic, udpChecksumErrors } from '../support/host-nic.ts'
import { since } from '../support/kernel.ts'
import { build, type Packet, parse } from '../support/packets.ts'
import { soon } from '../support/soon.ts'
import { TcpClient } from '../support/tcp-client.ts'
import { MRG_RXBUF, TwoNics, VERSION_1 } from '../support/two-nics.ts'

const { VIRTIO_NET_F_CSUM, VIRTIO_NET_F_HOST_TSO4, VIRTIO_NET_F_HOST_TSO6, VIRTIO_NET_F_HOST_ECN } = VIRTIO_NET_F
const { VIRTIO_NET_F_HOST_UFO, VIRTIO_NET_F_HOST_USO } = VIRTIO_NET_F
const { VIRTIO_NET_F_GUEST_CSUM, VIRTIO_NET_F_GUEST_TSO4 } = VIRTIO_NET_F

const HOST_OFFLOADS = [VIRTIO_NET_F_CSUM, VIRTIO_NET_F_HOST_TSO4, VIRTIO_NET_F_HOST_TSO6, VIRTIO_NET_F_HOST_ECN]

/** Bytes that do not repeat at any power of two. */
const pattern = (size: number): Buffer =>
  Buffer.from(Array.from({ length: size }, (_, i) => (i * 7 + (i >> 8) * 13) & 0xff))

/** A socket of the host's, on the tap's address. */
async function hostSocket(): Promise<{
  socket: ReturnType<typeof createSocket>
  destinationPort: number
  [Symbol.asyncDispose](): Promise<void>
}> {
  const socket = createSocket('udp4').bind(0, HOST)
  await once(socket, 'listening')
  return {
    socket,
    destinationPort: socket.address().port,
    [Symbol.asyncDispose]: () => new Promise<void>((resolve) => socket.close(() => resolve())),
  }
}

/** A server of the host's, on the tap's address. */
async function tcpServer(
  connected: (socket: Socket) => void,
): Promise<{ port: number; [Symbol.asyncDispose](): Promise<void> }> {
  const server = createServer(connected).listen(0, HOST)
  await once(server, 'listening')
  return {
    port: (server.address() as AddressInfo).port,
    [Symbol.asyncDispose]: () => new Promise<void>((resolve) => server.close(() => resolve())),
  }
}

describe('offloads through vhost-net', () => {
  describe('of what the driver sends', () => {
    it('a datagram without checksum reaches a socket of the host; without the request for one it does not', async () => {
      using nic = await HostNic.open(VIRTIO_NET_F_CSUM)
      await using host = await hostSocket()
      const payload = Buffer.from('a checksum, please')
      const { frame } = build({ ...nic.addresses, protocol: 'udp', payload, destinationPort: host.destinationPort })
      const header = new NetHeader().offloadChecksum(frame)
      const errors = udpChecksumErrors()
      await nic.port.send(frame)
      await soon('a checksum error', () => udpChecksumErrors() === errors + 1)

      const message = once(host.socket, 'message')
      await nic.port.send({ bytes: frame, header })
      const [data, from] = await message
      assert.equal(String(data), 'a checksum, please')
      assert.equal(from.address, GUEST)
      assert.equal(udpChecksumErrors(), errors + 1)
    })

    it('[NET-RX-07] [NET-RX-24] 60000 bytes of TCP in one frame are one packet to the tap, and all of them reach a server of the host', async () => {
      using nic = await HostNic.open(...HOST_OFFLOADS)
      await using server = await tcpServer((socket) => socket.pipe(socket))
      const signal = AbortSignal.timeout(20_000)
      const client = await TcpClient.connect(nic, server.port, true, signal)
      await nic.port.drained({ signal })
      const before = nic.stats
      const data = pattern(60_000)
      await client.send(data)
      await nic.port.drained({ signal })
      const { rx_packets, rx_bytes } = nic.stats
      assert.deepEqual([rx_packets - before.rx_packets, rx_bytes - before.rx_bytes], [1, 54 + data.length])
      const segments = await client.receive(data.length)
      assert.ok(Buffer.concat(segments.map(({ payload }) => payload)).equals(data))
      // Nothing was accepted of what the host could leave to the driver.
      for (const { header, payload } of segments) {
        assert.deepEqual([header.needsCsum, header.gso_type, header.gso_size], [false, 0, 0])
        assert.ok(payload.length <= 1460)
      }
      await client.close()
    })

    for (const [name, packet] of [
      ['IPv4', { ipv6: false }],
      ['IPv4 with options and a VLAN tag', { ipv6: false, ipOptions: 12, vlans: [0x8100] }],
      ['IPv6', { ipv6: true }],
      [
        'IPv6 with destination options and a VLAN tag',
        { ipv6: true, vlans: [0x8100], extensions: [[60, Buffer.from([0, 0, 1, 4, 0, 0, 0, 0])]] },
      ],
    ] as const satisfies readonly (readonly [string, Partial<Packet>])[]) {
      it(`a large TCP segment over ${name} is cut for a NIC that takes none, every checksum right`, async () => {
        const features = HOST_OFFLOADS.reduce((mask, bit) => mask | (1n << BigInt(bit)), VERSION_1 | MRG_RXBUF)
        using nics = await TwoNics.open({ features })
        nics.startAll()
        const [from, to] = [new FramePort(nics.a.driver), new FramePort(nics.b.driver)]
        const data = pattern(60_000)
        const built = build({
          ...packet,
          protocol: 'tcp',
          sequence: 5000,
          payload: data,
          tcpOptions: Buffer.alloc(12, 1),
        })
        const gsoSize = 1400
        const header = new NetHeader().offloadSegmentation(gsoSize, built.frame)
        await from.send({ bytes: built.frame, header })
        const received: Buffer[] = []
        const signal = AbortSignal.timeout(20_000)
        while (received.length < data.length / gsoSize) {
          const { value } = await to.frames({ signal }).next()
          assert.deepEqual([value!.header.needsCsum, value!.header.gso_type], [false, 0])
          const segment = parse(value!.bytes, built)
          assert.equal(segment?.checksumsRight, true, nics.describe())
          assert.equal(segment.sequence, 5000 + received.length * gsoSize)
          received.push(segment.payload)
        }
        assert.ok(Buffer.concat(received).equals(data))
        to.close()
        from.close()
      })
    }

    it('a datagram of 8000 bytes in one frame reaches a socket of the host, to which it would have come in fragments', async () => {
      using nic = await HostNic.open(VIRTIO_NET_F_CSUM, VIRTIO_NET_F_HOST_UFO)
      await using host = await hostSocket()
      const { frame } = build({
        ...nic.addresses,
        protocol: 'udp',
        payload: pattern(8000),
        destinationPort: host.destinationPort,
      })
      const message = once(host.socket, 'message')
      await nic.port.send({ bytes: frame, header: new NetHeader().offloadFragmentation(1480, frame) })
      assert.ok((await message)[0].equals(pattern(8000)))
    })

    // Linux 6.1 has no USO: it neither delivers such a frame nor counts it as an error (6.1.192).
    if (since(6, 2)) {
      it('datagrams in one frame reach a socket of the host one by one', async () => {
        using nic = await HostNic.open(VIRTIO_NET_F_CSUM, VIRTIO_NET_F_HOST_USO)
        await using host = await hostSocket()
        const data = pattern(8000)
        const { frame } = build({
          ...nic.addresses,
          protocol: 'udp',
          payload: data,
          destinationPort: host.destinationPort,
        })
        const messages: Buffer[] = []
        host.socket.on('message', (message) => messages.push(message))
        await nic.port.send({ bytes: frame, header: new NetHeader().offloadSegmentation(1000, frame) })
        await soon('eight datagrams', () => messages.length === 8)
        assert.ok(messages.every(({ length }) => length === 1000))
        assert.ok(Buffer.concat(messages).equals(data))
      })
    }

    it('a datagram without checksum has the right one at a NIC that takes none without', async () => {
      using nics = await TwoNics.open({ features: VERSION_1 | MRG_RXBUF | (1n << BigInt(VIRTIO_NET_F_CSUM)) })
      nics.startAll()
      const [from, to] = [new FramePort(nics.a.driver), new FramePort(nics.b.driver)]
      const packet: Packet = { protocol: 'udp', payload: pattern(999) }
      const { frame } = build(packet)
      const header = new NetHeader().offloadChecksum(frame)
      await from.send({ bytes: frame, header })
      const { value } = await to.frames({ signal: AbortSignal.timeout(20_000) }).next()
      assert.equal(value!.header.needsCsum, false)
      assert.ok(value!.bytes.equals(build(packet).frame))
      to.close()
      from.close()
    })
  })

  describe('of what the host sends', () => {
    for (const [ids, agreed, offloads] of [
      ['[NET-RX-17] [NET-RX-18]', 'agreed on', true],
      ['[NET-RX-06]', 'not agreed on', false],
    ] as const) {
      it(`${ids} a datagram comes ${offloads ? 'without' : 'with'} its checksum where that is ${agreed}, and is right in the end`, async () => {
        using nic = await HostNic.open(...(offloads ? [VIRTIO_NET_F_GUEST_CSUM] : []))
        await using host = await hostSocket()
        const data = pattern(777)
        host.socket.send(data, 4000, GUEST)
        for await (const { bytes, header } of nic.port.frames({ signal: AbortSignal.timeout(20_000) })) {
          if (parse(bytes)?.destinationPort !== 4000) continue
          assert.equal(header.needsCsum, offloads)
          assert.equal(header.completeChecksum(bytes), offloads)
          assert.equal(parse(bytes)?.checksumsRight, true)
          assert.ok(parse(bytes)?.payload.equals(data))
          break
        }
      })
    }

    it('[NET-RXB-01] [NET-RX-02] [NET-RX-25] [NET-RX-26] TCP comes in frames larger than the MTU, in merged buffers, without checksums, and is right in the end', async () => {
      using nic = await HostNic.open(VIRTIO_NET_F_GUEST_CSUM, VIRTIO_NET_F_GUEST_TSO4)
      const data = pattern(120_000)
      await using server = await tcpServer((socket) => socket.resume().write(data))
      const client = await TcpClient.connect(nic, server.port, false, AbortSignal.timeout(20_000))
      const segments = await client.receive(data.length)
      assert.ok(Buffer.concat(segments.map(({ payload }) => payload)).equals(data))
      for (const { header, payload } of segments) {
        assert.equal(header.needsCsum, true)
        assert.equal(header.num_buffers, Math.ceil((12 + 54 + payload.length) / 2048))
        if (payload.length > 1460) assert.deepEqual([header.gso_type, header.gso_size], [1, 1460])
      }
      assert.ok(segments.some(({ payload }) => payload.length > 1460))
      await client.close()
    })
  })
})
