// A stock guest at work, and what its machine, its console and its network do to it in the meantime.

import assert from 'node:assert/strict'
import { StockGuest } from '../../scripts/guest/stock-guest.ts'
import { leavesNothing } from '../support/leaves-nothing.ts'
import { console } from './scenarios/console.ts'
import { flaps } from './scenarios/flaps.ts'
import { held } from './scenarios/held.ts'
import { lostTap } from './scenarios/lost-tap.ts'
import { HOST, MAC, SECOND } from './scenarios/story.ts'

const GUEST = '10.5.0.2'
const PROCESSORS = 2

describe('a stock guest at work', () => {
  const closing = leavesNothing('all')
  let guest: StockGuest

  before('boots', async () => {
    const nics = [
      { ifname: 'guest0', address: HOST, mac: MAC },
      { ifname: 'guest1', address: SECOND.host, mac: SECOND.mac, queuePairs: 1 },
    ]
    guest = closing.own(await StockGuest.boot({ kernel: '6.12', smp: PROCESSORS, nics }))
    for (const [name, address] of [
      ['eth0', GUEST],
      ['eth1', SECOND.guest],
    ]) {
      await guest.run(`ip addr add ${address}/24 dev ${name} && ip link set ${name} up`)
    }
  })

  const booted = () => guest

  held(booted)
  flaps(booted)
  console(booted)
  lostTap(booted)

  describe('that ends', () => {
    it('is held, let go and closed by who hears of its end', async () => {
      const { vm } = guest
      const states: string[] = []
      vm.once('end', () => {
        const note = () => states.push(vm.inspect().state)
        note()
        vm.pause()
        vm.resume()
        note()
        vm.close()
        note()
      })
      vm.console.write('poweroff -f\n')
      assert.deepEqual(await guest.end(60), { why: 'poweroff' })
      assert.deepEqual(states, ['ended', 'ended', 'closed'])
    })
  })
})
