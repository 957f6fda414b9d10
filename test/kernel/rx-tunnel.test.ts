// How the real kernel hands a guest a large packet in a UDP tunnel, by what it has accepted: cut, or to be cut by it.

import assert from 'node:assert/strict'
import { VIRTIO_NET_F, VIRTIO_NET_HDR_F } from '../../lib/abi/virtio-net.ts'
import { NetHeader } from '../../lib/driver/index.ts'
import { since } from '../support/kernel.ts'
import { parse } from '../support/packets.ts'
import { type GuestFrame, PlainGuest } from '../support/plain-guest.ts'
import { type Tunnel, tunnel } from '../support/tunnels.ts'
import { vnetHdr } from '../support/vnet-hdr.ts'

const { VIRTIO_NET_F_GUEST_CSUM, VIRTIO_NET_F_GUEST_TSO4, VIRTIO_NET_F_GUEST_TSO6 } = VIRTIO_NET_F
const { VIRTIO_NET_F_GUEST_USO4, VIRTIO_NET_F_GUEST_USO6 } = VIRTIO_NET_F
const { VIRTIO_NET_F_GUEST_UDP_TUNNEL_GSO: TUNNEL, VIRTIO_NET_F_GUEST_UDP_TUNNEL_GSO_CSUM: TUNNEL_CSUM } = VIRTIO_NET_F
const SEGMENTATION = [
  ...[VIRTIO_NET_F_GUEST_CSUM, VIRTIO_NET_F_GUEST_TSO4, VIRTIO_NET_F_GUEST_TSO6],
  ...[VIRTIO_NET_F_GUEST_USO4, VIRTIO_NET_F_GUEST_USO6],
]
const { VIRTIO_NET_HDR_F_NEEDS_CSUM: NEEDS_CSUM, VIRTIO_NET_HDR_F_DATA_VALID: DATA_VALID } = VIRTIO_NET_HDR_F

const GSO_SIZE = 1400
const DATA = Buffer.from(Array.from({ length: 4000 }, (_, i) => (i * 7 + (i >> 8) * 13) & 0xff))
/** Whether the tunnel and the packet inside are IPv6. */
const FAMILIES = [
  [false, false],
  [false, true],
  [true, false],
  [true, true],
] as const

const tunnels = (outerChecksum: boolean): Tunnel[] =>
  FAMILIES.flatMap(([ipv6, inner]) =>
    (['tcp', 'udp'] as const).map((protocol) =>
      tunnel({ protocol, payload: DATA, ipv6: inner }, GSO_SIZE, { ipv6, outerChecksum }),
    ),
  )

/** Checks that they are pieces with all the data, none of which is still to be cut, with every checksum that it is to have. */
function assertPieces(frames: readonly GuestFrame[], { outer, inner, at }: Tunnel, outerChecksum: boolean): void {
  const pieces = frames.map(({ header, bytes }) => {
    assert.deepEqual(header, {
      ...vnetHdr({ num_buffers: 1 }),
      ...(header.flags === 0 ? {} : { flags: NEEDS_CSUM, csum_start: at + inner.transport }),
      ...(header.flags === 0 ? {} : { csum_offset: inner.checksum - inner.transport }),
    })
    Object.assign(new NetHeader(), header).completeChecksum(bytes)
    const parsed = parse(bytes.subarray(at), inner)
    assert.equal(parsed?.checksumsRight, true, 'inside')
    if (outerChecksum) assert.equal(parse(bytes, outer)?.checksumsRight, true, 'outside')
    else assert.equal(bytes.readUInt16BE(outer.checksum), 0)
    return parsed.payload
  })
  assert.equal(frames.length, Math.ceil(DATA.length / GSO_SIZE))
  assert.ok(Buffer.concat(pieces).equals(DATA))
}

/** Checks that it is all of it, as it was sent. */
function assertWhole(frames: readonly GuestFrame[], { frame, header }: Tunnel): void {
  assert.deepEqual(
    frames.map((received) => received.header),
    [vnetHdr({ ...header, num_buffers: 1 })],
  )
  assert.ok(frames[0]!.bytes.equals(frame))
}

// Linux has them since 6.17.
const suite = since(6, 17) ? describe : describe.skip
suite('a packet in a UDP tunnel that a guest receives', () => {
  let guest: PlainGuest
  before(async () => {
    guest = await PlainGuest.open()
  })
  after(() => guest.close())

  const received = async (sent: Tunnel, ...features: number[]): Promise<GuestFrame[]> =>
    await guest.up(...features).receives(sent.frame, sent.header)

  it('[NET-RX-11] [NET-RX-19] is cut before without GUEST_UDP_TUNNEL_GSO', async () => {
    for (const outerChecksum of [false, true]) {
      for (const sent of tunnels(outerChecksum)) {
        assertPieces(await received(sent, ...SEGMENTATION), sent, outerChecksum)
      }
      const [sent] = tunnels(outerChecksum)
      assertPieces(await received(sent!), sent!, outerChecksum)
    }
  })

  it('[NET-RX-20] [NET-RX-21] comes whole with it, with the places of its headers and a bit for what the tunnel goes over', async () => {
    // Where the specification has the bit say what is inside: Linux takes skb->protocol (virtio_net_hdr_tnl_from_skb).
    for (const sent of tunnels(false)) assertWhole(await received(sent, ...SEGMENTATION, TUNNEL), sent)
  })

  it('[NET-RX-12] [NET-RX-22] [NET-RX-23] is cut before without GUEST_UDP_TUNNEL_GSO_CSUM where the tunnel has a checksum', async () => {
    for (const sent of tunnels(true)) assertPieces(await received(sent, ...SEGMENTATION, TUNNEL), sent, true)
  })

  it('[NET-RX-32] comes whole with it, the sum of the pseudo-header where the tunnel’s checksum is to be', async () => {
    for (const sent of tunnels(true)) assertWhole(await received(sent, ...SEGMENTATION, TUNNEL, TUNNEL_CSUM), sent)
  })

  it('[NET-RX-33] has no checksum outside, and no flag for it, where the tunnel has none', async () => {
    for (const sent of tunnels(false)) {
      const frames = await received(sent, ...SEGMENTATION, TUNNEL, TUNNEL_CSUM)
      assertWhole(frames, sent)
      assert.equal(frames[0]!.bytes.readUInt16BE(sent.outer.checksum), 0)
    }
  })

  it('[NET-RX-31] is never called right, also where its sender does', async () => {
    for (const outerChecksum of [false, true]) {
      for (const sent of tunnels(outerChecksum)) {
        guest.up(...SEGMENTATION, TUNNEL, TUNNEL_CSUM)
        const said = { ...sent.header, flags: sent.header.flags! | DATA_VALID }
        assertWhole(await guest.receives(sent.frame, said), sent)
      }
    }
  })
})
