// Checks of options: what is right comes back, what is wrong is named by its path.

import assert from 'node:assert/strict'
import fc from 'fast-check'
import { InvalidOptionError } from '../../lib/errors.ts'
import { checkBigInt, checkInteger, checkObject, checkPowerOfTwo, checkString } from '../../lib/options.ts'

const refusal = (code: string, message: RegExp) => (error: unknown) =>
  error instanceof InvalidOptionError && error.code === code && message.test(error.message)

const notANumber = fc.oneof(fc.string(), fc.bigInt(), fc.boolean(), fc.constant(null), fc.array(fc.integer()))

describe('checks of options', () => {
  describe('an object', () => {
    it('comes back where it has no other keys than the known ones', () => {
      const options = { a: 1 }
      assert.equal(checkObject(options, ['a', 'b']), options)
    })

    it('is refused with the path of an unknown key, and the hint has what was meant, or all that is known', () => {
      for (const [key, hint] of [
        ['path', 'Known here: mtu, ifname.'],
        ['ifnmae', "Did you mean 'ifname'?"],
      ] as const) {
        assert.throws(
          () => checkObject({ mtu: 1, [key]: 2 }, ['mtu', 'ifname'], 'tap'),
          (error: unknown) => {
            assert.ok(error instanceof InvalidOptionError)
            assert.deepEqual([error.code, error.option, error.hint], ['ERR_OPTION_UNKNOWN', `tap.${key}`, hint])
            return true
          },
        )
      }
      assert.throws(() => checkObject({ c: 2 }, ['a']), refusal('ERR_OPTION_UNKNOWN', /^c: /))
    })

    it('is not null, an array, a function or a plain value', () => {
      for (const value of [null, undefined, [], 5, 'x', () => undefined]) {
        assert.throws(() => checkObject(value, []), refusal('ERR_OPTION_TYPE', /^options: must be an object, not /))
        assert.throws(() => checkObject(value, [], 'tap'), refusal('ERR_OPTION_TYPE', /^tap: must be an object, not /))
      }
    })
  })

  describe('an integer', () => {
    it('comes back where it is in its range, both ends included', () => {
      fc.assert(
        fc.property(fc.integer(), fc.nat(), fc.nat(), (value, below, above) => {
          assert.equal(checkInteger(value, 'n', value - below, value + above), value)
        }),
      )
    })

    it('is refused outside of its range', () => {
      fc.assert(
        fc.property(fc.integer({ min: -1000, max: 1000 }), fc.integer({ min: 1 }), (edge, distance) => {
          const out = refusal('ERR_OPTION_RANGE', /^n: must be an integer in /)
          assert.throws(() => checkInteger(edge - distance, 'n', edge, 1001), out)
          assert.throws(() => checkInteger(edge + distance, 'n', -1001, edge), out)
        }),
      )
    })

    it('is not a fraction, NaN or infinity', () => {
      for (const value of [0.5, Number.NaN, Number.POSITIVE_INFINITY]) {
        assert.throws(() => checkInteger(value, 'n', 0, 10), refusal('ERR_OPTION_RANGE', new RegExp(`not ${value}`)))
      }
    })

    it('is not of another type', () => {
      fc.assert(
        fc.property(notANumber, (value) => {
          assert.throws(() => checkInteger(value, 'n', 0, 10), refusal('ERR_OPTION_TYPE', /^n: must be a number, not /))
        }),
      )
    })

    it('falls back where it is left out, and only then', () => {
      assert.equal(checkInteger(undefined, 'n', 0, 10, 7), 7)
      assert.throws(() => checkInteger(null, 'n', 0, 10, 7), refusal('ERR_OPTION_TYPE', /not null/))
      assert.throws(() => checkInteger(undefined, 'n', 0, 10), refusal('ERR_OPTION_TYPE', /not undefined/))
    })
  })

  describe('a power of two', () => {
    it('is one of those in the range, and nothing in between', () => {
      const powers = new Set(Array.from({ length: 16 }, (_, exponent) => 2 ** exponent))
      for (let value = 1; value <= 32768; value++) {
        if (powers.has(value)) assert.equal(checkPowerOfTwo(value, 'size', 1, 32768), value)
        else assert.throws(() => checkPowerOfTwo(value, 'size', 1, 32768), refusal('ERR_OPTION_RANGE', /power of two/))
      }
      assert.throws(() => checkPowerOfTwo(65536, 'size', 1, 32768), refusal('ERR_OPTION_RANGE', /1\.\.32768/))
    })

    it('is not 0, even where the range has it', () => {
      assert.throws(() => checkPowerOfTwo(0, 'size', 0, 8), refusal('ERR_OPTION_RANGE', /power of two/))
    })

    it('falls back where it is left out', () => {
      assert.equal(checkPowerOfTwo(undefined, 'size', 1, 8, 4), 4)
    })
  })

  describe('a bigint', () => {
    it('comes back as it is, and is not a number', () => {
      assert.equal(checkBigInt(5n, 'features'), 5n)
      for (const value of [5, '5', undefined]) {
        assert.throws(() => checkBigInt(value, 'features'), refusal('ERR_OPTION_TYPE', /^features: must be a bigint/))
      }
    })
  })

  describe('a string', () => {
    it('comes back as it is, falls back where it is left out, and is nothing else', () => {
      assert.equal(checkString('', 'path'), '')
      assert.equal(checkString(undefined, 'path', '/dev/x'), '/dev/x')
      for (const value of [5, null, {}]) {
        assert.throws(() => checkString(value, 'path', '/dev/x'), refusal('ERR_OPTION_TYPE', /^path: must be a string/))
      }
      assert.throws(() => checkString(undefined, 'path'), refusal('ERR_OPTION_TYPE', /not undefined/))
    })
  })
})
