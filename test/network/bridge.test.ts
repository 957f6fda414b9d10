// A NIC as a port of a real Linux bridge, through vhost-net; iproute2 is the second opinion. Needs root.

import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { InvalidOptionError, LinkError } from '../../lib/errors.ts'
import { RtNetlink } from '../../lib/host/rtnetlink.ts'
import { Applied } from '../../lib/network/apply.ts'
import { type BridgeOptions, planBridge } from '../../lib/network/bridge.ts'
import { disableIpv6 } from '../support/bridge.ts'
import { leavesNothing } from '../support/leaves-nothing.ts'
import { PluggedNic } from '../support/plugged-nic.ts'
import { refused } from '../support/refused-plan.ts'
import { ip } from '../support/tuntap.ts'
import { keepToVlans } from '../support/vlans.ts'

const macs = ['52:54:00:00:00:0a', '52:54:00:00:00:0b', '52:54:00:00:00:0c'] as const
/** Lower than a tap's `fe:`, so a bridge without an address of its own would keep it. */
const bridgeMac = '02:00:00:00:00:b0'

function tool(command: string, ...args: string[]): unknown {
  return JSON.parse(execFileSync(command, args, { encoding: 'utf8' }))
}

interface PortVlans {
  ifname: string
  vlans: { vlan: number; vlanEnd?: number; flags?: string[] }[]
}

/** What `bridge vlan` lists of a port: `42 PVID Egress Untagged`. */
function bridgeVlans(ifname: string): string[] {
  const [port] = tool('bridge', '-j', 'vlan', 'show', 'dev', ifname) as [PortVlans?]
  return (port?.vlans ?? []).map(({ vlan, vlanEnd, flags = [] }) =>
    [vlanEnd === undefined ? `${vlan}` : `${vlan}-${vlanEnd}`, ...flags].join(' '),
  )
}

/** Of the kernel's own accord: what follows from traffic, from time, from being up for once, and from a bridge being empty. */
const ofItsOwn = /timer|pdelay|root_|^gc|qdisc|operstate|tso_max/
const carrier = ['NO-CARRIER', 'LOWER_UP']

/** What iproute2 tells of a link, but for that. */
function stateOf(ifname: string): unknown {
  const [link] = tool('ip', '-d', '-j', 'link', 'show', 'dev', ifname) as [object]
  const state = { ...link, vlans: bridgeVlans(ifname) }
  return JSON.parse(JSON.stringify(state), (name, value) => {
    if (ofItsOwn.test(name)) return undefined
    return name === 'flags' ? value.filter((flag: string) => !carrier.includes(flag)) : value
  })
}

describe('a NIC plugged into a Linux bridge', () => {
  const left = leavesNothing()
  let netlink: RtNetlink
  let bridges = 0

  beforeEach(() => {
    netlink = left.own(RtNetlink.open())
  })

  function addBridge(settings: { vlan_filtering?: boolean; mac?: string; mtu?: number } = {}): string {
    const ifname = `vnpb${bridges++}`
    const bridge = netlink.addLink({ kind: 'bridge', ifname, mac: bridgeMac, mcast_snooping: false, ...settings })
    left.add(() => netlink.getLink({ ifname }) && netlink.deleteLink(bridge.index))
    disableIpv6(ifname)
    netlink.setLink(bridge.index, { up: true })
    return ifname
  }

  async function addNic(which: number): Promise<PluggedNic> {
    const nic = left.own(await PluggedNic.open(macs[which]!, { tap: { ifname: 'vnp%d' } }))
    disableIpv6(nic.ifname)
    return nic
  }

  async function plug(nic: PluggedNic, options: BridgeOptions, mtu?: number): Promise<Applied> {
    return Applied.of(await planBridge({ ifname: nic.ifname, mac: nic.mac, mtu }, options))
  }

  it('reaches the others, and keeps the bridge’s address and MTU out of what guests can choose', async () => {
    // A bridge without an address of its own takes the lowest of its ports'.
    const ifname = `vnpb${bridges++}`
    const { index } = netlink.addLink({ kind: 'bridge', ifname, mcast_snooping: false })
    left.add(() => netlink.deleteLink(index))
    netlink.addLink({ kind: 'dummy', ifname: 'vnpd', mac: bridgeMac })
    left.add(() => netlink.deleteLink(netlink.getLink({ ifname: 'vnpd' })!.index))
    netlink.setLink(netlink.getLink({ ifname: 'vnpd' })!.index, { master: index, mtu: 1400 })
    disableIpv6(ifname)
    netlink.setLink(index, { up: true })
    const [a, b] = [await addNic(0), await addNic(1)]
    await plug(a, { bridge: ifname })
    await plug(b, { bridge: ifname })
    const { mac, mtu } = netlink.getLink({ index })!
    assert.deepEqual({ mac, mtu }, { mac: bridgeMac, mtu: 1400 })
    assert.deepEqual(
      [a, b].map((nic) => {
        const { mac, mtu, up, master } = netlink.getLink({ ifname: nic.ifname })!
        return { mac, mtu, up, master }
      }),
      ['fe:54:00:00:00:0a', 'fe:54:00:00:00:0b'].map((mac) => ({ mac, mtu: 1400, up: true, master: index })),
    )
    await a.send({ to: b.mac, text: 'from a' })
    assert.deepEqual(await b.until('from a'), [{ text: 'from a' }])
    await b.send({ to: a.mac, text: 'from b' })
    assert.deepEqual(await a.until('from b'), [{ text: 'from b' }])
  })

  it('reaches only those that are not isolated where it is', async () => {
    const bridge = addBridge()
    const [a, b, c] = [await addNic(0), await addNic(1), await addNic(2)]
    await plug(a, { bridge, isolated: true })
    await plug(b, { bridge, isolated: true })
    await plug(c, { bridge })
    await a.send({ text: 'to all' })
    await a.send({ to: b.mac, text: 'to b' })
    await c.until('to b')
    await c.send({ text: 'from c' })
    assert.deepEqual(await b.until('from c'), [{ text: 'from c' }])
    assert.deepEqual(await a.until('from c'), [{ text: 'from c' }])
    assert.deepEqual(
      (tool('bridge', '-d', '-j', 'link', 'show', 'master', bridge) as { ifname: string; isolated: boolean }[]).map(
        ({ ifname, isolated }) => [ifname, isolated],
      ),
      [
        [a.ifname, true],
        [b.ifname, true],
        [c.ifname, false],
      ],
    )
  })

  it('is in its VLANs: untagged at an access port, tagged on a trunk, untagged in its native VLAN', async () => {
    const bridge = addBridge({ vlan_filtering: true })
    const [a, b, c] = [await addNic(0), await addNic(1), await addNic(2)]
    await plug(a, { bridge, vlan: { tag: 42 } })
    await plug(b, { bridge, vlan: { tag: 7 } })
    await plug(c, { bridge, vlan: { trunk: [42, 43, 44, 100], tag: 7 } })
    assert.deepEqual(
      [a, b, c].map(({ ifname }) => bridgeVlans(ifname)),
      [['42 PVID Egress Untagged'], ['7 PVID Egress Untagged'], ['7 PVID Egress Untagged', '42', '43', '44', '100']],
    )
    await keepToVlans({ access: a, other: b, trunk: c })
  })

  it('gets the tags of its native VLAN, too, with nativeMode tagged; and none that has no native VLAN', async () => {
    const bridge = addBridge({ vlan_filtering: true })
    const [a, b, c] = [await addNic(0), await addNic(1), await addNic(2)]
    await plug(a, { bridge, vlan: { tag: 7 } })
    await plug(b, { bridge, vlan: { trunk: [42], tag: 7, nativeMode: 'tagged' } })
    await plug(c, { bridge, vlan: { trunk: [7] } })
    assert.deepEqual(
      [b, c].map(({ ifname }) => bridgeVlans(ifname)),
      [['7 PVID', '42'], ['7']],
    )
    await a.send({ text: 'from a' })
    assert.deepEqual(await b.until('from a'), [{ tag: 7, text: 'from a' }])
    await b.send({ text: 'untagged' })
    assert.deepEqual(await a.until('untagged'), [{ text: 'untagged' }])
    await c.send({ text: 'of no VLAN' })
    await c.send({ tag: 7, text: 'of 7' })
    assert.deepEqual(await a.until('of 7'), [{ text: 'of 7' }])
  })

  it('is in as many VLANs as there are', async () => {
    const bridge = addBridge({ vlan_filtering: true })
    const nic = await addNic(0)
    const applied = await plug(nic, { bridge, vlan: { trunk: Array.from({ length: 4094 }, (_, i) => i + 1), tag: 9 } })
    assert.deepEqual(bridgeVlans(nic.ifname).length, 4094)
    const { index } = netlink.getLink({ ifname: nic.ifname })!
    assert.equal(netlink.listBridgeVlans(index).length, 4094)
    assert.ok(
      applied.changes.includes(
        `put '${nic.ifname}' of bridge '${bridge}' into VLAN 1-8,10-4094, tagged, and VLAN 9, native and untagged, and no other`,
      ),
    )
    await applied.undo()
    assert.deepEqual(bridgeVlans(nic.ifname), [])
  })

  it('says what it would do, and changes nothing by saying so', async () => {
    const bridge = addBridge({ vlan_filtering: true })
    const nic = await addNic(0)
    const before = [stateOf(bridge), stateOf(nic.ifname)]
    const plan = await planBridge({ ifname: nic.ifname, mac: nic.mac }, { bridge, isolated: true, vlan: { tag: 3 } })
    assert.deepEqual(
      plan.map(({ text }) => text),
      [
        `give '${nic.ifname}' the address fe:54:00:00:00:0a, if it is a tap: the guest's is not the bridge's`,
        `set the MTU of '${nic.ifname}' to that of bridge '${bridge}'`,
        `put '${nic.ifname}' into bridge '${bridge}'`,
        `isolate '${nic.ifname}' from the isolated ports of bridge '${bridge}'`,
        `put '${nic.ifname}' of bridge '${bridge}' into VLAN 3, untagged, and no other`,
        `set '${nic.ifname}' up`,
      ],
    )
    assert.deepEqual([stateOf(bridge), stateOf(nic.ifname)], before)
  })

  it('is as it was when all is taken back, and so is a neighbour', async () => {
    const bridge = addBridge({ vlan_filtering: true })
    const [nic, other] = [await addNic(0), await addNic(1)]
    await plug(other, { bridge, isolated: true, vlan: { tag: 11 } })
    const all = (): unknown[] => [stateOf(bridge), stateOf(nic.ifname), stateOf(other.ifname)]
    const before = all()
    const applied = await plug(nic, { bridge, isolated: true, vlan: { trunk: [5, 6] } }, 1300)
    assert.notDeepEqual(all(), before)
    const { notUndone } = await applied.undo()
    assert.deepEqual(notUndone, [])
    assert.deepEqual(all(), before)
  })

  it('is a port as before when another plan for it is taken back', async () => {
    const bridge = addBridge({ vlan_filtering: true })
    const nic = await addNic(0)
    await plug(nic, { bridge, vlan: { trunk: [5, 6], tag: 6 } })
    const before = stateOf(nic.ifname)
    const again = await plug(nic, { bridge, vlan: { trunk: [5, 6], tag: 6 } })
    assert.deepEqual(again.changes, [])
    const applied = await plug(nic, { bridge, isolated: true, vlan: { tag: 8 } })
    assert.deepEqual(applied.changes, [
      `isolate '${nic.ifname}' from the isolated ports of bridge '${bridge}'`,
      `put '${nic.ifname}' of bridge '${bridge}' into VLAN 8, untagged, and no other`,
    ])
    await applied.undo()
    assert.deepEqual(stateOf(nic.ifname), before)
  })

  it('leaves nothing half-done where a step fails', async () => {
    const bridge = addBridge({ vlan_filtering: true })
    const nic = await addNic(0)
    const plan = await planBridge({ ifname: nic.ifname, mac: nic.mac }, { bridge, isolated: true, vlan: { tag: 3 } })
    netlink.setBridge(netlink.getLink({ ifname: bridge })!.index, { vlan_filtering: false })
    const before = [stateOf(bridge), stateOf(nic.ifname)]
    await assert.rejects(Applied.of(plan), { name: 'PlugError', code: 'ERR_OPTION_CONFLICT', notUndone: [] })
    assert.deepEqual([stateOf(bridge), stateOf(nic.ifname)], before)
  })

  it('goes with its tap: then there is nothing to take back', async () => {
    const bridge = addBridge()
    const nic = await addNic(0)
    const applied = await plug(nic, { bridge, isolated: true })
    nic.close()
    assert.deepEqual((await applied.undo()).notUndone, [])
  })

  it('stays where somebody else has put it since', async () => {
    const [bridge, other] = [addBridge(), addBridge()]
    const nic = await addNic(0)
    const applied = await plug(nic, { bridge, isolated: true })
    ip('link', 'set', nic.ifname, 'master', other)
    assert.deepEqual((await applied.undo()).notUndone, [])
    assert.equal(netlink.getLink({ ifname: nic.ifname })!.master, netlink.getLink({ ifname: other })!.index)
  })

  describe('refuses', () => {
    const link = { ifname: 'vnpt', mac: macs[0] }

    it('a bridge that is not there, and a link that is none', async () => {
      await assert.rejects(
        planBridge(link, { bridge: 'vnpx' }),
        refused(LinkError, 'ERR_LINK_ABSENT', /no bridge 'vnpx'/),
      )
      await assert.rejects(
        planBridge(link, { bridge: 'lo' }),
        refused(LinkError, 'ERR_LINK_KIND', /not a Linux bridge/),
      )
    })

    it('a link that is in another bridge, when it plans and when it plugs', async () => {
      const [bridge, other] = [addBridge(), addBridge()]
      const nic = await addNic(0)
      const taken = refused(LinkError, 'ERR_LINK_TAKEN', new RegExp(`'${nic.ifname}' is in '${other}' already`))
      const plan = await planBridge({ ifname: nic.ifname, mac: nic.mac }, { bridge })
      await plug(nic, { bridge: other })
      await assert.rejects(plug(nic, { bridge }), taken)
      await assert.rejects(Applied.of(plan), { code: 'ERR_LINK_TAKEN' })
      assert.equal(netlink.getLink({ ifname: nic.ifname })!.master, netlink.getLink({ ifname: other })!.index)
    })

    it('a link that is not there when it is plugged in', async () => {
      const plan = await planBridge(link, { bridge: addBridge() })
      await assert.rejects(Applied.of(plan), { code: 'ERR_LINK_ABSENT' })
    })

    it('VLANs where the bridge filters none', async () => {
      const plan = planBridge(link, { bridge: addBridge(), vlan: { tag: 3 } })
      await assert.rejects(
        plan,
        refused(InvalidOptionError, 'ERR_OPTION_CONFLICT', /does not filter VLANs\n.*vlan_filtering 1/),
      )
    })

    it('an MTU over that of the bridge', async () => {
      const plan = planBridge({ ...link, mtu: 1501 }, { bridge: addBridge() })
      await assert.rejects(plan, refused(InvalidOptionError, 'ERR_OPTION_CONFLICT', /^mtu: 1501 is over 1500/))
    })

    for (const [what, options, option, code] of [
      ['VLAN 5000', { vlan: { tag: 5000 } }, 'vlan.tag', 'ERR_OPTION_RANGE'],
      ['VLAN 0', { vlan: { tag: 0 } }, 'vlan.tag', 'ERR_OPTION_RANGE'],
      ['VLAN 4095', { vlan: { trunk: [1, 4095] } }, 'vlan.trunk[1]', 'ERR_OPTION_RANGE'],
      ['a VLAN in words', { vlan: { tag: '7' } }, 'vlan.tag', 'ERR_OPTION_TYPE'],
      ['an empty trunk', { vlan: { trunk: [] } }, 'vlan.trunk', 'ERR_OPTION_RANGE'],
      ['no VLAN', { vlan: {} }, 'vlan', 'ERR_OPTION_CONFLICT'],
      [
        'a mode of no native VLAN',
        { vlan: { trunk: [1], nativeMode: 'tagged' } },
        'vlan.nativeMode',
        'ERR_OPTION_CONFLICT',
      ],
      ['an unknown mode', { vlan: { trunk: [1], tag: 2, nativeMode: 'x' } }, 'vlan.nativeMode', 'ERR_OPTION_RANGE'],
      ['isolation by a number', { isolated: 1 }, 'isolated', 'ERR_OPTION_TYPE'],
      ['an unknown option', { isolate: true }, 'isolate', 'ERR_OPTION_UNKNOWN'],
    ] as const) {
      it(what, async () => {
        const plan = planBridge(link, { bridge: 'vnpx', ...options } as unknown as BridgeOptions)
        await assert.rejects(plan, { name: 'InvalidOptionError', option, code })
      })
    }
  })
})
