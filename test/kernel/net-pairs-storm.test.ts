// Queue pairs that come and go in full traffic, as a driver asks for them: nothing stands still, and what is lost is what
// the kernel throws away with a queue that is detached.

import assert from 'node:assert/strict'
import { RtNetlink } from '../../lib/host/index.ts'
import { PairsStorm, type Received } from '../support/pairs-storm.ts'

const PAIRS = 4
const SWITCHES = Number(process.env.PAIR_SWITCHES ?? 20)
/** Frames that vhost-net takes from a tap's queue at once, before it has looked for room (drivers/vhost/net.c). */
const VHOST_NET_BATCH = 64

/** What a queue may hold when it is detached: tx_queue_len frames, which netlink shows, and those that vhost had taken. */
function mostPurged(ifname: string): number {
  using netlink = RtNetlink.open()
  return (PAIRS - 1) * (netlink.getLink({ ifname })!.txqlen + VHOST_NET_BATCH)
}

describe('queue pairs of a virtio-net device in full traffic', function () {
  this.timeout(60_000 + SWITCHES * 3000)

  it(`[NET-CTRL-MQ-03] go from ${PAIRS} to 1 and back ${SWITCHES} times: no ring stands still, and none loses a frame`, async () => {
    await using storm = await PairsStorm.open(PAIRS)
    const most = mostPurged(storm.nic.backend.ifname)
    const purged: number[] = []
    let sums = storm.received()
    const lost = ({ handed, received, dropped }: Received): number => handed - received - dropped
    storm.blow()
    await storm.flows(PAIRS)
    for (let switches = 0; switches < SWITCHES; switches += 2) {
      await storm.guest.setQueuePairs(1)
      await storm.flows(1)
      await storm.calm()
      const before = sums
      sums = storm.received()
      assert.equal(sums.received, storm.readByTap, 'the guest has all frames that were read from the tap')
      purged.push(lost(sums) - lost(before))
      storm.blow()
      await storm.guest.setQueuePairs(PAIRS)
      await storm.flows(PAIRS)
      if ((switches + 2) % 100 === 0) console.log(`      ${switches + 2} switches`)
    }
    assert.deepEqual(storm.nic.stats().commands, { MQ_VQ_PAIRS_SET: { ok: SWITCHES + 1, err: 0 } })
    const { available, used, byTap } = await storm.sent()
    assert.deepEqual({ used, byTap }, { used: available, byTap: available })

    const { handed, received, dropped } = sums
    console.log(`      the driver sent ${available} frames, and the tap counted as many`)
    console.log(`      the tap was handed ${handed}: the guest received ${received}, ${dropped} found its queues full`)
    console.log(`      purged with ${PAIRS - 1} queues, ${most} at most, at each switch: ${purged.join(' ')}`)
    for (const frames of purged) assert.ok(frames >= 0 && frames <= most, `${frames} frames purged, at most ${most}`)
  })
})
