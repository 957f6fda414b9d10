// Where a NIC is plugged in, in words: what they become, that they come back, and how wrong ones are named.

import assert from 'node:assert/strict'
import fc from 'fast-check'
import { InvalidOptionError } from '../../lib/errors.ts'
import { formatPlug, parseNics, parsePlug } from '../../lib/interop/index.ts'

const PCI = (id: string): string => `virtio-net-pci,netdev=${id}`

function refused(parse: () => unknown, code: string, option: string, message: RegExp): void {
  assert.throws(parse, (error: unknown) => {
    assert.ok(error instanceof InvalidOptionError, String(error))
    assert.deepEqual([error.code, error.option], [code, option])
    assert.match(error.message, message)
    return true
  })
}

describe('the words of --plug', () => {
  it('say the switch, and what is asked of it in its own spelling', () => {
    for (const [text, where] of [
      ['bridge:br0', { bridge: { bridge: 'br0' } }],
      ['bridge:br0,isolated=on,vlan=7', { bridge: { bridge: 'br0', isolated: true, vlan: { tag: 7 } } }],
      [
        'bridge:br0,trunk=10:20,vlan=7,native=tagged',
        { bridge: { bridge: 'br0', vlan: { tag: 7, trunk: [10, 20], nativeMode: 'tagged' } } },
      ],
      [
        'ovs:br-int,iface-id=7e0c,vm-id=v1,tag=7,vlan_mode=native-untagged,trunks=7:8',
        {
          ovs: {
            bridge: 'br-int',
            ifaceId: '7e0c',
            vmId: 'v1',
            tag: 7,
            vlanMode: 'native-untagged',
            trunks: [7, 8],
          },
        },
      ],
      [
        'ovs:br-int,db=tcp:[::1]:6640,ingress_policing_rate=1000,ingress_policing_burst=100,ovn=on',
        {
          ovs: {
            bridge: 'br-int',
            db: 'tcp:[::1]:6640',
            ingressPolicingRate: 1000,
            ingressPolicingBurst: 100,
            ovn: true,
          },
        },
      ],
      ['macvtap:eth0,mode=passthru', { macvtap: { lower: 'eth0', mode: 'passthru' } }],
      [
        'route,address=192.0.2.1/24,address=2001:db8::1/64,route=198.51.100.7,proxy_arp=on',
        { route: { addresses: ['192.0.2.1/24', '2001:db8::1/64'], routes: ['198.51.100.7'], proxyArp: true } },
      ],
    ] as const) {
      assert.deepEqual(parsePlug(text), { where }, text)
      assert.deepEqual(parsePlug(formatPlug({ where })), { where }, text)
    }
  })

  it('say what may go through, as virsh does', () => {
    for (const [words, bandwidth] of [
      ['inbound=1000', { inbound: { average: 1000 } }],
      [
        'inbound=1000:5000:64,outbound=500::32',
        { inbound: { average: 1000, peak: 5000, burst: 64 }, outbound: { average: 500, burst: 32 } },
      ],
    ] as const) {
      const where = { route: { routes: ['198.51.100.7'] } }
      const text = `route,route=198.51.100.7,${words},netdev=n0`
      assert.deepEqual(parsePlug(text), { netdev: 'n0', where, bandwidth })
      assert.equal(formatPlug({ netdev: 'n0', where, bandwidth }), text)
    }
    for (const words of ['inbound=', 'inbound=:5000', 'inbound=1:2:3:4']) {
      const wrong = /is no AVERAGE:PEAK:BURST\n.*kB\/s/
      refused(() => parsePlug(`bridge:br0,${words}`), 'ERR_OPTION_RANGE', 'plug[bridge].inbound', wrong)
    }
  })

  it('come back from options as they were, whatever is in them', () => {
    const word = fc.string({ minLength: 1 }).filter((text) => !text.includes('\n'))
    const ovs = fc.record(
      {
        bridge: word,
        ifaceId: word,
        vmId: word,
        tag: fc.nat(),
        ovn: fc.boolean(),
      },
      { requiredKeys: ['bridge'] },
    )
    fc.assert(
      fc.property(ovs, (options) => {
        assert.deepEqual(parsePlug(formatPlug({ where: { ovs: options } })), { where: { ovs: { ...options } } })
      }),
    )
  })

  it('that nobody knows are named, with what was probably meant', () => {
    refused(() => parsePlug('brigde:br0'), 'ERR_OPTION_UNKNOWN', 'plug', /no 'brigde' to plug into\n.*'bridge:'\?/)
    refused(() => parsePlug('br0'), 'ERR_OPTION_UNKNOWN', 'plug', /Known are bridge:…, ovs:…, macvtap:…, route,…\./)
    refused(() => parsePlug('routed,address=a'), 'ERR_OPTION_UNKNOWN', 'plug', /'route,'\?/)
    refused(() => parsePlug('macvtap:mode=vepa'), 'ERR_OPTION_RANGE', 'plug[macvtap].lower', /is missing/)
    refused(() => parsePlug('route,192.0.2.1/24'), 'ERR_OPTION_RANGE', 'plug[route].192.0.2.1/24', /has no value/)
    refused(() => parsePlug('toString:br0'), 'ERR_OPTION_UNKNOWN', 'plug', /no 'toString'/)
    refused(
      () => parsePlug('ovs:br-int,ifaceid=7'),
      'ERR_OPTION_UNKNOWN',
      'plug[ovs].ifaceid',
      /Did you mean 'iface-id'/,
    )
    refused(() => parsePlug('bridge:br0,isolate=on'), 'ERR_OPTION_UNKNOWN', 'plug[bridge].isolate', /'isolated'/)
    refused(() => parsePlug('ovs:br-int,tag=seven'), 'ERR_OPTION_RANGE', 'plug[ovs].tag', /must be an integer/)
    refused(() => parsePlug('ovs:br-int,tag=1,tag=2'), 'ERR_OPTION_CONFLICT', 'plug[ovs].tag', /there twice/)
    refused(() => parsePlug('ovs:tag=1'), 'ERR_OPTION_RANGE', 'plug[ovs].bridge', /is missing\n.*ovs:…/)
    refused(() => parsePlug('bridge:'), 'ERR_OPTION_RANGE', 'plug[bridge]', /nothing/)
  })
})

describe('a netdev', () => {
  const plugs = (netdevs: readonly string[], texts: readonly string[]) =>
    parseNics(
      netdevs.map((words) => `tap,${words}`),
      netdevs.map((words) => PCI(words.slice(3, 5))),
      {
        smp: 1,
        plugs: texts,
      },
    ).map(({ plug }) => plug)

  it('is plugged in where br= says, or a --plug, which names it where there are several', () => {
    const bridge = { where: { bridge: { bridge: 'br0' } } }
    const ovs = { where: { ovs: { bridge: 'br-int' } } }
    assert.deepEqual(plugs(['id=n0,br=br0'], []), [bridge])
    assert.deepEqual(plugs(['id=n0'], ['ovs:br-int']), [ovs])
    const limited = { ...bridge, bandwidth: { inbound: { average: 9 } } }
    assert.deepEqual(plugs(['id=n0'], ['bridge:br0,inbound=9']), [limited])
    assert.deepEqual(plugs(['id=n0', 'id=n1,br=br0', 'id=n2'], ['ovs:br-int,netdev=n2']), [undefined, bridge, ovs])
  })

  it('is refused in two places, and in one that leaves open which it is', () => {
    refused(() => plugs(['id=n0,br=br0'], ['ovs:br-int']), 'ERR_OPTION_CONFLICT', 'plug[n0]', /elsewhere already/)
    refused(() => plugs(['id=n0'], ['ovs:a', 'ovs:b']), 'ERR_OPTION_CONFLICT', 'plug[n0]', /elsewhere already/)
    refused(() => plugs(['id=n0', 'id=n1'], ['ovs:a']), 'ERR_OPTION_CONFLICT', 'plug.netdev', /not just one/)
    refused(() => plugs([], ['ovs:a']), 'ERR_OPTION_CONFLICT', 'plug.netdev', /is missing/)
    refused(() => plugs(['id=n0'], ['ovs:a,netdev=no']), 'ERR_OPTION_CONFLICT', 'plug.netdev', /Did you mean 'n0'/)
  })

  it('is opened as the macvtap that is made for it, which has its name', () => {
    const nics = (words: string) => parseNics([`tap,id=n0,${words}`], [PCI('n0')], { smp: 1, plugs: ['macvtap:eth0'] })
    const [nic] = nics('ifname=macvtap0,sndbuf=1M')
    assert.deepEqual(nic!.plug, { where: { macvtap: { lower: 'eth0' } } })
    assert.deepEqual(nic!.options.backend, { macvtap: { ifname: 'macvtap0' }, sndbuf: 2 ** 20 })
    for (const words of ['queues=1', 'ifname=m%d']) {
      refused(() => nics(words), 'ERR_OPTION_CONFLICT', 'netdev[n0].ifname', /name the macvtap.*\n.*ifname=macvtap0/)
    }
    refused(() => nics('fds=3'), 'ERR_OPTION_CONFLICT', 'plug[n0]', /fds of one exclude/)
  })
})
