// A network device each of whose system calls fails in turn, with what the kernel says where files, memory or rights are
// missing: opening it, a driver's start, its commands, and what is changed while it runs.

import assert from 'node:assert/strict'
import { constants } from 'node:os'
import { SystemCallError } from '../../lib/errors.ts'
import { failureOf, moves } from '../support/bring-up.ts'
import { type RecordedCall, recording } from '../support/failing-binding.ts'
import { KernelNic } from '../support/kernel-nic.ts'
import { leavesNothing } from '../support/leaves-nothing.ts'
import { openFiles } from '../support/resources.ts'
import { runWithFiles } from '../support/run-scenario.ts'

const ifname = 'vnf0'
const ERRNOS = ['EMFILE', 'ENOMEM', 'EPERM', 'EBUSY'] as const
type Errno = (typeof ERRNOS)[number]
/** `ERRNOS=all`: each call fails with each of them, else they take turns. */
const ALL = process.env.ERRNOS === 'all'

/** Events and news: this process reads and writes them all the time, and they take nothing of what may run out. */
const EVENTS = new Set<string>(['eventfdRead', 'eventfdWrite', 'pollerRearm'])
const counts = ({ name, release }: RecordedCall): boolean => !release && !EVENTS.has(name)

interface Outcome {
  /** Which call failed: `'TUNSETQUEUE EPERM'`. */
  step: string
  code: Errno
  error: unknown
}

/** Does it with its first call failing, and again with the next one, until it is done with none left to fail. */
async function failEach(body: () => unknown, check: (outcome: Outcome) => unknown): Promise<number> {
  let failed = 0
  for (const first of ALL ? ERRNOS.keys() : [0]) {
    for (let n = 1; ; n++) {
      const code = ERRNOS[(first + (ALL ? 0 : n)) % ERRNOS.length]!
      let left = n
      let step: string | undefined
      const error = await recording((record) => {
        record.failWhen((call) => {
          if (!counts(call) || --left !== 0) return false
          step = `${call.syscall} ${code}`
          return true
        }, constants.errno[code])
        return failureOf(body)
      })
      if (step === undefined) {
        assert.equal(error, undefined)
        break
      }
      failed++
      await check({ step, code, error })
    }
  }
  return failed
}

const isRefused = ({ step, code, error }: Outcome): void => {
  assert.ok(error instanceof SystemCallError, `${step}: ${error}`)
  assert.equal(`${error.syscall} ${error.code}`, `${step}`)
  assert.ok(error.code === code && error.message.length > 0, step)
}

describe('a network device, each of whose system calls fails in turn', function () {
  this.timeout(180_000)
  const closing = leavesNothing()

  async function open(): Promise<KernelNic> {
    const machine = await KernelNic.open({ ifname, queuePairs: 2 })
    closing.add(() => machine[Symbol.dispose]())
    return machine
  }

  it('is not opened, says which call it was, and leaves nothing', async () => {
    const before = openFiles().sort()
    const opened: string[] = []
    const failed = await failEach(
      async () => {
        const machine = await KernelNic.open({ ifname })
        machine[Symbol.dispose]()
      },
      (outcome) => {
        // What is opened all the same does without.
        if (outcome.error === undefined) opened.push(outcome.step)
        else isRefused(outcome)
        assert.deepEqual(openFiles().sort(), before, outcome.step)
      },
    )
    console.log(`      ${failed} calls failed; done without: ${opened.join(', ')}`)
    assert.ok(failed > 30, `${failed} calls`)
  })

  it('has the next driver begin anew where it does not start, and works with that one', async () => {
    const machine = await open()
    const faults: string[] = []
    machine.nic.on('fault', ({ message }) => faults.push(message))
    const failed = await failEach(
      () => {
        machine.prepare()
        machine.guest.addStatus(4)
      },
      async ({ step }) => {
        const { fault, status } = machine.nic.inspect()
        assert.ok(fault === null || status.includes('NEEDS_RESET'), step)
        machine.up()
        assert.ok(await moves(machine.driver, 0), step)
      },
    )
    console.log(`      ${failed} calls failed, ${faults.length} faults`)
  })

  /** What a driver asks for, with what it asked for before, which brings it back, too. */
  const COMMANDS: readonly (readonly [what: string, command: number[], before: number[][]])[] = [
    ['two pairs instead of one', [4, 0, 2, 0], [[4, 0, 1, 0]]],
    ['one pair instead of two', [4, 0, 1, 0], [[4, 0, 2, 0]]],
    ['no promiscuous mode', [0, 0, 0], [[0, 0, 1]]],
    [
      'another address',
      [1, 1, 0x52, 0x54, 0, 0, 0, 3],
      [
        [0, 0, 0],
        [1, 1, 0x52, 0x54, 0, 0, 0, 2],
      ],
    ],
    ['fewer offloads', [5, 0, 0x82, 0, 0, 0, 0, 0, 0, 0], [[5, 0, 2, 0, 0, 0, 0, 0, 0, 0]]],
  ]
  for (const [what, command, before] of COMMANDS) {
    it(`answers that it could not, or begins anew, and can the next time: ${what}`, async () => {
      const machine = await open()
      const prepare = async (step: string): Promise<void> => {
        for (const bytes of before) assert.ok(await machine.command(...bytes), step)
        assert.ok(await moves(machine.driver, 0), step)
      }
      machine.up()
      await prepare('before')
      let begunAnew = 0
      const failed = await failEach(
        async () => {
          if (!(await machine.command(...command))) throw new Error('VIRTIO_NET_ERR')
        },
        async ({ step, error }) => {
          const { fault, lastCommandError } = machine.nic.inspect()
          if (fault === null && error !== undefined) assert.ok(lastCommandError!.includes(step.split(' ')[0]!), step)
          if (fault !== null) {
            begunAnew++
            machine.up()
          }
          await prepare(step)
          assert.ok(await machine.command(...command), step)
          await prepare(step)
        },
      )
      console.log(`      ${failed} calls failed, ${begunAnew} times it began anew`)
      assert.ok(failed > 0)
    })
  }

  const CHANGES: readonly (readonly [what: string, change: (machine: KernelNic) => void])[] = [
    [
      'its link',
      ({ nic }) => {
        nic.setLink(false)
        nic.setLink(true)
      },
    ],
    [
      'how long its workers poll',
      ({ nic }) => {
        nic.backend.setPollUs(50)
        nic.backend.setPollUs(0)
      },
    ],
    [
      'the memory of its guest',
      ({ memory }) => {
        memory.addRegion({ guestAddress: 2 ** 32, size: 4096 })
        memory.removeRegion(2 ** 32)
      },
    ],
    ['the CPUs of a worker', ({ nic }) => nic.backend.pinWorker(0, [0])],
  ]
  for (const [what, change] of CHANGES) {
    it(`refuses the change, or begins anew, and takes it the next time: ${what}`, async () => {
      const machine = await open()
      machine.up()
      const failed = await failEach(
        () => change(machine),
        async (outcome) => {
          const { step, error } = outcome
          const { nic, memory } = machine
          if (error !== undefined) isRefused(outcome)
          if (nic.inspect().fault !== null) machine.up()
          if (memory.regions.length > 1) memory.removeRegion(2 ** 32)
          change(machine)
          assert.ok(await moves(machine.driver, 0), step)
        },
      )
      console.log(`      ${failed} calls failed`)
      assert.ok(failed > 0)
    })
  }

  it('is opened with just as many files as it takes; with one less the kernel says EMFILE, and nothing is left', async () => {
    const { status, output, stderr } = await runWithFiles(256, 'few-files', ifname)
    assert.deepEqual({ status, stderr }, { status: 0, stderr: '' })
    const { codes, left, works } = output as { codes: string[]; left: number[]; works: boolean }
    console.log(`      a device of 2 pairs and its driver take ${codes.length} files`)
    assert.deepEqual(
      codes,
      codes.map(() => 'EMFILE'),
    )
    assert.deepEqual(
      left,
      left.map(() => 0),
    )
    assert.ok(codes.length > 16 && works)
  })
})
