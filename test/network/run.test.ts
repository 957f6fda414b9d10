// `vhost-net run` with its taps plugged in, and out again at every end. Needs root and /dev/kvm.

import assert from 'node:assert/strict'
import type { ChildProcessWithoutNullStreams } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { createInterface } from 'node:readline'
import { RtNetlink } from '../../lib/host/index.ts'
import { listOvsPorts } from '../../lib/network/ovs.ts'
import { end, kill, run, start } from '../support/command.ts'
import { leavesNothing } from '../support/leaves-nothing.ts'
import { TestSwitch } from '../support/ovs.ts'
import { FOREVER, out, POWER_OFF, writeTinyKernel } from '../support/tiny-kernel.ts'
import { addTap, ip } from '../support/tuntap.ts'

const mac = '52:54:00:00:00:0a'

describe('vhost-net run', () => {
  const left = leavesNothing()
  let netlink: RtNetlink
  let directory: string

  beforeEach(() => {
    netlink = left.own(RtNetlink.open())
    directory = mkdtempSync(path.join(tmpdir(), 'run-'))
    left.add(() => rmSync(directory, { recursive: true }))
  })

  function words(code: readonly number[], ...network: string[]): string[] {
    const kernel = path.join(directory, 'kernel')
    writeTinyKernel(kernel, code)
    return ['--kernel', kernel, '--json', ...network, '--device', `virtio-net-pci,netdev=n0,mac=${mac}`]
  }

  /** Resolves when its guest runs. */
  async function started(...network: string[]): Promise<ChildProcessWithoutNullStreams> {
    const child = start('run', ...words([...out(0x3f8, 0x21), ...FOREVER], ...network))
    left.add(() => kill(child))
    child.stderr.pipe(process.stderr)
    for await (const line of createInterface({ input: child.stdout })) {
      if ((JSON.parse(line) as { event: string }).event === 'console') return child
    }
    return assert.fail('it ended before its guest ran')
  }

  /** A tap that outlives it, so that what is taken back can be seen. */
  function ownTap(): string {
    addTap('vnprun', 'vnet_hdr')
    left.add(() => ip('link', 'del', 'vnprun'))
    return 'vnprun'
  }
  const linkNow = (ifname: string): unknown => {
    const { mac, mtu, up, master } = netlink.getLink({ ifname })!
    return { mac, mtu, up, master }
  }

  describe('on a Linux bridge', () => {
    let bridge: number

    beforeEach(() => {
      bridge = netlink.addLink({ kind: 'bridge', ifname: 'vnpb', mac: '02:00:00:00:00:b0' }).index
      left.add(() => netlink.deleteLink(bridge))
    })

    it('plugs its tap in, and takes it out where SIGTERM ends it', async () => {
      const ifname = ownTap()
      const before = linkNow(ifname)
      const child = await started('--netdev', `tap,id=n0,ifname=${ifname},br=vnpb`)
      const { master, mac: its, up } = netlink.getLink({ ifname })!
      assert.deepEqual({ master, its, up }, { master: bridge, its: 'fe:54:00:00:00:0a', up: true })
      const ended = end(child)
      child.kill('SIGTERM')
      assert.equal((await ended).code, 143)
      assert.deepEqual(linkNow(ifname), before)
    })

    it('takes it out where the guest switches off', async () => {
      const ifname = ownTap()
      const before = linkNow(ifname)
      const masters: unknown[] = []
      left.own(netlink.watchLinks((event) => event.type === 'new' && masters.push(event.link.master)))
      const netdev = ['--netdev', `tap,id=n0,ifname=${ifname}`, '--plug', 'bridge:vnpb,isolated=on']
      const { code, stderr } = await run('run', ...words(POWER_OFF, ...netdev))
      assert.equal(code, 0, stderr)
      assert.deepEqual(linkNow(ifname), before)
      assert.ok(masters.includes(bridge))
    })

    it('boots nothing, and leaves all as it was, where it cannot be plugged in', async () => {
      const ifname = ownTap()
      const before = linkNow(ifname)
      const { code, stdout } = await run('run', ...words(FOREVER, '--netdev', `tap,id=n0,ifname=${ifname},br=vnpno`))
      assert.equal(code, 1)
      assert.match(stdout, /there is no bridge 'vnpno'/)
      assert.deepEqual(linkNow(ifname), before)
    })
  })

  it('makes the macvtap that its NIC is opened over, and deletes it', async () => {
    const lower = netlink.addLink({ kind: 'dummy', ifname: 'vnpd', mac: '02:00:00:00:00:d0' }).index
    left.add(() => netlink.deleteLink(lower))
    const child = await started('--netdev', 'tap,id=n0,ifname=vnprun', '--plug', 'macvtap:vnpd,mode=private')
    const { link, mac: its, up, macvtap } = netlink.getLink({ ifname: 'vnprun' })!
    assert.deepEqual({ link, its, up, macvtap }, { link: lower, its: mac, up: true, macvtap: { mode: 'private' } })
    const ended = end(child)
    child.kill('SIGTERM')
    assert.equal((await ended).code, 143)
    assert.equal(netlink.getLink({ ifname: 'vnprun' }), undefined)
  })

  describe('on Open vSwitch', () => {
    let ovs: TestSwitch

    before(async () => {
      ovs = await TestSwitch.start()
      await ovs.vsctl('add-br', 'br0')
    })
    after(() => ovs.close())

    const ports = async (): Promise<unknown[]> =>
      (await listOvsPorts({ db: ovs.db })).flatMap(({ ifname, tag, owner }) => (owner ? [[ifname, tag, owner]] : []))

    for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
      it(`has its port there until ${signal} ends it`, async () => {
        const child = await started('--netdev', 'tap,id=n0,ifname=vnprun', '--plug', `ovs:br0,db=${ovs.db},tag=7`)
        assert.deepEqual(await ports(), [['vnprun', 7, 'another process']])
        const ended = end(child)
        child.kill(signal)
        await ended
        assert.equal(netlink.getLink({ ifname: 'vnprun' }), undefined)
        // Who is killed cannot: the next one does.
        assert.deepEqual(await ports(), signal === 'SIGTERM' ? [] : [['vnprun', 7, 'an ended process']])
      })
    }

    it('removes what a killed one has left', async () => {
      const child = await started('--netdev', 'tap,id=n0,ifname=vnpnext', '--plug', `ovs:br0,db=${ovs.db}`)
      assert.deepEqual(await ports(), [['vnpnext', undefined, 'another process']])
      const ended = end(child)
      child.kill('SIGTERM')
      await ended
      assert.equal(await ovs.vsctl('list-ports', 'br0'), '')
    })
  })
})
