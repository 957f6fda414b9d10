// MAC and IP addresses between text and bytes.

import assert from 'node:assert/strict'
import fc from 'fast-check'
import { formatIp, formatMac, parseIp, parseMac } from '../../lib/address.ts'

describe('MAC addresses', () => {
  it('go to bytes and back', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 6, maxLength: 6 }), (bytes) => {
        assert.deepEqual(parseMac(formatMac(bytes), 'mac'), bytes)
        assert.deepEqual(parseMac(formatMac(bytes).toUpperCase(), 'mac'), bytes)
      }),
    )
  })

  it('are refused in any other form', () => {
    for (const text of ['', '52:54:00:12:34', '52:54:00:12:34:56:78', '52-54-00-12-34-56', '52:54:0:12:34:56', 'x']) {
      assert.throws(() => parseMac(text, 'nic.mac'), { code: 'ERR_OPTION_RANGE', option: 'nic.mac' }, text)
    }
    assert.throws(() => parseMac(525400123456, 'mac'), { code: 'ERR_OPTION_TYPE' })
  })
})

describe('IP addresses', () => {
  it('go to bytes and back', () => {
    const groups = fc.array(fc.constantFrom(0, 0, 1, 255), { minLength: 16, maxLength: 16 })
    const ipv6 = fc.oneof(
      fc.uint8Array({ minLength: 16, maxLength: 16 }),
      groups.map((bytes) => Uint8Array.from(bytes)),
    )
    fc.assert(
      fc.property(fc.oneof(fc.uint8Array({ minLength: 4, maxLength: 4 }), ipv6), (bytes) => {
        assert.deepEqual(parseIp(formatIp(bytes), 'address'), bytes)
      }),
    )
  })

  it('are read in every form that IPv6 has', () => {
    const forms: [text: string, hex: string][] = [
      ['::', '00000000000000000000000000000000'],
      ['::1', '00000000000000000000000000000001'],
      ['fd00::', 'fd000000000000000000000000000000'],
      ['2001:DB8:0:0:1:0:0:1', '20010db8000000000001000000000001'],
      ['2001:db8::1:0:0:1', '20010db8000000000001000000000001'],
      ['::ffff:10.1.2.3', '00000000000000000000ffff0a010203'],
      ['64:ff9b::10.1.2.3', '0064ff9b00000000000000000a010203'],
      ['1:2:3:4:5:6:10.1.2.3', '0001000200030004000500060a010203'],
    ]
    for (const [text, hex] of forms) assert.equal(Buffer.from(parseIp(text, 'address')).toString('hex'), hex, text)
  })

  it('are written as RFC 5952 has it', () => {
    assert.equal(formatIp(parseIp('2001:0DB8:0:0:1:0:0:1', 'address')), '2001:db8::1:0:0:1')
    assert.equal(formatIp(parseIp('10.1.2.3', 'address')), '10.1.2.3')
  })

  it('are refused in any other form', () => {
    for (const text of ['', '10.1.2', '10.1.2.256', '010.1.2.3', '1::2::3', 'fe80::1%lo', '10.0.0.1/24', 'localhost']) {
      assert.throws(() => parseIp(text, 'address'), { code: 'ERR_OPTION_RANGE', option: 'address' }, text)
    }
    assert.throws(() => parseIp(10, 'address'), { code: 'ERR_OPTION_TYPE' })
  })
})
