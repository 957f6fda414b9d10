// A link that goes and comes, again and again, amid traffic.

import assert from 'node:assert/strict'
import { guestReceives, guestSends } from '../../support/guest-bulk.ts'
import { type Booted, HOST, seesCarrier, tapOf } from './story.ts'

const TIMES = 10
const MEBIBYTES = 4

export function flaps(guest: Booted): void {
  describe('whose tap is switched off and on', () => {
    const changes = async () => Number(await guest().run('cat /sys/class/net/eth0/carrier_changes'))
    /** Linux takes news of a carrier once a second (net/core/link_watch.c), and sends nothing until then. */
    const isAnswered = () => guest().run(`until ping -c 1 -w 1 ${HOST}; do :; done`)
    const set = (up: boolean) => guest().netlink.setLink(tapOf(guest()), { up })

    it(`${TIMES} times while it sends sees its carrier go and come each time, and no packet is wrong afterwards`, async () => {
      const before = await changes()
      await guest().run(`ping -c 1000000 -i 0.01 ${HOST} > /tmp/ping & pinging=$!`)
      for (let time = 0; time < TIMES; time++) {
        set(false)
        await seesCarrier(guest(), 0)
        set(true)
        await seesCarrier(guest(), 1)
      }
      await guest().try('kill -INT $pinging; wait $pinging')
      await isAnswered()
      assert.equal((await changes()) - before, 2 * TIMES)
      await guestReceives(guest(), HOST, MEBIBYTES)
      await guestSends(guest(), HOST, MEBIBYTES)
      assert.equal(guest().nics[0]!.inspect().fault, null)
    })

    it(`${TIMES} times in a row, faster than it looks, has its carrier in the end`, async () => {
      for (let time = 0; time < TIMES; time++) {
        set(false)
        set(true)
      }
      await isAnswered()
      await seesCarrier(guest(), 1)
      assert.equal(guest().nics[0]!.inspect().link.up, true)
    })
  })
}
