// What the real kernel makes of the header of a frame that a guest sends: also where it says what no driver should.

import assert from 'node:assert/strict'
import { VIRTIO_NET_F, VIRTIO_NET_HDR_F } from '../../lib/abi/virtio-net.ts'
import { NetHeader } from '../../lib/driver/index.ts'
import { build } from '../support/packets.ts'
import { PlainGuest } from '../support/plain-guest.ts'
import { vnetHdr } from '../support/vnet-hdr.ts'

const { VIRTIO_NET_F_CSUM, VIRTIO_NET_F_HOST_TSO4 } = VIRTIO_NET_F
const { VIRTIO_NET_HDR_F_NEEDS_CSUM: NEEDS_CSUM, VIRTIO_NET_HDR_F_DATA_VALID: DATA_VALID } = VIRTIO_NET_HDR_F
/** Neither has the device agreed to any, nor are they for sending: RSC_INFO, UDP_TUNNEL_CSUM, those of IPsec and the last. */
const UNKNOWN_FLAGS = [0x04, 0x08, 0x10, 0x20, 0x40, 0x80, 0xfc]

const datagram = (): Buffer => build({ protocol: 'udp', payload: Buffer.alloc(100, 'payload') }).frame
const segment = (): Buffer => build({ protocol: 'tcp', payload: Buffer.alloc(4000, 'a large segment') }).frame
/** One whose checksum is not right. */
const altered = (): Buffer => {
  const frame = datagram()
  frame[60]! ^= 1
  return frame
}

describe('the header of a frame that a guest sends', () => {
  let guest: PlainGuest
  before(async () => {
    guest = await PlainGuest.open()
    guest.up(VIRTIO_NET_F_CSUM, VIRTIO_NET_F_HOST_TSO4)
  })
  after(() => guest.close())

  it('[NET-TX-01] may have flags that the device does not know', async () => {
    for (const flags of UNKNOWN_FLAGS) {
      const [plain] = await guest.transmits(datagram(), { flags })
      assert.deepEqual(plain, { header: vnetHdr(), bytes: datagram() })
      const frame = datagram()
      const asked = new NetHeader().offloadChecksum(frame)
      const [offloaded] = await guest.transmits(frame, { ...asked, flags: asked.flags | flags })
      const { csum_start, csum_offset } = asked
      assert.deepEqual(offloaded?.header, vnetHdr({ flags: NEEDS_CSUM, csum_start, csum_offset }))
      assert.ok(offloaded?.bytes.equals(frame))
    }
  })

  it('[NET-TX-02] may have any place of the checksum where none is to be made', async () => {
    for (const csum of [
      { csum_start: 34, csum_offset: 6 },
      { csum_start: 0, csum_offset: 0 },
      { csum_start: 0xffff, csum_offset: 0xffff },
    ]) {
      const [frame] = await guest.transmits(datagram(), csum)
      assert.deepEqual(frame?.header, vnetHdr())
      assert.ok(frame?.bytes.equals(datagram()))
    }
  })

  it('[NET-TX-04] may have a wrong length of the headers', async () => {
    for (const hdr_len of [0, 1, 13, 41, 43, 142, 143, 0xffff]) {
      const [frame] = await guest.transmits(datagram(), { hdr_len })
      assert.ok(frame?.bytes.equals(datagram()), `hdr_len ${hdr_len}`)
    }
    for (const hdr_len of [0, 1, 20, 53, 54, 55, 1000, 4054]) {
      const bytes = segment()
      const asked = new NetHeader().offloadSegmentation(1400, bytes)
      const [frame] = await guest.transmits(bytes, { ...asked, hdr_len })
      const { flags, gso_type, gso_size, csum_start } = frame?.header ?? vnetHdr()
      assert.deepEqual([flags, gso_type, gso_size, csum_start], [NEEDS_CSUM, 1, 1400, 34])
      assert.ok(frame?.bytes.equals(bytes), `hdr_len ${hdr_len}`)
    }
  })

  it('[NET-TX-04] is dropped where its headers are said to be longer than all of it, and it is to be cut', async () => {
    for (const hdr_len of [5000, 0x7fff, 0xffff]) {
      const bytes = segment()
      const asked = new NetHeader().offloadSegmentation(1400, bytes)
      assert.deepEqual(await guest.transmits(bytes, { ...asked, hdr_len }), [])
    }
  })

  it('[NET-TX-11] vouches for no checksum', async () => {
    for (const flags of [0, DATA_VALID]) {
      const [frame] = await guest.transmits(altered(), { flags })
      assert.equal(frame?.header.flags, 0, 'whoever receives it has to look at it')
      assert.ok(frame.bytes.equals(altered()))
    }
  })

  it('[NET-TX-13] is given back without a byte written, whatever it says', async () => {
    const large = segment()
    const asked = new NetHeader().offloadSegmentation(1400, large)
    assert.equal(await guest.send(datagram()), 0)
    assert.equal(await guest.send(large, asked), 0)
    assert.equal(await guest.send(large, { ...asked, hdr_len: 0xffff }), 0)
  })
})
