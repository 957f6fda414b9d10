// A NIC as a logical port of a real OVN: ovn-northd, ovn-controller, and the kernel's datapath. Needs root.

import assert from 'node:assert/strict'
import { setTimeout } from 'node:timers/promises'
import { OvsError, type PlugError } from '../../lib/errors.ts'
import { RtNetlink, Tap } from '../../lib/host/index.ts'
import { type OvsOptions, type Plugged, plug } from '../../lib/network/index.ts'
import { listOvsPorts } from '../../lib/network/ovs.ts'
import { disableIpv6 } from '../support/bridge.ts'
import { leavesNothing } from '../support/leaves-nothing.ts'
import { CHASSIS, INTEGRATION_BRIDGE, OTHER, TestOvn } from '../support/ovn.ts'
import { PluggedNic } from '../support/plugged-nic.ts'

const macs = ['52:54:00:00:00:0a', '52:54:00:00:00:0b'] as const
const [mac] = macs
const vmId = '6f2a3f0e-9d6f-4e0c-8f39-3f6d2b1c7a55'

/** For what does not come to be, in which a port is added all the same. */
const LIMIT_MS = 2000

describe('a NIC plugged into OVN', () => {
  let ovn: TestOvn

  before('a logical switch with three ports', async () => {
    ovn = await TestOvn.start()
    await ovn.addSwitch('sw0', { p0: macs[0], p1: macs[1], p2: '52:54:00:00:00:0c' })
  })
  after(() => ovn.close())

  const left = leavesNothing()
  let netlink: RtNetlink

  beforeEach(() => {
    netlink = left.own(RtNetlink.open())
  })

  const made = async (): Promise<unknown[]> =>
    (await listOvsPorts({ db: ovn.ovs.db })).filter(({ owner }) => owner !== undefined)

  async function addNic(which: 0 | 1): Promise<PluggedNic> {
    const nic = left.own(await PluggedNic.open(macs[which], { tap: { ifname: 'vnp%d' } }))
    disableIpv6(nic.ifname)
    return nic
  }

  /** Taken back behind the test, if it was not before. */
  async function bind(
    ifname: string,
    its: string,
    ifaceId: string,
    options: Partial<OvsOptions> = {},
  ): Promise<Plugged> {
    const ovs = { bridge: INTEGRATION_BRIDGE, db: ovn.ovs.db, ifaceId, ovn: true, timeoutMs: 60_000, ...options }
    const plugged = await plug({ ifname, mac: its }, { ovs })
    left.add(() => plugged.unplug())
    return plugged
  }

  /** Asks all again and again, as guests do by ARP: that a port's own flows are there does not say that it is asked, too. */
  async function asks(from: PluggedNic, to: PluggedNic): Promise<void> {
    const signal = AbortSignal.timeout(60_000)
    do {
      await from.send({ text: 'to all' })
      await setTimeout(200, undefined, { signal })
    } while (!to.taken().some(({ text }) => text === 'to all'))
  }

  it('reaches the others of its logical switch', async () => {
    const [a, b] = [await addNic(0), await addNic(1)]
    await bind(a.ifname, a.mac, 'p0')
    await bind(b.ifname, b.mac, 'p1')
    await asks(a, b)
    await b.send({ to: a.mac, text: 'to a' })
    assert.deepEqual(await a.until('to a'), [{ text: 'to a' }])
    // A later frame goes by the flow that the one before it has made.
    await b.send({ to: a.mac, text: 'to a again' })
    assert.deepEqual(await a.until('to a again'), [{ text: 'to a again' }])
    assert.match(await ovn.ovs.flows(), new RegExp(`eth\\(src=${b.mac},dst=${a.mac}\\).* packets:[1-9].* actions:\\d+`))
  })

  it('is bound by what libvirt writes of it, and released when it is unplugged', async () => {
    const { ifname } = left.own(Tap.open({ ifname: 'vnp%d' }))
    const plugged = await bind(ifname, mac, 'p0', { vmId })
    assert.equal(await ovn.chassisOf('p0'), CHASSIS)
    await ovn.untilUp('p0', true)
    const ids = await ovn.ovs.vsctl('get', 'Interface', ifname, 'external_ids')
    const libvirts = `attached-mac="${mac}", iface-id=p0, iface-status=active`
    const ovns = 'ovn-installed="true", ovn-installed-ts="\\d+"'
    assert.match(ids, new RegExp(`^\\{${libvirts}, ${ovns}, vm-id="${vmId}"\\}$`))
    const steps = plugged.inspect().steps
    assert.deepEqual(steps.at(-1), { text: `wait until OVN has bound 'p0' to port '${ifname}'`, changed: false })

    await plugged.unplug()
    await ovn.untilUp('p0', false)
    assert.equal(await ovn.chassisOf('p0'), undefined)
  })

  describe('that OVN does not bind is refused, with what is missing:', () => {
    /** All is as it was then. */
    async function unbound(ifaceId: string, problem: RegExp, hint: RegExp, bridge?: string): Promise<void> {
      const { ifname } = left.own(Tap.open({ ifname: 'vnp%d' }))
      const linkNow = (): unknown => {
        const { mac, mtu, up, master } = netlink.getLink({ ifname })!
        return { mac, mtu, up, master }
      }
      const before = linkNow()
      const options = { timeoutMs: LIMIT_MS, ...(bridge === undefined ? {} : { bridge }) }
      await assert.rejects(bind(ifname, mac, ifaceId, options), (error: PlugError) => {
        assert.ok(error.cause instanceof OvsError, String(error))
        assert.equal(error.code, 'ERR_OVN_UNBOUND')
        assert.ok(error.message.includes(`'${ifaceId}' to port '${ifname}' within ${LIMIT_MS} ms`), error.message)
        assert.match(error.message, problem)
        assert.match(error.hint ?? '', hint)
        assert.deepEqual(error.notUndone, [])
        return true
      })
      assert.deepEqual(linkNow(), before)
      assert.deepEqual(await made(), [])
    }

    it('a logical port of that name', async () => {
      await unbound('p9', /OVN has no logical port 'p9'/, /ovn-nbctl lsp-add SWITCH p9/)
    })

    it('an answer of ovn-controller', async () => {
      ovn.ovs.signal(CHASSIS, 'SIGSTOP')
      try {
        await unbound('p0', /ovn-controller 'hv1' has not claimed it/, /Is ovn-controller running/)
      } finally {
        ovn.ovs.signal(CHASSIS, 'SIGCONT')
      }
    })

    it('ovn-controller, which was ended', async () => {
      await ovn.ovs.end(CHASSIS)
      try {
        await unbound('p0', /no ovn-controller is known as 'hv1'/, /Is ovn-controller running/)
      } finally {
        await ovn.startController()
      }
    })

    it('the southbound database', async () => {
      ovn.ovs.signal('central', 'SIGSTOP')
      try {
        await unbound('p0', /southbound database cannot be asked why: .* has not answered/, /Is ovn-central running/)
      } finally {
        ovn.ovs.signal('central', 'SIGCONT')
      }
    })

    it('the bridge that ovn-controller looks at', async () => {
      const problem = /the port is in bridge 'br-hv2', and ovn-controller looks at 'br-int' only/
      await unbound('p0', problem, /Plug it into br-int/, OTHER.bridge)
    })

    it('its being for this host: it is another one’s, and bound there', async () => {
      await ovn.startController(OTHER.chassis)
      await ovn.nbctl('lsp-set-options', 'p2', `requested-chassis=${OTHER.chassis}`)
      const its = ['type=internal', 'external_ids:iface-id=p2']
      await ovn.ovs.vsctl('add-port', OTHER.bridge, 'vnpo', '--', 'set', 'Interface', 'vnpo', ...its)
      try {
        await ovn.untilUp('p2', true)
        const problem = /it is for 'hv2' only, and bound on 'hv2'/
        await unbound('p2', problem, /ovn-nbctl set Logical_Switch_Port p2 options:requested-chassis=hv1/)
      } finally {
        await ovn.ovs.vsctl('del-port', 'vnpo')
        await ovn.ovs.end(OTHER.chassis)
      }
    })
  })
})
