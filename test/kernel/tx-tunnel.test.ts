// What the real kernel makes of a packet in a UDP tunnel that a guest leaves it to cut: also where its header is wrong.

import assert from 'node:assert/strict'
import { VIRTIO_NET_F, VIRTIO_NET_HDR_F, VIRTIO_NET_HDR_GSO } from '../../lib/abi/virtio-net.ts'
import { NetHeader } from '../../lib/driver/index.ts'
import { since } from '../support/kernel.ts'
import { build } from '../support/packets.ts'
import { PlainGuest } from '../support/plain-guest.ts'
import { type Tunnel, tunnel } from '../support/tunnels.ts'
import { vnetHdr } from '../support/vnet-hdr.ts'

const { VIRTIO_NET_F_CSUM, VIRTIO_NET_F_HOST_TSO4, VIRTIO_NET_F_HOST_TSO6, VIRTIO_NET_F_HOST_USO } = VIRTIO_NET_F
const { VIRTIO_NET_F_HOST_UDP_TUNNEL_GSO: TUNNEL, VIRTIO_NET_F_HOST_UDP_TUNNEL_GSO_CSUM: TUNNEL_CSUM } = VIRTIO_NET_F
const SEGMENTATION = [VIRTIO_NET_F_CSUM, VIRTIO_NET_F_HOST_TSO4, VIRTIO_NET_F_HOST_TSO6, VIRTIO_NET_F_HOST_USO]
const { VIRTIO_NET_HDR_F_NEEDS_CSUM: NEEDS_CSUM, VIRTIO_NET_HDR_F_DATA_VALID: DATA_VALID } = VIRTIO_NET_HDR_F
const { VIRTIO_NET_HDR_F_UDP_TUNNEL_CSUM: OUTER_CSUM } = VIRTIO_NET_HDR_F
const { VIRTIO_NET_HDR_GSO_UDP_TUNNEL_IPV4: IPV4, VIRTIO_NET_HDR_GSO_UDP_TUNNEL_IPV6: IPV6 } = VIRTIO_NET_HDR_GSO

const GSO_SIZE = 1400
const DATA = Buffer.from(Array.from({ length: 4000 }, (_, i) => (i * 7 + (i >> 8) * 13) & 0xff))
const FAMILIES = [false, true]
const inTunnel = (ipv6: boolean): Tunnel => tunnel({ protocol: 'tcp', payload: DATA }, GSO_SIZE, { ipv6 })

// Linux has them since 6.17.
const suite = since(6, 17) ? describe : describe.skip
suite('a packet in a UDP tunnel that a guest sends', () => {
  let guest: PlainGuest
  before(async () => {
    guest = await PlainGuest.open()
    guest.up(...SEGMENTATION, TUNNEL, TUNNEL_CSUM)
  })
  after(() => guest.close())

  it('goes on as it is, for somebody else to cut', async () => {
    for (const [ipv6, inner, outerChecksum] of [
      [false, false, false],
      [false, true, true],
      [true, false, true],
      [true, true, false],
    ] as const) {
      for (const protocol of ['tcp', 'udp'] as const) {
        const sent = tunnel({ protocol, payload: DATA, ipv6: inner }, GSO_SIZE, { ipv6, outerChecksum })
        const frames = await guest.transmits(sent.frame, sent.header)
        assert.deepEqual(
          frames.map(({ header }) => header),
          [vnetHdr(sent.header)],
        )
        assert.ok(frames[0]!.bytes.equals(sent.frame))
      }
    }
  })

  const refusals: readonly [what: string, change: (sent: Tunnel) => Tunnel['header']][] = [
    ['[NET-TX-05] is not taken where it is said to go over IPv4 and IPv6', () => ({ gso_type: IPV4 | IPV6 | 1 })],
    ['[NET-TX-07] is not taken without NEEDS_CSUM', ({ header }) => ({ flags: header.flags! & ~NEEDS_CSUM })],
    ['[NET-TX-09] is not taken where nothing is to be cut', ({ header }) => ({ gso_type: header.gso_type! & ~1 })],
  ]
  for (const [what, change] of refusals) {
    it(what, async () => {
      for (const ipv6 of FAMILIES) {
        const sent = inTunnel(ipv6)
        assert.deepEqual(await guest.transmits(sent.frame, { ...sent.header, ...change(sent) }), [])
      }
    })
  }

  it('[NET-TX-06] is none without the bits for it, whatever the offsets say', async () => {
    const small = build({ protocol: 'udp', payload: DATA.subarray(0, 100) }).frame
    const large = build({ protocol: 'tcp', payload: DATA }).frame
    const asked = new NetHeader().offloadSegmentation(GSO_SIZE, large)
    for (const [outer_th_offset, inner_nh_offset] of [
      [34, 64],
      [1, 0],
      [0xfff0, 0xffff],
    ] as const) {
      const offsets = { outer_th_offset, inner_nh_offset }
      const [plain] = await guest.transmits(small, offsets)
      assert.deepEqual(plain, { header: vnetHdr(), bytes: small })
      const [whole] = await guest.transmits(large, { ...asked, ...offsets })
      assert.deepEqual(whole?.header, vnetHdr({ ...asked }))
      assert.ok(whole?.bytes.equals(large))
    }
  })

  it('[NET-TX-08] is taken with DATA_VALID, which must not be; it vouches for nothing then', async () => {
    for (const ipv6 of FAMILIES) {
      const { frame, header } = inTunnel(ipv6)
      const [taken] = await guest.transmits(frame, { ...header, flags: header.flags! | DATA_VALID })
      assert.deepEqual(taken?.header, vnetHdr(header))
      assert.ok(taken?.bytes.equals(frame))
    }
  })

  it('[NET-TX-10] with UDP_TUNNEL_CSUM and without the bits for a tunnel is taken, which must not be, as if it had no flag', async () => {
    const small = build({ protocol: 'udp', payload: DATA.subarray(0, 100) }).frame
    const [plain] = await guest.transmits(small, { flags: OUTER_CSUM })
    assert.deepEqual(plain, { header: vnetHdr(), bytes: small })
    const large = build({ protocol: 'tcp', payload: DATA }).frame
    const asked = new NetHeader().offloadSegmentation(GSO_SIZE, large)
    const [whole] = await guest.transmits(large, { ...asked, flags: asked.flags | OUTER_CSUM })
    assert.deepEqual(whole?.header, vnetHdr({ ...asked }))
    assert.ok(whole?.bytes.equals(large))
  })

  it('is not taken where HOST_UDP_TUNNEL_GSO was not agreed on', async () => {
    guest.up(...SEGMENTATION)
    for (const ipv6 of FAMILIES) {
      const { frame, header } = inTunnel(ipv6)
      assert.deepEqual(await guest.transmits(frame, header), [])
    }
  })
})
