// How the real kernel fills the buffers that a guest posts, byte by byte.

import assert from 'node:assert/strict'
import { VIRTIO_NET_F, VIRTIO_NET_HDR_SIZE } from '../../lib/abi/virtio-net.ts'
import { since } from '../support/kernel.ts'
import { build } from '../support/packets.ts'
import { PlainGuest, UNTOUCHED } from '../support/plain-guest.ts'

const { VIRTIO_NET_F_MRG_RXBUF } = VIRTIO_NET_F

const datagram = (size: number): Buffer =>
  build({ protocol: 'udp', payload: Buffer.from(Array.from({ length: size - 42 }, (_, i) => (i * 7) & 0xff)) }).frame

describe('buffers that a guest posts', () => {
  let guest: PlainGuest
  before(async () => {
    guest = await PlainGuest.open()
  })
  after(() => guest.close())

  it('[NET-RXB-02] take a frame each without MRG_RXBUF, over all descriptors of the chain', async () => {
    guest.up()
    guest.post([2048], [VIRTIO_NET_HDR_SIZE, 100, 900], [5, 7, 1, 2000])
    for (const size of [500, 1000, 1000]) guest.far.send(datagram(size))
    for (const [id, size] of [
      [0, 500],
      [1, 1000],
      [4, 1000],
    ] as const) {
      const frame = await guest.received()
      assert.deepEqual(frame.used, [{ id, length: VIRTIO_NET_HDR_SIZE + size }])
      assert.ok(frame.bytes.equals(datagram(size)))
    }
    assert.equal(guest.chainsUsed, 3)
  })

  it('stay for the next frame without MRG_RXBUF where one is too large for them', async () => {
    guest.up()
    guest.post([200], [2048])
    guest.far.send(datagram(1000))
    guest.far.send(datagram(100))
    const { used, bytes } = await guest.received()
    assert.deepEqual(used, [{ id: 0, length: VIRTIO_NET_HDR_SIZE + 100 }])
    assert.ok(bytes.equals(datagram(100)))
  })

  it('[NET-RX-01] have in their header that it is one without MRG_RXBUF; before Linux 6.15, what was there', async () => {
    guest.up()
    guest.post([2048])
    guest.far.send(datagram(100))
    const { header } = await guest.received()
    assert.equal(header.num_buffers, since(6, 15) ? 1 : UNTOUCHED * 0x101)
  })

  it('[NET-RX-03] are full but for the last of a frame with MRG_RXBUF', async () => {
    guest.up(VIRTIO_NET_F_MRG_RXBUF)
    const chains = [[12], [20, 10], [17], [60], [100, 1], [800], [64]]
    guest.post(...chains)
    const size = 700
    guest.far.send(datagram(size))
    const { header, bytes, used } = await guest.received()
    assert.equal(header.num_buffers, 6)
    const full = chains.slice(0, 5).map((lengths) => lengths.reduce((sum, length) => sum + length))
    const rest = VIRTIO_NET_HDR_SIZE + size - full.reduce((sum, length) => sum + length)
    assert.deepEqual(
      used.map(({ length }) => length),
      [...full, rest],
    )
    assert.ok(bytes.equals(datagram(size)))
    const behind = guest.chainBytes(used.at(-1)!, true).subarray(rest)
    assert.ok(behind.length > 0 && behind.every((byte) => byte === UNTOUCHED))
  })

  it('[NET-RX-04] come back together, all those of a frame', async () => {
    const [frames, each] = [5, 11]
    for (let round = 0; round < 4; round++) {
      guest.up(VIRTIO_NET_F_MRG_RXBUF)
      guest.post(...Array.from({ length: frames * each }, () => [100]))
      for (let frame = 0; frame < frames; frame++) guest.far.send(datagram(100 * each - VIRTIO_NET_HDR_SIZE))
      // Looked at as often as this thread can, while vhost's worker fills them.
      const deadline = Date.now() + 20_000
      for (let used = 0; used < frames * each; used = guest.chainsUsed) {
        assert.equal(used % each, 0, `${used} buffers are back`)
        assert.ok(Date.now() < deadline)
      }
      for (let frame = 0; frame < frames; frame++) assert.equal((await guest.received()).used.length, each)
    }
  })

  it('[NET-CTRL-VLAN-01] have every tagged frame where CTRL_VLAN was not agreed on, with its tags', async () => {
    guest.up()
    const tag = (type: number, id: number): Buffer => Buffer.from([type >> 8, type & 0xff, id >> 8, id & 0xff])
    const plain = datagram(200)
    for (const tags of [
      ...[0, 1, 5, 4094].map((id) => [tag(0x8100, id)]),
      // With a priority.
      [tag(0x8100, 0x6000 | 7)],
      [tag(0x88a8, 9)],
      [tag(0x88a8, 9), tag(0x8100, 5)],
    ]) {
      const bytes = Buffer.concat([plain.subarray(0, 12), ...tags, plain.subarray(12)])
      guest.post([2048])
      guest.far.send(bytes)
      assert.ok((await guest.received()).bytes.equals(bytes), tags.map((each) => each.toString('hex')).join(' '))
    }
  })
})
