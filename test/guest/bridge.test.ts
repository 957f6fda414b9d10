// Two machines of one process, their taps on one bridge.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { RtNetlink } from '../../lib/host/index.ts'
import { StockGuest } from '../../scripts/guest/stock-guest.ts'
import { Bridge } from '../support/bridge.ts'
import { guestsExchange } from '../support/guest-bulk.ts'
import { hugePages, reserveHugePages } from '../support/huge-pages.ts'
import { leavesNothing } from '../support/leaves-nothing.ts'
import { soon } from '../support/soon.ts'
import { standing } from '../support/standing.ts'

const MiB = 1 << 20
const MEMORY = 256 * MiB
const HUGE_PAGES = MEMORY / (2 * MiB)
const MEBIBYTES = 32
const HOST = '10.7.0.254'

const machines = [
  {
    nic: { ifname: 'bridged0', mac: '52:54:00:12:34:60' },
    address: '10.7.0.1',
    memory: { size: MEMORY, backing: 'hugetlb' },
  },
  { nic: { ifname: 'bridged1', mac: '52:54:00:12:34:61' }, address: '10.7.0.2', memory: MEMORY },
] as const

describe('two machines of one process, on one bridge', () => {
  const closing = leavesNothing('all')
  let first: StockGuest
  let second: StockGuest

  const ping = (guest: StockGuest, address: string) => guest.try(`ping -c 3 -i 0.1 -W 1 ${address}`)
  const answers = async (guest: StockGuest, address: string) =>
    assert.match((await ping(guest, address)).output, / 0% packet loss/)

  before('boot at the same time', async () => {
    const netlink = closing.own(RtNetlink.open())
    closing.own(reserveHugePages(HUGE_PAGES))
    const boots = machines.map(({ nic, memory }) => StockGuest.boot({ kernel: '6.12', nics: [nic], memory }))
    const booted = await Promise.allSettled(boots)
    for (const boot of booted) if (boot.status === 'fulfilled') closing.own(boot.value)
    ;[first, second] = (await Promise.all(boots)) as [StockGuest, StockGuest]
    const bridge = closing.own(new Bridge(netlink))
    netlink.addAddress(bridge.index, { address: HOST, prefixLength: 24 })
    await bridge.plugIn(...machines.map(({ nic }) => nic.ifname))
    for (const [i, guest] of [first, second].entries()) {
      await guest.run(`ip addr add ${machines[i]!.address}/24 dev eth0 && ip link set eth0 up`)
    }
  })

  it('have memory of what they were told to: one of them of huge pages', () => {
    const { free, reserved } = hugePages()
    // All are its own, and it has touched some.
    assert.ok(free < HUGE_PAGES && free === reserved, `${free} free, ${reserved} of these reserved`)
    const backings = [first, second].map(({ vm }) => vm.memory.inspect().regions.map(({ backing }) => backing))
    assert.deepEqual(backings, [['hugetlb'], ['anonymous']])
  })

  it('reach each other, and their host', async () => {
    await answers(first, machines[1].address)
    await answers(second, machines[0].address)
    await answers(first, HOST)
    await answers(second, HOST)
  })

  it(`send each other ${MEBIBYTES} MiB by TCP at the same time, every byte as it was sent`, () =>
    guestsExchange(
      [first, second].map((guest, i) => ({ guest, address: machines[i]!.address })),
      MEBIBYTES,
    ))

  it('are held one by one: the other goes on', async () => {
    for (const [held, other] of [
      [first, second],
      [second, first],
    ] as const) {
      held.vm.pause()
      const before = standing(held.vm)
      await answers(other, HOST)
      assert.deepEqual(standing(held.vm), before)
      held.vm.resume()
      await answers(held, HOST)
    }
  })

  it('end one by one: the other goes on, and what the one had is free', async () => {
    first.vm.console.write('poweroff -f\n')
    assert.deepEqual(await first.end(60), { why: 'poweroff' })
    await answers(second, HOST)
    first.close()
    await soon('its memory is free', () => hugePages().free === HUGE_PAGES)
    assert.equal(hugePages().reserved, 0)
    assert.equal(second.netlink.getLink({ ifname: machines[0].nic.ifname }), undefined)
    await answers(second, HOST)
    assert.match(
      (await promisify(execFile)('busybox', ['ping', '-c', '1', machines[1].address])).stdout,
      / 0% packet loss/,
    )
    assert.match((await ping(second, machines[0].address)).output, /100% packet loss/)
    assert.equal(second.nics[0]!.inspect().fault, null)
  })
})
