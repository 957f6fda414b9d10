// The virtio-net header: its layout, what it asks of a device for a frame, what it refuses, and the checksum that a
// received frame lacks. Frames and their right checksums are made in test/support/packets.ts, without the library.

import assert from 'node:assert/strict'
import fc from 'fast-check'
import { VIRTIO_NET_F } from '../../lib/abi/virtio-net.ts'
import { checkSendHeader, NetHeader } from '../../lib/driver/index.ts'
import { onesComplementSum } from '../../lib/driver/internet-checksum.ts'
import { NetHeaderError } from '../../lib/errors.ts'
import { type Built, build, internetChecksum, type Packet, TCP } from '../support/packets.ts'

const bits = (...numbers: number[]): bigint => numbers.reduce((mask, number) => mask | (1n << BigInt(number)), 0n)

const ALL_HOST = bits(0, 11, 12, 13, 14, 56)

const code = (expected: string, message: RegExp) => (error: unknown) => {
  assert.ok(error instanceof NetHeaderError, String(error))
  assert.equal(error.code, expected)
  assert.match(error.message, message)
  assert.ok(error.hint)
  return true
}

const u16 = fc.integer({ min: 0, max: 0xffff })
const anyHeader = fc
  .record({
    flags: fc.nat(255),
    gso_type: fc.nat(255),
    hdr_len: u16,
    gso_size: u16,
    csum_start: u16,
    csum_offset: u16,
    num_buffers: u16,
  })
  .map((fields) => Object.assign(new NetHeader(), fields))

/** Extension headers that a packet may have: hop-by-hop, destination options, routing that is done, AH, atomic fragment. */
const extension = fc.constantFrom<[number, Uint8Array]>(
  [0, Buffer.from([0, 0, 1, 4, 0, 0, 0, 0])],
  [60, Buffer.from([0, 1, 1, 12, ...new Array(12).fill(0)])],
  [43, Buffer.from([0, 2, 2, 0, 0, 0, 0, 0, ...new Array(16).fill(0xab)])],
  [51, Buffer.from([0, 4, 0, 0, ...new Array(20).fill(0x11)])],
  [44, Buffer.from([0, 0, 0, 0, 1, 2, 3, 4])],
)

const packets: fc.Arbitrary<Packet> = fc.record({
  protocol: fc.constantFrom('tcp', 'udp'),
  payload: fc.uint8Array({ maxLength: 300 }),
  ipv6: fc.boolean(),
  vlans: fc.array(fc.constantFrom(0x8100, 0x88a8), { maxLength: 3 }),
  ipOptions: fc.integer({ min: 0, max: 10 }).map((words) => words * 4),
  extensions: fc.array(extension, { maxLength: 4 }),
  tcpOptions: fc.integer({ min: 0, max: 10 }).map((words) => new Uint8Array(words * 4).fill(1)),
  sequence: fc.nat(),
  sourcePort: u16,
})

/** A header that served for other frames before. */
const used = (): NetHeader =>
  Object.assign(new NetHeader(), {
    flags: 2,
    gso_type: 0x83,
    hdr_len: 9,
    gso_size: 9,
    csum_start: 9,
    csum_offset: 9,
    num_buffers: 9,
  })

/** The sum of the pseudo-header, which stands where the checksum belongs while that is not made. */
function pseudoHeaderSum({ frame, network, transport }: Built, { ipv6, protocol }: Packet): number {
  const addresses = ipv6 ? frame.subarray(network + 8, network + 40) : frame.subarray(network + 12, network + 20)
  const length = Buffer.from([0, 0, (frame.length - transport) >> 8, (frame.length - transport) & 255])
  return ~internetChecksum(addresses, length, Buffer.from([0, protocol === 'tcp' ? 6 : 17])) & 0xffff
}

describe('a virtio-net header', () => {
  it('is written as the standard lays it out, little-endian, and nothing beside it', () => {
    const header = Object.assign(new NetHeader(), {
      flags: 1,
      gso_type: 0x81,
      hdr_len: 0x0203,
      gso_size: 0x0405,
      csum_start: 0x0607,
      csum_offset: 0x0809,
      num_buffers: 0x0a0b,
    })
    const bytes = Buffer.alloc(16, 0xee)
    header.write(bytes, 2)
    assert.equal(bytes.toString('hex'), 'eeee018103020504070609080b0aeeee')
  })

  it('is read as it was written, at any offset', () => {
    fc.assert(
      fc.property(anyHeader, fc.nat(20), (header, at) => {
        const bytes = Buffer.alloc(40, 0xee)
        header.write(bytes, at)
        assert.deepEqual(new NetHeader().read(bytes, at), header)
        assert.deepEqual(new NetHeader().copy(header), header)
        assert.deepEqual(header.clear(), new NetHeader())
      }),
    )
  })

  describe('that leaves a checksum to the device', () => {
    it('[NET-TX-D19] [NET-TX-D20] [NET-TX-D21] says where it is, puts the pseudo-header there, and completing it makes the checksum', () => {
      fc.assert(
        fc.property(packets, fc.nat(30), fc.nat(20), (packet, at, padding) => {
          const built = build(packet)
          const { frame, transport, checksum } = built
          const length = frame.length + padding
          const bytes = Buffer.alloc(at + length + 5, 0)
          frame.copy(bytes, at)
          bytes.writeUInt16BE(0xbad0, at + checksum)
          const header = used().offloadChecksum(bytes, at, length)
          assert.deepEqual(
            { ...header },
            {
              flags: 1,
              gso_type: 0,
              hdr_len: 0,
              gso_size: 0,
              csum_start: transport,
              csum_offset: checksum - transport,
              num_buffers: 0,
            },
          )
          assert.equal(bytes.readUInt16BE(at + checksum), pseudoHeaderSum(built, packet))
          checkSendHeader(header, bits(0), bytes, at, length)

          assert.equal(header.completeChecksum(bytes, at, length), true)
          assert.equal(bytes.toString('hex', at, at + frame.length), frame.toString('hex'))
          assert.deepEqual({ ...header }, { ...new NetHeader() })
          assert.equal(header.completeChecksum(bytes, at, length), false)
        }),
      )
    })

    it('of a datagram whose checksum comes to 0, is completed to 0xffff, which says that there is one', () => {
      const packet: Packet = { protocol: 'udp', payload: Buffer.alloc(2) }
      const without = internetChecksumOf(packet)
      const built = build({ ...packet, payload: Buffer.from([without >> 8, without & 255]) })
      assert.equal(built.frame.readUInt16BE(built.checksum), 0xffff)
      const expected = built.frame.toString('hex')
      new NetHeader().offloadChecksum(built.frame).completeChecksum(built.frame)
      assert.equal(built.frame.toString('hex'), expected)
    })
  })

  describe('that leaves cutting to the device', () => {
    for (const [protocol, ipv6, type] of [
      ['tcp', false, 1],
      ['tcp', true, 4],
      ['udp', false, 5],
      ['udp', true, 5],
    ] as const) {
      it(`names ${protocol} over ${ipv6 ? 'IPv6' : 'IPv4'} as gso_type ${type}, with the length of all headers`, () => {
        const built = build({
          protocol,
          ipv6,
          payload: Buffer.alloc(5000, 7),
          vlans: [0x8100],
          ipOptions: 8,
          tcpOptions: Buffer.alloc(12, 1),
        })
        const header = used().offloadSegmentation(1400, built.frame)
        const csum_offset = protocol === 'tcp' ? 16 : 6
        assert.deepEqual(
          { ...header },
          {
            flags: 1,
            gso_type: type,
            hdr_len: built.payload,
            gso_size: 1400,
            csum_start: built.transport,
            csum_offset,
            num_buffers: 0,
          },
        )
        assert.equal(header.gso, type)
        assert.equal(header.ecn, false)
        checkSendHeader(header, ALL_HOST, built.frame)
      })
    }

    it('[NET-TX-D09] [NET-TX-D10] says of a TCP segment with CWR that it has ECN, and needs HOST_ECN for it', () => {
      const { frame } = build({ protocol: 'tcp', flags: TCP.ACK | TCP.CWR, payload: Buffer.alloc(5000) })
      const header = new NetHeader().offloadSegmentation(1448, frame)
      assert.equal(header.gso_type, 0x81)
      assert.deepEqual([header.gso, header.ecn], [1, true])
      checkSendHeader(header, ALL_HOST, frame)
      assert.throws(
        () => checkSendHeader(header, ALL_HOST & ~bits(13), frame),
        code('ERR_HEADER_FEATURE', /HOST_ECN \(13\)/),
      )
      header.gso_type = 1
      assert.throws(() => checkSendHeader(header, ALL_HOST, frame), code('ERR_HEADER_FRAME', /CWR needs gso_type ECN/))
      const udp = build({ protocol: 'udp', payload: Buffer.alloc(5000) })
      header.offloadSegmentation(1000, udp.frame)
      checkSendHeader(header, ALL_HOST & ~bits(13), udp.frame)
      header.gso_type = 0x85
      assert.throws(
        () => checkSendHeader(header, ALL_HOST, udp.frame),
        code('ERR_HEADER_FRAME', /ECN, and the frame is not TCP/),
      )
    })

    it('of a datagram into fragments is UFO, in multiples of 8 bytes', () => {
      const { frame } = build({ protocol: 'udp', payload: Buffer.alloc(5000) })
      const header = new NetHeader().offloadFragmentation(1480, frame)
      assert.deepEqual([header.gso_type, header.gso_size, header.needsCsum], [3, 1480, true])
      checkSendHeader(header, ALL_HOST, frame)
      assert.throws(() => new NetHeader().offloadFragmentation(1481, frame), code('ERR_HEADER_FRAME', /multiple of 8/))
      const tcp = build({ protocol: 'tcp', payload: Buffer.alloc(5000) })
      assert.throws(() => new NetHeader().offloadFragmentation(1480, tcp.frame), code('ERR_HEADER_FRAME', /TCP is cut/))
    })
  })

  describe('refuses, and changes neither itself nor the frame', () => {
    const udp = (): Buffer => build({ protocol: 'udp', payload: Buffer.alloc(100, 1) }).frame
    const v6 = (extensions: NonNullable<Packet['extensions']>): Buffer =>
      build({ protocol: 'udp', ipv6: true, payload: Buffer.alloc(10), extensions }).frame
    const changed = (at: number, ...bytes: number[]): Buffer => {
      const frame = udp()
      frame.set(bytes, at)
      return frame
    }
    const cases: readonly (readonly [what: string, frame: Buffer, message: RegExp])[] = [
      ['a frame shorter than an Ethernet header', udp().subarray(0, 13), /shorter than an Ethernet header/],
      ['a frame that ends in a VLAN tag', Buffer.from([...new Array(12).fill(2), 0x81, 0, 0]), /ends in a VLAN tag/],
      ['ARP', changed(12, 8, 6), /ethertype 0x0806/],
      ['ICMP', changed(23, 1), /IP protocol 1/],
      ['a frame that ends in its IPv4 header', udp().subarray(0, 33), /ends in its IPv4 header/],
      ['an IPv4 header of version 6', changed(14, 0x65), /malformed IPv4/],
      ['an IPv4 header of 16 bytes', changed(14, 0x44), /malformed IPv4/],
      ['an IPv4 packet longer than the frame', changed(16, 0x10, 0), /as long as its IPv4 header/],
      ['an IPv4 packet shorter than its header', changed(16, 0, 19), /as long as its IPv4 header/],
      ['a first IPv4 fragment', changed(20, 0x20, 0), /IPv4 fragment/],
      ['a later IPv4 fragment', changed(20, 0, 9), /IPv4 fragment/],
      [
        'a UDP header cut off by the length of IP',
        changed(16, 0, 24, ...udp().subarray(18, 38), 0, 4),
        /ends in its UDP header/,
      ],
      ['a TCP header cut off by the length of IP', tcpWith(17, 30), /malformed TCP/],
      ['a UDP length that differs', changed(38, 0, 107), /as long as its UDP header/],
      ['a frame that ends in its IPv6 header', v6([]).subarray(0, 53), /ends in its IPv6 header/],
      ['an IPv6 packet longer than the frame', v6([]).subarray(0, 60), /as long as its IPv6 header/],
      ['an IPv6 fragment', v6([[44, Buffer.from([0, 0, 0, 1, 0, 0, 0, 0])]]), /IPv6 fragment/],
      ['the last IPv6 fragment', v6([[44, Buffer.from([0, 0, 0, 8, 0, 0, 0, 0])]]), /IPv6 fragment/],
      ['a routing header with segments left', v6([[43, Buffer.from([0, 0, 2, 1, 0, 0, 0, 0])]]), /segments left/],
      ['an extension header beyond the packet', v6([[60, Buffer.from([0, 99, 0, 0, 0, 0, 0, 0])]]), /extension header/],
      ['ESP', v6([[50, Buffer.alloc(8)]]), /IP protocol 50/],
      ['a TCP header of 16 bytes', tcpWith(46, 0x40), /malformed TCP/],
      ['a TCP header beyond the packet', tcpWith(46, 0xf0), /malformed TCP/],
      ['padding that is not zero', Buffer.concat([udp(), Buffer.from([0, 1])]), /padded with other than zeros/],
    ]
    for (const [what, frame, message] of cases) {
      it(what, () => {
        const header = new NetHeader()
        header.gso_size = 77
        const before = frame.toString('hex')
        assert.throws(() => header.offloadChecksum(frame), code('ERR_HEADER_FRAME', message))
        assert.equal(frame.toString('hex'), before)
        assert.equal(header.gso_size, 77)
      })
    }

    for (const gsoSize of [0, -1, 1.5, 65_535, Number.NaN]) {
      it(`gso_size ${gsoSize}`, () => {
        const frame = udp()
        const before = frame.toString('hex')
        assert.throws(() => new NetHeader().offloadSegmentation(gsoSize, frame), code('ERR_HEADER_FRAME', /1\.\.65534/))
        assert.equal(frame.toString('hex'), before)
      })
    }

    it('to cut a frame with padding', () => {
      const frame = Buffer.concat([udp(), Buffer.alloc(2)])
      assert.throws(
        () => new NetHeader().offloadSegmentation(50, frame),
        code('ERR_HEADER_FRAME', /behind its IP packet/),
      )
    })
  })

  it('asks for nothing that the check before sending would refuse, whatever the bytes', () => {
    fc.assert(
      fc.property(
        packets,
        fc.array(fc.tuple(fc.nat(120), fc.nat(255)), { maxLength: 4 }),
        fc.nat(200),
        (packet, changes, cut) => {
          const frame = build(packet).frame
          for (const [at, byte] of changes) if (at < frame.length) frame[at] = byte
          const part = frame.subarray(0, Math.max(0, frame.length - cut))
          const header = new NetHeader()
          try {
            header.offloadSegmentation(100, part)
          } catch (error) {
            assert.ok(error instanceof NetHeaderError, String(error))
            return
          }
          checkSendHeader(header, ALL_HOST, part)
          assert.ok(header.csum_start + header.csum_offset + 2 <= part.length)
        },
      ),
      { numRuns: 500 },
    )
  })

  it('adds carries to the sum until there are none', () => {
    const words = Buffer.from([0xff, 0xff, 0xff, 0xff, 0x00, 0x01])
    assert.equal(onesComplementSum(words, 0, 6), 1)
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 100 }), fc.nat(70_000), (bytes, ones) => {
        const all = Buffer.concat([Buffer.alloc(ones, 0xff), bytes])
        assert.equal(onesComplementSum(all, 0, all.length), ~internetChecksum(all) & 0xffff)
      }),
      { numRuns: 20 },
    )
  })

  describe('of a received frame', () => {
    it('[NET-RX-D01] [NET-RX-D05] says what it means, and nothing for bits that are unknown', () => {
      const header = new NetHeader()
      assert.deepEqual([header.needsCsum, header.dataValid, header.gso, header.ecn], [false, false, 0, false])
      header.flags = 2
      header.gso_type = 0x84
      assert.deepEqual([header.needsCsum, header.dataValid, header.gso, header.ecn], [false, true, 4, true])
      header.flags = 0xf0
      assert.deepEqual([header.needsCsum, header.dataValid], [false, false])
    })

    it('[NET-RX-D03] has no place of a checksum without NEEDS_CSUM, nor with RSC_INFO', () => {
      const { frame } = build({ protocol: 'udp', payload: Buffer.alloc(10) })
      const before = frame.toString('hex')
      for (const flags of [0, 2, 4, 5, 0xfe]) {
        const header = Object.assign(new NetHeader(), { flags, csum_start: 34, csum_offset: 6 })
        assert.equal(header.completeChecksum(frame), false)
      }
      assert.equal(frame.toString('hex'), before)
    })

    it('[NET-RX-D04] has a length of headers that nobody builds on', () => {
      const { frame, transport, checksum } = build({ protocol: 'tcp', payload: Buffer.alloc(10) })
      const expected = frame.toString('hex')
      for (const hdr_len of [0, 1, 0xffff]) {
        const header = new NetHeader().offloadChecksum(frame)
        assert.equal(Object.assign(header, { hdr_len }).completeChecksum(frame), true)
        assert.equal(frame.toString('hex'), expected)
        assert.ok(checksum > transport)
      }
    })

    it('that points outside the frame is not followed', () => {
      const { frame } = build({ protocol: 'udp', payload: Buffer.alloc(10) })
      const before = frame.toString('hex')
      for (const [csum_start, csum_offset] of [
        [frame.length - 7, 6],
        [0xffff, 0xffff],
        [frame.length, 0],
      ] as const) {
        const header = Object.assign(new NetHeader(), { flags: 1, csum_start, csum_offset })
        assert.throws(() => header.completeChecksum(frame), code('ERR_HEADER_FRAME', /is to be at/))
      }
      assert.equal(frame.toString('hex'), before)
    })
  })

  describe('to be sent', () => {
    const tcp = build({ protocol: 'tcp', payload: Buffer.alloc(3000) }).frame
    const good = (): NetHeader => new NetHeader().offloadSegmentation(1448, Buffer.from(tcp))

    it('is in order where it asks for nothing, whatever was agreed on and whatever the frame is', () => {
      checkSendHeader(new NetHeader(), 0n, Buffer.alloc(14))
    })

    const refused: readonly (readonly [what: string, change: Partial<NetHeader>, message: RegExp, ids?: string])[] = [
      ['DATA_VALID', { flags: 3 }, /flags has 0x2/, '[NET-TX-D31] '],
      ['RSC_INFO', { flags: 5 }, /flags has 0x4/, '[NET-TX-D31] '],
      ['UDP_TUNNEL_CSUM', { flags: 9 }, /flags has 0x8/, '[NET-TX-D15] [NET-TX-D18] '],
      ['num_buffers', { num_buffers: 1 }, /num_buffers is 1/, '[NET-TX-D02] '],
      ['a field that is no u16', { csum_start: 65_536 }, /csum_start must be an integer in 0\.\.65535/],
      ['a field that is no integer', { hdr_len: Number.NaN }, /hdr_len must be an integer/],
      ['a checksum beyond the frame', { gso_type: 0, gso_size: 0, csum_start: tcp.length - 17 }, /beyond the frame/],
      ['a checksum where that of the frame is not', { csum_start: 35 }, /said to be at 35 \+ 16, and is at 34 \+ 16/],
      ['a checksum at the place of that of UDP', { csum_offset: 6 }, /said to be at 34 \+ 6, and is at 34 \+ 16/],
      ['hdr_len beyond the frame', { hdr_len: tcp.length + 1 }, /hdr_len is 3055/],
      ['hdr_len less than the headers', { hdr_len: 53 }, /headers have 54 bytes/, '[NET-TX-D26] '],
      ['gso_size 0 with GSO', { gso_size: 0 }, /gso_size must be/, '[NET-TX-D24] '],
      ['gso_size without GSO', { gso_type: 0 }, /no gso_type/],
      ['GSO without NEEDS_CSUM', { flags: 0 }, /TCPV4 without NEEDS_CSUM/, '[NET-TX-D23] '],
      ['GSO of the other IP', { gso_type: 4 }, /TCPV6, and the frame is TCP over IPv4/],
      ['GSO of the other protocol', { gso_type: 5 }, /UDP_L4, and the frame is TCP over IPv4/],
      ['an unknown gso_type', { gso_type: 2 }, /0x2 is none/],
      ['a tunnel', { gso_type: 0x21 }, /0x21 is none/, '[NET-TX-D11] '],
    ]
    for (const [what, change, message, ids = ''] of refused) {
      it(`${ids}is refused with ${what}`, () => {
        const header = Object.assign(good(), change)
        assert.throws(() => checkSendHeader(header, ALL_HOST, tcp), code('ERR_HEADER_FRAME', message))
      })
    }

    it('[NET-TX-D25] has the exact length of all headers where GUEST_HDRLEN promises it', () => {
      const exact = ALL_HOST | bits(VIRTIO_NET_F.VIRTIO_NET_F_GUEST_HDRLEN)
      const header = good()
      checkSendHeader(header, exact, tcp)
      header.hdr_len++
      checkSendHeader(header, ALL_HOST, tcp)
      assert.throws(
        () => checkSendHeader(header, exact, tcp),
        code('ERR_HEADER_FRAME', /promises the headers' 54 bytes/),
      )
    })

    for (const [name, ids, request] of [
      ['VIRTIO_NET_F_CSUM', '[NET-TX-D03] ', (frame: Buffer) => new NetHeader().offloadChecksum(frame)],
      [
        'VIRTIO_NET_F_HOST_TSO4',
        '[NET-TX-D05] [NET-TX-D22] ',
        (frame: Buffer) => new NetHeader().offloadSegmentation(1000, frame),
      ],
      [
        'VIRTIO_NET_F_HOST_TSO6',
        '[NET-TX-D06] [NET-TX-D22] ',
        (frame: Buffer) => new NetHeader().offloadSegmentation(1000, frame),
      ],
      [
        'VIRTIO_NET_F_HOST_USO',
        '[NET-TX-D08] [NET-TX-D22] ',
        (frame: Buffer) => new NetHeader().offloadSegmentation(1000, frame),
      ],
      [
        'VIRTIO_NET_F_HOST_UFO',
        '[NET-TX-D07] [NET-TX-D22] ',
        (frame: Buffer) => new NetHeader().offloadFragmentation(1000, frame),
      ],
    ] as const) {
      it(`${ids}needs ${name} for what that allows`, () => {
        const protocol = /USO|UFO/.test(name) ? 'udp' : 'tcp'
        const { frame } = build({ protocol, ipv6: name.endsWith('6'), payload: Buffer.alloc(3000) })
        const header = request(frame)
        checkSendHeader(header, ALL_HOST, frame)
        const number = VIRTIO_NET_F[name]
        assert.throws(
          () => checkSendHeader(header, ALL_HOST & ~bits(number), frame),
          code('ERR_HEADER_FEATURE', new RegExp(`${name} \\(${number}\\)`)),
        )
      })
    }
  })
})

/** The complete checksum of a UDP packet whose last two payload bytes are zero. */
function internetChecksumOf(packet: Packet): number {
  const { frame, checksum } = build(packet)
  return frame.readUInt16BE(checksum)
}

function tcpWith(at: number, byte: number): Buffer {
  const { frame } = build({ protocol: 'tcp', payload: Buffer.alloc(10) })
  frame[at] = byte
  return frame
}
