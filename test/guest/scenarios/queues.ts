// Queue pairs that come and go while packets pass.

import assert from 'node:assert/strict'
import { type Booted, HOST, type Story } from './story.ts'

const ROUNDS = 3

export function queues(guest: Booted, { queuePairs }: Story): void {
  describe('sets its queue pairs (ethtool -L)', () => {
    const counts = Array.from({ length: queuePairs }, (_, i) => i + 1)

    it(`to each of ${counts.join(', ')}, and the device follows`, async () => {
      for (const count of [...counts].reverse()) {
        // One that is current already changes nothing, which ethtool says by status 1 or 80.
        await guest().try(`ethtool -L eth0 combined ${count}`)
        assert.equal(guest().nics[0]!.inspect().activePairs, count)
        assert.match(await guest().run(`ping -c 3 -i 0.1 ${HOST}`), / 0% packet loss/)
      }
    })

    it('up and down while it pings, and loses no more than one packet for each that goes', async () => {
      await guest().run(`ping -c 1000000 -i 0.02 ${HOST} > /tmp/ping & echo $! > /tmp/pid`)
      for (let round = 0; round < ROUNDS; round++) {
        for (const count of [...counts, ...[...counts].reverse()])
          await guest().try(`ethtool -L eth0 combined ${count}`)
      }
      const [, sent, received] = /(\d+) packets transmitted, (\d+) packets received/
        .exec(await guest().run('kill -INT $(cat /tmp/pid); wait $(cat /tmp/pid); cat /tmp/ping'))!
        .map(Number)
      const purged = ROUNDS * (queuePairs - 1)
      // The last one may be under way.
      assert.ok(received! > 0 && sent! - received! <= purged + 1, `${sent} sent, ${received} received`)
      assert.equal((await guest().try(`ethtool -L eth0 combined ${queuePairs + 1}`)).status !== 0, true)
      await guest().try(`ethtool -L eth0 combined ${queuePairs}`)
      assert.equal(guest().nics[0]!.inspect().activePairs, queuePairs)
    })
  })
}
