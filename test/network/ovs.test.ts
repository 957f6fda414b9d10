// A NIC as a port of a real Open vSwitch, through vhost-net; ovs-vsctl is the second opinion. Needs root.

import assert from 'node:assert/strict'
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { OvsError } from '../../lib/errors.ts'
import { RtNetlink, Tap } from '../../lib/host/index.ts'
import { Applied } from '../../lib/network/apply.ts'
import { listOvsPorts, type OvsOptions, planOvs, unplugOvs } from '../../lib/network/ovs.ts'
import { disableIpv6 } from '../support/bridge.ts'
import { kill } from '../support/command.ts'
import { leavesNothing } from '../support/leaves-nothing.ts'
import { TestSwitch } from '../support/ovs.ts'
import { PluggedNic } from '../support/plugged-nic.ts'
import { ip } from '../support/tuntap.ts'
import { keepToVlans } from '../support/vlans.ts'

const macs = ['52:54:00:00:00:0a', '52:54:00:00:00:0b', '52:54:00:00:00:0c'] as const
const [mac] = macs
const child = fileURLToPath(new URL('../support/plug-child.js', import.meta.url))

describe('a NIC plugged into Open vSwitch', () => {
  let ovs: TestSwitch

  before('an Open vSwitch with two bridges', async () => {
    ovs = await TestSwitch.start()
    await ovs.vsctl('add-br', 'br0', '--', 'add-br', 'br1')
  })
  after(() => ovs.close())

  const left = leavesNothing()
  let netlink: RtNetlink

  beforeEach(() => {
    netlink = left.own(RtNetlink.open())
  })
  afterEach('the switch has its bridges only', async () => {
    assert.equal(await ovs.vsctl('list-ports', 'br0', '--', 'list-ports', 'br1'), '')
  })

  const addTap = (): Tap => left.own(Tap.open({ ifname: 'vnp%d' }))

  async function addNic(which: number): Promise<PluggedNic> {
    const nic = left.own(await PluggedNic.open(macs[which]!, { tap: { ifname: 'vnp%d' } }))
    disableIpv6(nic.ifname)
    return nic
  }

  /** Taken back behind the test, if it was not before. */
  async function plug(
    { ifname, mac: its = mac, mtu }: { ifname: string; mac?: string; mtu?: number },
    options: Partial<OvsOptions> = {},
  ): Promise<Applied> {
    const applied = await Applied.of(
      await planOvs({ ifname, mac: its, mtu }, { bridge: 'br0', db: ovs.db, ...options }),
    )
    left.add(async () => assert.deepEqual((await applied.undo()).notUndone, []))
    return applied
  }

  const get = (table: 'Port' | 'Interface', ifname: string, ...columns: string[]): Promise<string> =>
    ovs.vsctl('get', table, ifname, ...columns)
  const datapath = (): Promise<string> => ovs.appctl('ovs-vswitchd', 'dpctl/show')

  it('is a port as libvirt writes it, and is none when that is taken back', async () => {
    const { ifname } = addTap()
    const before = netlink.getLink({ ifname })!
    const applied = await plug({ ifname }, { ifaceId: 'port-1', vmId: 'vm-1', portProfile: 'gold', tag: 7 })
    assert.equal(await ovs.vsctl('port-to-br', ifname), 'br0')
    assert.equal(await get('Port', ifname, 'tag', 'other_config'), '7\n{transient="true"}')
    assert.equal(
      await get('Interface', ifname, 'external_ids'),
      `{attached-mac="${mac}", iface-id=port-1, iface-status=active, port-profile=gold, vm-id=vm-1}`,
    )
    assert.ok(Number(await get('Interface', ifname, 'ofport')) > 0)
    assert.match(await datapath(), new RegExp(`port \\d+: ${ifname}\\n?`))
    const { up, mac: its } = netlink.getLink({ ifname })!
    assert.deepEqual({ up, its }, { up: true, its: 'fe:54:00:00:00:0a' })
    const [port, ...others] = (await listOvsPorts({ db: ovs.db })).filter((each) => each.ifname === ifname)
    assert.deepEqual(others, [])
    const { bridge, tag, owner, error, externalIds } = port!
    assert.deepEqual(
      { bridge, tag, owner, error, id: externalIds['iface-id'] },
      { bridge: 'br0', tag: 7, owner: 'this process', error: undefined, id: 'port-1' },
    )

    assert.deepEqual((await applied.undo()).notUndone, [])
    assert.equal(await ovs.vsctl('list-ports', 'br0'), '')
    assert.doesNotMatch(await datapath(), new RegExp(ifname))
    const after = netlink.getLink({ ifname })!
    assert.deepEqual([after.mac, after.mtu, after.up], [before.mac, before.mtu, before.up])
  })

  it('reaches the others, in the datapath of the kernel', async () => {
    const [a, b] = [await addNic(0), await addNic(1)]
    await plug(a)
    await plug(b)
    await a.send({ text: 'to all' })
    assert.deepEqual(await b.until('to all'), [{ text: 'to all' }])
    await b.send({ to: a.mac, text: 'to a' })
    assert.deepEqual(await a.until('to a'), [{ text: 'to a' }])
    // A later frame goes by the flow that the one before it has made.
    await b.send({ to: a.mac, text: 'to a again' })
    assert.deepEqual(await a.until('to a again'), [{ text: 'to a again' }])
    assert.match(await ovs.flows(), new RegExp(`eth\\(src=${b.mac},dst=${a.mac}\\).* packets:[1-9].* actions:\\d+`))
  })

  it('is in its VLANs: untagged at an access port, tagged on a trunk, untagged in its native VLAN', async () => {
    const [a, b, c] = [await addNic(0), await addNic(1), await addNic(2)]
    await plug(a, { tag: 42 })
    await plug(b, { tag: 7 })
    await plug(c, { trunks: [42, 43, 7], tag: 7, vlanMode: 'native-untagged' })
    assert.equal(await get('Port', c.ifname, 'tag', 'trunks', 'vlan_mode'), '7\n[7, 42, 43]\nnative-untagged')
    await keepToVlans({ access: a, other: b, trunk: c })
  })

  it('has the MTU that is asked for, and the former one when that is taken back', async () => {
    const { ifname } = addTap()
    const applied = await plug({ ifname, mtu: 1400 })
    assert.equal(await get('Interface', ifname, 'mtu_request'), '1400')
    assert.equal(netlink.getLink({ ifname })!.mtu, 1400)
    await applied.undo()
    assert.equal(netlink.getLink({ ifname })!.mtu, 1500)
  })

  it('is policed as it is asked for', async () => {
    const { ifname } = addTap()
    await plug({ ifname }, { ingressPolicingRate: 1000, ingressPolicingBurst: 100 })
    assert.equal(await get('Interface', ifname, 'ingress_policing_rate', 'ingress_policing_burst'), '1000\n100')
    const filters = execFileSync('tc', ['filter', 'show', 'dev', ifname, 'parent', 'ffff:'], { encoding: 'utf8' })
    assert.match(filters, /police .*rate 1Mbit/)
  })

  it('is left alone where it is as asked for, and made anew where this process asks for something else', async () => {
    const { ifname } = addTap()
    await plug({ ifname }, { ifaceId: 'port-1', tag: 7 })
    const id = await get('Port', ifname, '_uuid')
    // OVN, for one, writes there.
    await ovs.vsctl('set', 'Interface', ifname, 'external_ids:ovn-installed=true')
    assert.deepEqual((await plug({ ifname }, { ifaceId: 'port-1', tag: 7 })).changes, [])
    assert.equal(await get('Port', ifname, '_uuid'), id)
    const other = await plug({ ifname }, { ifaceId: 'port-1', tag: 8 })
    assert.equal(other.changes.length, 1)
    assert.equal(await get('Port', ifname, 'tag'), '8')
  })

  it('is removed by name where this package has made it, and else not', async () => {
    const [ours, theirs] = [addTap().ifname, addTap().ifname]
    await Applied.of(await planOvs({ ifname: ours, mac }, { bridge: 'br0', db: ovs.db, persistent: true }))
    assert.equal(await get('Port', ours, 'other_config'), '{}')
    await ovs.vsctl('add-port', 'br0', theirs, '--', 'set', 'Interface', theirs, 'external_ids:vm-id=theirs')
    left.add(() => ovs.vsctl('del-port', theirs))
    await assert.rejects(unplugOvs(theirs, { db: ovs.db }), { code: 'ERR_OVS_TAKEN', message: /vm-id theirs/ })
    assert.equal(await unplugOvs(ours, { db: ovs.db }), true)
    assert.equal(await unplugOvs(ours, { db: ovs.db }), false)
    assert.equal(await ovs.vsctl('list-ports', 'br0'), theirs)
  })

  it('that a killed process has left is removed by the next one, and nothing else is', async () => {
    const theirs = addTap().ifname
    await ovs.vsctl('add-port', 'br1', theirs)
    left.add(() => ovs.vsctl('del-port', theirs))
    const options = JSON.stringify({ bridge: 'br0', db: ovs.db, tag: 9 })
    const started = spawn(process.execPath, [child, 'vnpkilled', macs[1], options])
    left.add(() => kill(started))
    started.stderr.pipe(process.stderr)
    await once(started.stdout, 'data')
    const ports = async (): Promise<string[]> =>
      (await listOvsPorts({ db: ovs.db }))
        .filter(({ owner }) => owner)
        .map(({ ifname, owner }) => `${ifname}: ${owner}`)
    const { ifname } = addTap()
    const first = await plug({ ifname })
    assert.deepEqual(await ports(), [`${ifname}: this process`, 'vnpkilled: another process'].sort())
    await first.undo()
    await kill(started)
    assert.equal(netlink.getLink({ ifname: 'vnpkilled' }), undefined)
    assert.deepEqual(await ports(), ['vnpkilled: an ended process'])
    await plug({ ifname })
    assert.deepEqual(await ports(), [`${ifname}: this process`])
    assert.equal(await ovs.vsctl('list-ports', 'br1'), theirs)
  })

  it('that a killed process has left is taken over by one of its name', async () => {
    const options = JSON.stringify({ bridge: 'br1', db: ovs.db, tag: 9 })
    const started = spawn(process.execPath, [child, 'vnpkilled', macs[1], options])
    left.add(() => kill(started))
    started.stderr.pipe(process.stderr)
    await once(started.stdout, 'data')
    await kill(started)
    left.own(Tap.open({ ifname: 'vnpkilled' }))
    await plug({ ifname: 'vnpkilled' }, { tag: 10 })
    assert.equal(await ovs.vsctl('list-ports', 'br0', '--', 'list-ports', 'br1'), 'vnpkilled')
    assert.equal(await get('Port', 'vnpkilled', 'tag'), '10')
  })

  describe('refuses', () => {
    const link = { ifname: 'vnpt', mac }
    const refused = async (ifname: string, options: Partial<OvsOptions>, code: string, text: RegExp): Promise<void> => {
      const before = netlink.getLink({ ifname })!
      await assert.rejects(plug({ ifname }, options), (error: Error & { code?: string; cause?: unknown }) => {
        assert.ok(error.cause instanceof OvsError, String(error))
        assert.equal(error.code, code)
        assert.match(error.message, text)
        return true
      })
      const { mac, mtu, up, master } = netlink.getLink({ ifname })!
      assert.deepEqual([mac, mtu, up, master], [before.mac, before.mtu, before.up, before.master])
    }

    it('a bridge that is not there, and says which ones are', async () => {
      await refused(addTap().ifname, { bridge: 'br-int' }, 'ERR_OVS_BRIDGE', /has no bridge 'br-int'\n.*br0, br1/s)
    })

    it('a port of somebody else’s, in this bridge or in another', async () => {
      const { ifname } = addTap()
      await ovs.vsctl('add-port', 'br1', ifname, '--', 'set', 'Interface', ifname, 'external_ids:iface-id=theirs')
      left.add(() => ovs.vsctl('del-port', ifname))
      const taken = new RegExp(`port '${ifname}' of bridge 'br1' is of iface-id theirs\\n.*del-port ${ifname}`)
      await refused(ifname, {}, 'ERR_OVS_TAKEN', taken)
      await refused(ifname, { bridge: 'br1', tag: 3 }, 'ERR_OVS_TAKEN', taken)
      assert.equal(await ovs.vsctl('list-ports', 'br1'), ifname)
    })

    it('the name of a bridge', async () => {
      await refused('br1', {}, 'ERR_OVS_TAKEN', /is a bridge/)
    })

    it('a link that is in a bridge of the kernel’s, and takes the port back', async () => {
      const { ifname } = addTap()
      const bridge = netlink.addLink({ kind: 'bridge', ifname: 'vnpb' })
      left.add(() => netlink.deleteLink(bridge.index))
      ip('link', 'set', ifname, 'master', 'vnpb')
      await refused(ifname, {}, 'ERR_OVS_PORT', /Device or resource busy\)\n.*in no bridge/)
    })

    it('a link that is not there', async () => {
      await assert.rejects(plug(link), { name: 'PlugError', code: 'ERR_LINK_ABSENT' })
    })

    for (const [what, options, option, code] of [
      ['VLAN 5000', { tag: 5000 }, 'ovs.tag', 'ERR_OPTION_RANGE'],
      ['a VLAN in words', { tag: '7' }, 'ovs.tag', 'ERR_OPTION_TYPE'],
      ['VLAN 4096 of a trunk', { trunks: [1, 4096] }, 'ovs.trunks[1]', 'ERR_OPTION_RANGE'],
      ['an unknown mode', { vlanMode: 'x' }, 'ovs.vlanMode', 'ERR_OPTION_RANGE'],
      ['OVN without iface-id', { ovn: true }, 'ovs.ovn', 'ERR_OPTION_CONFLICT'],
      ['an unknown option', { ifaceID: 'x' }, 'ovs.ifaceID', 'ERR_OPTION_UNKNOWN'],
      ['a database in words of its own', { db: '/run/db.sock' }, 'ovs.db', 'ERR_OPTION_RANGE'],
      ['TLS without its files', { db: 'ssl:127.0.0.1' }, 'ovs.tls', 'ERR_OPTION_CONFLICT'],
    ] as const) {
      it(what, async () => {
        const plan = planOvs(link, { bridge: 'br0', ...options } as unknown as OvsOptions)
        await assert.rejects(plan, { name: 'InvalidOptionError', option, code })
      })
    }
  })

  describe('while its daemons', () => {
    const LIMIT = { timeoutMs: 3000 }

    it('hang: the port is given up in time, and is not left behind', async () => {
      const { ifname } = addTap()
      ovs.signal('ovs-vswitchd', 'SIGSTOP')
      try {
        await assert.rejects(plug({ ifname }, LIMIT), { code: 'ERR_OVS_TIMEOUT', message: /within 3000 ms/ })
      } finally {
        ovs.signal('ovs-vswitchd', 'SIGCONT')
      }
      assert.equal(await ovs.vsctl('list-ports', 'br0'), '')
    })

    it('do not answer: that is told of the database', async () => {
      const { ifname } = addTap()
      ovs.signal('ovsdb-server', 'SIGSTOP')
      try {
        await assert.rejects(plug({ ifname }, LIMIT), { code: 'ERR_OVSDB_TIMEOUT', message: /has not answered/ })
      } finally {
        ovs.signal('ovsdb-server', 'SIGCONT')
      }
    })

    it('restart: a port that is being added becomes one, and one that is there can be taken back', async () => {
      const [first, second] = [addTap().ifname, addTap().ifname]
      const applied = await plug({ ifname: first })
      ovs.signal('ovs-vswitchd', 'SIGSTOP')
      // It waits for the switch now, on a connection that ends.
      const plugging = plug({ ifname: second, mac: macs[1] }, { timeoutMs: 60_000 })
      await ovs.vsctl('--no-wait', '--timeout=30', 'wait-until', 'Port', second)
      await ovs.restartServer()
      ovs.signal('ovs-vswitchd', 'SIGCONT')
      await plugging
      assert.ok(Number(await get('Interface', second, 'ofport')) > 0)
      await applied.undo()
      assert.equal(await ovs.vsctl('list-ports', 'br0'), second)
    })
  })
})
