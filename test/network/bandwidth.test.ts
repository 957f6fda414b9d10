// What a guest's traffic is limited to, through vhost-net; tc, as libvirt calls it, is the second opinion, and a clock the third.
// Needs root.

import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { createSocket, type Socket } from 'node:dgram'
import { once } from 'node:events'
import { performance } from 'node:perf_hooks'
import { setImmediate } from 'node:timers/promises'
import type { LinkError } from '../../lib/errors.ts'
import { RtNetlink } from '../../lib/host/rtnetlink.ts'
import { Applied } from '../../lib/network/apply.ts'
import { type BandwidthOptions, planBandwidth } from '../../lib/network/bandwidth.ts'
import { planRoute } from '../../lib/network/route.ts'
import { disableIpv6 } from '../support/bridge.ts'
import { leavesNothing } from '../support/leaves-nothing.ts'
import { build } from '../support/packets.ts'
import { PluggedNic } from '../support/plugged-nic.ts'
import { refusedWithoutAdmin } from '../support/refused-plan.ts'

const MAC = '52:54:00:00:00:0a'
const TAP_MAC = 'fe:54:00:00:00:0a'
const HOST = '192.0.2.1'
const GUEST = '192.0.2.2'
/** Of UDP, IPv4 and Ethernet, by which the one counts what goes to the guest. */
const HEADERS = 42
/** What comes from it is counted once this is off: sch_handle_ingress in net/core/dev.c. */
const ETHERNET_HEADER = 14
const PAYLOAD = 958

function tc(...args: string[]): string {
  return execFileSync('tc', args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] })
}

/** All that tc tells, without the kernel's own disciplines, the link's name, and what it counts. */
function limitsOf(ifname: string): string[] {
  const objects = [
    ['qdisc', 'show', 'dev', ifname],
    ['class', 'show', 'dev', ifname],
    ['filter', 'show', 'dev', ifname, 'ingress'],
  ]
  return objects
    .flatMap((args) => tc('-d', ...args).split('\n'))
    .map((line) =>
      line
        .replaceAll(ifname, 'LINK')
        .replace(/ (not_in_hw|action order.*)|police 0x\w+/g, '')
        .trim(),
    )
    .filter((line) => line !== '' && !/^(qdisc (noop|noqueue|mq|pfifo_fast|fq_codel|fq) 0:|class mq )/.test(line))
    .map((line) => line.replace(/direct_packets_stat \d+/, ''))
}

/** As virNetDevBandwidthSet of libvirt calls it, but for its quantum. */
function likeLibvirt(ifname: string, { inbound, outbound }: BandwidthOptions): void {
  if (inbound !== undefined) {
    const { average, peak, burst } = inbound
    const rates = [
      'rate',
      `${average}kbps`,
      ...(peak ? ['ceil', `${peak}kbps`] : []),
      ...(burst ? ['burst', `${burst}kb`] : []),
    ]
    const quantum = Math.min(200_000, Math.max(1600, average * 100))
    tc('qdisc', 'add', 'dev', ifname, 'root', 'handle', '1:', 'htb', 'default', '1')
    tc('class', 'add', 'dev', ifname, 'parent', '1:', 'classid', '1:1', 'htb', ...rates, 'quantum', `${quantum}`)
    tc('qdisc', 'add', 'dev', ifname, 'parent', '1:1', 'handle', '2:', 'sfq', 'perturb', '10')
  }
  if (outbound !== undefined) {
    const { average, burst = average } = outbound
    const police = ['police', 'rate', `${average}kbps`, 'burst', `${burst}kb`, 'mtu', '64kb', 'drop', 'flowid', ':1']
    tc('qdisc', 'add', 'dev', ifname, 'ingress')
    const filter = ['filter', 'add', 'dev', ifname, 'parent', 'ffff:', 'protocol', 'all', 'prio', '1', 'u32']
    tc(...filter, 'match', 'u32', '0', '0', ...police)
  }
}

describe('what goes to a NIC and comes from it', () => {
  const left = leavesNothing()
  let netlink: RtNetlink

  beforeEach(() => {
    netlink = left.own(RtNetlink.open())
  })

  async function addNic(): Promise<PluggedNic> {
    const nic = left.own(await PluggedNic.open(MAC, { tap: { ifname: 'vnq%d' } }))
    disableIpv6(nic.ifname)
    return nic
  }

  async function plug({ ifname }: { ifname: string }, options: BandwidthOptions): Promise<Applied> {
    return Applied.of(await planBandwidth({ ifname, mac: MAC }, options))
  }

  function addDummy(): string {
    const { index } = netlink.addLink({ kind: 'dummy', ifname: 'vnqd' })
    left.add(() => netlink.deleteLink(index))
    return 'vnqd'
  }

  for (const [what, options] of [
    ['an average each way', { inbound: { average: 1000 }, outbound: { average: 500 } }],
    [
      'a peak and bursts',
      { inbound: { average: 1000, peak: 5000, burst: 1024 }, outbound: { average: 128, burst: 256 } },
    ],
    ['a kilobyte a second', { inbound: { average: 1, peak: 2, burst: 16 }, outbound: { average: 1, burst: 128 } }],
    [
      'more than 32 bits of bytes',
      { inbound: { average: 5_000_000, peak: 10_000_000, burst: 5000 }, outbound: { average: 5_000_000, burst: 5000 } },
    ],
    ['one way, to the guest', { inbound: { average: 1000, peak: 1000 } }],
    ['one way, from the guest', { outbound: { average: 1000 } }],
  ] as const) {
    it(`is limited as libvirt would have it by tc: ${what}`, async () => {
      const nic = await addNic()
      const dummy = addDummy()
      const before = limitsOf(nic.ifname)
      const applied = await plug(nic, options)
      likeLibvirt(dummy, options)
      const limits = limitsOf(nic.ifname)
      assert.deepEqual(limits, limitsOf(dummy))
      assert.ok(limits.length >= 2 * Object.keys(options).length, String(limits))
      assert.deepEqual((await plug(nic, options)).changes, [])
      assert.deepEqual((await plug({ ifname: dummy }, options)).changes, [])
      assert.deepEqual((await applied.undo()).notUndone, [])
      assert.deepEqual(limitsOf(nic.ifname), before)
    })
  }

  /** The host's socket, and the guest's address known to it. */
  async function connect(nic: PluggedNic): Promise<Socket> {
    await Applied.of(await planRoute({ ifname: nic.ifname, mac: MAC }, { addresses: [`${HOST}/24`] }))
    netlink.addNeighbour(netlink.getLink({ ifname: nic.ifname })!.index, { address: GUEST, mac: MAC })
    const socket = left.own(createSocket('udp4'))
    socket.bind(0)
    await once(socket, 'listening')
    return socket
  }

  it('takes its time to the guest: no more than the rate says, and nearly that', async () => {
    const nic = await addNic()
    const socket = await connect(nic)
    const [average, burst, frames] = [100, 16, 100]
    await plug(nic, { inbound: { average, burst } })
    const port = nic.ports[0]!
    const begin = performance.now()
    for (let i = 0; i < frames; i++) socket.send(Buffer.alloc(PAYLOAD, 1), 2000, GUEST)
    let came = 0
    const signal = AbortSignal.timeout(60_000)
    while (came < frames) {
      for (let frame = port.receive(); frame !== undefined; frame = port.receive()) {
        if (frame.bytes.length === PAYLOAD + HEADERS) came++
      }
      signal.throwIfAborted()
      await setImmediate()
    }
    const seconds = (performance.now() - begin) / 1000
    // The burst goes at once, and one frame more once it has begun.
    const least = (frames * (PAYLOAD + HEADERS) - burst * 1024 - 1600) / (average * 1000)
    assert.ok(seconds >= least, `${frames} frames in ${seconds} s, ${least} s at least`)
    assert.ok(seconds <= 4 * least, `${frames} frames in ${seconds} s, ${least} s would do`)
  })

  it('is dropped from the guest where it is more than the rate says, and passes where it is not', async () => {
    const nic = await addNic()
    const socket = await connect(nic)
    const [average, burst] = [100, 128]
    await plug(nic, { outbound: { average, burst } })
    let came = 0
    const marker = 'all of it'
    const all = new Promise<void>((resolve) => {
      socket.on('message', (message) => {
        if (String(message) === marker) resolve()
        else came += message.length + HEADERS - ETHERNET_HEADER
      })
    })
    const { port: destinationPort } = socket.address()
    const addresses = { sourceMac: MAC, destinationMac: TAP_MAC, source: GUEST, destination: HOST }
    const { frame } = build({ protocol: 'udp', payload: Buffer.alloc(PAYLOAD), ...addresses, destinationPort })
    const port = nic.ports[0]!
    const begin = performance.now()
    let sent = 0
    while (performance.now() - begin < 2000 || sent < 1_000_000) {
      for (let i = 0; i < 16; i++) {
        await port.send(frame)
        sent += frame.length
      }
      await port.drained({ signal: AbortSignal.timeout(10_000) })
      await setImmediate()
    }
    const seconds = (performance.now() - begin) / 1000
    // A socket has its messages in order: what came from the guest is in front.
    socket.send(marker, destinationPort, '127.0.0.1')
    await all
    const most = burst * 1024 + average * 1000 * seconds
    assert.ok(sent > 1.5 * most, `${sent} bytes were sent in ${seconds} s, of which ${most} may pass`)
    assert.ok(came <= most + frame.length, `${came} bytes passed in ${seconds} s, ${most} at most`)
    assert.ok(came >= most / 2, `${came} bytes passed in ${seconds} s, ${most} may`)
  })

  it('says what it would do', async () => {
    const options = { inbound: { average: 1000, peak: 5000, burst: 64 }, outbound: { average: 10 } }
    const plan = await planBandwidth({ ifname: 'vnqx', mac: MAC }, options)
    assert.deepEqual(
      plan.map(({ text }) => text),
      [
        "limit what goes to 'vnqx' to 1000 kB/s, 5000 kB/s for 65536 bytes",
        "limit what comes from 'vnqx' to 10 kB/s, 131072 bytes at once",
      ],
    )
    await assert.rejects(Applied.of(plan), { code: 'ERR_LINK_ABSENT' })
  })

  it('goes with its tap, and is left to whoever has changed it', async () => {
    const nic = await addNic()
    const applied = await plug(nic, { inbound: { average: 1000 }, outbound: { average: 500 } })
    tc('qdisc', 'replace', 'dev', nic.ifname, 'root', 'handle', '7:', 'pfifo')
    tc('qdisc', 'delete', 'dev', nic.ifname, 'ingress')
    assert.deepEqual((await applied.undo()).notUndone, [])
    assert.deepEqual(
      limitsOf(nic.ifname).map((line) => line.split(' ').slice(0, 3)),
      [['qdisc', 'pfifo', '7:']],
    )
    tc('qdisc', 'delete', 'dev', nic.ifname, 'root')
    const again = await plug(nic, { inbound: { average: 1000 }, outbound: { average: 500 } })
    nic.close()
    assert.deepEqual((await again.undo()).notUndone, [])
  })

  describe('is not limited', () => {
    it('where another queueing discipline is, and what was limited before is not any more', async () => {
      const nic = await addNic()
      tc('qdisc', 'add', 'dev', nic.ifname, 'clsact')
      const before = limitsOf(nic.ifname)
      const plan = await planBandwidth(
        { ifname: nic.ifname, mac: MAC },
        { inbound: { average: 9 }, outbound: { average: 9 } },
      )
      await assert.rejects(Applied.of(plan), {
        code: 'ERR_LINK_TAKEN',
        undone: [`limit what goes to '${nic.ifname}' to 9 kB/s`],
        message: new RegExp(`clsact ffff:\n  .*tc qdisc delete dev ${nic.ifname} clsact`),
      })
      assert.deepEqual(limitsOf(nic.ifname), before)
      await plug(nic, { inbound: { average: 9 } })
      await assert.rejects(plug(nic, { inbound: { average: 10 } }), (e: LinkError) => /htb 1:\n.*root/.test(e.message))
    })

    it('without CAP_NET_ADMIN', async () => {
      const nic = await addNic()
      const plan = await planBandwidth({ ifname: nic.ifname, mac: MAC }, { inbound: { average: 9 } })
      await refusedWithoutAdmin(() => Applied.of(plan))
      assert.deepEqual(limitsOf(nic.ifname), [])
    })

    for (const [what, options, option, code] of [
      ['by nothing', {}, 'inbound', 'ERR_OPTION_CONFLICT'],
      ['to nothing', { inbound: { average: 0 } }, 'inbound.average', 'ERR_OPTION_RANGE'],
      ['by a peak below the average', { inbound: { average: 2, peak: 1 } }, 'inbound.peak', 'ERR_OPTION_RANGE'],
      ['by a burst of nothing', { outbound: { average: 2, burst: 0 } }, 'outbound.burst', 'ERR_OPTION_RANGE'],
      ['by a burst alone', { outbound: { burst: 1 } }, 'outbound.average', 'ERR_OPTION_TYPE'],
      ['by a peak of what comes', { outbound: { average: 1, peak: 2 } }, 'outbound.peak', 'ERR_OPTION_UNKNOWN'],
    ] as const) {
      it(what, async () => {
        const plan = planBandwidth({ ifname: 'vnqx', mac: MAC }, options as unknown as BandwidthOptions)
        await assert.rejects(plan, { name: 'InvalidOptionError', option, code })
      })
    }
  })
})
