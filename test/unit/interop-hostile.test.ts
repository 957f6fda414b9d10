// QEMU's words as they come: whatever is written, it becomes options, or an error that says which word is wrong.

import assert from 'node:assert/strict'
import fc from 'fast-check'
import { InvalidOptionError } from '../../lib/errors.ts'
import { parseMemory, parseNics, parseSmp } from '../../lib/interop/index.ts'
import { FEATURE_OPTIONS } from '../../lib/net/options.ts'

const SWITCHES = Object.keys(FEATURE_OPTIONS)
const NAMES = [
  ...['id', 'ifname', 'queues', 'fd', 'fds', 'vhost', 'vhostfd', 'vhostfds', 'script', 'sndbuf', 'poll-us', 'br'],
  ...['netdev', 'mac', 'vectors', 'host_mtu', 'speed', 'duplex', 'rx_queue_size', 'mrg_rxbuf', 'packed', 'rss'],
  ...[
    'size',
    'share',
    'hugetlb',
    'hugetlbsize',
    'prealloc',
    'cpus',
    'cores',
    'sockets',
    'threads',
    'maxcpus',
    'type',
    'driver',
  ],
  // What an object has by itself.
  ...['__proto__', 'constructor', 'toString', ''],
  ...SWITCHES,
]
const VALUES = [
  ...['on', 'off', '0', '1', '4', '256', '-1', '1e3', '0x10', '9007199254740993', 'tap', 'tap0', 'n0', 'no', '3:4'],
  ...['512M', '2G', '1.5G', '52:54:00:12:34:56', '53:54:00:12:34:56', 'virtio-net-pci', 'virtio-net-device', ',,', '='],
  ...['per-vcpu', 'full', '__proto__', 'constructor', ''],
]
const value = fc.oneof({ weight: 6, arbitrary: fc.constantFrom(...VALUES) }, { weight: 1, arbitrary: fc.string() })
const word = fc.oneof(
  { weight: 8, arbitrary: fc.tuple(fc.constantFrom(...NAMES), value).map((pair) => pair.join('=')) },
  { weight: 1, arbitrary: value },
)
/** One option: mostly what fits there. */
const words = (first: readonly string[], fitting: readonly string[]): fc.Arbitrary<string> => {
  const any = fc.oneof({ weight: 6, arbitrary: fc.constantFrom(...fitting) }, { weight: 1, arbitrary: word })
  const head = fc.oneof({ weight: 9, arbitrary: fc.constantFrom(...first) }, { weight: 1, arbitrary: word })
  return fc.tuple(head, fc.array(any, { maxLength: 3 })).map(([begin, rest]) => [begin, ...rest].join(','))
}
const ofNetdev = ['queues=2', 'vhost=on', 'sndbuf=1M', 'poll-us=50', 'script=no', 'queues=per-vcpu']
const ofDevice = ['mac=52:54:00:12:34:56', 'host_mtu=1500', 'mq=off', 'csum=on', 'speed=1000', 'packed=off']
const ofMachine = ['hugetlb=on', 'prealloc=on', 'sockets=1', 'cores=4', 'maxcpus=4']
const netdevs = fc.tuple(words(['tap,id=n0', 'tap,id=n0,fds=3:4'], ofNetdev)).chain(([one]) => {
  return fc.oneof(
    fc.constant([one]),
    words(['tap,id=n1', 'user,id=n1'], ofNetdev).map((two) => [one, two]),
  )
})
const devices = fc.tuple(words(['virtio-net-pci,netdev=n0'], ofDevice)).chain(([one]) => {
  const other = words(['virtio-net-device,netdev=n1', 'virtio-net-pci,netdev=n1', 'e1000'], ofDevice)
  return fc.oneof(
    fc.constant([one]),
    other.map((two) => [two, one]),
  )
})

/** What it becomes; undefined where it is refused as it must be. */
function parsed<T>(parse: () => T): T | undefined {
  try {
    return parse()
  } catch (error) {
    assert.ok(error instanceof InvalidOptionError, String(error))
    assert.match(error.code, /^ERR_OPTION_(RANGE|UNKNOWN|CONFLICT|TYPE)$/)
    assert.ok(error.option.length > 0 && error.message.includes(error.option), error.message)
    return undefined
  }
}

describe("QEMU's words, whatever they are,", () => {
  it('are NICs, or refused by name', () => {
    let understood = 0
    fc.assert(
      fc.property(netdevs, devices, fc.integer({ min: 1, max: 8 }), (net, dev, smp) => {
        const nics = parsed(() => parseNics(net, dev, { smp }))
        if (nics === undefined || nics.length === 0) return
        understood++
        assert.equal(nics.length, dev.length)
        assert.equal(new Set(nics.map(({ id }) => id)).size, nics.length)
        for (const { transport, options } of nics) {
          assert.ok(transport === 'pci' || transport === 'mmio')
          assert.ok(Number.isSafeInteger(options.queuePairs))
          assert.ok(options.backend.tap !== undefined || options.backend.fds !== undefined)
        }
      }),
      { numRuns: 600 },
    )
    assert.ok(understood > 0)
  })

  it('are memory and processors, or refused by name', () => {
    const ends = new Map<string, number>()
    const note = (what: string): void => void ends.set(what, (ends.get(what) ?? 0) + 1)
    fc.assert(
      fc.property(words(['512M', 'size=1.5G', '4', 'cpus=4'], ofMachine), (text) => {
        const memory = parsed(() => parseMemory(text))
        if (memory !== undefined) {
          note('memory')
          assert.ok(Number.isSafeInteger(memory.size))
        }
        const smp = parsed(() => parseSmp(text))
        if (smp !== undefined) {
          note('processors')
          assert.ok(Number.isSafeInteger(smp))
        }
      }),
      { numRuns: 600 },
    )
    assert.deepEqual([...ends.keys()].sort(), ['memory', 'processors'])
  })

  it('say of a NIC what was meant, in any order', () => {
    const settings = fc.record(
      {
        ...Object.fromEntries(SWITCHES.map((name) => [name, fc.boolean()])),
        host_mtu: fc.integer({ min: 68, max: 65_535 }),
        speed: fc.nat(100_000),
        rx_queue_size: fc.constantFrom(256, 512, 1024),
        mac: fc.constant('52:54:00:12:34:56'),
      },
      { requiredKeys: [] },
    )
    const meant = settings.chain((given) => {
      const entries = Object.entries(given)
      return fc.shuffledSubarray(entries, { minLength: entries.length }).map((order) => ({ given, order }))
    })
    fc.assert(
      fc.property(meant, fc.stringMatching(/^[a-z,]{1,12}$/), ({ given, order }, ifname) => {
        const written = order.map(([name, is]) => `${name}=${typeof is === 'boolean' ? (is ? 'on' : 'off') : is}`)
        const netdev = `tap,id=n0,ifname=${ifname.replaceAll(',', ',,')}`
        const [nic] = parseNics([netdev], [['virtio-net-pci', 'netdev=n0', ...written].join()], { smp: 2 })
        assert.deepEqual(nic?.options, { ...given, queuePairs: 2, backend: { tap: { ifname } } })
      }),
    )
  })
})
