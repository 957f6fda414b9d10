// Every error class and code: unique, documented, recognised across copies of the package, fit for logs.

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { inspect } from 'node:util'
import { systemCall } from '../../lib/binding/index.ts'
import * as errors from '../../lib/errors.ts'

const {
  BootError,
  DeviceError,
  ERROR_CODES,
  FeatureNegotiationError,
  GuestMemoryError,
  InvalidOptionError,
  LinkError,
  NetHeaderError,
  PlugError,
  OvsdbError,
  OvsError,
  QueueError,
  StateError,
  SystemCallError,
  UnsupportedError,
  VhostNetError,
} = errors

const documentation = readFileSync(new URL('../../../docs/errors.md', import.meta.url), 'utf8')

/** One of each class. */
const samples: readonly errors.VhostNetError[] = [
  new VhostNetError('ERR_CLOSED', 'it is closed'),
  new SystemCallError('EBUSY', -16, 'TUNSETIFF', 'TUNSETIFF on tap vnet0: EBUSY, busy', {
    context: { ifname: 'vnet0' },
  }),
  new InvalidOptionError('ERR_OPTION_RANGE', 'tap.ifname', 'is empty'),
  new FeatureNegotiationError('ERR_FEATURE_MISSING', 'no VERSION_1'),
  new GuestMemoryError('ERR_GPA_RANGE', 'outside'),
  new QueueError('ERR_QUEUE_SIZE', 'a ring of 3'),
  new LinkError('ERR_LINK_ABSENT', 'no br0'),
  new DeviceError('ERR_DEVICE_NEEDS_RESET', 'the device needs a reset'),
  new NetHeaderError('ERR_HEADER_FRAME', 'gso_size is 0'),
  new BootError('ERR_KERNEL_IMAGE', 'no kernel'),
  new PlugError('set mtu', new Error('no'), { undone: [], notUndone: [] }),
  new OvsdbError('ERR_OVSDB_LOST', 'gone'),
  new OvsError('ERR_OVS_BRIDGE', 'no br0'),
  new StateError('ERR_CLOSED', 'closed'),
  new UnsupportedError('ERR_PLATFORM', 'not on darwin'),
]

describe('errors', () => {
  it('of what node:fs asks of the kernel are like those of the addon', () => {
    const file = '/nowhere/at/all'
    assert.throws(() => systemCall(() => readFileSync(file), { subject: file, hints: { ENOENT: 'Make it.' } }), {
      name: 'SystemCallError',
      code: 'ENOENT',
      errno: -2,
      syscall: 'open',
      message: 'open on /nowhere/at/all: ENOENT, no such file or directory\n  Make it.',
    })
  })

  it('have samples of every class in this test', () => {
    const classes = Object.values(errors).filter((value) => typeof value === 'function')
    assert.deepEqual(new Set(samples.map((error) => error.constructor)), new Set(classes))
  })

  describe('codes', () => {
    const codes = Object.keys(ERROR_CODES)

    it('are all of the form ERR_…, and each means something of its own', () => {
      for (const code of codes) assert.match(code, /^ERR_[A-Z_]+$/)
      assert.equal(new Set(Object.values(ERROR_CODES)).size, codes.length)
    })

    it('are documented, each in one row with its class, and no other is', () => {
      const rows = [...documentation.matchAll(/^\| `(ERR_[A-Z_]+)` \| `(\w+)` \| .+ \|$/gm)]
      assert.deepEqual(rows.map(([, code]) => code).sort(), codes.sort())
      const classes = new Set(samples.map((error) => error.constructor.name))
      for (const [, code, name] of rows) assert.ok(classes.has(name!), `${code} is of ${name}`)
    })
  })

  for (const error of samples) {
    describe(error.constructor.name, () => {
      it('is an Error with its own name, which is not enumerable', () => {
        assert.ok(error instanceof Error && error instanceof VhostNetError)
        assert.equal(error.name, error.constructor.name)
        assert.ok(!Object.keys(error).includes('name'))
        assert.ok(error.stack!.startsWith(`${error.constructor.name}: `))
        assert.ok(inspect(error).includes(error.constructor.name))
      })

      it('is recognised by the brand, which is not enumerable', () => {
        assert.ok(VhostNetError.is(error))
        const brand = Symbol.for('vhost-net.error')
        assert.equal(Object.getOwnPropertyDescriptor(VhostNetError.prototype, brand)!.enumerable, false)
        assert.deepEqual(Object.getOwnPropertySymbols(error), [])
      })

      it('goes through JSON with its code and context', () => {
        const { code, context } = JSON.parse(JSON.stringify(error))
        assert.equal(code, error.code)
        assert.deepEqual(context, error.context)
      })
    })
  }

  it('of another copy of the package are recognised, other things are not', () => {
    const brand = Symbol.for('vhost-net.error')
    assert.ok(VhostNetError.is(Object.create({ [brand]: true })))
    for (const other of [null, undefined, 'ERR_CLOSED', new Error('ERR_CLOSED'), {}, 5n]) {
      assert.equal(VhostNetError.is(other), false)
    }
  })

  it('carry hint, context and cause, and show the hint in the message', () => {
    const cause = new Error('why')
    const error = new StateError('ERR_CLOSED', 'closed', { hint: 'Open it.', context: { ring: 1 }, cause })
    assert.equal(error.message, 'closed\n  Open it.')
    assert.equal(error.hint, 'Open it.')
    assert.deepEqual(error.context, { ring: 1 })
    assert.equal(error.cause, cause)
    assert.ok(!('cause' in new StateError('ERR_CLOSED', 'closed')))
  })

  it('of options name the option, of system calls the call and errno', () => {
    const option = new InvalidOptionError('ERR_OPTION_RANGE', 'tap.ifname', 'is empty')
    assert.equal(option.option, 'tap.ifname')
    assert.equal(option.message, 'tap.ifname: is empty')
    const call = new SystemCallError('EBUSY', -16, 'TUNSETIFF', 'busy')
    assert.deepEqual([call.code, call.errno, call.syscall], ['EBUSY', -16, 'TUNSETIFF'])
  })
})
