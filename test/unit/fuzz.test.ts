// What `npm run fuzz` draws and tells, without a kernel: the generator, the commands and their answers, the table.

import assert from 'node:assert/strict'
import { fuzzTable, isClean } from '../../scripts/fuzz/table.ts'
import { COMMANDS, drawCommand } from '../support/fuzz/commands.ts'
import { CAUSES, CAUSES_AFTER, COMMANDS_AFTER, Coverage } from '../support/fuzz/coverage.ts'
import { Random } from '../support/fuzz/random.ts'
import type { FuzzReport } from '../support/fuzz/run.ts'
import { NetRig } from '../support/net-rig.ts'
import { RecordingBackend } from '../support/recording-backend.ts'

const report: FuzzReport = {
  seed: 4_294_967_295,
  seconds: 300,
  episodes: 12_345,
  over: { mmio: 6000, pci: 6345 },
  lives: 24_000,
  driverOk: 11_000,
  moving: 10_000,
  revived: 12_345,
  packets: 1_000_000,
  operations: { registers: 1e6, descriptors: 1e6, publishes: 1e6, kicks: 1e6, memory: 1e6, total: 5e6 },
  commands: Object.fromEntries(COMMANDS.map((name) => [name, { ok: 1000, err: 1000 }])),
  causes: Object.fromEntries(CAUSES.map((cause) => [cause, 1000])),
  missed: [],
  failed: null,
}
const machine = { kernel: '6.12.117+deb13-amd64', lab: true, cpu: 'QEMU TCG CPU version 2.5+', cpus: 2 }

describe('what a fuzzer draws', () => {
  it('is the same for the same seed and episode, and another for any other', () => {
    const words = (seed: number, episode: number): number[] => {
      const random = new Random(seed, episode)
      return Array.from({ length: 8 }, () => random.word())
    }
    assert.deepEqual(words(1, 2), words(1, 2))
    const all = [words(1, 2), words(1, 3), words(2, 2), words(0, 0)].map((list) => list.join())
    assert.equal(new Set(all).size, all.length)
  })

  it('comes as often as it should', () => {
    const random = new Random(1, 1)
    const drawn = { often: 0, seldom: 0, never: 0 }
    for (let i = 0; i < 10_000; i++) drawn[random.weighted({ often: 9, seldom: 1, never: 0 })]++
    assert.ok(drawn.seldom > 800 && drawn.seldom < 1200 && drawn.never === 0, JSON.stringify(drawn))
    for (let i = 0; i < 1000; i++) {
      const value = random.between(3, 5)
      assert.ok(value >= 3 && value <= 5)
    }
  })

  it('is commands that a device answers as it is said that it must', async () => {
    const random = new Random(7, 7)
    const rig = new NetRig({}, new RecordingBackend({ queuePairs: 2 }))
    try {
      rig.up()
      const { offered } = rig.guest
      for (let i = 0; i < 300; i++) {
        const { name, bytes, answer } = drawCommand(random, offered)
        const { ack } = await rig.send(bytes)
        assert.equal(ack, answer, `${name} [${bytes}]`)
      }
    } finally {
      rig.close()
    }
  })
})

describe('the result of a fuzzer', () => {
  it('is clean where nothing failed and nothing was missed', () => {
    assert.ok(isClean(report))
    assert.ok(!isClean({ ...report, missed: ['no fault was unknown'] }))
    assert.ok(!isClean({ ...report, failed: { seed: 1, episode: 2, why: '', operations: [] } }))
  })

  it('misses what it did not see once it ran for long enough', () => {
    const coverage = new Coverage()
    assert.deepEqual(coverage.missed, ['packets moved in 0 % of the episodes'])
    Object.assign(coverage, { episodes: COMMANDS_AFTER, moving: COMMANDS_AFTER })
    assert.equal(coverage.missed.length, 2 * COMMANDS.length)
    for (const name of COMMANDS) for (const answer of [0, 1] as const) coverage.answered(name, answer)
    assert.deepEqual(coverage.missed, [])
    Object.assign(coverage, { episodes: CAUSES_AFTER, moving: CAUSES_AFTER })
    assert.equal(coverage.missed.length, CAUSES.length)
    for (const cause of CAUSES) coverage.fault(cause)
    assert.deepEqual(coverage.missed, [])
  })

  it('fits into 100 columns, and says how to see what failed again', () => {
    const why = 'queue 1: 3 of 4 used: not while its worker ran for 1004 ms'
    const failed = { seed: 17, episode: 4, why, operations: ['write status 0'] }
    const lines = fuzzTable({ ...report, failed, missed: ['no fault was unknown'] }, machine)
    for (const line of lines) assert.ok(line.length <= 100, line)
    assert.ok(lines.includes('Again:  --seed 17 --episode 4'))
    assert.equal(lines.at(-1), 'write status 0')
  })
})
