// What is done to a NIC while it runs, again and again under traffic both ways: no ring stands still, every frame comes
// whole, once and in order, and only what a cable takes away with it is lost.

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { setImmediate } from 'node:timers/promises'
import { VhostNet } from '../../lib/host/index.ts'
import { LiveNic, type LiveSums } from '../support/live-nic.ts'

const PAIRS = 4
const ROUNDS = Number(process.env.LIVE_ROUNDS ?? 5)

/** Microseconds for which a worker polls for each of its rings, as the kernel says. */
function pollUs(fd: number): number[] {
  const vhost = VhostNet.fromFd(fd)
  try {
    return [vhost.getVringBusyloopTimeout(0), vhost.getVringBusyloopTimeout(1)]
  } finally {
    vhost.detach()
  }
}

/** The CPUs that a thread may run on, as the kernel says. */
function cpusOf(tid: number | string): number[] {
  const [, list] = /^Cpus_allowed_list:\s+(\S+)$/m.exec(readFileSync(`/proc/${tid}/status`, 'utf8'))!
  return list!.split(',').flatMap((range) => {
    const [first, last = first] = range.split('-').map(Number) as [number, number?]
    return Array.from({ length: last! - first + 1 }, (_, i) => first + i)
  })
}

interface Operation {
  name: string
  /** Whether frames to the guest may be lost. */
  lossy: boolean
  /** Resolves once it is done, and its effect was seen. */
  operate: (live: LiveNic, round: number) => Promise<void> | void
}

const OPERATIONS: readonly Operation[] = [
  {
    name: 'held and let go',
    lossy: false,
    operate: async ({ nic }) => {
      nic.pause()
      nic.pause()
      assert.equal(nic.inspect().paused, true)
      const used = (): unknown => nic.queues.map((queue) => queue.usedIndex())
      const standing = used()
      // Its driver fills its rings meanwhile, and kicks them.
      for (let turns = 0; turns < 5; turns++) await setImmediate()
      assert.deepEqual(used(), standing)
      nic.resume()
      nic.resume()
      assert.equal(nic.inspect().paused, false)
    },
  },
  {
    name: 'told to poll, by the pair or all at once',
    lossy: false,
    operate: ({ nic: { backend } }, round) => {
      const poll_us = round % 2 === 0 ? 50 : 0
      if (round % 3 === 0) backend.setPollUs(poll_us)
      else for (let pair = 0; pair < PAIRS; pair++) backend.setPollUs(poll_us + pair, pair)
      for (const { pair, fds } of backend.inspect().pairs) {
        const expected = poll_us + (round % 3 === 0 ? 0 : pair)
        assert.deepEqual(pollUs(fds!.vhost), [expected, expected])
      }
    },
  },
  {
    name: 'kept to a CPU, and to another',
    lossy: false,
    operate: ({ nic: { backend } }, round) => {
      const cpus = cpusOf('self')
      for (const { pair, worker } of backend.inspect().pairs) {
        const wanted = round % 3 === 2 ? cpus : [cpus[(round + pair) % cpus.length]!]
        backend.pinWorker(pair, wanted)
        assert.deepEqual(cpusOf(worker!.tid), wanted)
        assert.deepEqual(backend.inspect().pairs[pair]!.worker, { tid: worker!.tid, cpus: wanted })
      }
    },
  },
  {
    name: 'asked to announce itself',
    lossy: false,
    operate: async (live) => {
      assert.equal(live.nic.announce(), true)
      await live.until('the announcement', () => !live.nic.inspect().link.announcing)
    },
  },
  {
    name: 'without its cable, and with it',
    lossy: true,
    operate: async ({ nic, guest }) => {
      nic.setLink(false)
      assert.deepEqual([nic.inspect().link.up, nic.backend.running(0)], [false, false])
      await setImmediate()
      nic.setLink(true)
      assert.equal(nic.inspect().link.up, true)
      assert.equal(guest.pairs.length, PAIRS)
    },
  },
  {
    name: 'on another tap',
    lossy: true,
    operate: async (live, round) => {
      const ifname = `vnm${round}`
      await live.nic.swapTap({ fds: await live.plugTap(ifname) })
      assert.equal(live.nic.backend.ifname, ifname)
    },
  },
]

for (const lossy of [false, true]) {
  const what = lossy ? 'and loses what a cable takes with it' : 'and loses nothing'

  describe(`a NIC that is operated on in full traffic ${what}`, function () {
    this.timeout(60_000 + ROUNDS * 5000)
    let live: LiveNic
    let last: LiveSums

    before('moves packets', async () => {
      live = await LiveNic.open(PAIRS, { lossy })
      last = await live.settle()
    })

    after(() => live?.[Symbol.asyncDispose]())

    for (const { name, operate } of OPERATIONS.filter((operation) => operation.lossy === lossy)) {
      it(`is ${name}, ${ROUNDS} times`, async () => {
        for (let round = 0; round < ROUNDS; round++) {
          await operate(live, round)
          await live.flows()
        }
        const now = await live.settle()
        const count = (what: keyof LiveSums): number => now[what] - last[what]
        console.log(
          `      ${count('fromGuest')} frames from the guest, all came; ${count('toGuest')} to it, ${count('lost')} lost`,
        )
        assert.equal(now.droppedByPeer, 0)
        if (!lossy) assert.deepEqual([now.lost, now.dropped], [0, 0])
        last = now
      })
    }
  })
}
