// A NIC on a macvtap, through vhost-net, to others on the link below and to whom that link is wired; iproute2 is the second
// opinion. Needs root.

import assert from 'node:assert/strict'
import { readdirSync, readFileSync, renameSync, statSync } from 'node:fs'
import { TUN_F } from '../../lib/abi/tun.ts'
import { InvalidOptionError, LinkError, type SystemCallError } from '../../lib/errors.ts'
import { openMacvtap } from '../../lib/host/macvtap.ts'
import { type MacvtapMode, RtNetlink } from '../../lib/host/rtnetlink.ts'
import { Tap } from '../../lib/host/tap.ts'
import { Applied } from '../../lib/network/apply.ts'
import { type MacvtapPlugOptions, planMacvtap } from '../../lib/network/macvtap.ts'
import { disableIpv6 } from '../support/bridge.ts'
import { leavesNothing } from '../support/leaves-nothing.ts'
import { PluggedNic } from '../support/plugged-nic.ts'
import { refused, refusedWithoutAdmin } from '../support/refused-plan.ts'
import { ip } from '../support/tuntap.ts'

const macs = ['52:54:00:00:00:0a', '52:54:00:00:00:0b', '52:54:00:00:00:0c'] as const
const MODES: readonly MacvtapMode[] = ['bridge', 'vepa', 'private', 'passthru']

describe('a NIC on a macvtap', () => {
  const left = leavesNothing()
  let netlink: RtNetlink
  let lower: string
  let far: string

  beforeEach(() => {
    netlink = left.own(RtNetlink.open())
    ;[lower, far] = ['vnml', 'vnmf']
    const { index } = netlink.addLink({ kind: 'veth', ifname: lower, peer: far })
    left.add(() => netlink.deleteLink(index))
    for (const ifname of [lower, far]) {
      disableIpv6(ifname)
      netlink.setLink(netlink.getLink({ ifname })!.index, { up: true })
    }
  })

  async function plug(which: number, options: MacvtapPlugOptions, mtu?: number): Promise<Applied> {
    const ifname = `vnm${which}`
    const applied = await Applied.of(await planMacvtap({ ifname, mac: macs[which]!, mtu }, options))
    left.add(async () => assert.deepEqual((await applied.undo()).notUndone, []))
    disableIpv6(ifname)
    return applied
  }

  async function addNic(which: number, options: MacvtapPlugOptions, queuePairs = 1): Promise<PluggedNic> {
    await plug(which, options)
    return left.own(await PluggedNic.open(macs[which]!, { macvtap: { ifname: `vnm${which}` } }, queuePairs))
  }

  const about = (ifname: string): { mac?: string; mtu: number; mode?: string; link?: string; up: boolean } => {
    const [link] = JSON.parse(ip('-d', '-j', 'link', 'show', 'dev', ifname))
    return {
      mac: link.address,
      mtu: link.mtu,
      mode: link.linkinfo?.info_data?.mode,
      link: link.link,
      up: link.flags.includes('UP') && link.flags.includes('ALLMULTI'),
    }
  }

  for (const mode of MODES) {
    it(`reaches, in mode ${mode}, whom the link below is wired to`, async () => {
      const [a, c] = [await addNic(0, { lower, mode }), await addNic(2, { lower: far })]
      assert.deepEqual(about(a.ifname), { mac: a.mac, mtu: 1500, mode, link: lower, up: true })
      assert.equal(about(lower).mac === a.mac, mode === 'passthru')
      await a.send({ to: c.mac, text: 'from a' })
      assert.deepEqual(await c.until('from a'), [{ text: 'from a' }])
      await c.send({ to: a.mac, text: 'from c' })
      assert.deepEqual(await a.until('from c'), [{ text: 'from c' }])
      await c.send({ text: 'to all' })
      await a.until('to all')
      await c.send({ to: '33:33:00:00:00:fb', text: 'to a group' })
      await a.until('to a group')
    })
  }

  for (const mode of ['bridge', 'vepa', 'private'] as const) {
    it(`${mode === 'bridge' ? 'reaches' : 'does not reach'}, in mode ${mode}, another on its own link`, async () => {
      const [a, b] = [await addNic(0, { lower, mode }), await addNic(1, { lower, mode })]
      const c = await addNic(2, { lower: far })
      await a.send({ to: b.mac, text: 'to b' })
      if (mode === 'bridge') assert.deepEqual(await b.until('to b'), [{ text: 'to b' }])
      // It went out by the wire, where nobody sends it back.
      await a.send({ text: 'to all' })
      await c.until('to all')
      await c.send({ to: b.mac, text: 'from c' })
      const came = (await b.until('from c')).map(({ text }) => text)
      assert.deepEqual(came, mode === 'bridge' ? ['to all', 'from c'] : ['from c'])
    })
  }

  it('has a queue for each pair, by fds that somebody else opened, too', async () => {
    const c = await addNic(2, { lower: far })
    await plug(0, { lower })
    const fds = [0, 1, 2].map(() => openMacvtap({ ifname: 'vnm0', multiQueue: true }).detach())
    const nic = left.own(await PluggedNic.open(macs[0], { fds }, 3))
    assert.deepEqual(
      nic.backend.inspect().pairs.map((pair) => statSync(`/proc/self/fd/${pair.fds!.tap}`).rdev),
      Array(3).fill(statSync(`/dev/tap${netlink.getLink({ ifname: 'vnm0' })!.index}`).rdev),
    )
    for (const pair of [0, 1, 2]) {
      await nic.send({ to: c.mac, text: `from pair ${pair}` }, pair)
      await c.until(`from pair ${pair}`)
    }
    await c.send({ to: nic.mac, text: 'to any pair' })
    await nic.until('to any pair')
    const { pairs, rxFilter } = nic.backend.inspect()
    assert.deepEqual(pairs[2]!.tap, { vnetHdrSz: 12, sndbuf: null })
    assert.deepEqual(rxFilter, { mode: 'all', why: null })
    nic.backend.setRxFilter({ promiscuous: false, allMulticast: false, unicast: [nic.mac], multicast: [] })
    assert.match(nic.backend.inspect().rxFilter.why!, /a macvtap takes no filter/)
  })

  it('goes over to another macvtap', async () => {
    const [a, c] = [await addNic(0, { lower }), await addNic(2, { lower: far })]
    await plug(1, { lower })
    await assert.rejects(a.backend.swapTap({ macvtap: { ifname: 'vnm0' } }), { option: 'macvtap.ifname' })
    await a.backend.swapTap({ macvtap: { ifname: 'vnm1' } })
    await c.send({ to: macs[1], text: 'to the other' })
    assert.deepEqual(await a.until('to the other'), [{ text: 'to the other' }])
  })

  it('knows whether its macvtap is switched on, or there', async () => {
    const a = await addNic(0, { lower })
    const heard: boolean[] = []
    let news = (): void => undefined
    const watch = left.own(a.backend.watchLink((up) => heard.push(up) && news()))
    const { index } = netlink.getLink({ ifname: a.ifname })!
    for (const change of [{ up: false }, { up: true }]) {
      const heardOf = new Promise<void>((resolve) => (news = resolve))
      netlink.setLink(index, change)
      await heardOf
    }
    const heardOf = new Promise<void>((resolve) => (news = resolve))
    netlink.deleteLink(index)
    await heardOf
    assert.deepEqual(heard, [true, false, true, false])
    assert.deepEqual(a.backend.inspect().pairs[0]!.tap, { error: 'ENOLINK' })
    watch.close()
  })

  it('is as it is to be already when it is asked for again, and is gone when it is taken back', async () => {
    const applied = await plug(0, { lower, mode: 'vepa' }, 1400)
    assert.deepEqual(about('vnm0'), { mac: macs[0], mtu: 1400, mode: 'vepa', link: lower, up: true })
    assert.deepEqual((await plug(0, { lower, mode: 'vepa' }, 1400)).changes, [])
    assert.deepEqual(applied.changes, [
      `make macvtap 'vnm0' on '${lower}', in mode vepa, with address ${macs[0]} and MTU 1400`,
      "have 'vnm0' take in all multicast",
      "set 'vnm0' up",
    ])
    assert.deepEqual((await applied.undo()).notUndone, [])
    assert.equal(netlink.getLink({ ifname: 'vnm0' }), undefined)
    assert.deepEqual((await applied.undo()).undone, [])
  })

  it('gives the link below its address back, of which passthru has taken it', async () => {
    const before = about(lower)
    const applied = await plug(0, { lower, mode: 'passthru' })
    assert.deepEqual((await plug(0, { lower, mode: 'passthru' })).changes, [])
    assert.equal(about(lower).mac, macs[0])
    await applied.undo()
    assert.deepEqual(about(lower), before)
  })

  it('knows which ioctls its queue has', async () => {
    await plug(0, { lower })
    const queue = left.own(openMacvtap({ ifname: 'vnm0' }))
    assert.equal(queue.macvtap, true)
    const copy = Tap.fromFd(queue.detach())
    left.own(copy)
    assert.equal(copy.macvtap, true)
    for (const call of [
      () => copy.getSndbuf(),
      () => copy.setTxFilter({ addresses: [] }),
      () => copy.getDevNetNs(),
      () => copy.setPersist(true),
    ]) {
      assert.throws(call, { name: 'SystemCallError', code: 'EINVAL' })
    }
    copy.setSndbuf(65_536)
    copy.setOffload(TUN_F.TUN_F_CSUM | TUN_F.TUN_F_TSO4)
    copy.setVnetHdrSz(12)
    assert.equal(copy.getVnetHdrSz(), 12)
  })

  describe('refuses', () => {
    const link = { ifname: 'vnm0', mac: macs[0] }

    it('a link below that is not there, or no Ethernet', async () => {
      const absent = refused(LinkError, 'ERR_LINK_ABSENT', /no link to be on, 'vnmx'/)
      await assert.rejects(planMacvtap(link, { lower: 'vnmx' }), absent)
      await assert.rejects(
        planMacvtap(link, { lower: 'lo' }),
        refused(LinkError, 'ERR_LINK_KIND', /'lo' is no Ethernet/),
      )
    })

    it('a name that is taken, whatever by, when it plans and when it plugs', async () => {
      const plan = await planMacvtap(link, { lower })
      await plug(0, { lower, mode: 'vepa' })
      const taken = refused(
        LinkError,
        'ERR_LINK_TAKEN',
        /a 'vnm0' already, which is in mode vepa\n {2}.*ip link delete vnm0/,
      )
      await assert.rejects(planMacvtap(link, { lower }), taken)
      await assert.rejects(
        planMacvtap({ ...link, ifname: far }, { lower }),
        refused(LinkError, 'ERR_LINK_TAKEN', /is a veth/),
      )
      await assert.rejects(Applied.of(plan), { name: 'PlugError', code: 'ERR_LINK_TAKEN', undone: [] })
    })

    it('a mode that there is none of', async () => {
      const plan = planMacvtap(link, { lower, mode: 'source' as 'bridge' })
      await assert.rejects(
        plan,
        refused(InvalidOptionError, 'ERR_OPTION_RANGE', /^mode: .*private, vepa, bridge, passthru/),
      )
    })

    it('an MTU over that of the link below, and its address', async () => {
      const over = refused(InvalidOptionError, 'ERR_OPTION_CONFLICT', /^mtu: 1501 is over 1500, that of 'vnml'/)
      await assert.rejects(planMacvtap({ ...link, mtu: 1501 }, { lower }), over)
      const same = refused(InvalidOptionError, 'ERR_OPTION_CONFLICT', /^mac: /)
      await assert.rejects(planMacvtap({ ...link, mac: netlink.getLink({ ifname: lower })!.mac! }, { lower }), same)
    })

    it('a link in a bridge, and passthru beside another', async () => {
      const bridge = netlink.addLink({ kind: 'bridge', ifname: 'vnmb' })
      left.add(() => netlink.deleteLink(bridge.index))
      const { index } = netlink.getLink({ ifname: lower })!
      netlink.setLink(index, { master: bridge.index })
      await assert.rejects(planMacvtap(link, { lower }), refused(LinkError, 'ERR_LINK_TAKEN', /is in 'vnmb' already/))
      netlink.setLink(index, { master: null })
      await plug(1, { lower })
      const beside = refused(LinkError, 'ERR_LINK_TAKEN', /has 'vnm1' on it already/)
      await assert.rejects(planMacvtap(link, { lower, mode: 'passthru' }), beside)
    })

    it('an unknown option', async () => {
      const plan = planMacvtap(link, { lower, dev: 'eth0' } as MacvtapPlugOptions)
      await assert.rejects(plan, { code: 'ERR_OPTION_UNKNOWN', option: 'dev' })
    })

    it('to make one without CAP_NET_ADMIN, with nothing changed', async () => {
      const plan = await planMacvtap(link, { lower })
      await refusedWithoutAdmin(() => Applied.of(plan))
      assert.equal(netlink.getLink({ ifname: 'vnm0' }), undefined)
    })

    it('to open one that is not there, or that is something else', () => {
      assert.throws(() => openMacvtap({ ifname: 'vnm0' }), refused(LinkError, 'ERR_LINK_ABSENT', /no macvtap 'vnm0'/))
      assert.throws(() => openMacvtap({ ifname: lower }), refused(LinkError, 'ERR_LINK_KIND', /'vnml' is a veth/))
    })

    it('a node that is not there, and says how it is made; and one of another', async () => {
      await plug(0, { lower })
      await plug(1, { lower })
      const [node, other] = [0, 1].map((which) => `/dev/tap${netlink.getLink({ ifname: `vnm${which}` })!.index}`)
      const [major, minor] = numbersOf('vnm0')
      renameSync(node!, '/dev/vnm-aside')
      left.add(() => renameSync('/dev/vnm-aside', node!))
      assert.throws(
        () => openMacvtap({ ifname: 'vnm0' }),
        (e: SystemCallError) => {
          assert.equal(e.code, 'ENOENT')
          assert.ok(e.hint?.endsWith(`mknod ${node} c ${major} ${minor}`), e.hint)
          return true
        },
      )
      const wrong = refused(
        LinkError,
        'ERR_LINK_KIND',
        new RegExp(`${other} is ${numbersOf('vnm1').join(':')}, of 'vnm1'`),
      )
      assert.throws(() => openMacvtap({ ifname: 'vnm0', path: other! }), wrong)
      openMacvtap({ ifname: 'vnm0', path: '/dev/vnm-aside' }).close()
    })

    it('to be a backend as a tap, and says how', async () => {
      await plug(0, { lower })
      const conflict = { code: 'ERR_OPTION_CONFLICT', hint: "Open it as { macvtap: { ifname: 'vnm0' } }." }
      await assert.rejects(PluggedNic.open(macs[0], { tap: { ifname: 'vnm0' } }), conflict)
      const both = PluggedNic.open(macs[0], { tap: { ifname: 'vnm0' }, macvtap: { ifname: 'vnm0' } })
      await assert.rejects(both, { code: 'ERR_OPTION_CONFLICT', option: 'macvtap' })
    })
  })

  /** As sysfs has them. */
  function numbersOf(ifname: string): string[] {
    const folder = `/sys/class/net/${ifname}`
    const tap = readdirSync(folder).find((name) => /^tap\d+$/.test(name))
    return readFileSync(`${folder}/${tap}/dev`, 'utf8').trim().split(':')
  }
})
