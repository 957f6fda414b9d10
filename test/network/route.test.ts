// A NIC on a tap that the host routes to, through vhost-net: the host's own stack is at the other end, and iproute2 the second
// opinion. Needs root.

import assert from 'node:assert/strict'
import { createSocket, type Socket } from 'node:dgram'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { setImmediate } from 'node:timers/promises'
import { parseMac } from '../../lib/address.ts'
import { LinkError } from '../../lib/errors.ts'
import { readKernelFile } from '../../lib/host/kernel-file.ts'
import { RtNetlink } from '../../lib/host/rtnetlink.ts'
import { Applied } from '../../lib/network/apply.ts'
import { planRoute, type RouteOptions } from '../../lib/network/route.ts'
import { disableIpv6 } from '../support/bridge.ts'
import { leavesNothing } from '../support/leaves-nothing.ts'
import { build } from '../support/packets.ts'
import { PluggedNic } from '../support/plugged-nic.ts'
import { refused, refusedWithoutAdmin } from '../support/refused-plan.ts'
import { ip } from '../support/tuntap.ts'

const MAC = '52:54:00:00:00:0a'
const TAP_MAC = 'fe:54:00:00:00:0a'
const [ARP, IPV4] = [0x0806, 0x0800]
const REQUEST = 1
const REPLY = 2

const bytesOf = (address: string): Uint8Array => Uint8Array.from(address.split('.').map(Number))

/** RFC 826, from the guest. */
function arp(operation: number, from: string, to: string, toMac = 'ff:ff:ff:ff:ff:ff'): Buffer {
  const frame = Buffer.alloc(60)
  frame.set(parseMac(toMac, 'to'), 0)
  frame.set(parseMac(MAC, 'from'), 6)
  frame.writeUInt16BE(ARP, 12)
  frame.set([0, 1, 8, 0, 6, 4, 0, operation], 14)
  frame.set(parseMac(MAC, 'from'), 22)
  frame.set(bytesOf(from), 28)
  if (operation === REPLY) frame.set(parseMac(toMac, 'to'), 32)
  frame.set(bytesOf(to), 38)
  return frame
}

describe('a NIC on a tap that the host routes to', () => {
  const left = leavesNothing()
  let netlink: RtNetlink

  beforeEach(() => {
    netlink = left.own(RtNetlink.open())
  })

  async function addNic(): Promise<PluggedNic> {
    const nic = left.own(await PluggedNic.open(MAC, { tap: { ifname: 'vnr%d' } }))
    disableIpv6(nic.ifname)
    return nic
  }

  async function plug(nic: PluggedNic, options: RouteOptions, mtu?: number): Promise<Applied> {
    return Applied.of(await planRoute({ ifname: nic.ifname, mac: MAC, mtu }, options))
  }

  async function udp(): Promise<Socket> {
    const socket = left.own(createSocket('udp4'))
    socket.bind(0)
    await once(socket, 'listening')
    return socket
  }

  /** The next frame of that type that is so; each ARP request for `address` before it is answered. */
  async function frameOf(
    nic: PluggedNic,
    type: number,
    isIt: (frame: Buffer) => boolean,
    address?: string,
  ): Promise<Buffer> {
    const port = nic.ports[0]!
    const signal = AbortSignal.timeout(20_000)
    for (;;) {
      for (let frame = port.receive(); frame !== undefined; frame = port.receive()) {
        const bytes = Buffer.from(frame.bytes)
        const isRequest = bytes.readUInt16BE(12) === ARP && bytes.readUInt16BE(20) === REQUEST
        if (address !== undefined && isRequest && bytes.subarray(38, 42).equals(bytesOf(address))) {
          await port.send(arp(REPLY, address, [...bytes.subarray(28, 32)].join('.'), TAP_MAC))
        } else if (bytes.readUInt16BE(12) === type && isIt(bytes)) return bytes
      }
      signal.throwIfAborted()
      await setImmediate()
    }
  }

  /** Who answers the guest's ARP request for it. */
  async function whoHas(nic: PluggedNic, from: string, address: string): Promise<string> {
    await nic.ports[0]!.send(arp(REQUEST, from, address))
    const isReply = (frame: Buffer): boolean =>
      frame.readUInt16BE(20) === REPLY && frame.subarray(28, 32).equals(bytesOf(address))
    const frame = await frameOf(nic, ARP, isReply)
    return [...frame.subarray(22, 28)].map((byte) => byte.toString(16).padStart(2, '0')).join(':')
  }

  const routesBy = (ifname: string, family = '-4'): string[] =>
    (JSON.parse(ip(family, '-j', 'route', 'show', 'dev', ifname)) as { dst: string; protocol?: string }[])
      .filter(({ dst }) => !/^(fe80|ff00)/.test(dst))
      .map(({ dst, protocol = 'boot' }) => `${dst} ${protocol}`)
      .sort()

  const addressesOf = (ifname: string): string[] => {
    const [link] = JSON.parse(ip('-j', 'address', 'show', 'dev', ifname)) as [
      { addr_info: { local: string; prefixlen: number }[] },
    ]
    return link.addr_info.map(({ local, prefixlen }) => `${local}/${prefixlen}`)
  }

  const proxyArp = (ifname: string): string => readKernelFile(`/proc/sys/net/ipv4/conf/${ifname}/proxy_arp`).trim()

  it('is reached by the host, and reaches it, by its own address and by one that is routed to it', async () => {
    const nic = await addNic()
    await plug(nic, { addresses: ['192.0.2.1/24'], routes: ['198.51.100.7'] })
    assert.equal(netlink.getLink({ ifname: nic.ifname })!.mac, TAP_MAC)
    const socket = await udp()
    for (const address of ['192.0.2.2', '198.51.100.7']) {
      socket.send(`to ${address}`, 2000, address)
      const isIt = (frame: Buffer): boolean => frame.toString('latin1').includes(`to ${address}`)
      const frame = await frameOf(nic, IPV4, isIt, address)
      assert.deepEqual([...frame.subarray(26, 34)].join('.'), `192.0.2.1.${address}`)
      const came = once(socket, 'message')
      const { port: destinationPort } = socket.address()
      const { frame: answer } = build({
        protocol: 'udp',
        payload: Buffer.from(`from ${address}`),
        sourceMac: MAC,
        destinationMac: TAP_MAC,
        source: address,
        destination: '192.0.2.1',
        destinationPort,
      })
      await nic.ports[0]!.send(answer)
      const [message, from] = await came
      assert.deepEqual([String(message), from.address], [`from ${address}`, address])
    }
    assert.equal(await whoHas(nic, '192.0.2.2', '192.0.2.1'), TAP_MAC)
  })

  it('is answered by the host for what is elsewhere, with proxyArp', async () => {
    const { index } = netlink.addLink({ kind: 'dummy', ifname: 'vnrd' })
    left.add(() => netlink.deleteLink(index))
    disableIpv6('vnrd')
    netlink.setLink(index, { up: true })
    netlink.addAddress(index, { address: '203.0.113.1', prefixLength: 24 })
    const nic = await addNic()
    // The kernel answers for another link's addresses only where it forwards (arp_process in net/ipv4/arp.c).
    const forwarding = '/proc/sys/net/ipv4/ip_forward'
    const before = readKernelFile(forwarding).trim()
    left.add(() => writeFileSync(forwarding, before))
    writeFileSync(forwarding, '1')
    const applied = await plug(nic, { routes: ['192.0.2.2'], proxyArp: true })
    assert.equal(proxyArp(nic.ifname), '1')
    assert.equal(await whoHas(nic, '192.0.2.2', '203.0.113.9'), TAP_MAC)
    await applied.undo()
    assert.equal(proxyArp(nic.ifname), '0')
  })

  it('has what is asked for, of IPv6, too, and is as it was when that is taken back', async () => {
    const nic = await addNic()
    const before = netlink.getLink({ ifname: nic.ifname })!
    writeFileSync(`/proc/sys/net/ipv6/conf/${nic.ifname}/disable_ipv6`, '0')
    ip('link', 'set', nic.ifname, 'addrgenmode', 'none')
    const options = {
      addresses: ['192.0.2.1/31', '2001:db8::1/64'],
      routes: ['198.51.100.0/24', '2001:db8:1::/64', '2001:db8:2::5'],
      proxyArp: false,
    }
    const applied = await plug(nic, options, 1400)
    assert.deepEqual(addressesOf(nic.ifname), ['192.0.2.1/31', '2001:db8::1/64'])
    assert.deepEqual(routesBy(nic.ifname), ['192.0.2.0/31 kernel', '198.51.100.0/24 boot'])
    assert.deepEqual(routesBy(nic.ifname, '-6'), ['2001:db8:1::/64 boot', '2001:db8:2::5 boot', '2001:db8::/64 kernel'])
    assert.equal(netlink.getLink({ ifname: nic.ifname })!.mtu, 1400)
    assert.deepEqual((await plug(nic, options, 1400)).changes, [])
    assert.deepEqual(applied.changes, [
      `give '${nic.ifname}' an address that goes by the guest's, if it is a tap`,
      `set the MTU of '${nic.ifname}' to 1400`,
      `give the host the address 192.0.2.1/31 on '${nic.ifname}'`,
      `give the host the address 2001:db8::1/64 on '${nic.ifname}'`,
      `set '${nic.ifname}' up`,
      `route 198.51.100.0/24 to '${nic.ifname}'`,
      `route 2001:db8:1::/64 to '${nic.ifname}'`,
      `route 2001:db8:2::5/128 to '${nic.ifname}'`,
    ])
    assert.deepEqual((await applied.undo()).notUndone, [])
    const { mac, mtu, up } = netlink.getLink({ ifname: nic.ifname })!
    assert.deepEqual({ mac, mtu, up }, { mac: before.mac, mtu: 1500, up: false })
    assert.deepEqual([addressesOf(nic.ifname), routesBy(nic.ifname), routesBy(nic.ifname, '-6')], [[], [], []])
  })

  it('goes with its tap, and what somebody else has taken away is not missed', async () => {
    const nic = await addNic()
    const applied = await plug(nic, { addresses: ['192.0.2.1/24'], routes: ['198.51.100.7'], proxyArp: true })
    ip('route', 'delete', '198.51.100.7', 'dev', nic.ifname)
    ip('address', 'delete', '192.0.2.1/24', 'dev', nic.ifname)
    assert.deepEqual((await applied.undo()).notUndone, [])
    const again = await plug(nic, { addresses: ['192.0.2.1/24'], routes: ['198.51.100.7'], proxyArp: true })
    nic.close()
    assert.deepEqual((await again.undo()).notUndone, [])
  })

  describe('refuses', () => {
    it('a route that is by another link, when it plans and when it plugs, and takes back what came before', async () => {
      const a = await addNic()
      const b = await addNic()
      const plan = await planRoute(
        { ifname: b.ifname, mac: MAC },
        { addresses: ['192.0.2.9/32'], routes: ['198.51.100.7'] },
      )
      await plug(a, { routes: ['198.51.100.7'] })
      const text = new RegExp(
        `route to 198.51.100.7/32 already, by '${a.ifname}'\n.*ip route delete 198.51.100.7/32 dev ${a.ifname}`,
      )
      await assert.rejects(plug(b, { routes: ['198.51.100.7/32'] }), refused(LinkError, 'ERR_LINK_TAKEN', text))
      await assert.rejects(Applied.of(plan), { name: 'PlugError', code: 'ERR_LINK_TAKEN', notUndone: [] })
      assert.deepEqual(addressesOf(b.ifname), [])
    })

    it('a link that is not there when it is plugged in', async () => {
      const plan = await planRoute({ ifname: 'vnrx', mac: MAC }, { routes: ['198.51.100.7'] })
      await assert.rejects(Applied.of(plan), { code: 'ERR_LINK_ABSENT' })
    })

    it('to change anything without CAP_NET_ADMIN', async () => {
      const nic = await addNic()
      const plan = await planRoute({ ifname: nic.ifname, mac: MAC }, { addresses: ['192.0.2.1/24'] })
      await refusedWithoutAdmin(() => Applied.of(plan))
      assert.deepEqual(addressesOf(nic.ifname), [])
    })

    for (const [what, options, option, code] of [
      ['nothing', {}, 'routes', 'ERR_OPTION_CONFLICT'],
      ['an address without a prefix', { addresses: ['192.0.2.1'] }, 'addresses[0]', 'ERR_OPTION_RANGE'],
      ['a prefix that is too long', { addresses: ['192.0.2.1/33'] }, 'addresses[0]', 'ERR_OPTION_RANGE'],
      ['a prefix in words', { routes: ['192.0.2.1/x'] }, 'routes[0]', 'ERR_OPTION_RANGE'],
      ['two prefixes', { routes: ['192.0.2.1/24/24'] }, 'routes[0]', 'ERR_OPTION_RANGE'],
      ['a route with bits behind its prefix', { routes: ['::', '192.0.2.1/24'] }, 'routes[1]', 'ERR_OPTION_RANGE'],
      ['what is no address', { routes: ['guest'] }, 'routes[0]', 'ERR_OPTION_RANGE'],
      ['a single route', { routes: '192.0.2.1' }, 'routes', 'ERR_OPTION_TYPE'],
      ['proxyArp by a number', { routes: ['192.0.2.1'], proxyArp: 1 }, 'proxyArp', 'ERR_OPTION_TYPE'],
      ['an unknown option', { route: [] }, 'route', 'ERR_OPTION_UNKNOWN'],
    ] as const) {
      it(what, async () => {
        const plan = planRoute({ ifname: 'vnrx', mac: MAC }, options as unknown as RouteOptions)
        await assert.rejects(plan, { name: 'InvalidOptionError', option, code })
      })
    }
  })
})
