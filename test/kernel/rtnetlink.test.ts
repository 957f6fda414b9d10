// RtNetlink against the running kernel, with iproute2 as the second opinion. Needs root.

import assert from 'node:assert/strict'
import { execFileSync, spawn } from 'node:child_process'
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { closeSync, openSync } from 'node:fs'
import { SystemCallError } from '../../lib/errors.ts'
import { type Link, type LinkEvent, RtNetlink } from '../../lib/host/rtnetlink.ts'

function run(command: string, ...args: string[]): string {
  return execFileSync(command, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] })
}

function ip(...args: string[]): string {
  return run('ip', ...args)
}

interface IpLink {
  ifindex: number
  ifname: string
  flags: string[]
  mtu: number
  operstate: string
  address?: string
  master?: string
  txqlen?: number
  promiscuity: number
  linkinfo?: { info_kind?: string; info_data?: Record<string, unknown> }
  stats64: { rx: { packets: number; bytes: number }; tx: { packets: number; bytes: number } }
}

function ipLinks(...selection: string[]): IpLink[] {
  return JSON.parse(ip('-j', '-d', '-s', 'link', 'show', ...selection)) as IpLink[]
}

function ipLink(ifname: string): IpLink {
  return ipLinks('dev', ifname)[0]!
}

/** What both tell of a link, in one form. */
function ours(link: Link): object {
  const { index, ifname, mtu, operstate, mac, txqlen, promiscuity, kind, up, lowerUp } = link
  return { index, ifname, mtu, operstate, mac, txqlen, promiscuity, kind, up, lowerUp }
}

function theirs(link: IpLink): object {
  return {
    index: link.ifindex,
    ifname: link.ifname,
    mtu: link.mtu,
    operstate: link.operstate.toLowerCase(),
    mac: link.address,
    // ip leaves 0 out.
    txqlen: link.txqlen ?? 0,
    promiscuity: link.promiscuity,
    kind: link.linkinfo?.info_kind,
    up: link.flags.includes('UP'),
    lowerUp: link.flags.includes('LOWER_UP'),
  }
}

function refusal(code: string, syscall: string, text: RegExp): (error: unknown) => boolean {
  return (error) => {
    assert.ok(error instanceof SystemCallError, String(error))
    assert.deepEqual({ code: error.code, syscall: error.syscall }, { code, syscall })
    assert.ok(error.errno < 0)
    assert.match(error.message, text)
    return true
  }
}

/** Another network namespace, held by a process of its own. */
async function otherNamespace(): Promise<{ pid: number; ip: (...args: string[]) => string; end: () => Promise<void> }> {
  const holder = spawn('unshare', ['-n', 'sh', '-c', 'echo ready; exec cat'], { stdio: ['pipe', 'pipe', 'inherit'] })
  await once(holder.stdout, 'data')
  const pid = holder.pid!
  return {
    pid,
    ip: (...args) => run('nsenter', '-t', String(pid), '-n', 'ip', ...args),
    async end() {
      const exited = once(holder, 'exit')
      holder.stdin.end()
      await exited
    },
  }
}

let made = 0
/** A name that nothing else has: at most 12 bytes. */
function unique(): string {
  return `rt${process.pid % 2 ** 22}x${made++}`
}

describe('RtNetlink', () => {
  // Deleting a link waits for RCU, tens of milliseconds each.
  let netlink: RtNetlink
  let names: string[] = []

  /** A name whose link is deleted after the test, if there is one. */
  function owned(): string {
    const name = unique()
    names.push(name)
    return name
  }

  function bridge(): Link {
    return netlink.addLink({ kind: 'bridge', ifname: owned() })
  }

  function veth(): { link: Link; peer: string } {
    const peer = unique()
    return { link: netlink.addLink({ kind: 'veth', ifname: owned(), peer }), peer }
  }

  function current(index: number): Link {
    const link = netlink.getLink({ index })
    assert.ok(link, `link ${index} exists`)
    return link
  }

  beforeEach(() => {
    netlink = RtNetlink.open()
  })

  afterEach(() => {
    for (const ifname of names) {
      const link = netlink.getLink({ ifname })
      if (link !== undefined) netlink.deleteLink(link.index)
    }
    names = []
    netlink.close()
  })

  it('lists the links that ip lists, as ip does', () => {
    bridge()
    veth()
    const listed = netlink.listLinks()
    assert.deepEqual(listed.map(ours), ipLinks().map(theirs))
    assert.deepEqual(
      listed.map(({ index }) => netlink.getLink({ index })?.ifname),
      listed.map(({ ifname }) => ifname),
    )
  })

  it('lists more links than fit into one datagram', () => {
    const count = 40
    for (let made = 0; made < count; made++) bridge()
    const listed = new Set(netlink.listLinks().map(({ ifname }) => ifname))
    assert.deepEqual(
      names.filter((name) => !listed.has(name)),
      [],
    )
  })

  it('makes and deletes a bridge', () => {
    const link = bridge()
    assert.equal(link.kind, 'bridge')
    assert.equal(link.up, false)
    assert.deepEqual(ours(link), theirs(ipLink(link.ifname)))
    netlink.deleteLink(link.index)
    assert.equal(netlink.getLink({ index: link.index }), undefined)
    assert.equal(netlink.getLink({ ifname: link.ifname }), undefined)
    assert.throws(() => ip('link', 'show', 'dev', link.ifname))
  })

  it('makes a dummy, with MAC and MTU', () => {
    const link = netlink.addLink({ kind: 'dummy', ifname: owned(), mac: '52:54:00:12:34:56', mtu: 1400 })
    const { address, mtu, linkinfo } = ipLink(link.ifname)
    assert.deepEqual([address, mtu, linkinfo?.info_kind], ['52:54:00:12:34:56', 1400, 'dummy'])
  })

  it('makes a veth and its peer, and deletes both', () => {
    const { link, peer } = veth()
    assert.deepEqual(ours(link), theirs(ipLink(link.ifname)))
    assert.deepEqual(ours(netlink.getLink({ ifname: peer })!), theirs(ipLink(peer)))
    netlink.deleteLink(link.index)
    assert.equal(netlink.getLink({ ifname: peer }), undefined)
  })

  it('switches a link on and off', () => {
    const { link, peer } = veth()
    const other = netlink.getLink({ ifname: peer })!
    netlink.setLink(link.index, { up: true })
    netlink.setLink(other.index, { up: true })
    assert.deepEqual([current(link.index).up, current(link.index).lowerUp], [true, true])
    assert.deepEqual(ours(current(link.index)), theirs(ipLink(link.ifname)))
    netlink.setLink(other.index, { up: false })
    assert.deepEqual([current(link.index).up, current(link.index).lowerUp], [true, false])
    netlink.setLink(link.index, { up: false })
    assert.equal(ipLink(link.ifname).flags.includes('UP'), false)
  })

  it('changes MTU, MAC, name and queue length, and nothing that was not asked for', () => {
    const { link } = veth()
    const renamed = owned()
    netlink.setLink(link.index, { mtu: 1280, mac: '52:54:00:ab:cd:ef', ifname: renamed, txqlen: 77 })
    const { ifindex, mtu, address, txqlen, flags } = ipLink(renamed)
    assert.deepEqual([ifindex, mtu, address, txqlen], [link.index, 1280, '52:54:00:ab:cd:ef', 77])
    assert.equal(flags.includes('UP'), false)
    const before = current(link.index)
    netlink.setLink(link.index, {})
    assert.deepEqual(current(link.index), before)
  })

  it('puts a link into a bridge and takes it out', () => {
    const master = bridge()
    const { link } = veth()
    netlink.setLink(link.index, { master: master.index })
    assert.equal(current(link.index).master, master.index)
    assert.equal(ipLink(link.ifname).master, master.ifname)
    netlink.setLink(link.index, { master: null })
    assert.equal(current(link.index).master, undefined)
    assert.equal(ipLink(link.ifname).master, undefined)
  })

  for (const by of ['pid', 'fd'] as const) {
    it(`moves a link to the network namespace of ${by === 'pid' ? 'a process' : 'an fd'}`, async () => {
      const { link } = veth()
      const other = await otherNamespace()
      try {
        if (by === 'pid') netlink.setLink(link.index, { netns: { pid: other.pid } })
        else {
          const fd = openSync(`/proc/${other.pid}/ns/net`, 'r')
          try {
            netlink.setLink(link.index, { netns: { fd } })
          } finally {
            closeSync(fd)
          }
        }
        assert.equal(netlink.getLink({ ifname: link.ifname }), undefined)
        const moved = JSON.parse(other.ip('-j', 'link', 'show', 'dev', link.ifname)) as IpLink[]
        assert.equal(moved[0]?.address, link.mac)
        other.ip('link', 'delete', link.ifname)
      } finally {
        await other.end()
      }
    })
  }

  it('decodes a multi-queue tap', () => {
    const ifname = owned()
    ip('tuntap', 'add', 'dev', ifname, 'mode', 'tap', 'multi_queue', 'vnet_hdr', 'user', '65534', 'group', '65533')
    const link = netlink.getLink({ ifname })!
    assert.equal(link.kind, 'tun')
    assert.deepEqual(link.tun, {
      type: 'tap',
      pi: false,
      vnet_hdr: true,
      persist: true,
      multi_queue: true,
      numqueues: 0,
      numdisabled: 0,
      owner: 65534,
      group: 65533,
    })
    assert.deepEqual(ours(link), theirs(ipLink(ifname)))
  })

  it('decodes a tun, which has no MAC', () => {
    const ifname = owned()
    ip('tuntap', 'add', 'dev', ifname, 'mode', 'tun', 'pi')
    const link = netlink.getLink({ ifname })!
    assert.deepEqual(link.tun, { type: 'tun', pi: true, vnet_hdr: false, persist: true, multi_queue: false })
    assert.equal('mac' in link, false)
  })

  it('counts what passed', async () => {
    const { link, peer } = veth()
    netlink.setLink(link.index, { up: true })
    netlink.setLink(netlink.getLink({ ifname: peer })!.index, { up: true })
    netlink.addAddress(link.index, { address: '192.0.2.1', prefixLength: 24 })
    netlink.addNeighbour(link.index, { address: '192.0.2.2', mac: '52:54:00:00:00:02' })
    const before = current(link.index).stats
    const socket = createSocket('udp4')
    try {
      await new Promise<void>((resolve, reject) =>
        socket.send(Buffer.alloc(500), 9, '192.0.2.2', (error) => (error === null ? resolve() : reject(error))),
      )
    } finally {
      socket.close()
    }
    const { stats } = current(link.index)
    assert.ok(stats.tx_packets > before.tx_packets, `${stats.tx_packets} packets sent`)
    // Ethernet, IPv4 and UDP headers, and the payload; the kernel may have sent something of its own meanwhile.
    assert.ok(stats.tx_bytes >= before.tx_bytes + 14 + 20 + 8 + 500, `${stats.tx_bytes} bytes sent`)
    assert.ok(netlink.getLink({ ifname: peer })!.stats.rx_packets >= stats.tx_packets)
  })

  describe('addresses and neighbours', () => {
    interface IpAddress {
      addr_info: { local?: string; address?: string; prefixlen?: number; broadcast?: string }[]
    }

    function ipAddresses(ifname: string): object[] {
      const [link] = JSON.parse(ip('-j', 'addr', 'show', 'dev', ifname)) as IpAddress[]
      return link!.addr_info
        .filter(({ local }) => local !== undefined)
        .map(({ local, address, prefixlen, broadcast }) => ({
          address: local,
          prefixLength: prefixlen,
          peer: address,
          broadcast,
        }))
    }

    function addresses(index: number): object[] {
      return netlink
        .listAddresses(index)
        .map(({ address, prefixLength, peer, broadcast }) => ({ address, prefixLength, peer, broadcast }))
    }

    it('come and go', () => {
      const { link } = veth()
      netlink.addAddress(link.index, { address: '192.0.2.1', prefixLength: 24, broadcast: '192.0.2.255' })
      netlink.addAddress(link.index, { address: '198.51.100.1', prefixLength: 32, peer: '198.51.100.2' })
      netlink.addAddress(link.index, { address: '2001:db8::1', prefixLength: 64, nodad: true })
      netlink.addAddress(link.index, {
        address: '2001:db8:1::1',
        prefixLength: 128,
        peer: '2001:db8:1::2',
        nodad: true,
      })
      const listed = addresses(link.index)
      assert.equal(listed.length, 4)
      assert.deepEqual(listed, ipAddresses(link.ifname))
      netlink.deleteAddress(link.index, { address: '192.0.2.1', prefixLength: 24 })
      netlink.deleteAddress(link.index, { address: '198.51.100.1', prefixLength: 32, peer: '198.51.100.2' })
      netlink.deleteAddress(link.index, { address: '2001:db8::1', prefixLength: 64 })
      netlink.deleteAddress(link.index, { address: '2001:db8:1::1', prefixLength: 128, peer: '2001:db8:1::2' })
      assert.deepEqual([addresses(link.index), ipAddresses(link.ifname)], [[], []])
    })

    it('make no route where noprefixroute asks for none', () => {
      const { link } = veth()
      netlink.setLink(link.index, { up: true })
      netlink.addAddress(link.index, { address: '192.0.2.1', prefixLength: 24, noprefixroute: true })
      assert.equal(ip('-4', 'route', 'show', 'dev', link.ifname), '')
      netlink.addAddress(link.index, { address: '198.51.100.1', prefixLength: 24 })
      assert.match(ip('-4', 'route', 'show', 'dev', link.ifname), /^198\.51\.100\.0\/24/)
    })

    it('are refused twice, and gone where they are not', () => {
      const { link } = veth()
      const address = { address: '192.0.2.1', prefixLength: 24 }
      netlink.addAddress(link.index, address)
      assert.throws(
        () => netlink.addAddress(link.index, address),
        refusal('EEXIST', 'RTM_NEWADDR', /192\.0\.2\.1\/24 on link \d+: EEXIST/),
      )
      netlink.deleteAddress(link.index, address)
      assert.throws(
        () => netlink.deleteAddress(link.index, address),
        refusal('EADDRNOTAVAIL', 'RTM_DELADDR', /no such/),
      )
    })

    it('have permanent MACs', () => {
      const { link } = veth()
      netlink.setLink(link.index, { up: true })
      netlink.addNeighbour(link.index, { address: '192.0.2.2', mac: '52:54:00:00:00:02', state: 'permanent' })
      netlink.addNeighbour(link.index, { address: '2001:db8::2', mac: '52:54:00:00:00:03' })
      const listed = JSON.parse(ip('-j', 'neigh', 'show', 'dev', link.ifname, 'nud', 'permanent')) as object[]
      assert.deepEqual(
        new Set(listed),
        new Set([
          { dst: '192.0.2.2', lladdr: '52:54:00:00:00:02', state: ['PERMANENT'] },
          { dst: '2001:db8::2', lladdr: '52:54:00:00:00:03', state: ['PERMANENT'] },
        ]),
      )
      assert.throws(
        () => netlink.addNeighbour(link.index, { address: '192.0.2.2', mac: '52:54:00:00:00:04' }),
        refusal('EEXIST', 'RTM_NEWNEIGH', /192\.0\.2\.2 on link/),
      )
      netlink.deleteNeighbour(link.index, '192.0.2.2')
      netlink.deleteNeighbour(link.index, '2001:db8::2')
      assert.equal(ip('neigh', 'show', 'dev', link.ifname, 'nud', 'permanent'), '')
      assert.throws(
        () => netlink.deleteNeighbour(link.index, '192.0.2.2'),
        refusal('ENOENT', 'RTM_DELNEIGH', /no entry/),
      )
    })
  })

  describe('errors', () => {
    it('EEXIST: the name is taken', () => {
      const { ifname } = bridge()
      assert.throws(
        () => netlink.addLink({ kind: 'bridge', ifname }),
        refusal('EEXIST', 'RTM_NEWLINK', new RegExp(`bridge ${ifname}: EEXIST`)),
      )
    })

    it("EINVAL with the kernel's own words: an MTU the driver does not take", () => {
      const ifname = owned()
      ip('tuntap', 'add', 'dev', ifname, 'mode', 'tap')
      const { index } = netlink.getLink({ ifname })!
      assert.throws(
        () => netlink.setLink(index, { mtu: 65535 }),
        refusal('EINVAL', 'RTM_SETLINK', /mtu greater than device maximum\n.*maxmtu/),
      )
    })

    it('ENODEV: no such link', () => {
      const { index } = bridge()
      netlink.deleteLink(index)
      assert.equal(netlink.getLink({ index }), undefined)
      assert.throws(() => netlink.setLink(index, { up: true }), refusal('ENODEV', 'RTM_SETLINK', /does not exist/))
      assert.throws(() => netlink.deleteLink(index), refusal('ENODEV', 'RTM_DELLINK', new RegExp(`link ${index}`)))
      assert.throws(
        () => netlink.addAddress(index, { address: '192.0.2.1', prefixLength: 24 }),
        refusal('ENODEV', 'RTM_NEWADDR', /link/),
      )
      assert.deepEqual(netlink.listAddresses(index), [])
    })

    it('ELOOP: a bridge cannot be in a bridge', () => {
      const outer = bridge()
      const inner = bridge()
      assert.throws(
        () => netlink.setLink(inner.index, { master: outer.index }),
        refusal('ELOOP', 'RTM_SETLINK', /enslave a bridge/),
      )
    })

    it('EADDRNOTAVAIL: a group address as MAC', () => {
      const { link } = veth()
      assert.throws(
        () => netlink.setLink(link.index, { mac: '01:00:5e:00:00:01' }),
        refusal('EADDRNOTAVAIL', 'RTM_SETLINK', /link/),
      )
    })

    it('leave the socket usable', () => {
      for (let times = 0; times < 50; times++) {
        assert.throws(() => netlink.deleteLink(2 ** 31 - 1), refusal('ENODEV', 'RTM_DELLINK', /link 2147483647/))
        assert.equal(netlink.getLink({ ifname: 'lo' })?.ifname, 'lo')
      }
    })

    it('ERR_CLOSED: after close', () => {
      netlink.close()
      assert.throws(() => netlink.listLinks(), { code: 'ERR_CLOSED' })
      netlink = RtNetlink.open()
    })
  })

  describe('watchLinks', () => {
    /** Resolves with the first event, of those from now on, that the test is about. */
    function nextEvent(wanted: (event: LinkEvent) => boolean): Promise<LinkEvent> {
      return new Promise((resolve) => {
        const watch = netlink.watchLinks(
          (event) => {
            if (!wanted(event)) return
            watch.close()
            resolve(event)
          },
          { keepAlive: true },
        )
      })
    }

    it('reports a link that is made, switched on and deleted', async () => {
      const ifname = owned()
      const seen: string[] = []
      const deleted = nextEvent((event) => {
        if (event.type === 'overrun' || event.link.ifname !== ifname) return false
        seen.push(`${event.type} ${event.link.up ? 'up' : 'down'}`)
        return event.type === 'del'
      })
      const { index } = netlink.addLink({ kind: 'bridge', ifname })
      netlink.setLink(index, { up: true })
      netlink.deleteLink(index)
      const event = await deleted
      assert.ok(event.type === 'del')
      assert.deepEqual([event.link.index, event.link.kind], [index, 'bridge'])
      assert.equal(seen[0], 'new down')
      assert.ok(seen.includes('new up'), seen.join(', '))
    })

    it('does not take a port that leaves its bridge for a deleted link', async () => {
      const master = bridge()
      const { link } = veth()
      const types = new Set<string>()
      const done = nextEvent((event) => {
        if (event.type === 'overrun' || event.link.index !== link.index) return false
        types.add(event.type)
        return event.link.mtu === 1281
      })
      netlink.setLink(link.index, { master: master.index })
      netlink.setLink(link.index, { master: null })
      netlink.setLink(link.index, { mtu: 1281 })
      await done
      assert.deepEqual([...types], ['new'])
    })

    it('reports that events were lost, and goes on', async () => {
      const { link } = veth()
      let overrun = false
      const after = nextEvent((event) => {
        if (event.type !== 'overrun') return overrun && event.link.index === link.index && event.link.mtu === 1282
        assert.equal(event.error.code, 'ENOBUFS')
        overrun = true
        // The queue was emptied before this was reported, so nothing more is lost.
        netlink.setLink(link.index, { mtu: 1282 })
        return false
      })
      // Nothing is read while this thread is busy; a change is an event of about 2 KiB, and 208 KiB are queued at most.
      for (let times = 0; times < 1000; times++) netlink.setLink(link.index, { txqlen: 100 + (times % 2) })
      await after
    })

    it('is silent once closed, from inside the callback too', async () => {
      const { link } = veth()
      let events = 0
      const first = new Promise<void>((resolve) => {
        const watch = netlink.watchLinks(() => {
          events++
          watch.close()
          assert.equal(watch.closed, true)
          watch.close()
          resolve()
        })
      })
      const last = nextEvent((event) => event.type === 'new' && event.link.mtu === 1283)
      netlink.setLink(link.index, { txqlen: 100 })
      netlink.setLink(link.index, { txqlen: 101 })
      netlink.setLink(link.index, { mtu: 1283 })
      await Promise.all([first, last])
      assert.equal(events, 1)
    })
  })
})
