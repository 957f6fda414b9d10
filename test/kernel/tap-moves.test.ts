// A tap in traffic that is renamed, moved to another network namespace, deleted with that, or deleted by itself.

import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { release } from 'node:os'
import { leavesNothing } from '../support/leaves-nothing.ts'
import { soak } from '../support/soak.ts'
import { SoakTraffic } from '../support/soak-traffic.ts'
import { soon } from '../support/soon.ts'
import { ip } from '../support/tuntap.ts'

const RENAMES = Number(process.env.RENAMES ?? 30)
const MOVES = Number(process.env.MOVES ?? 3)
const DELETIONS = Number(process.env.DELETIONS ?? 3)
const PACKETS = 4000
const NAMESPACE = 'vntmoves'
/** Before Linux 6.2 a device that is up is not renamed: EBUSY (dev_change_name in net/core/dev.c). */
const isBefore62 = /^([0-5]\.|6\.[01]\.)/.test(release())
/** Longer than every name that the kernel gives. */
const LONG = 'soak-renamed-ab'

/** Runs a command in the namespace. */
const inside = (...args: string[]): void => {
  execFileSync('ip', ['-n', NAMESPACE, ...args])
}

describe('a tap in traffic', () => {
  const closing = leavesNothing()

  /** Frames pass both ways, and all of them are accounted for. */
  async function isExact(traffic: SoakTraffic): Promise<void> {
    const [checkpoint] = await soak(traffic, { packets: PACKETS, checkpoints: 1 })
    assert.deepEqual(checkpoint!.wrong, [])
    for (const { nic } of traffic.nics) nic.setLink(true)
  }

  async function open(): Promise<SoakTraffic> {
    const traffic = await SoakTraffic.open(2)
    closing.add(() => traffic.close())
    return traffic
  }

  const itIfLiveRename = isBefore62 ? it.skip : it
  itIfLiveRename(
    `is renamed ${RENAMES} times, and its guest sees nothing of it: no frame is lost, and its link stays`,
    async () => {
      const traffic = await open()
      const { nic, index } = traffic.nics[1]!
      let renames = 0
      const exact = soak(traffic, {
        packets: RENAMES * 1000,
        checkpoints: 1,
        progress: (done) => {
          if (done < renames * 1000 || renames === RENAMES) return
          const name = `${LONG.slice(0, 1 + (renames % LONG.length))}${renames}`.slice(0, 15)
          traffic.netlink.setLink(index, { ifname: name })
          assert.equal(nic.backend.ifname, name)
          assert.equal(nic.backend.inspect().ifname, name)
          renames++
        },
      })
      assert.deepEqual((await exact)[0]!.wrong, [])
      assert.equal(renames, RENAMES)
      nic.setLink(true)
      assert.equal(nic.inspect().link.up, true)
      traffic.netlink.setLink(index, { up: false })
      await soon('no link', () => !nic.inspect().link.up)
      traffic.netlink.setLink(index, { up: true })
      await soon('link again', () => nic.inspect().link.up)
      assert.equal(nic.inspect().fault, null)
    },
  )

  it(`is moved to another network namespace and back ${MOVES} times: its rings run on, its guest has link there`, async () => {
    const traffic = await open()
    const { nic, index, faults } = traffic.nics[1]!
    ip('netns', 'add', NAMESPACE)
    closing.add(() => ip('netns', 'delete', NAMESPACE))
    const links: boolean[] = []
    closing.own(nic.backend.watchLink((up) => links.push(up))!)
    for (let move = 0; move < MOVES; move++) {
      traffic.blow()
      await traffic.flows()
      const { ifname } = nic.backend
      ip('link', 'set', ifname, 'netns', NAMESPACE)
      // It goes down as it leaves, and then it is not known any more what it is.
      await soon('news of the move', () => links.length === 3 && nic.inspect().link.up)
      assert.deepEqual(links.splice(1), [false, true])
      assert.equal(nic.backend.ifname, ifname)
      // There it is as good as any: what is sent is taken, once it is up and while it is not.
      await traffic.sends(1)
      inside('link', 'set', ifname, 'name', `there${move}`, 'addrgenmode', 'none')
      inside('link', 'set', `there${move}`, 'up')
      await traffic.sends(1)
      assert.equal(nic.backend.ifname, `there${move}`)
      inside('link', 'set', `there${move}`, 'netns', String(process.pid))
      await soon('news of a tap that is down', () => !nic.inspect().link.up)
      const back = traffic.netlink.getLink({ ifname: `there${move}` })!
      assert.equal(back.index, index)
      await traffic.bridge.plugIn(back.ifname)
      await soon('link', () => nic.inspect().link.up && links.length === 3)
      assert.deepEqual(links.splice(1), [false, true])
      await traffic.flows()
      await traffic.calm()
      await isExact(traffic)
    }
    assert.deepEqual(faults, [])
  })

  it('is deleted with the network namespace that it was moved to: its guest loses its link and keeps its device', async () => {
    const traffic = await open()
    const { nic, faults } = traffic.nics[1]!
    ip('netns', 'add', NAMESPACE)
    const links: boolean[] = []
    const watch = nic.backend.watchLink((up) => links.push(up))!
    traffic.blow()
    await traffic.flows()
    ip('link', 'set', nic.backend.ifname, 'netns', NAMESPACE)
    await soon('news of the move', () => links.length === 3 && nic.inspect().link.up)
    watch.close()
    ip('netns', 'delete', NAMESPACE)
    // Found when something is sent, which it is all the time.
    await soon('no link', () => !nic.inspect().link.up, 30)
    await soon('the end of its pairs', () => nic.backend.inspect().pairs.every(({ running }) => !running))
    assert.deepEqual(faults, [])
    assert.equal(nic.inspect().fault, null)
    assert.match(nic.backend.ifname, /^soak\d+$/)
    await traffic.unplug(1)
    await traffic.plug(1)
    await traffic.flows()
    await traffic.calm()
    await isExact(traffic)
  })

  it(`is deleted ${DELETIONS} times, each time its guest gets another NIC, and frames pass again`, async () => {
    const traffic = await open()
    traffic.blow()
    for (let deletion = 0; deletion < DELETIONS; deletion++) {
      await traffic.flows()
      const { nic, index, faults } = traffic.nics[1]!
      traffic.netlink.deleteLink(index)
      await soon('no link', () => !nic.inspect().link.up)
      await soon('the end of its pairs', () => nic.backend.inspect().pairs.every(({ running }) => !running), 30)
      assert.deepEqual(faults, [])
      await traffic.unplug(1)
      await traffic.plug(1)
    }
    await traffic.flows()
    await traffic.calm()
    await isExact(traffic)
  })
})
