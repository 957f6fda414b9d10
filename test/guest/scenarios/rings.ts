// Rings that are made anew with another size while packets pass (RING_RESET).

import assert from 'node:assert/strict'
import { type Booted, HOST } from './story.ts'

const SIZES = [64, 256, 128, 256]

export function rings(guest: Booted): void {
  describe('sets the sizes of its rings (ethtool -G)', () => {
    it('while it pings, and goes on with them', async () => {
      // So seldom that one is under way at a time.
      await guest().run(`ping -c 1000000 -i 0.1 ${HOST} > /tmp/ping & pinging=$!`)
      for (const size of SIZES) {
        await guest().run(`ethtool -G eth0 rx ${size} tx ${size}`)
        const { queues } = guest().nics[0]!.inspect()
        assert.deepEqual([queues[0]!.size, queues[1]!.size], [size, size])
        assert.match(await guest().run(`ping -c 3 -i 0.1 ${HOST}`), / 0% packet loss/)
      }
      const [, sent, received] = /(\d+) packets transmitted, (\d+) packets received/
        .exec(await guest().run('kill -INT $pinging; wait $pinging; cat /tmp/ping'))!
        .map(Number)
      // A ring that is reset loses what is in it: an answer on each way at most.
      assert.ok(received! > 0 && sent! - received! <= 2 * SIZES.length + 1, `${sent} sent, ${received} received`)
      assert.equal(guest().nics[0]!.inspect().fault, null)
    })
  })
}
