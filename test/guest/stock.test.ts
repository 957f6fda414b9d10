// Stock kernels of Debian, with the drivers that came with them, on our machine and our NICs.

import assert from 'node:assert/strict'
import { StockGuest } from '../../scripts/guest/stock-guest.ts'
import { leavesNothing } from '../support/leaves-nothing.ts'
import { driver } from './scenarios/driver.ts'
import { filters } from './scenarios/filters.ts'
import { link } from './scenarios/link.ts'
import { offloads } from './scenarios/offloads.ts'
import { probe } from './scenarios/probe.ts'
import { queues } from './scenarios/queues.ts'
import { rings } from './scenarios/rings.ts'
import { HOST, MAC, MTU, SECOND, type Story } from './scenarios/story.ts'
import { traffic } from './scenarios/traffic.ts'
import { vectors } from './scenarios/vectors.ts'

const stories: Story[] = [
  { kernel: '6.1', smp: 1, queuePairs: 1, transport: 'mmio' },
  { kernel: '6.12', smp: 4, queuePairs: 4, transport: 'pci' },
  { kernel: '6.1-cloud', smp: 4, queuePairs: 4, transport: 'mmio' },
  { kernel: '6.12-cloud', smp: 1, queuePairs: 1, transport: 'pci' },
]

for (const story of stories) {
  const { kernel, smp, queuePairs, transport } = story
  describe(`a stock guest of Linux ${kernel} with ${smp} processors and ${queuePairs} queue pairs over ${transport}`, () => {
    const closing = leavesNothing('all')
    let guest: StockGuest

    before('boots', async () => {
      const nics = [
        { ifname: 'guest0', address: HOST, mac: MAC, host_mtu: MTU, queuePairs },
        { ifname: 'guest1', address: SECOND.host, mac: SECOND.mac, queuePairs: 1 },
      ]
      guest = closing.own(await StockGuest.boot({ kernel, smp, nics, transport }))
    })

    const booted = () => guest

    probe(booted, story)
    traffic(booted, story)
    offloads(booted)
    queues(booted, story)
    if (transport === 'pci') {
      rings(booted)
      if (queuePairs > 1) vectors(booted, story)
    }
    filters(booted)
    link(booted)
    driver(booted)

    describe('ends', () => {
      it('by switching the machine off', async () => {
        guest.vm.console.write('poweroff -f\n')
        assert.deepEqual(await guest.end(60), { why: 'poweroff' })
      })
    })
  })
}
