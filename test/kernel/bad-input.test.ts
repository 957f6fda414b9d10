// Whatever cannot work is refused with an error that names what is wrong and its remedy, before anything is changed.

import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import path from 'node:path'
import { type PairConfig, VhostNetBackend } from '../../lib/backend/index.ts'
import { interpose } from '../../lib/binding/index.ts'
import { Burst, Driver } from '../../lib/driver/index.ts'
import {
  FeatureNegotiationError,
  GuestMemoryError,
  InvalidOptionError,
  QueueError,
  StateError,
  SystemCallError,
  type VhostNetError,
} from '../../lib/errors.ts'
import { RtNetlink, Tap } from '../../lib/host/index.ts'
import { GuestMemory, type NativeMemory } from '../../lib/memory/index.ts'
import { closeAll, failureOf, features, type Given, moves, open } from '../support/bring-up.ts'
import { recording } from '../support/failing-binding.ts'
import { diffSoon, resources } from '../support/resources.ts'
import { runAsNobody } from '../support/run-scenario.ts'
import { addTap, ip, ipState, sysfs } from '../support/tuntap.ts'

const ifname = 'bad0'

type ErrorType = new (...args: never[]) => VhostNetError

/** What an error must be: its class, code and, in the message or hint, what it is about and what to do. */
type Expected = readonly [type: ErrorType, code: string, message: RegExp, hint?: RegExp]

async function refused(body: () => unknown, [type, code, message, hint]: Expected): Promise<VhostNetError> {
  const error = await failureOf(body)
  assert.ok(error instanceof type, `${type.name} expected: ${error}`)
  assert.equal(error.code, code)
  assert.match(error.message, message)
  if (hint !== undefined) assert.match(error.hint ?? '(no hint)', hint)
  return error
}

/** Refused, and no call reached the kernel. */
async function refusedAtOnce(body: () => unknown, expected: Expected): Promise<void> {
  await recording(async (record) => {
    await refused(body, expected)
    assert.deepEqual(
      record.calls.map(({ syscall }) => syscall),
      [],
      'nothing was opened',
    )
  })
}

const isType = (option: RegExp): Expected => [InvalidOptionError, 'ERR_OPTION_TYPE', option]
const isRange = (option: RegExp): Expected => [InvalidOptionError, 'ERR_OPTION_RANGE', option]
const isConflict = (option: RegExp): Expected => [InvalidOptionError, 'ERR_OPTION_CONFLICT', option]
const isUnknown = (option: RegExp, hint?: RegExp): Expected => [
  InvalidOptionError,
  'ERR_OPTION_UNKNOWN',
  option,
  hint ?? /Known here: |Did you mean '/,
]

/** A part of an object that is not what its type says. */
const wrong = <T>(value: unknown): T => value as T

describe('bad input', () => {
  let memory: NativeMemory
  let given: Given = {}

  before(() => {
    memory = GuestMemory.allocate({ size: 4 << 20 })
  })

  after(() => memory.close())

  const links = new Set<string>()
  let held: ReturnType<typeof resources>

  beforeEach(() => {
    held = resources()
  })

  afterEach('nothing is left', async () => {
    closeAll(given)
    given = {}
    for (const link of links) ip('link', 'delete', link)
    links.clear()
    assert.deepEqual(await diffSoon(held), [])
  })

  describe('in the options of a backend', () => {
    const tap = { ifname }
    const cases: readonly (readonly [what: string, options: object, expected: Expected])[] = [
      [
        'an unknown option',
        { tap, queues: 4 },
        isUnknown(/^queues: /, /memory, queuePairs, tap, macvtap, fds, vhost, vhostfds, sndbuf, poll_us/),
      ],
      [
        'an unknown option of the tap',
        { tap: { ifname, queues: 4 } },
        isUnknown(/^tap\.queues: /, /ifname, path, mtu, backpressure/),
      ],
      ['an unknown option of vhost', { tap, vhost: { fd: 3 } }, isUnknown(/^vhost\.fd: /, /path/)],
      ['memory that is none', { tap, memory: 5 }, isType(/^memory: /)],
      [
        'memory that the kernel cannot reach',
        { tap, memory: GuestMemory.fromArrayBuffer(new ArrayBuffer(4096)) },
        [InvalidOptionError, 'ERR_OPTION_TYPE', /^memory: .* that the kernel can reach/, /GuestMemory\.allocate\(\)/],
      ],
      ['no tap', {}, isType(/^tap: must be an object, not undefined/)],
      ['a tap that is an array', { tap: [] }, isType(/^tap: must be an object, not an array/)],
      ['queuePairs that is a string', { tap, queuePairs: '4' }, isType(/^queuePairs: must be a number, not string/)],
      ['no queue pairs', { tap, queuePairs: 0 }, isRange(/^queuePairs: .* 1\.\.256, not 0/)],
      ['257 queue pairs', { tap, queuePairs: 257 }, isRange(/^queuePairs: .* 1\.\.256, not 257/)],
      ['NaN queue pairs', { tap, queuePairs: Number.NaN }, isRange(/^queuePairs: .* not NaN/)],
      ['one and a half queue pairs', { tap, queuePairs: 1.5 }, isRange(/^queuePairs: .* not 1\.5/)],
      ['a name that is a number', { tap: { ifname: 5 } }, isType(/^tap\.ifname: /)],
      ['an empty name', { tap: { ifname: '' } }, isRange(/^tap\.ifname: .*empty/)],
      ['a name of 16 bytes', { tap: { ifname: 'a123456789012345' } }, isRange(/^tap\.ifname: .*16 bytes; 15/)],
      ['a name of 16 bytes in 8 letters', { tap: { ifname: 'ßßßßßßßß' } }, isRange(/^tap\.ifname: .*16 bytes; 15/)],
      ["a name with '/'", { tap: { ifname: 'a/b' } }, isRange(/^tap\.ifname: .*slash/)],
      ['a name that is a directory', { tap: { ifname: '..' } }, isRange(/^tap\.ifname: .*directory/)],
      ['a name with another pattern', { tap: { ifname: 'tap%s' } }, isRange(/^tap\.ifname: .*%/)],
      ['an MTU below what IPv4 needs', { tap: { ifname, mtu: 67 } }, isRange(/^tap\.mtu: .* 68\.\.65521, not 67/)],
      ['an MTU that no tap has', { tap: { ifname, mtu: 65_522 } }, isRange(/^tap\.mtu: .* not 65522/)],
      [
        'back-pressure that is a number',
        { tap: { ifname, backpressure: 1 } },
        isType(/^tap\.backpressure: .* boolean/),
      ],
      ['a tap node that is a number', { tap: { ifname, path: 5 } }, isType(/^tap\.path: /)],
      ['a vhost node that is a number', { tap, vhost: { path: 5 } }, isType(/^vhost\.path: /)],
      ['a send buffer of nothing', { tap, sndbuf: 0 }, isRange(/^sndbuf: /)],
      ['a send buffer of 2 GiB', { tap, sndbuf: 2 ** 31 }, isRange(/^sndbuf: .*2147483648/)],
      ['polling for a string', { tap, poll_us: '50' }, isType(/^poll_us: must be a number, not string/)],
      ['polling for less than no time', { tap, poll_us: -1 }, isRange(/^poll_us: .* 0\.\.10000, not -1/)],
      ['polling for over 10 ms', { tap, poll_us: 10_001 }, isRange(/^poll_us: .* 0\.\.10000, not 10001/)],
      ['fds that are a number', { fds: 3 }, isType(/^fds: must be an array/)],
      ['an fd that is a string', { fds: ['3'] }, isType(/^fds\[0\]: must be a number, not string/)],
      ['an fd below 0', { tap, vhostfds: [-1] }, isRange(/^vhostfds\[0\]: .*-1/)],
      ['an fd twice', { fds: [5, 6, 5] }, isConflict(/^fds\[2\]: 5 is there twice/)],
      ['fds and a tap', { fds: [5], tap }, isConflict(/^fds: and tap exclude each other/)],
      ['vhostfds and vhost', { tap, vhostfds: [5], vhost: {} }, isConflict(/^vhostfds: and vhost exclude/)],
      ['no fds', { fds: [] }, isConflict(/^fds: has 0 fds for 1 queue pairs/)],
      ['fds for fewer pairs', { fds: [5, 6], queuePairs: 3 }, isConflict(/^fds: has 2 fds for 3 queue pairs/)],
      ['fewer vhostfds than fds', { fds: [5, 6], vhostfds: [7] }, isConflict(/^vhostfds: has 1 fds for 2 queue pairs/)],
    ]
    for (const [what, options, expected] of cases) {
      it(`refuses ${what} before it opens anything`, () =>
        refusedAtOnce(() => VhostNetBackend.open(wrong({ memory, ...options })), expected))
    }

    it('refuses options that are none before it opens anything', () =>
      refusedAtOnce(() => VhostNetBackend.open(wrong(null)), isType(/^options: must be an object, not null/)))

    it('rejects and does not throw, for bad options too', () => {
      const opening = VhostNetBackend.open(wrong({}))
      return assert.rejects(opening, InvalidOptionError)
    })
  })

  describe('in the options of a driver', () => {
    const cases: readonly (readonly [what: string, options: object, expected: Expected])[] = [
      ['an unknown option', { ringSize: 4 }, isUnknown(/^ringSize: /, /queueSize/)],
      ['a ring of 100', { queueSize: 100 }, isRange(/^queueSize: must be a power of two, not 100/)],
      ['a ring of 1', { queueSize: 1 }, isRange(/^queueSize: .* 2\.\.32768, not 1/)],
      ['a ring of 65536', { queueSize: 65536 }, isRange(/^queueSize: .* not 65536/)],
      ['a ring size that is a string', { queueSize: '256' }, isType(/^queueSize: /)],
      ['buffers of 127 bytes', { bufferSize: 127 }, isRange(/^bufferSize: .* 128\.\.65562, not 127/)],
      ['buffers of 64 KiB and more', { bufferSize: 65563 }, isRange(/^bufferSize: /)],
      [
        'a pool of over 1 GiB',
        { queueSize: 32768, bufferSize: 65562 },
        [InvalidOptionError, 'ERR_OPTION_CONFLICT', /^bufferSize: .* queueSize .* 1 GiB/],
      ],
      ['features that are a number', { features: 1 }, isType(/^features: must be a bigint, not number/)],
      [
        'features without VERSION_1',
        { features: 1n << 15n },
        [InvalidOptionError, 'ERR_OPTION_CONFLICT', /^features: .*VIRTIO_F_VERSION_1 \(32\)/],
      ],
      ['a negative address', { address: -4096 }, isRange(/^address: /)],
      ['257 queue pairs', { queuePairs: 257 }, isRange(/^queuePairs: .* 1\.\.256, not 257/)],
      [
        'more queues than fit into memory',
        { queuePairs: 4, queueSize: 1024 },
        [GuestMemoryError, 'ERR_GPA_RANGE', /does not lie within one region/, /Guest memory is \[0x0, \+0x400000\)/],
      ],
      [
        'an address behind memory',
        { address: 1 << 30 },
        [GuestMemoryError, 'ERR_GPA_RANGE', /\[0x40000000, /, /Guest memory is /],
      ],
    ]
    for (const [what, options, expected] of cases) {
      it(`refuses ${what} before it makes anything`, () =>
        refusedAtOnce(() => Driver.create(wrong({ memory, features, ...options })), expected))
    }

    it('refuses memory that the kernel cannot reach', () =>
      refusedAtOnce(
        () => Driver.create(wrong({ memory: GuestMemory.fromArrayBuffer(new ArrayBuffer(4 << 20)), features })),
        [InvalidOptionError, 'ERR_OPTION_TYPE', /^memory: /, /GuestMemory\.allocate\(\)/],
      ))
  })

  describe('in the options of guest memory', () => {
    const cases: readonly (readonly [what: string, options: unknown, expected: Expected])[] = [
      ['no options', undefined, isType(/^options: /)],
      ['an unknown option', { size: 4096, hugepages: true }, isUnknown(/^hugepages: /, /size, backing, name/)],
      ['a size that is a string', { size: '4096' }, isType(/^size: /)],
      ['no bytes', { size: 0 }, isRange(/^size: .*multiple of 4096, not 0/)],
      ['a page and a byte', { size: 4097 }, isRange(/^size: .*multiple of 4096, not 4097/)],
      ['NaN bytes', { size: Number.NaN }, isRange(/^size: .*NaN/)],
      ['an unknown backing', { size: 4096, backing: 'disk' }, isRange(/^backing: .*'memfd' or 'anonymous'/)],
      ['a name that is a number', { size: 4096, name: 7 }, isType(/^name: /)],
    ]
    for (const [what, options, expected] of cases) {
      it(`refuses ${what} before it maps anything`, () =>
        refusedAtOnce(() => GuestMemory.allocate(wrong(options)), expected))
    }

    for (const backing of ['memfd', 'anonymous'] as const) {
      it(`says so where there is no room for it: ${backing}`, () =>
        refused(
          () => GuestMemory.allocate({ size: 2 ** 50, backing }),
          [SystemCallError, 'ENOMEM', /^mmap on 1125899906842624 bytes of guest memory: ENOMEM/, /ulimit -v/],
        ))
    }
  })

  describe('in a ring or its features', () => {
    type Change = (config: PairConfig) => unknown
    const rx =
      (change: object | ((rx: PairConfig['rx']) => object)): Change =>
      (config) => ({ ...config, rx: { ...config.rx, ...(typeof change === 'function' ? change(config.rx) : change) } })
    const bits =
      (change: (features: bigint) => unknown): Change =>
      (config) => ({ ...config, features: change(config.features) })
    const isMissing = (name: RegExp): Expected => [
      FeatureNegotiationError,
      'ERR_FEATURE_MISSING',
      name,
      /the backend's `features`/,
    ]
    const isQueueSize: Expected = [QueueError, 'ERR_QUEUE_SIZE', /^pair 0 rx: /]

    const cases: readonly (readonly [what: string, change: Change, expected: Expected])[] = [
      ['of 3 entries', rx({ num: 3 }), [QueueError, 'ERR_QUEUE_SIZE', /^pair 0 rx: a ring of 3 /, /power of two/]],
      ['of no entries', rx({ num: 0 }), isQueueSize],
      ['of 65536 entries', rx({ num: 65536 }), isQueueSize],
      ['of NaN entries', rx({ num: Number.NaN }), isQueueSize],
      ['that goes on at index 65536', rx({ base: 65536 }), isQueueSize],
      [
        'whose descriptor table is behind memory',
        rx({ desc: 4 << 20 }),
        [GuestMemoryError, 'ERR_GPA_RANGE', /^pair 0 rx: descriptor table at \[0x400000, /],
      ],
      [
        'whose available ring ends behind memory',
        rx({ avail: (4 << 20) - 2 }),
        [GuestMemoryError, 'ERR_GPA_RANGE', /^pair 0 rx: available ring at \[0x3ffffe, /],
      ],
      ['at a negative address', rx({ used: -4096 }), [GuestMemoryError, 'ERR_GPA_RANGE', /^pair 0 rx: used ring /]],
      [
        'whose descriptor table is not aligned to 16',
        rx(({ desc }) => ({ desc: desc + 8 })),
        [GuestMemoryError, 'ERR_GPA_ALIGN', /^pair 0 rx: descriptor table at 0x8/, /aligned to 16 bytes/],
      ],
      [
        'whose available ring is not aligned to 2',
        rx(({ avail }) => ({ avail: avail + 1 })),
        [GuestMemoryError, 'ERR_GPA_ALIGN', /^pair 0 rx: available ring /, /aligned to 2 bytes/],
      ],
      [
        'whose used ring is not aligned to 4',
        rx(({ used }) => ({ used: used + 2 })),
        [GuestMemoryError, 'ERR_GPA_ALIGN', /^pair 0 rx: used ring /, /aligned to 4 bytes/],
      ],
      [
        'whose parts overlap',
        rx(({ desc }) => ({ used: desc + 128 })),
        [GuestMemoryError, 'ERR_GPA_OVERLAP', /^pair 0 rx: descriptor table and used ring overlap/],
      ],
      ['with an address that is a bigint', rx({ desc: 0n }), isType(/^pair 0 rx\.desc: must be a number, not bigint/)],
      [
        'without a kick',
        rx({ kick: undefined }),
        [InvalidOptionError, 'ERR_OPTION_TYPE', /^pair 0 rx\.kick: /, /EventFd\.create\(\)/],
      ],
      ['with a number as its call', rx({ call: 5 }), isType(/^pair 0 rx\.call: must be an EventFd/)],
      ['with an unknown field', rx({ size: 16 }), isUnknown(/^pair 0 rx\.size: /)],
      ['that is not there', (config) => ({ ...config, tx: undefined }), isType(/^pair 0 tx: must be an object/)],
      ['with features that are a number', bits(Number), isType(/^features: must be a bigint, not number/)],
      ['with bit 27', bits((f) => f | (1n << 27n)), isMissing(/does not serve VIRTIO_F_ANY_LAYOUT \(27\)/)],
      ['with bit 33', bits((f) => f | (1n << 33n)), isMissing(/does not serve VIRTIO_F_ACCESS_PLATFORM \(33\)/)],
      ['with bit 34', bits((f) => f | (1n << 34n)), isMissing(/does not serve VIRTIO_F_RING_PACKED \(34\)/)],
      ['with a bit that has no name', bits((f) => f | (1n << 99n)), isMissing(/does not serve bit 99/)],
      [
        'without VERSION_1',
        bits((f) => f & ~(1n << 32n)),
        [FeatureNegotiationError, 'ERR_FEATURE_MISSING', /VIRTIO_F_VERSION_1 \(32\)/, /Legacy/],
      ],
    ]

    it('is refused before the kernel sees any of it, and the pair starts with what is right', async () => {
      const { backend, driver } = await open(given, { ifname })
      const { rx, tx } = driver.pairs[0]!
      const config = { features, rx: rx.vring, tx: tx.vring }
      for (const [what, change, expected] of cases) {
        await refusedAtOnce(() => backend.start(0, wrong(change(config))), expected).catch((cause) => {
          throw new Error(`a ring ${what}`, { cause })
        })
        assert.equal(backend.running(0), false)
      }
      backend.start(0, config)
      assert.equal(backend.running(0), true)
    })

    it('is refused where another pair runs with other features, which are the whole tap’s', async () => {
      const { backend, driver } = await open(given, { ifname, queuePairs: 2 })
      const config = (pair: number, features: bigint) => {
        const { rx, tx } = driver.pairs[pair]!
        return { features, rx: rx.vring, tx: tx.vring }
      }
      const more = features | 0b11n
      backend.start(0, config(0, features))
      await refusedAtOnce(
        () => backend.start(1, config(1, more)),
        [
          FeatureNegotiationError,
          'ERR_FEATURE_MISMATCH',
          /^pair 1 differs in VIRTIO_NET_F_CSUM \(0\), VIRTIO_NET_F_GUEST_CSUM \(1\)/,
          /stop the others first/,
        ],
      )
      backend.stop(0)
      backend.start(1, config(1, more))
      backend.start(0, config(0, more))
    })

    it('is refused where somebody else changes the tap’s header while the pair starts, and works afterwards', async () => {
      const { backend, driver } = await open(given, { ifname, queuePairs: 2 })
      const theirs = Tap.open({ ifname, multiQueue: true })
      let meddle = true
      const remove = interpose((real) => ({
        ...real,
        // A step after the header was set.
        tunSetOffload: (fd, offload) => {
          real.tunSetOffload(fd, offload)
          if (meddle) theirs.setVnetHdrSz(10)
        },
      }))
      try {
        for (const pair of [0, 1]) {
          const { rx, tx } = driver.pairs[pair]!
          const config = { features, rx: rx.vring, tx: tx.vring }
          meddle = true
          await recording(async (record) => {
            await refused(
              () => backend.start(pair, config),
              [
                FeatureNegotiationError,
                'ERR_FEATURE_MISMATCH',
                /^tap bad0 has 10 bytes of virtio header, 12 were agreed on/,
                /Another process/,
              ],
            )
            const backends = record.calls.filter(({ name }) => name === 'vhostNetSetBackend')
            assert.deepEqual(backends, [])
          })
          assert.equal(backend.running(pair), false)
          meddle = false
          backend.start(pair, config)
          assert.equal(theirs.getVnetHdrSz(), 12)
          assert.ok(await moves(driver, pair))
        }
      } finally {
        remove()
        theirs.close()
      }
    })

    it('is told from a pair in the wrong state, or one that there is not', async () => {
      const { backend, driver } = await open(given, { ifname })
      const { rx, tx } = driver.pairs[0]!
      const config = { features, rx: rx.vring, tx: tx.vring }
      await refusedAtOnce(() => backend.stop(0), [StateError, 'ERR_NOT_ACTIVE', /^pair 0 is not running/])
      await refusedAtOnce(() => backend.start(1, config), isRange(/^pair: must be in 0\.\.0, not 1/))
      await refusedAtOnce(() => backend.running(-1), isRange(/^pair: .*-1/))
      backend.start(0, config)
      await refusedAtOnce(() => backend.start(0, config), [StateError, 'ERR_ALREADY_ACTIVE', /^pair 0 is running/])
    })
  })

  describe('in a buffer', () => {
    const isBroken: Expected = [QueueError, 'ERR_QUEUE_BROKEN', /^virtqueue on pair 0 (tx|rx): /]

    it('outside the pool, or not the sender’s, is refused, and nothing is sent', async () => {
      const { driver } = await open(given, { ifname })
      const { tx, rx } = driver.pairs[0]!
      const mine = new Uint32Array(1)
      assert.equal(tx.allocate(mine), 1)
      const bursts: readonly (readonly [what: string, offset: number, length: number])[] = [
        ['behind the pool', tx.pool.length, 64],
        ['far behind the pool', 0xffff_f800, 64],
        ['within a buffer, past its end', mine[0]!, tx.layout.bufferSize + 1],
        ['free', (mine[0]! + tx.layout.bufferSize) % tx.pool.length, 64],
        ['shorter than the virtio header', mine[0]!, 11],
      ]
      for (const [what, offset, length] of bursts) {
        const burst = new Burst(1)
        burst.add(offset, length)
        await refused(() => tx.send(burst), isBroken).catch((cause) => {
          throw new Error(`a buffer ${what}`, { cause })
        })
      }
      assert.equal(tx.counters().available, 0)
      await refused(() => tx.release(Uint32Array.of(tx.pool.length), 1), isBroken)
      await refused(() => rx.release(Uint32Array.of(0), 1), isBroken)
      tx.release(mine, 1)
      await refused(() => tx.release(mine, 1), isBroken)
    })
  })

  describe('in the machine', () => {
    it('no tun driver: names the node and the module', () =>
      refused(
        () => VhostNetBackend.open({ memory, tap: { ifname, path: '/dev/net/missing' } }),
        [SystemCallError, 'ENOENT', /^open on \/dev\/net\/missing: ENOENT/, /modprobe tun/],
      ))

    it('no vhost-net: names the node and the module, and leaves no tap', () =>
      refused(
        () => VhostNetBackend.open({ memory, tap: { ifname }, vhost: { path: '/dev/vhost-missing' } }),
        [SystemCallError, 'ENOENT', /^open on \/dev\/vhost-missing: ENOENT/, /modprobe vhost_net/],
      ))

    it('a node that is another device is found out, and leaves no tap', async () => {
      await refused(
        () => VhostNetBackend.open({ memory, tap: { ifname }, vhost: { path: '/dev/null' } }),
        [SystemCallError, 'ENOTTY', /^VHOST_SET_OWNER on \/dev\/null: ENOTTY/, /not of vhost/],
      )
      await refused(
        () => VhostNetBackend.open({ memory, tap: { ifname, path: '/dev/null' } }),
        [SystemCallError, 'ENOTTY', /^TUNSETIFF on tap bad0: ENOTTY/],
      )
    })

    it('no permission for a node: names it and who may', async () => {
      const directory = mkdtempSync('/dev/vhost-net-test-')
      try {
        const tun = path.join(directory, 'tun')
        execFileSync('mknod', [tun, 'c', '10', '200'])
        execFileSync('chmod', ['0600', tun])
        const { output } = await runAsNobody('open', tun)
        const { vhost, tap } = output as Record<'vhost' | 'tap', { name: string; code: string; message: string }>
        assert.equal(vhost.name, 'SystemCallError')
        assert.ok(vhost.code === 'EACCES' || vhost.code === 'EPERM', vhost.code)
        assert.match(vhost.message, /^open on \/dev\/vhost-net: .*\n {2}.*(Run as root|device cgroup)/)
        assert.equal(tap.name, 'SystemCallError')
        assert.equal(tap.code, 'EACCES')
        assert.match(tap.message, /^open on \/dev\/.*\/tun: EACCES.*\n {2}.*Run as root/)

        execFileSync('chmod', ['0755', directory])
        execFileSync('chmod', ['0666', tun])
        const allowed = (await runAsNobody('open', tun)).output as typeof output & { tap: { code: string } }
        assert.equal(allowed.tap.code, 'EPERM')
        assert.match(String((allowed.tap as { message?: string }).message), /^TUNSETIFF .*\n {2}.*CAP_NET_ADMIN/)
      } finally {
        rmSync(directory, { recursive: true })
      }
    })
  })

  describe('in a device of that name', () => {
    const conflicts = (options: object, message: RegExp, hint: RegExp): Promise<VhostNetError> =>
      refused(
        () => VhostNetBackend.open(wrong({ memory, tap: { ifname }, ...options })),
        [InvalidOptionError, 'ERR_OPTION_CONFLICT', message, hint],
      )

    /** The device is made by `ip`, refused, and still what it was. */
    async function conflictsWith(device: string[], options: object, message: RegExp, hint: RegExp): Promise<void> {
      ip(...device)
      links.add(ifname)
      const before = ipState(ifname)
      await conflicts(options, message, hint)
      assert.deepEqual(ipState(ifname), before)
    }

    it('a bridge is not a tap', () =>
      conflictsWith(['link', 'add', ifname, 'type', 'bridge'], {}, /'bad0' is a bridge, not a tap/, /another name/))

    it('a dummy is not a tap', () =>
      conflictsWith(['link', 'add', ifname, 'type', 'dummy'], {}, /'bad0' is a dummy, not a tap/, /another name/))

    it('lo is not a tap', () =>
      conflicts({ tap: { ifname: 'lo' } }, /'lo' is a network device, not a tap/, /another name/).then(() => undefined))

    it('a tun is not a tap', () =>
      conflictsWith(
        ['tuntap', 'add', 'dev', ifname, 'mode', 'tun'],
        {},
        /'bad0' is a tun device, not a tap/,
        /ip tuntap add dev bad0 mode tap/,
      ))

    it('a single-queue tap does not serve 4 pairs', () =>
      conflictsWith(
        ['tuntap', 'add', 'dev', ifname, 'mode', 'tap', 'vnet_hdr'],
        { queuePairs: 4 },
        /'bad0' has a single queue, 4 queue pairs were asked for/,
        /mode tap multi_queue vnet_hdr; or ask for queuePairs: 1/,
      ))

    /** Something of ours holds queues of the tap; it is refused, and what holds it goes on undisturbed. */
    async function conflictsWhileHeld(
      taps: Tap[],
      options: object,
      expected: Expected,
      { up = false }: { up?: boolean } = {},
    ): Promise<void> {
      try {
        if (up) ip('link', 'set', ifname, 'up')
        const before = { flags: sysfs(ifname, 'tun_flags'), header: taps[0]!.getVnetHdrSz() }
        await refused(() => VhostNetBackend.open(wrong({ memory, tap: { ifname }, ...options })), expected)
        assert.deepEqual({ flags: sysfs(ifname, 'tun_flags'), header: taps[0]!.getVnetHdrSz() }, before)
      } finally {
        for (const tap of taps) tap.close()
      }
    }

    it('a single-queue tap in use is refused while it is up', () =>
      conflictsWhileHeld(
        [Tap.open({ ifname })],
        {},
        [InvalidOptionError, 'ERR_OPTION_CONFLICT', /'bad0' is in use/, /Stop that process/],
        { up: true },
      ))

    it('a single-queue tap in use is refused while it is down', () =>
      conflictsWhileHeld([Tap.open({ ifname })], {}, [
        SystemCallError,
        'EBUSY',
        /^TUNSETIFF on tap bad0: EBUSY/,
        /only a multi_queue tap takes several/,
      ]))

    it('a tap in use without vnet_hdr is refused, since its flags cannot change', () =>
      conflictsWhileHeld([Tap.open({ ifname, multiQueue: true, vnetHdr: false })], {}, [
        InvalidOptionError,
        'ERR_OPTION_CONFLICT',
        /'bad0' is in use without vnet_hdr/,
        /flags of a tap change only while nothing is/,
      ]))

    it('a tap in use with packet information is refused, since its flags cannot change', () =>
      // IFF_TAP, IFF_VNET_HDR and IFF_MULTI_QUEUE, but no IFF_NO_PI.
      conflictsWhileHeld([Tap.attach(ifname, 0x4102)], {}, [
        InvalidOptionError,
        'ERR_OPTION_CONFLICT',
        /'bad0' is in use with packet information/,
        /flags of a tap change only while nothing is/,
      ]))

    it('a tap takes no more than 256 queues of all its users', () =>
      conflictsWhileHeld(
        [Tap.open({ ifname, multiQueue: true }), Tap.open({ ifname, multiQueue: true })],
        { queuePairs: 255 },
        [InvalidOptionError, 'ERR_OPTION_CONFLICT', /'bad0' has 2 queues in use of at most 256/, /fewer queue pairs/],
      ))

    it('a multi-queue tap is not opened as one of a single queue, nor as a new one', async () => {
      addTap(ifname, 'multi_queue')
      links.add(ifname)
      await refused(
        () => Tap.open({ ifname }),
        [SystemCallError, 'EINVAL', /^TUNSETIFF on tap bad0: EINVAL/, /multi_queue differs/],
      )
      await refused(
        () => Tap.open({ ifname, multiQueue: true, exclusive: true }),
        [SystemCallError, 'EBUSY', /^TUNSETIFF on tap bad0: EBUSY/],
      )
    })
  })

  describe('in an MTU', () => {
    it('is refused by us, or with the kernel’s reason, and the link keeps what it has', () => {
      const tap = Tap.open({ ifname })
      const netlink = RtNetlink.open()
      try {
        const { index, mtu } = netlink.getLink({ ifname })!
        assert.throws(() => netlink.setLink(index, { mtu: 67 }), {
          code: 'ERR_OPTION_RANGE',
          message: /mtu.*68\.\.65535/,
        })
        assert.throws(() => netlink.setLink(index, { mtu: 65536 }), { code: 'ERR_OPTION_RANGE' })
        assert.throws(() => netlink.setLink(index, { mtu: Number.NaN }), { code: 'ERR_OPTION_RANGE' })
        assert.throws(() => netlink.setLink(index, { mtu: wrong('1500') }), { code: 'ERR_OPTION_TYPE' })
        // A tap ends at 65521: 65535 less what is in front of a frame (tun_net_initialize).
        assert.throws(() => netlink.setLink(index, { mtu: 65535 }), {
          name: 'SystemCallError',
          code: 'EINVAL',
          syscall: 'RTM_SETLINK',
          hint: /maxmtu/,
        })
        assert.equal(netlink.getLink({ ifname })!.mtu, mtu)
      } finally {
        netlink.close()
        tap.close()
      }
    })
  })
})
