// QEMU's words: what they become, and how each that cannot be served is answered.

import assert from 'node:assert/strict'
import { InvalidOptionError } from '../../lib/errors.ts'
import { nearest, parseMemory, parseNics, parseSmp } from '../../lib/interop/index.ts'
import { FEATURE_OPTIONS } from '../../lib/net/options.ts'

const MiB = 1 << 20
const TAP = 'tap,id=n0,ifname=vnet0'
const PCI = 'virtio-net-pci,netdev=n0'

/** One NIC of these words, on a machine with four processors. */
const nic = (netdev: string, device: string) => {
  const [only, ...others] = parseNics([netdev], [device], { smp: 4 })
  assert.deepEqual(others, [])
  return only!
}

const refused = (parse: () => unknown, code: string, option: string, message: RegExp) =>
  assert.throws(parse, (error: unknown) => {
    assert.ok(error instanceof InvalidOptionError, String(error))
    assert.deepEqual({ code: error.code, option: error.option }, { code, option })
    assert.match(error.message, message)
    return true
  })

describe("QEMU's words for memory", () => {
  it('are MiB without a suffix, and what the suffix says with one', () => {
    const sizes = { 512: 512 * MiB, '512M': 512 * MiB, '2G': 2048 * MiB, '2g': 2048 * MiB, '1.5G': 1536 * MiB }
    for (const [text, size] of Object.entries(sizes)) assert.deepEqual(parseMemory(text), { size }, text)
    assert.deepEqual(parseMemory('size=1T'), { size: 2 ** 40 })
    assert.deepEqual(parseMemory('1048576k'), { size: 1024 * MiB })
    assert.deepEqual(parseMemory('4096b'), { size: 4096 })
  })

  it('are refused where they are no size, or say what the machine has not', () => {
    for (const text of ['', 'much', '512MB', '-1', '0x100', '1.5b', '9999999999G']) {
      assert.throws(() => parseMemory(text), { code: 'ERR_OPTION_RANGE' }, text)
    }
    refused(() => parseMemory('512M,slots=2'), 'ERR_OPTION_UNKNOWN', 'memory.slots', /no such option/)
    refused(() => parseMemory('sise=512M'), 'ERR_OPTION_UNKNOWN', 'memory.sise', /Did you mean 'size'\?/)
  })
})

describe("QEMU's words for processors", () => {
  it('are their number, or one socket of so many cores', () => {
    for (const text of ['4', 'cpus=4', 'cores=4', '4,sockets=1,cores=4,threads=1,maxcpus=4']) {
      assert.equal(parseSmp(text), 4, text)
    }
  })

  it('are refused where they are another topology, or contradict each other', () => {
    refused(() => parseSmp('4,sockets=2'), 'ERR_OPTION_CONFLICT', 'smp.sockets', /one socket of cores/)
    refused(() => parseSmp('4,threads=2'), 'ERR_OPTION_CONFLICT', 'smp.threads', /a thread each/)
    refused(() => parseSmp('4,cores=2'), 'ERR_OPTION_CONFLICT', 'smp.cores', /2 is not the number of processors, 4/)
    refused(() => parseSmp('4,maxcpus=8'), 'ERR_OPTION_CONFLICT', 'smp.maxcpus', /8 is not/)
    refused(() => parseSmp('four'), 'ERR_OPTION_RANGE', 'smp.cpus', /must be an integer, not 'four'/)
    refused(() => parseSmp('threads=1'), 'ERR_OPTION_RANGE', 'smp', /has no cpus/)
    refused(() => parseSmp('4,core=4'), 'ERR_OPTION_UNKNOWN', 'smp.core', /Did you mean 'cores'\?/)
    refused(() => parseSmp('4,cpus=4'), 'ERR_OPTION_CONFLICT', 'smp.cpus', /there twice/)
  })
})

describe("QEMU's words for a NIC", () => {
  describe('become', () => {
    it('a NIC on PCI with a queue pair for each processor', () => {
      const expected = {
        id: 'n0',
        transport: 'pci',
        options: { queuePairs: 4, backend: { tap: { ifname: 'vnet0' } } },
      }
      assert.deepEqual(nic(TAP, PCI), expected)
      assert.deepEqual(nic(`${TAP},queues=per-vcpu`, PCI), expected)
      assert.deepEqual(nic(`${TAP},vhost=on,vhostforce=on,script=no,downscript=no`, PCI), expected)
    })

    it('one over MMIO, and as many queue pairs as are asked for', () => {
      const { transport, options } = nic(`${TAP},queues=2`, 'virtio-net-device,netdev=n0')
      assert.equal(transport, 'mmio')
      assert.equal(options.queuePairs, 2)
    })

    it('a tap whose number the kernel chooses, where no name is given', () => {
      assert.deepEqual(nic('tap,id=n0', PCI).options.backend, { tap: { ifname: 'tap%d' } })
    })

    it('open files, a queue pair for each', () => {
      assert.deepEqual(nic('tap,id=n0,fds=3:4:5,vhostfds=6:7:8', PCI).options, {
        queuePairs: 3,
        backend: { fds: [3, 4, 5], vhostfds: [6, 7, 8] },
      })
      assert.deepEqual(nic('tap,id=n0,fd=3,vhostfd=4', PCI).options, {
        queuePairs: 1,
        backend: { fds: [3], vhostfds: [4] },
      })
    })

    it('a send buffer, 0 for none at all as in QEMU, and polling', () => {
      assert.deepEqual(nic(`${TAP},sndbuf=1M,poll-us=50`, PCI).options.backend, {
        tap: { ifname: 'vnet0' },
        sndbuf: MiB,
        poll_us: 50,
      })
      assert.equal(nic(`${TAP},sndbuf=0`, PCI).options.backend.sndbuf, 2 ** 31 - 1)
      assert.equal(nic(`${TAP},sndbuf=4096`, PCI).options.backend.sndbuf, 4096)
    })

    it('settings of the device, under the same names', () => {
      const device =
        'mac=52:54:00:12:34:56,vectors=10,rx_queue_size=1024,tx_queue_size=512,host_mtu=9000,speed=10000,duplex=full'
      const { vectors, options } = nic(TAP, `${PCI},${device},mq=on,csum=off,guest_tso4=off`)
      assert.equal(vectors, 10)
      assert.deepEqual(options, {
        mac: '52:54:00:12:34:56',
        rx_queue_size: 1024,
        tx_queue_size: 512,
        host_mtu: 9000,
        speed: 10000,
        duplex: 'full',
        mq: true,
        csum: false,
        guest_tso4: false,
        queuePairs: 4,
        backend: { tap: { ifname: 'vnet0' } },
      })
    })

    it('every feature that can be switched', () => {
      for (const name of Object.keys(FEATURE_OPTIONS)) {
        for (const [word, value] of Object.entries({ on: true, off: false })) {
          const { options } = nic(TAP, `${PCI},${name}=${word}`)
          assert.equal(options[name as keyof typeof FEATURE_OPTIONS], value, name)
        }
      }
    })

    it('nothing, where they say what is the case anyway', () => {
      const words = 'mrg_rxbuf=on,disable-legacy=on,disable-modern=off,packed=off,rss=off,ctrl_vlan=off,queue_reset=on'
      assert.deepEqual(nic(TAP, `${PCI},${words}`), nic(TAP, PCI))
    })

    it('names with a comma, written as two', () => {
      assert.deepEqual(nic('tap,id=n0,ifname=a,,b,,,queues=1', PCI).options.backend, { tap: { ifname: 'a,b,' } })
    })

    it('several NICs, in the order of the devices', () => {
      const nics = parseNics(
        ['tap,id=a,ifname=t0', 'tap,id=b,ifname=t1', 'tap,id=c', 'tap,id=d'],
        ['b', 'a', 'd', 'c'].map((id) => `virtio-net-pci,id=x${id},netdev=${id}`),
        { smp: 1 },
      )
      assert.deepEqual(
        nics.map(({ id }) => id),
        ['b', 'a', 'd', 'c'],
      )
      assert.deepEqual(parseNics([], [], { smp: 1 }), [])
    })
  })

  describe('are refused', () => {
    const netdev = (words: string, code: string, name: string, message: RegExp) =>
      refused(() => nic(`${TAP},${words}`, PCI), code, `netdev[n0].${name}`, message)
    const device = (words: string, code: string, name: string, message: RegExp) =>
      refused(() => nic(TAP, `${PCI},${words}`), code, `device[n0].${name}`, message)

    it('where nobody knows them, with the one that was probably meant', () => {
      netdev('queue=4', 'ERR_OPTION_UNKNOWN', 'queue', /Did you mean 'queues'\?/)
      netdev('poll_us=4', 'ERR_OPTION_UNKNOWN', 'poll_us', /Did you mean 'poll-us'\?/)
      netdev('vhosts=on', 'ERR_OPTION_UNKNOWN', 'vhosts', /Did you mean 'vhost'\?/)
      device('geust_tso4=on', 'ERR_OPTION_UNKNOWN', 'geust_tso4', /Did you mean 'guest_tso4'\?/)
      device('MAC=52:54:00:12:34:56', 'ERR_OPTION_UNKNOWN', 'MAC', /Did you mean 'mac'\?/)
      device('addr=5', 'ERR_OPTION_UNKNOWN', 'addr', /Known here: .*mac/)
      device('constructor=on', 'ERR_OPTION_UNKNOWN', 'constructor', /Known here/)
    })

    it('where a value is none of what is possible', () => {
      netdev('queues=many', 'ERR_OPTION_RANGE', 'queues', /must be an integer, not 'many'/)
      netdev('queues=', 'ERR_OPTION_RANGE', 'queues', /must be an integer, not ''/)
      netdev('queues=4x', 'ERR_OPTION_RANGE', 'queues', /must be an integer/)
      netdev('vhost=yes', 'ERR_OPTION_RANGE', 'vhost', /must be on or off, not 'yes'/)
      netdev('sndbuf=big', 'ERR_OPTION_RANGE', 'sndbuf', /must be a size/)
      refused(() => nic(TAP, `${PCI},mq`), 'ERR_OPTION_RANGE', 'device.mq', /has no value/)
      device('csum=1', 'ERR_OPTION_RANGE', 'csum', /must be on or off/)
      device('vectors=1e1', 'ERR_OPTION_RANGE', 'vectors', /must be an integer/)
      device('mac=52:54:00', 'ERR_OPTION_RANGE', 'mac', /six pairs of hexadecimal digits/)
      refused(() => nic(`${TAP},`, PCI), 'ERR_OPTION_RANGE', 'netdev', /nothing between two commas, or at an end/)
      refused(() => nic('', PCI), 'ERR_OPTION_RANGE', 'netdev', /nothing/)
    })

    it('where they ask for what is not done, and why', () => {
      netdev('vhost=off', 'ERR_OPTION_RANGE', 'vhost', /Packets go through vhost-net, and nothing else moves them/)
      netdev('vhostforce=off', 'ERR_OPTION_RANGE', 'vhost', /must be on/)
      netdev('script=/etc/qemu-ifup', 'ERR_OPTION_RANGE', 'script', /must be no.*\n.*No script is run/)
      netdev('downscript=x', 'ERR_OPTION_RANGE', 'downscript', /must be no/)
      netdev('helper=/bin/h', 'ERR_OPTION_RANGE', 'helper', /br=/)
      device('mrg_rxbuf=off', 'ERR_OPTION_RANGE', 'mrg_rxbuf', /must be on: mergeable/)
      device('packed=on', 'ERR_OPTION_RANGE', 'packed', /must be off: vhost-net has split rings only/)
      device('rss=on', 'ERR_OPTION_RANGE', 'rss', /must be off/)
      device('disable-legacy=off', 'ERR_OPTION_RANGE', 'disable-legacy', /must be on/)
    })

    it('where they contradict each other', () => {
      refused(() => nic(`${TAP},ifname=a`, PCI), 'ERR_OPTION_CONFLICT', 'netdev[n0].ifname', /there twice/)
      netdev('fds=3:4', 'ERR_OPTION_CONFLICT', 'ifname', /and fds exclude each other/)
      refused(() => nic('tap,id=n0,fds=3:4,queues=2', PCI), 'ERR_OPTION_CONFLICT', 'netdev[n0].queues', /and fds/)
      refused(() => nic('tap,id=n0,fd=3,fds=3:4', PCI), 'ERR_OPTION_CONFLICT', 'netdev[n0].fd', /and fds exclude/)
      refused(
        () => nic(TAP, 'virtio-net-device,netdev=n0,vectors=4'),
        'ERR_OPTION_CONFLICT',
        'device[n0].vectors',
        /one interrupt/,
      )
    })

    it('where netdev and device do not find each other', () => {
      const nics = (netdevs: string[], devices: string[]) => () => parseNics(netdevs, devices, { smp: 1 })
      refused(nics([TAP], []), 'ERR_OPTION_CONFLICT', 'netdev[n0]', /no device has it\n.*virtio-net-pci,netdev=n0/)
      refused(nics([], [PCI]), 'ERR_OPTION_CONFLICT', 'device[n0].netdev', /no netdev 'n0'\n.*--netdev tap,id=n0/)
      refused(
        nics([TAP], ['virtio-net-pci,netdev=no']),
        'ERR_OPTION_CONFLICT',
        'device[no].netdev',
        /Did you mean 'n0'\?/,
      )
      refused(nics([TAP, 'tap,id=n0'], [PCI]), 'ERR_OPTION_CONFLICT', 'netdev[n0]', /there twice/)
      refused(nics([TAP], [PCI, PCI]), 'ERR_OPTION_CONFLICT', 'device[n0]', /two devices with this netdev/)
      refused(
        nics([TAP, 'tap,id=n1'], [`${PCI},id=x`, 'virtio-net-pci,netdev=n1,id=x']),
        'ERR_OPTION_CONFLICT',
        'device[x]',
        /there twice/,
      )
      refused(nics([TAP, 'tap,id=n1,ifname=vnet0'], []), 'ERR_OPTION_CONFLICT', 'netdev[n1].ifname', /is netdev n0's/)
    })

    it('where they are of something else', () => {
      const nics = (netdev: string, device: string) => () => parseNics([netdev], [device], { smp: 1 })
      refused(nics('user,id=n0', PCI), 'ERR_OPTION_RANGE', 'netdev.type', /must be tap, not 'user'/)
      refused(nics('tap,ifname=vnet0', PCI), 'ERR_OPTION_RANGE', 'netdev.id', /is missing/)
      refused(nics('tap,id=0n', PCI), 'ERR_OPTION_RANGE', 'netdev.id', /must begin with a letter/)
      refused(nics(TAP, 'e1000,netdev=n0'), 'ERR_OPTION_RANGE', 'device.driver', /Known here: virtio-net-pci/)
      refused(
        nics(TAP, 'virtio-net-pcie,netdev=n0'),
        'ERR_OPTION_RANGE',
        'device.driver',
        /Did you mean 'virtio-net-pci'/,
      )
      refused(nics(TAP, 'toString,netdev=n0'), 'ERR_OPTION_RANGE', 'device.driver', /no device 'toString'/)
      refused(nics(TAP, 'virtio-net-pci'), 'ERR_OPTION_RANGE', 'device.netdev', /is missing/)
    })
  })
})

describe('the nearest word', () => {
  it("is one with a letter wrong, missing, added or in its neighbour's place", () => {
    const known = ['queues', 'vhost', 'ifname', 'poll-us']
    for (const word of ['queus', 'queuess', 'quexes', 'qeuues']) assert.equal(nearest(word, known), 'queues', word)
    assert.equal(nearest('IFNAME', known), 'ifname')
  })

  it('is none where too much is wrong', () => {
    assert.equal(nearest('memory', ['queues', 'vhost']), undefined)
    assert.equal(nearest('', ['queues']), undefined)
    assert.equal(nearest('queues', []), undefined)
  })
})
