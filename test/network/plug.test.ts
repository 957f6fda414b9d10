// The door of the network room, and its commands, on real bridges of the kernel and of Open vSwitch. Needs root.

import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { exitCodeOf } from '../../lib/cli/exit-code.ts'
import { plug as plugCommand } from '../../lib/cli/plug.ts'
import { ports as portsCommand } from '../../lib/cli/ports.ts'
import { unplug as unplugCommand } from '../../lib/cli/unplug.ts'
import type { InvalidOptionError } from '../../lib/errors.ts'
import { RtNetlink, Tap } from '../../lib/host/index.ts'
import { listPorts, type PlugOptions, plug, unplug, type Where } from '../../lib/network/index.ts'
import { run } from '../support/command.ts'
import { leavesNothing } from '../support/leaves-nothing.ts'
import { TestSwitch } from '../support/ovs.ts'
import { PluggedNic } from '../support/plugged-nic.ts'

const mac = '52:54:00:00:00:0a'
const tapMac = 'fe:54:00:00:00:0a'

describe('plug', () => {
  const left = leavesNothing()
  let netlink: RtNetlink
  let ifname: string

  beforeEach(() => {
    netlink = left.own(RtNetlink.open())
    ifname = left.own(Tap.open({ ifname: 'vnp%d' })).ifname
  })

  function addBridge(): string {
    const { index, ifname } = netlink.addLink({ kind: 'bridge', ifname: 'vnpb', mac: '02:00:00:00:00:b0' })
    left.add(() => netlink.deleteLink(index))
    return ifname
  }
  const linkNow = (): unknown => {
    const { index, mac, mtu, up, master } = netlink.getLink({ ifname })!
    // The kernel's own queueing disciplines have no handle.
    const limits = netlink.listQdiscs(index).filter(({ handle }) => handle !== 0)
    return { mac, mtu, up, master, addresses: netlink.listAddresses(index), limits }
  }

  /** As it is plugged in, there already, and taken back. */
  async function goesThrough(where: Where, { bandwidth }: Pick<PlugOptions, 'bandwidth'> = {}): Promise<void> {
    const before = linkNow()
    const plan = await plug({ ifname, mac, mtu: 1400 }, where, { bandwidth, dryRun: true })
    assert.deepEqual(linkNow(), before)
    {
      await using plugged = await plug({ ifname, mac, mtu: 1400 }, where, { bandwidth })
      const { state, steps, link } = plugged.inspect()
      assert.equal(state, 'plugged')
      assert.deepEqual(
        steps,
        plan.map((text) => ({ text, changed: true })),
      )
      assert.deepEqual([link!.mac, link!.mtu, link!.up], [tapMac, 1400, true])
      const again = await plug({ ifname, mac, mtu: 1400 }, where, { bandwidth })
      assert.deepEqual(
        again.inspect().steps.map(({ changed }) => changed),
        plan.map(() => false),
      )
      await again.unplug()
      assert.deepEqual([netlink.getLink({ ifname })!.mtu, netlink.getLink({ ifname })!.up], [1400, true])
      const [port] = (await listPorts('ovs' in where ? { ovs: { db: where.ovs.db! } } : {})).filter(
        (each) => each.ifname === ifname,
      )
      assert.equal(port!.network!.kind, Object.keys(where)[0])
      assert.deepEqual(
        port!.users.map(({ pid }) => pid),
        [process.pid],
      )
    }
    assert.deepEqual(linkNow(), before)
  }

  it('says what it would do, does it, finds it done, and takes it back when it is disposed of', async () => {
    await goesThrough({ bridge: { bridge: addBridge() } })
  })

  it('does so where the host routes, and limits what goes through', async () => {
    const route = { addresses: ['192.0.2.1/24'], routes: ['198.51.100.7'], proxyArp: true }
    await goesThrough({ route }, { bandwidth: { inbound: { average: 1000 }, outbound: { average: 500 } } })
    await goesThrough({ bridge: { bridge: addBridge() } }, { bandwidth: { inbound: { average: 1000, peak: 2000 } } })
  })

  it('makes a macvtap, over which a NIC is opened then, and deletes it', async () => {
    const { index } = netlink.addLink({ kind: 'dummy', ifname: 'vnpd', mac: '02:00:00:00:00:d0' })
    left.add(() => netlink.deleteLink(index))
    const link = { ifname: 'vnpm', mac: '52:54:00:00:00:0B' }
    const where = { macvtap: { lower: 'vnpd' } } as const
    const plan = await plug(link, where, { dryRun: true })
    assert.equal(netlink.getLink({ ifname: 'vnpm' }), undefined)
    {
      await using plugged = await plug(link, where)
      assert.deepEqual(
        plugged.inspect().steps,
        plan.map((text) => ({ text, changed: true })),
      )
      assert.equal(plugged.inspect().link!.mac, '52:54:00:00:00:0b')
      const again = await plug(link, where)
      assert.ok(again.inspect().steps.every(({ changed }) => !changed))
      await again.unplug()
      const nic = await PluggedNic.open(link.mac, { macvtap: { ifname: 'vnpm' } })
      try {
        const port = (await listPorts()).find((each) => each.ifname === 'vnpm')!
        assert.deepEqual(port.network, { kind: 'macvtap', lower: 'vnpd', mode: 'bridge' })
      } finally {
        nic.close()
      }
    }
    assert.equal(netlink.getLink({ ifname: 'vnpm' }), undefined)
  })

  it('takes back what it has done when it is aborted', async () => {
    const bridge = addBridge()
    const before = linkNow()
    const reason = new Error('enough')
    const aborted = plug({ ifname, mac }, { bridge: { bridge } }, { signal: AbortSignal.abort(reason) })
    await assert.rejects(aborted, { name: 'PlugError', cause: reason })
    assert.deepEqual(linkNow(), before)
  })

  it('is undone by who did not do it, too', async () => {
    const bridge = addBridge()
    await plug({ ifname, mac }, { bridge: { bridge } })
    const steps = [`take '${ifname}' out of bridge '${bridge}'`]
    assert.deepEqual(await unplug(ifname, { dryRun: true }), steps)
    assert.ok(netlink.getLink({ ifname })!.master)
    assert.deepEqual(await unplug(ifname), steps)
    assert.equal(netlink.getLink({ ifname })!.master, undefined)
    assert.deepEqual(await unplug(ifname), [])
    await assert.rejects(unplug('vnpno'), { code: 'ERR_LINK_ABSENT' })
  })

  describe('refuses', () => {
    for (const [what, where, option, code] of [
      ['no network', {}, 'where', 'ERR_OPTION_RANGE'],
      ['two networks', { bridge: { bridge: 'a' }, ovs: { bridge: 'b' } }, 'where', 'ERR_OPTION_CONFLICT'],
      ['a network of another name', { brigde: {} }, 'where.brigde', 'ERR_OPTION_UNKNOWN'],
      ['a bridge that is no object', { bridge: 'br0' }, '', 'ERR_OPTION_TYPE'],
    ] as const) {
      it(what, async () => {
        const plugged = plug({ ifname, mac }, where as unknown as Where)
        await assert.rejects(plugged, { name: 'InvalidOptionError', code, ...(option === '' ? {} : { option }) })
      })
    }

    for (const [where, bandwidth, hint] of [
      [{ ovs: { bridge: 'a' } }, { outbound: { average: 125 } }, /ingressPolicingRate: 1000 /],
      [{ ovs: { bridge: 'a' } }, { inbound: { average: 125 } }, /table QoS/],
      [{ macvtap: { lower: 'a' } }, { inbound: { average: 125 } }, /link below/],
    ] as const) {
      it(`a limit of what goes ${Object.keys(bandwidth)[0]} by ${Object.keys(where)[0]}, and says the way`, async () => {
        const plugged = plug({ ifname, mac }, where, { bandwidth })
        const refused = { code: 'ERR_OPTION_CONFLICT', option: 'bandwidth' }
        await assert.rejects(plugged, (error: InvalidOptionError) => {
          assert.match(error.hint!, hint)
          assert.deepEqual({ code: error.code, option: error.option }, refused)
          return true
        })
      })
    }

    it('what is no address, no name, and no MTU', async () => {
      const where = { bridge: { bridge: 'vnpb' } }
      for (const [link, option] of [
        [{ ifname, mac: 'x' }, 'mac'],
        [{ ifname: 'a/b', mac }, 'ifname'],
        [{ ifname, mac, mtu: 67 }, 'mtu'],
      ] as const) {
        await assert.rejects(plug(link, where), { name: 'InvalidOptionError', option })
      }
    })
  })

  describe('by its commands', () => {
    it('plugs into a bridge, lists it, and unplugs', async () => {
      const bridge = addBridge()
      const done = await run('plug', ifname, `bridge:${bridge},isolated=on`, '--mac', mac)
      assert.equal(done.code, 0, done.stderr)
      assert.match(done.stdout, new RegExp(`^done +put '${ifname}' into bridge '${bridge}'$`, 'm'))
      const listed = await run('ports')
      assert.equal(listed.code, 0, listed.stderr)
      const line = new RegExp(`^${ifname} +tap .* bridge:${bridge}, isolated +\\S+\\(${process.pid}\\)$`, 'm')
      assert.match(listed.stdout, line)
      const out = await run('unplug', ifname, '--json')
      assert.deepEqual(JSON.parse(out.stdout), { ifname, steps: [`take '${ifname}' out of bridge '${bridge}'`] })
      assert.equal(netlink.getLink({ ifname })!.master, undefined)
    })

    it('gives the host an address on it, and limits it', async () => {
      const words = 'route,address=192.0.2.1/24,address=2001:db8::1/64,inbound=1000:2000:64'
      const done = await run('plug', ifname, words, '--mac', mac)
      assert.equal(done.code, 0, done.stderr)
      assert.match(done.stdout, /^done +limit what goes to .* 1000 kB\/s, 2000 kB\/s for 65536 bytes$/m)
      const listed = await run('ports')
      assert.match(listed.stdout, new RegExp(`^${ifname} +tap .* route:192.0.2.1/24 2001:db8::1/64 `, 'm'))
    })

    it('says what is wrong, with exit code 2 for words and 1 for the network', async () => {
      for (const [command, words, code, message] of [
        [plugCommand, [ifname, 'bridge:vnpno', '--mac', mac], 1, /there is no bridge 'vnpno'/],
        [plugCommand, [ifname, 'brigde:br0', '--mac', mac], 2, /Did you mean 'bridge:'/],
        [plugCommand, [ifname, 'bridge:br0'], 2, /--mac is missing/],
        [plugCommand, [ifname, 'bridge:br0,vlan=5000', '--mac', mac], 2, /5000/],
        [plugCommand, [ifname, 'ovs:br0,outbound=125', '--mac', mac], 2, /ingressPolicingRate: 1000/],
        [plugCommand, [ifname], 2, /WHERE/],
        [unplugCommand, [], 2, /IFNAME/],
        [unplugCommand, ['vnpno'], 1, /there is no link 'vnpno'/],
        [portsCommand, ['--jsn'], 2, /did you mean '--json'/],
        [portsCommand, ['--db', 'unix:/no/such'], 1, /no OVSDB server at unix:\/no\/such/],
      ] as const) {
        await assert.rejects(command.run(words), (error: Error) => {
          assert.match(error.message, message)
          assert.equal(exitCodeOf(error), code)
          return true
        })
      }
    })
  })

  describe('into Open vSwitch', () => {
    let ovs: TestSwitch

    before(async () => {
      ovs = await TestSwitch.start()
      await ovs.vsctl('add-br', 'br0')
    })
    after(() => ovs.close())

    it('says what it would do, does it, finds it done, and takes it back when it is disposed of', async () => {
      await goesThrough({ ovs: { bridge: 'br0', db: ovs.db, tag: 7 } })
      assert.equal(await ovs.vsctl('list-ports', 'br0'), '')
    })

    it('is refused as a bridge of the kernel’s, and the remedy is told', async () => {
      const wrong = plug({ ifname, mac }, { bridge: { bridge: 'br0' } })
      await assert.rejects(wrong, {
        code: 'ERR_LINK_KIND',
        message: /bridge of Open vSwitch.*\n.*\{ ovs: \{ bridge: 'br0' \} \}/,
      })
    })

    it('by its commands stays when they have ended, is listed, and is unplugged', async () => {
      const words = ['plug', ifname, `ovs:br0,db=${ovs.db},tag=7,iface-id=port-1`, '--mac', mac]
      const done = await run(...words)
      assert.equal(done.code, 0, done.stderr)
      assert.match(done.stdout, /^done +add port .*tag=7 .*iface-id=port-1/m)
      assert.equal(await ovs.vsctl('get', 'Port', ifname, 'tag'), '7')
      const listed = await run('ports', '--db', ovs.db, '--json')
      const port = (JSON.parse(listed.stdout) as { ifname: string; network: object }[]).find(
        (each) => each.ifname === ifname,
      )
      const { kind, bridge, tag, owner } = port!.network as Record<string, unknown>
      assert.deepEqual({ kind, bridge, tag, owner }, { kind: 'ovs', bridge: 'br0', tag: 7, owner: 'persistent' })
      const out = await run('unplug', ifname, '--db', ovs.db)
      assert.deepEqual([out.code, out.stdout], [0, `remove port '${ifname}' from Open vSwitch\n`])
      assert.equal(await ovs.vsctl('list-ports', 'br0'), '')
      assert.ok(existsSync(`/sys/class/net/${ifname}`))
    })
  })
})
