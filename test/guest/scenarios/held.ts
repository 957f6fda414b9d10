// A machine that is paused and goes on, amid traffic and whoever asks for it.

import assert from 'node:assert/strict'
import { setTimeout } from 'node:timers/promises'
import type { StockGuest } from '../../../scripts/guest/stock-guest.ts'
import { guestReceives, guestSends } from '../../support/guest-bulk.ts'
import { soon } from '../../support/soon.ts'
import { standing, vcpuTicks } from '../../support/standing.ts'
import { type Booted, HOST } from './story.ts'

const MEBIBYTES = 12
/** What has moved before it is held. */
const SOME_BYTES = 2 << 20
const TIMES = 2
/** How long it is watched while nothing is to happen. */
const WATCHED_MS = 300

async function assertStands({ vm }: StockGuest): Promise<void> {
  const now = () => ({ ...standing(vm), ticks: vcpuTicks() })
  const before = now()
  assert.equal(before.state, 'paused')
  assert.ok(before.ticks > 0)
  await setTimeout(WATCHED_MS)
  assert.deepEqual(now(), before)
}

export function held(guest: Booted): void {
  describe('that is paused', () => {
    /** Bytes that passed its tap, both ways. */
    const moved = () => {
      const { rx_bytes, tx_bytes } = guest().netlink.getLink({ ifname: guest().nics[0]!.backend.ifname })!.stats
      return Number(rx_bytes) + Number(tx_bytes)
    }

    const holdAmid = async (traffic: Promise<void>) => {
      // Its failure would be nobody's while this one waits for it to begin.
      const done = traffic.then(
        () => undefined,
        (error: unknown) => error,
      )
      for (let time = 0; time < TIMES; time++) {
        const before = moved()
        await soon('traffic', () => moved() - before > SOME_BYTES, 60)
        guest().vm.pause()
        try {
          await assertStands(guest())
        } finally {
          guest().vm.resume()
        }
      }
      const error = await done
      if (error !== undefined) throw error
    }

    it(`${TIMES} times while it receives runs on none of its processors meanwhile, and gets every byte as it was sent`, () =>
      holdAmid(guestReceives(guest(), HOST, MEBIBYTES)))

    it(`${TIMES} times while it sends, likewise`, () => holdAmid(guestSends(guest(), HOST, MEBIBYTES)))

    it('by who hears it speak stands in the middle of that', async () => {
      const { vm } = guest()
      const heard = new Promise<void>((resolve) => {
        vm.console.once('data', () => {
          vm.pause()
          resolve()
        })
      })
      const lines = Array.from({ length: 1000 }, (_, i) => i + 1)
      const said = guest().run(`seq ${lines.length}`)
      await heard
      try {
        await assertStands(guest())
      } finally {
        vm.resume()
      }
      assert.equal(await said, lines.map((line) => `${line}\n`).join(''))
    })

    it('several times over goes on the first time that it may', async () => {
      const { vm } = guest()
      for (let time = 0; time < 3; time++) vm.pause()
      await assertStands(guest())
      vm.resume()
      vm.resume()
      assert.equal(await guest().run('echo on'), 'on\n')
      assert.equal(vm.inspect().state, 'running')
    })
  })
}
