// Frames of `vhost-net loop`: what is built has the right bytes and checksums, and only what is intact is accepted.

import assert from 'node:assert/strict'
import fc from 'fast-check'
import {
  ARP_OPERATION,
  buildArp,
  buildArpRequest,
  EchoTemplate,
  ETHERTYPE,
  echoIdentifier,
  echoSequence,
  etherType,
  frameRoom,
  ipv4Destination,
  isEchoReply,
  MIN_ECHO_PAYLOAD,
  onesSum,
  parseArp,
  payloadRoom,
} from '../../lib/cli/loop/frames.ts'

const driverMac = Uint8Array.of(0x02, 0x76, 0x6e, 0x74, 0, 1)
const hostMac = Uint8Array.of(0x52, 0x54, 0, 1, 2, 3)
const driverIp = 0x0aff0003
const hostIp = 0x0aff0001

const mac = fc.uint8Array({ minLength: 6, maxLength: 6 })
const u16 = fc.integer({ min: 0, max: 0xffff })
const u32 = fc.integer({ min: 0, max: 0xffffffff })

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex')
}

function template(payloadBytes = 56, identifier = 7): EchoTemplate {
  return new EchoTemplate({
    sourceMac: driverMac,
    destinationMac: hostMac,
    source: driverIp,
    destination: hostIp,
    identifier,
    payloadBytes,
  })
}

/** RFC 1071 by the book: 16-bit words, end-around carry one at a time. A message with its checksum in it gives 0. */
function referenceChecksum(bytes: Uint8Array): number {
  let sum = 0
  for (let at = 0; at < bytes.length; at += 2) {
    sum += ((bytes[at] ?? 0) << 8) | (bytes[at + 1] ?? 0)
    if (sum > 0xffff) sum -= 0xffff
  }
  return ~sum & 0xffff
}

/** What an echo server makes of a request: RFC 792, "the addresses are reversed, the type changed to 0". */
function answer(request: Uint8Array): Buffer {
  const reply = Buffer.from(request)
  reply.set(request.subarray(6, 12), 0)
  reply.set(request.subarray(0, 6), 6)
  reply.set(request.subarray(30, 34), 26)
  reply.set(request.subarray(26, 30), 30)
  reply[34] = 0
  reply.writeUInt16BE(0, 36)
  reply.writeUInt16BE(referenceChecksum(reply.subarray(34)), 36)
  return reply
}

function stamped(echo: EchoTemplate, sequence: number): Uint8Array {
  const frame = echo.frame.slice()
  echo.stamp(frame, 0, sequence)
  return frame
}

describe('onesSum', () => {
  it('gives the sum of the example in RFC 1071 section 3', () => {
    const bytes = Uint8Array.of(0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7)
    assert.equal(onesSum(bytes, 0, bytes.length), 0xddf2)
  })

  it('agrees with the definition for any bytes, odd lengths too', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 3000 }), (bytes) => {
        assert.equal(~onesSum(bytes, 0, bytes.length) & 0xffff, referenceChecksum(bytes))
      }),
    )
  })
})

describe('ARP frames', () => {
  it('are laid out as RFC 826 says', () => {
    assert.equal(
      hex(buildArpRequest(driverMac, driverIp, hostIp)),
      'ffffffffffff02766e7400010806' + '0001080006040001' + '02766e7400010aff0003' + '0000000000000aff0001',
    )
  })

  it('come out of parsing as they went in, wherever the frame begins', () => {
    fc.assert(
      fc.property(
        mac,
        mac,
        u32,
        u32,
        fc.constantFrom(1, 2),
        fc.nat(40),
        (senderMac, targetMac, sender, target, operation, at) => {
          const arp = { operation, senderMac, sender, targetMac, target }
          const frame = buildArp(arp)
          const bytes = new Uint8Array(at + frame.length + 18)
          bytes.set(frame, at)
          assert.deepEqual(parseArp(bytes, at, frame.length + 18), arp)
        },
      ),
    )
  })

  it('leave nothing that points into the buffer they came in', () => {
    const buffer = Buffer.from(buildArpRequest(driverMac, driverIp, hostIp))
    const arp = parseArp(buffer, 0, buffer.length)
    buffer.fill(0)
    assert.deepEqual(arp?.senderMac, driverMac)
  })

  it('are broadcast as requests, and sent to their target as replies', () => {
    const arp = { senderMac: driverMac, sender: driverIp, targetMac: hostMac, target: hostIp }
    assert.equal(hex(buildArp({ ...arp, operation: ARP_OPERATION.REQUEST }).subarray(0, 6)), 'ffffffffffff')
    assert.equal(hex(buildArp({ ...arp, operation: ARP_OPERATION.REPLY }).subarray(0, 6)), hex(hostMac))
  })

  it('are not made of other things', () => {
    const frame = buildArpRequest(driverMac, driverIp, hostIp)
    assert.equal(parseArp(frame, 0, frame.length - 1), undefined, 'short')
    for (const at of [12, 14, 16, 18]) {
      const other = frame.slice()
      other[at] = 0x77
      assert.equal(parseArp(other, 0, other.length), undefined, `byte ${at}`)
    }
    assert.equal(parseArp(template().frame, 0, template().frame.length), undefined)
  })
})

describe('EchoTemplate', () => {
  it('makes IPv4 and ICMP headers with valid checksums, for any sequence number and length', () => {
    fc.assert(
      fc.property(u32, u16, fc.integer({ min: MIN_ECHO_PAYLOAD, max: 2000 }), (sequence, identifier, payloadBytes) => {
        const echo = template(payloadBytes, identifier)
        const frame = stamped(echo, sequence)
        assert.equal(etherType(frame, 0), ETHERTYPE.IPV4)
        assert.equal(frame.length, 42 + payloadBytes)
        assert.equal(Buffer.from(frame).readUInt16BE(16), 28 + payloadBytes)
        assert.equal(referenceChecksum(frame.subarray(14, 34)), 0, 'IPv4')
        assert.equal(referenceChecksum(frame.subarray(34)), 0, 'ICMP')
        assert.equal(echoSequence(frame, 0), sequence)
        assert.equal(echoIdentifier(frame, 0), identifier)
      }),
    )
  })

  it('stamps any buffer in place, whatever was stamped before', () => {
    const echo = template()
    const pool = new Uint8Array(200)
    pool.set(echo.frame, 50)
    for (const sequence of [1, 0xffff, 0x10000, 0xffffffff, 0]) {
      echo.stamp(pool, 50, sequence)
      assert.equal(hex(pool.subarray(50, 50 + echo.frame.length)), hex(stamped(echo, sequence)))
    }
  })

  it('accepts the answer to each of its requests', () => {
    fc.assert(
      fc.property(u32, fc.integer({ min: MIN_ECHO_PAYLOAD, max: 1500 }), fc.nat(30), (sequence, payloadBytes, at) => {
        const echo = template(payloadBytes)
        const reply = answer(stamped(echo, sequence))
        const pool = Buffer.alloc(at + reply.length + 5, 0xee)
        reply.copy(pool, at)
        assert.ok(isEchoReply(pool, at, reply.length))
        assert.equal(ipv4Destination(pool, at), driverIp)
        assert.ok(echo.answeredBy(pool, at, reply.length))
      }),
    )
  })

  it('refuses an answer with any byte of addresses, ICMP header or payload changed, or of another length', () => {
    const echo = template(100)
    const reply = answer(stamped(echo, 0x12345))
    const checked = [...Array(reply.length).keys()].filter((at) => at >= 26 && at !== 34 && at !== 35)
    fc.assert(
      fc.property(fc.constantFrom(16, 17, ...checked), fc.integer({ min: 1, max: 255 }), (at, change) => {
        const broken = Buffer.from(reply)
        broken[at] = (broken[at] as number) ^ change
        assert.ok(!echo.answeredBy(broken, 0, broken.length), `byte ${at}`)
      }),
    )
    assert.ok(!echo.answeredBy(reply, 0, reply.length - 1))
    assert.ok(!template(99).answeredBy(reply, 0, reply.length))
    assert.ok(!template(100, 8).answeredBy(reply, 0, reply.length), 'of another flow')
  })

  it('gives each flow another pattern', () => {
    assert.notEqual(hex(template(100, 1).frame.subarray(46)), hex(template(100, 2).frame.subarray(46)))
  })
})

describe('isEchoReply', () => {
  it('refuses requests, fragments, other protocols, options and short frames', () => {
    const reply = answer(template().frame)
    const changed = (at: number, value: number): Buffer => {
      const copy = Buffer.from(reply)
      copy[at] = value
      return copy
    }
    assert.ok(isEchoReply(reply, 0, reply.length))
    for (const [what, frame] of Object.entries({
      request: changed(34, 8),
      'with a code': changed(35, 1),
      'more fragments': changed(20, 0x20),
      'later fragment': changed(21, 1),
      UDP: changed(23, 17),
      'with options': changed(14, 0x46),
      IPv6: changed(12, 0x86),
    })) {
      assert.ok(!isEchoReply(frame, 0, frame.length), what)
    }
    assert.ok(!isEchoReply(reply, 0, 45), 'short')
  })
})

describe('the room under an MTU', () => {
  it('is filled by the largest payload', () => {
    for (const mtu of [68, 1500, 9000, 65521]) {
      assert.equal(template(payloadRoom(mtu)).frame.length, frameRoom(mtu))
    }
  })
})
