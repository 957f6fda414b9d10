// A vector for each queue: where its interrupts go, and that none is lost when that changes.

import assert from 'node:assert/strict'
import { guestInterrupts, since } from '../../../scripts/guest/interrupts.ts'
import { startIperfServer } from '../../../scripts/guest/iperf-server.ts'
import type { Server } from '../../../scripts/guest/server.ts'
import { type Booted, HOST, type Story } from './story.ts'

/** Of a queue's interrupts, those that are to come to its own processor. */
const OWN = 0.95
const FIRST_PORT = 5301
const ROUNDS = 10

const sum = (counts: readonly number[]): number => counts.reduce((all, count) => all + count, 0)

export function vectors(guest: Booted, { smp, queuePairs }: Story): void {
  describe('has a vector for each queue', () => {
    const servers: Server[] = []
    const each = Array.from({ length: queuePairs }, (_, i) => i)

    before(async () => {
      for (const i of each) servers.push(await startIperfServer(HOST, FIRST_PORT + i))
    })
    after(async () => {
      for (const server of servers) await server.stop()
    })

    /** Senders, each on a processor of its own. */
    const send = (size: string) => {
      const one = (i: number) =>
        `taskset ${(1 << i).toString(16)} iperf3 -c ${HOST} -p ${FIRST_PORT + i} -n ${size} > /tmp/out${i}`
      return guest().run(
        `${each.map((i) => `${one(i)} & p${i}=$!`).join('; ')}; ${each.map((i) => `wait $p${i}`).join(' && ')}`,
      )
    }

    it(`and ${OWN * 100} % of its interrupts come to the processor whose packets it has`, async () => {
      assert.equal(smp, queuePairs)
      await send('1M')
      const before = await guestInterrupts(guest(), 'virtio0-')
      await send('8M')
      const came = since(before, await guestInterrupts(guest(), 'virtio0-'))
      for (const i of each) {
        for (const queue of [`virtio0-input.${i}`, `virtio0-output.${i}`]) {
          const { counts } = came.get(queue)!
          assert.ok(sum(counts) > 0, `${queue} had no interrupt`)
          assert.ok(counts[i]! >= OWN * sum(counts), `${queue}: ${counts}`)
        }
      }
    })

    it('that goes on where it is sent to other processors amid traffic', async () => {
      const irqs = [...(await guestInterrupts(guest(), 'virtio0-')).values()].map(({ irq }) => irq)
      const masks = each.map((i) => (1 << i).toString(16))
      const rotate = `for round in $(seq ${ROUNDS}); do for mask in ${masks.join(' ')}; do for irq in ${irqs.join(' ')}; do echo $mask > /proc/irq/$irq/smp_affinity; done; done; done`
      const [before] = [await guestInterrupts(guest(), 'virtio0-')]
      await guest().run(`(${rotate}) & rotating=$!`)
      await send('8M')
      await guest().run('wait $rotating')
      const came = since(before, await guestInterrupts(guest(), 'virtio0-'))
      const used = each.filter((i) => [...came.values()].some(({ counts }) => counts[i]! > 0))
      assert.deepEqual(used, each)
      assert.equal(guest().nics[0]!.inspect().fault, null)
      await guest().run(
        `set -- ${irqs.slice(1).join(' ')}; ${each.map((i) => `echo ${masks[i]} > /proc/irq/$1/smp_affinity; echo ${masks[i]} > /proc/irq/$2/smp_affinity; shift 2`).join('; ')}`,
      )
    })
  })
}
