// Names of network interfaces, as the kernel takes them.

import assert from 'node:assert/strict'
import { InvalidOptionError } from '../../lib/errors.ts'
import { checkIfname } from '../../lib/host/ifname.ts'

describe('checkIfname', () => {
  it('returns what the kernel takes', () => {
    for (const name of ['a', 'vnet0', 'fifteen-bytes-x', '...', 'br-ex@1', 'ü0', '日本']) {
      assert.equal(checkIfname(name), name)
    }
  })

  it('refuses what it does not', () => {
    const refused = [
      '',
      'sixteen-bytes-xx',
      '日本日本日本',
      '.',
      '..',
      'a/b',
      'a:1',
      'a b',
      'a\tb',
      'a\0',
      'à',
      'tap%d',
      '%',
    ]
    for (const name of refused) {
      assert.throws(
        () => checkIfname(name, 'tap.ifname'),
        (error) => {
          assert.ok(error instanceof InvalidOptionError)
          assert.deepEqual([error.option, error.code], ['tap.ifname', 'ERR_OPTION_RANGE'])
          return true
        },
        name,
      )
    }
    assert.throws(() => checkIfname(undefined), { code: 'ERR_OPTION_TYPE', option: 'ifname' })
  })

  it('takes one %d where a pattern is allowed', () => {
    assert.equal(checkIfname('tap%d', 'ifname', { pattern: true }), 'tap%d')
    assert.equal(checkIfname('tap0', 'ifname', { pattern: true }), 'tap0')
    for (const name of ['%d%d', 'tap%s', '%', '%%d']) {
      assert.throws(() => checkIfname(name, 'ifname', { pattern: true }), { code: 'ERR_OPTION_RANGE' }, name)
    }
  })
})
