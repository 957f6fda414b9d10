// The result of `npm start`: its sums, its verdict, its picture, its JSON document, and its options.

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { Ajv2020 } from 'ajv/dist/2020.js'
import { UsageError } from '../../lib/cli/command.ts'
import type { Measured } from '../../scripts/start/measured.ts'
import { parseOptions } from '../../scripts/start/options.ts'
import { pictureLines } from '../../scripts/start/picture.ts'
import { report, type StartReport } from '../../scripts/start/report.ts'
import { share } from '../../scripts/start/sums.ts'
import {
  changeLine,
  changesEnd,
  changesHead,
  dhcpLine,
  headLines,
  iperfLine,
  pingLines,
  rates,
  resultLines,
} from '../../scripts/start/text.ts'
import { measuredStart } from '../support/measured-start.ts'

const plain = (text: string): string => text
const noPaint = { good: plain, bad: plain, strong: plain }
const first = ({ pairs }: Measured) => pairs[0]!

describe('the sums of npm start', () => {
  const failuresOf = (change: (measured: Measured) => void): string[] => {
    const measured = measuredStart()
    change(measured)
    const { sums, verdict } = report(measured)
    assert.equal(verdict.ok, verdict.failures.length === 0)
    assert.equal(
      sums.every(({ holds }) => holds),
      !verdict.failures.some((text) => text.startsWith('does not hold: ')),
    )
    return verdict.failures
  }

  it('hold where all was done and everything agrees', () => {
    assert.deepEqual(
      failuresOf(() => undefined),
      [],
    )
  })

  it('count what the tap dropped as sent, but for its bytes', () => {
    const dropSome = ({ tap }: Measured) => {
      tap.rx_packets -= 5
      tap.rx_dropped = 3
      tap.rx_frame_errors = 2
      tap.rx_bytes -= 5000
    }
    assert.deepEqual(failuresOf(dropSome), [])
  })

  const wrong: [what: string, change: (measured: Measured) => void, text: RegExp][] = [
    ['a packet that the tap did not get', ({ tap }) => tap.rx_packets--, /packets sent by the guest = /],
    ['a packet that the guest did not get', ({ tap }) => tap.tx_packets++, /packets received by the guest = /],
    ['a byte too few', ({ tap }) => tap.rx_bytes--, /bytes sent by the guest = /],
    ['a byte too many', ({ tap }) => tap.tx_bytes--, /bytes received by the guest = /],
    ['a chain that did not come back', (m) => first(m).tx.packets++ && m.tap.rx_packets++, /used index of 3 of 4/],
    ['a ring that vhost left elsewhere', (m) => first(m).rx.vhostBase++, /7 of 8 rings are where/],
    ['interrupts elsewhere', (m) => (first(m).rx.interrupts[1]! += 500), /at least 71\.0 % of each ring/],
    ['no interrupt at all', (m) => first(m).tx.interrupts.fill(0), /at least 0\.0 % of each ring/],
    ['an exit', ({ exits }) => exits.registers++, /1 accesses to registers while iperf3 ran/],
    ['a ping lost on the way', ({ ping }) => ping.fromGuest[2]!.answered--, /from vCPU 2 of the guest 2 of 3 pings/],
    ['a ping to the guest lost', ({ ping }) => ping.fromHost.answered--, /from the host 2 of 3 pings/],
    ['queues that stayed', ({ changes }) => changes.steps[1]!.guest.tx++, /combined 2: 2 rx and 3 tx queues/],
    ['a queue of the tap that stayed', ({ changes }) => changes.steps[0]!.tap.attached++, /2 queues of the tap/],
    [
      'a pair that moved though not in use',
      ({ changes }) => (changes.steps[0]!.idleMoved = true),
      /another pair moved/,
    ],
    ['a pair that stood still', ({ changes }) => (changes.steps[3]!.sent[2] = 0), /pair 2 stood still/],
    ['a vCPU without traffic', ({ iperf }) => (iperf.toGuest.kbits[1] = 0), /to the guest: iperf3 on vCPU 1/],
    ['a worker of two pairs', (m) => (first(m).worker!.tid = m.pairs[1]!.worker!.tid), /share a worker: 4721, 4721/],
    ['a fault', ({ faults }) => faults.push('the device needs a reset'), /^the device needs a reset$/],
  ]
  for (const [what, change, text] of wrong) {
    it(`do not hold with ${what}`, () => {
      assert.ok(failuresOf(change).some((failure) => text.test(failure)))
    })
  }

  it('take a ring without interrupts for one whose vCPU had none', () => {
    assert.equal(share({ interrupts: [] }, 0), 0)
    assert.equal(share({ interrupts: [1, 3] }, 1), 0.75)
  })
})

describe('the picture of npm start', () => {
  it('has two lines for each vCPU, from its vectors to its queue of the tap', () => {
    assert.deepEqual(pictureLines(report(measuredStart())).slice(0, 6), [
      'guest                                                      │  host kernel',
      'vCPU     MSI-X      interrupts   on it  ring      packets  │  used.idx     vhost worker     tap vnt0',
      '   0 ◄┬─  1 irq 25       1,237  99.7 %  rx 0 ◄─    60,000 ◄┼─     4464 ◄┬─ vhost-4711   ◄┬─ queue 0',
      '      └─  2 irq 26       1,237  99.7 %  tx 0 ── 1,270,000 ─┼►    24816 ─┘  4720 1.23 s  ─┘  fd 31',
      '   1 ◄┬─  3 irq 27       1,237  99.7 %  rx 1 ◄─    60,001 ◄┼─     4465 ◄┬─ vhost-4711   ◄┬─ queue 1',
      '      └─  4 irq 28       1,237  99.7 %  tx 1 ── 1,270,001 ─┼►    24817 ─┘  4721 1.23 s  ─┘  fd 32',
    ])
  })

  it('says where a worker cannot be seen', () => {
    const measured = measuredStart()
    first(measured).worker = null
    assert.match(pictureLines(report(measured)).join('\n'), /not visible .*\n.*from here/)
  })

  it('fits 100 columns, with all that is told before and after it', () => {
    const result = report(measuredStart())
    const lines = [
      ...headLines(result),
      dhcpLine(result.dhcp),
      ...pingLines(result.ping),
      ...changesHead(),
      ...result.changes.steps.map(changeLine),
      changesEnd(result.changes.pings),
      iperfLine('guest → host', result.iperf.toHost),
      rates(result.tap, 1000),
      ...resultLines(result, noPaint),
    ]
    for (const line of lines) assert.ok(line.length <= 100, `${line.length} columns: ${line}`)
  })

  it('marks what does not hold', () => {
    const measured = measuredStart()
    measured.tap.tx_packets++
    const lines = resultLines(report(measured), { ...noPaint, bad: (text) => `<${text}>` })
    assert.ok(lines.some((line) => /^<WRONG> {2}240,006 packets received by the guest = 240,007/.test(line)))
    assert.ok(!lines.some((line) => line.includes('FAILED')))
  })

  it('says what was agreed on, what was left, and what was not offered and why', () => {
    const text = resultLines(report(measuredStart()), noPaint).join('\n')
    assert.match(text, /checksums +CSUM\n/)
    assert.match(text, /offered, not taken +RING_RESET\n/)
    assert.match(text, /RSS: no backend has hashes of frames/)
  })
})

describe('the JSON document of npm start', () => {
  const schema = JSON.parse(
    readFileSync(new URL('../../../scripts/start/start.schema.json', import.meta.url), 'utf8'),
  ) as object
  const validate = new Ajv2020({ allErrors: true, strict: true, allowUnionTypes: true }).compile(schema)
  const problems = (document: unknown): unknown[] => {
    validate(JSON.parse(JSON.stringify(document)))
    return validate.errors ?? []
  }

  it('is as its schema says, whether workers are visible or not', () => {
    assert.deepEqual(problems(report(measuredStart())), [])
    const hidden = measuredStart()
    first(hidden).worker = null
    hidden.ping.fromHost = { sent: 3, answered: 0, minMs: null, avgMs: null, maxMs: null }
    assert.deepEqual(problems(report(hidden)), [])
  })

  it('has nothing that its schema does not name, and lacks nothing that it does', () => {
    const document: StartReport = report(measuredStart())
    assert.notDeepEqual(problems({ ...document, more: 1 }), [])
    for (const name of Object.keys(document)) {
      const { [name as keyof StartReport]: _, ...rest } = document
      assert.notDeepEqual(problems(rest), [], name)
    }
  })
})

describe('the options of npm start', () => {
  it('have defaults', () => {
    assert.deepEqual(parseOptions([]), { kernel: '6.12', seconds: 4, ifname: 'vnt%d', json: false })
    assert.equal(parseOptions(['--help']), undefined)
  })

  it('are refused with the usage where they are wrong', () => {
    for (const args of [['--kernel', '5.4'], ['--seconds', '0'], ['--seconds', 'x'], ['--pairs', '2'], ['more']]) {
      assert.throws(
        () => parseOptions(args),
        (error) => error instanceof UsageError && error.usage.startsWith('Usage: npm start'),
        args.join(' '),
      )
    }
  })
})
