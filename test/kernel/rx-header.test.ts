// What the real kernel says of a frame in the header that a guest receives, by what it has accepted.

import assert from 'node:assert/strict'
import { VIRTIO_NET_F, VIRTIO_NET_HDR_F, VIRTIO_NET_HDR_GSO } from '../../lib/abi/virtio-net.ts'
import { NetHeader } from '../../lib/driver/index.ts'
import { since } from '../support/kernel.ts'
import { type Built, build, type Packet, parse, TCP } from '../support/packets.ts'
import { type GuestFrame, PlainGuest } from '../support/plain-guest.ts'
import { vnetHdr } from '../support/vnet-hdr.ts'

const { VIRTIO_NET_F_GUEST_CSUM: CSUM, VIRTIO_NET_F_GUEST_ECN: ECN } = VIRTIO_NET_F
const { VIRTIO_NET_F_GUEST_TSO4: TSO4, VIRTIO_NET_F_GUEST_TSO6: TSO6 } = VIRTIO_NET_F
/** Linux 6.1 has no USO. */
const USO = since(6, 2) ? [VIRTIO_NET_F.VIRTIO_NET_F_GUEST_USO4, VIRTIO_NET_F.VIRTIO_NET_F_GUEST_USO6] : []
const { VIRTIO_NET_HDR_F_NEEDS_CSUM: NEEDS_CSUM, VIRTIO_NET_HDR_F_DATA_VALID: DATA_VALID } = VIRTIO_NET_HDR_F
const { VIRTIO_NET_HDR_GSO_TCPV4: TCPV4, VIRTIO_NET_HDR_GSO_TCPV6: TCPV6 } = VIRTIO_NET_HDR_GSO
const { VIRTIO_NET_HDR_GSO_UDP_L4: UDP_L4, VIRTIO_NET_HDR_GSO_ECN } = VIRTIO_NET_HDR_GSO

const GSO_SIZE = 1400
const DATA = Buffer.from(Array.from({ length: 4000 }, (_, i) => (i * 7 + (i >> 8) * 13) & 0xff))
const FAMILIES = [false, true]

const large = (packet: Partial<Packet> = {}): Built => build({ protocol: 'tcp', payload: DATA, ...packet })
const small = (protocol: 'tcp' | 'udp'): Built => build({ protocol, payload: DATA.subarray(0, 100) })
/** One whose checksum is not right. */
const altered = (protocol: 'tcp' | 'udp'): Built => {
  const built = small(protocol)
  built.frame[built.payload]! ^= 1
  return built
}

/** The large packet, which the far end leaves to the kernel to cut. */
const cut = (guest: PlainGuest, { frame }: Built, also: { flags?: number } = {}): Promise<GuestFrame[]> => {
  const header = new NetHeader().offloadSegmentation(GSO_SIZE, frame)
  return guest.receives(frame, { ...header, flags: header.flags | (also.flags ?? 0) })
}

/** Checks that they are pieces of no more than `GSO_SIZE` with all the data, of which none is still to be cut. */
function assertPieces(frames: readonly GuestFrame[], built: Built): void {
  assert.equal(frames.length, Math.ceil(DATA.length / GSO_SIZE))
  const pieces = frames.map(({ header, bytes }) => {
    assert.deepEqual([header.gso_type, header.gso_size, header.hdr_len], [0, 0, 0])
    new NetHeader().copy(Object.assign(new NetHeader(), header)).completeChecksum(bytes)
    const parsed = parse(bytes, built)
    assert.equal(parsed?.checksumsRight, true)
    return parsed.payload
  })
  assert.ok(Buffer.concat(pieces).equals(DATA))
}

/** Checks that it is all of it, to be cut so; its headers are as long as said, or longer by bytes of the payload. */
function assertWhole(frames: readonly GuestFrame[], built: Built, gsoType: number, headers = built.payload): void {
  assert.equal(frames.length, 1)
  const { header, bytes } = frames[0]!
  const { hdr_len, num_buffers } = header
  const [csum_start, csum_offset] = [built.transport, built.checksum - built.transport]
  const asked = { flags: NEEDS_CSUM, gso_type: gsoType, gso_size: GSO_SIZE, csum_start, csum_offset }
  assert.deepEqual(header, vnetHdr({ ...asked, hdr_len, num_buffers }))
  assert.ok(hdr_len >= headers && hdr_len <= built.frame.length, `hdr_len ${hdr_len} of ${headers}`)
  assert.ok(bytes.equals(built.frame))
}

describe('the header of a frame that a guest receives', () => {
  let guest: PlainGuest
  before(async () => {
    guest = await PlainGuest.open()
  })
  after(() => guest.close())

  it('[NET-RX-09] leaves TCP over IPv6 to be cut with GUEST_TSO6 only', async () => {
    const built = large({ ipv6: true })
    assertPieces(await cut(guest.up(CSUM, TSO4, ...USO), built), built)
    assertWhole(await cut(guest.up(CSUM, TSO6), built), built, TCPV6)
  })

  it('[NET-RX-10] leaves datagrams to be cut with GUEST_USO4 and GUEST_USO6 only', async () => {
    for (const ipv6 of FAMILIES) {
      const built = large({ protocol: 'udp', ipv6 })
      guest.up(CSUM, TSO4, TSO6)
      if (USO.length === 0) {
        await assert.rejects(cut(guest, built), { code: 'EINVAL' }, 'no frame of this kernel is one')
      } else {
        assertPieces(await cut(guest, built), built)
        assertPieces(await cut(guest.up(CSUM, TSO4, TSO6, USO[0]!), built), built)
        assertWhole(await cut(guest.up(CSUM, ...USO), built), built, UDP_L4)
      }
    }
  })

  it('[NET-RX-08] leaves no datagram to be cut into fragments, since nobody offers GUEST_UFO', async () => {
    for (const ipv6 of FAMILIES) {
      const { frame, network } = large({ protocol: 'udp', ipv6 })
      guest.up(CSUM, TSO4, TSO6, ECN, ...USO)
      const header = new NetHeader().offloadFragmentation(GSO_SIZE, frame)
      const fragments = await guest.receives(frame, { ...header })
      assert.deepEqual(
        fragments.map((fragment) => fragment.header.gso_type),
        [0, 0, 0],
      )
      // Each with its own IP header, and of IPv6 one of 8 bytes more.
      const below = network + (ipv6 ? 48 : 20)
      const data = Buffer.concat(fragments.map(({ bytes }) => bytes.subarray(below))).subarray(8)
      assert.ok(data.equals(DATA))
    }
  })

  it('[NET-RX-13] [NET-RX-14] leaves TCP with a mark of ECN to be cut with GUEST_ECN only, and says that it has one', async () => {
    for (const [ipv6, tso, type] of [
      [false, TSO4, TCPV4],
      [true, TSO6, TCPV6],
    ] as const) {
      const marked = large({ ipv6, flags: TCP.ACK | TCP.CWR })
      assertPieces(await cut(guest.up(CSUM, tso), marked), marked)
      assertWhole(await cut(guest.up(CSUM, tso, ECN), marked), marked, type | VIRTIO_NET_HDR_GSO_ECN)
      const unmarked = large({ ipv6 })
      assertWhole(await cut(guest, unmarked), unmarked, type)
    }
  })

  it('[NET-RX-28] [NET-RX-29] has no RSC_INFO, whatever the sender says, and counts all headers', async () => {
    guest.up(CSUM, TSO4, TSO6)
    const flags = VIRTIO_NET_HDR_F.VIRTIO_NET_HDR_F_RSC_INFO
    for (const packet of [
      { tcpOptions: Buffer.alloc(12, 1) },
      { ipOptions: 12 },
      { ipv6: true, extensions: [[60, Buffer.from([0, 0, 1, 4, 0, 0, 0, 0])]] as const },
    ]) {
      const built = large(packet)
      assertWhole(await cut(guest, built, { flags }), built, packet.ipv6 ? TCPV6 : TCPV4)
    }
    const [frame] = await guest.receives(small('udp').frame, { flags })
    assert.equal(frame?.header.flags, 0)
    // The tag of a VLAN, which the kernel keeps beside the frame, should be counted and is not (virtio_net_hdr_from_skb).
    const tagged = large({ vlans: [0x8100] })
    const frames = await cut(guest, tagged)
    assertWhole(frames, tagged, TCPV4, tagged.payload - 4)
    assert.ok(frames[0]!.header.hdr_len < tagged.payload)
  })
})

describe('the header of a frame that a guest receives, of which the host’s NIC looks at the checksum', () => {
  let guest: PlainGuest
  before(async () => {
    guest = await PlainGuest.open({ napi: true })
  })
  after(() => guest.close())

  it('[NET-RX-16] [NET-RX-30] calls it right with GUEST_CSUM where it is, and never where it is not', async () => {
    guest.up(CSUM, TSO4, TSO6)
    for (const protocol of ['udp', 'tcp'] as const) {
      for (const [built, flags] of [
        [small(protocol), DATA_VALID],
        [altered(protocol), 0],
      ] as const) {
        const [frame] = await guest.receives(built.frame)
        assert.equal(frame?.header.flags, flags)
        assert.ok(frame.bytes.equals(built.frame))
      }
    }
  })

  it('[NET-RX-16] leaves it to be made with GUEST_CSUM where the sender did, all others right', async () => {
    guest.up(CSUM)
    const { frame } = small('udp')
    const asked = new NetHeader().offloadChecksum(frame)
    const [received] = await guest.receives(frame, { ...asked })
    assert.equal(received?.header.flags, NEEDS_CSUM)
    Object.assign(new NetHeader(), received.header).completeChecksum(received.bytes)
    assert.equal(parse(received.bytes)?.checksumsRight, true)
  })

  it('[NET-RX-05] says nothing without GUEST_CSUM, but DATA_VALID where it is right', async () => {
    guest.up()
    const { frame } = small('udp')
    const [made] = await guest.receives(frame, { ...new NetHeader().offloadChecksum(frame) })
    assert.equal(made?.header.flags, 0)
    assert.equal(parse(made.bytes)?.checksumsRight, true)
    const [wrong] = await guest.receives(altered('tcp').frame)
    assert.equal(wrong?.header.flags, 0)
    // Where 0 is to be: no kernel asks whether the reader of a tap has TUN_F_CSUM (virtio_net_hdr_from_skb).
    const [right] = await guest.receives(small('tcp').frame)
    assert.equal(right?.header.flags, DATA_VALID)
  })
})
