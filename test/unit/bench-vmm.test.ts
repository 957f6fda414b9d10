// What `npm run bench -- vmm` makes of what it reads and measures: counts, intervals, verdicts, a table that fits.

import assert from 'node:assert/strict'
import { median, medianInterval } from '../../scripts/bench/statistics.ts'
import { CONTENDERS, type Contender, commandOf, orderOf, quote } from '../../scripts/bench/vmm/contenders.ts'
import { type Counts, doorbells, ofThreads, sleepsOf } from '../../scripts/bench/vmm/counts.ts'
import { bareNodePss, summarize } from '../../scripts/bench/vmm/figures.ts'
import { exitCodeOf, judge } from '../../scripts/bench/vmm/goals.ts'
import type { VmmBench } from '../../scripts/bench/vmm/inside.ts'
import { parseSmaps } from '../../scripts/bench/vmm/memory.ts'
import { atSamePace, type Pair } from '../../scripts/bench/vmm/pace.ts'
import { plotVmm } from '../../scripts/bench/vmm/plot.ts'
import type { Boot, Moved } from '../../scripts/bench/vmm/round.ts'
import { differences, figure, tableOfVmm } from '../../scripts/bench/vmm/table.ts'
import { difference, firstTime, parseHistogram } from '../../scripts/bench/vmm/tracefs.ts'

const MiB = 2 ** 20
const guest = {
  kernel: '/tmp/vmlinux',
  initrd: '/tmp/initrd',
  append: 'console=ttyS0 quiet',
  smp: 1,
  memory: 512,
}

const counts = (facts: Partial<Counts> = {}): Counts => ({
  milliseconds: 2000,
  packets: 10_000,
  kicks: 100,
  calls: 200,
  exits: 5000,
  userExits: 0,
  wakeUps: 3,
  exitReasons: { 1024: 5000 },
  userExitReasons: {},
  ...facts,
})

interface Measured {
  boot: Boot
  moved: Moved
}

const measured = (answered: number, rate: number, facts: Partial<Counts> = {}): Measured => ({
  boot: {
    stages: { entered: answered / 10, probe: answered / 2, 'driver-ok': answered / 1.5, answered },
    pss: { total: 150 * MiB, ram: 100 * MiB },
    facts: { features: '1010', vectors: '4', rings: '256 256' },
  },
  moved: { rates: { 'udp-out': rate }, counts: { 'udp-out': counts(facts) } },
})

type Round = Record<Contender, Measured>

const each = <T>(round: Round, of: (measured: Measured) => T): Record<Contender, T> => ({
  ours: of(round.ours),
  pc: of(round.pc),
  microvm: of(round.microvm),
  'user-space': of(round['user-space']),
})

function benchOf(rounds: readonly Round[]): VmmBench {
  return {
    host: '6.12.0-test',
    node: 'v20.20.2',
    qemu: '7.2.22',
    settings: {
      boots: rounds.length,
      rounds: rounds.length,
      contenders: CONTENDERS,
      modes: ['udp-out'],
      kernel: '6.12',
      image: 'vmlinux',
      smp: 1,
      memory: 512,
      milliseconds: 2000,
    },
    commands: Object.fromEntries(CONTENDERS.map((each) => [each, quote(commandOf(each, guest))])),
    boots: rounds.map((round) => ({
      booted: each(round, ({ boot }) => boot),
      bareNode: { total: 40 * MiB, ram: 0 },
    })),
    traffic: rounds.map((round) => each(round, ({ moved }) => moved)),
    failures: [],
  }
}

const round = (scale: number): Round => ({
  ours: measured(700 * scale, 11_000 / scale),
  pc: measured(1000 * scale, 10_000 / scale),
  microvm: measured(800 * scale, 10_000 / scale),
  'user-space': measured(1000 * scale, 5000 / scale),
})

describe('the interval of a median', () => {
  it('lies between the second least and the second greatest of ten samples', () => {
    const { low, high, confidence } = medianInterval([10, 9, 8, 7, 6, 5, 4, 3, 2, 1])
    assert.deepEqual({ low, high }, { low: 2, high: 9 })
    assert.equal(confidence.toFixed(4), '0.9785')
  })

  it('has 95 % in it from six samples on, and says what it has before', () => {
    assert.equal(medianInterval([1, 2, 3, 4, 5, 6]).confidence, 1 - 2 / 64)
    assert.deepEqual(medianInterval([3, 1, 2]), { low: 1, high: 3, confidence: 0.75 })
    assert.deepEqual(medianInterval([7]), { low: 7, high: 7, confidence: 0 })
  })

  it('of more samples is narrower', () => {
    const samples = Array.from({ length: 21 }, (_, i) => i)
    const { low, high, confidence } = medianInterval(samples)
    assert.deepEqual({ low, high, median: median(samples) }, { low: 5, high: 15, median: 10 })
    assert.ok(confidence >= 0.95)
  })
})

describe('costs of a packet', () => {
  /** Two exits a packet, and 500 a second. */
  const exits = (pace: number, more = 1) => ({ count: 2 * more + 500 * pace, pace })

  it('are compared at the same pace: what clocks add to slower packets makes no difference', () => {
    const paces = [0.001, 0.004, 0.002, 0.01]
    const pairs = paces.map((pace): Pair => ({ ours: exits(pace * 3), theirs: exits(pace) }))
    const { value, low, high } = atSamePace(pairs)
    for (const each of [value, low, high]) assert.ok(Math.abs(each - 1) < 1e-9, String(each))
  })

  it('that are more are seen through the clocks', () => {
    const pairs = [0.001, 0.002, 0.0005].map((pace): Pair => ({ ours: exits(pace * 2, 1.5), theirs: exits(pace) }))
    const mean = (0.0035 / 3) * 1.5 * 500
    assert.ok(Math.abs(atSamePace(pairs).value - (3 + mean) / (2 + mean)) < 1e-9)
  })

  it('are compared as they are where all had one pace, or fewer come of a slower one', () => {
    const one = { ours: { count: 3, pace: 0.1 }, theirs: { count: 2, pace: 0.1 } }
    assert.equal(atSamePace([one, one]).value, 1.5)
    const falling = [0.1, 0.2].map(
      (pace): Pair => ({ ours: { count: 1 - pace, pace }, theirs: { count: 1 - pace, pace } }),
    )
    assert.equal(atSamePace(falling).value, 1)
  })
})

describe("the kernel's histograms", () => {
  const text = [
    '# event histogram',
    '#',
    '# trigger info: hist:keys=common_pid,type,gpa:vals=hitcount:sort=hitcount:size=4096 [active]',
    '#',
    '',
    '{ common_pid:        301, type:          1, gpa: 4276092976 } hitcount:          5',
    '{ common_pid:        301, type:          2, gpa: 4276092976 } hitcount:          7',
    '{ common_pid:        301, type:          2, gpa: 3221237760 } hitcount:         40',
    '{ common_pid:        302, type:          2, gpa: 3221237764 } hitcount:         60',
    '{ common_pid:        999, type:          2, gpa: 3221237764 } hitcount:          8',
    '',
    'Totals:',
    '    Hits: 112',
    '    Entries: 4',
    '    Dropped: 0',
  ].join('\n')

  it('are read with the fields of each key', () => {
    assert.deepEqual(
      [...parseHistogram(text)],
      [
        ['301,1,4276092976', 5],
        ['301,2,4276092976', 7],
        ['301,2,3221237760', 40],
        ['302,2,3221237764', 60],
        ['999,2,3221237764', 8],
      ],
    )
  })

  it("have kicks among a VMM's writes to memory that are not for an APIC", () => {
    assert.equal(doorbells(parseHistogram(text), new Set([300, 301, 302])), 100)
  })

  it("have one VMM's events apart from others'", () => {
    const exits = new Map([
      ['301,64', 3],
      ['302,64', 4],
      ['302,120', 1],
      ['999,64', 9],
    ])
    assert.deepEqual(
      [...ofThreads(exits, new Set([301, 302]))],
      [
        ['64', 7],
        ['120', 1],
      ],
    )
  })

  it('are what came between two readings', () => {
    const before = new Map([
      ['1', 5],
      ['2', 7],
    ])
    const after = new Map([
      ['1', 5],
      ['2', 9],
      ['3', 1],
    ])
    assert.deepEqual(
      [...difference(before, after)],
      [
        ['2', 2],
        ['3', 1],
      ],
    )
  })
})

describe('what is read of the host', () => {
  it('is the first time of an event', () => {
    const trace = [
      '# tracer: nop',
      '#           TASK-PID     CPU#  |||||  TIMESTAMP  FUNCTION',
      '          vcpu 0-321     [000] d.... 12345.678901: kvm_entry: vcpu 0, rip 0xfff0',
      '          vcpu 0-321     [000] d.... 12345.678999: kvm_entry: vcpu 0, rip 0xfff3',
    ].join('\n')
    assert.equal(firstTime(trace), 12_345_678_901_000n)
    assert.equal(firstTime('# tracer: nop\n'), undefined)
  })

  it('is how often a thread slept', () => {
    const status = 'Name:\tnode\nvoluntary_ctxt_switches:\t123\nnonvoluntary_ctxt_switches:\t4\n'
    assert.equal(sleepsOf(status), 123)
    assert.throws(() => sleepsOf('Name:\tnode\n'), /no voluntary_ctxt_switches/)
  })

  it("is memory, the guest's apart from the rest", () => {
    const smaps = [
      '55d0c0000000-55d0c0800000 r--p 00000000 00:13 12 /usr/bin/node',
      'Size:               8192 kB',
      'Pss:                4096 kB',
      'Pss_Dirty:             0 kB',
      '7f0000000000-7f0020000000 rw-s 00000000 00:01 77 /memfd:vhost-net-memory (deleted)',
      'Size:             524288 kB',
      'Pss:              102400 kB',
      '7f0040000000-7f0060000000 rw-p 00000000 00:00 0 ',
      'Size:             524288 kB',
      'Pss:                2048 kB',
      '7f0080000000-7f00a0000000 rw-p 00000000 00:00 0                          [anon:vhost-net-memory]',
      'Size:             524288 kB',
      'Pss:                3072 kB',
      '7f00c0000000-7f00e0000000 rw-p 00000000 00:00 0                          [heap]',
      'Size:             524288 kB',
      'Pss:                6144 kB',
      '7f0030000000-7f0030100000 rw-s 00000000 00:01 78 /memfd:other (deleted)',
      'Size:               1024 kB',
      'Pss:                1024 kB',
      '',
    ].join('\n')
    assert.deepEqual(parseSmaps(smaps, 512 * MiB), { total: 116 * MiB, ram: 105 * MiB })
  })
})

describe('the contenders', () => {
  it('are given the same guest, rings and vectors', () => {
    for (const contender of CONTENDERS) {
      const command = commandOf(contender, { ...guest, smp: 2 }).join(' ')
      for (const word of [
        '/tmp/vmlinux',
        '/tmp/initrd',
        'console=ttyS0 quiet',
        `ifname=bench${CONTENDERS.indexOf(contender)}`,
        'queues=2',
      ]) {
        assert.ok(command.includes(word), `${contender}: ${word}`)
      }
      assert.match(command, /netdev=n0,mac=[\da-f:]+,vectors=6,rx_queue_size=256,tx_queue_size=256,guest_ufo=off,mq=on/)
    }
  })

  it('take turns in being the first', () => {
    assert.deepEqual(
      [0, 1, 2, 3, 4].map((i) => orderOf(i)[0]),
      [...CONTENDERS, CONTENDERS[0]],
    )
    assert.deepEqual(orderOf(3), ['user-space', 'ours', 'pc', 'microvm'])
  })

  it('have command lines that can be typed', () => {
    assert.equal(quote(['a=1,b', 'b c', "d'e", '$f']), `a=1,b "b c" "d'e" '$f'`)
  })
})

describe('the figures of the VMM bench', () => {
  const bench = benchOf([round(1), round(1.1), round(3), round(0.9), round(1), round(1.2)])

  it('are medians, and ratios by rounds: a round that is slow on both sides changes none', () => {
    const answered = summarize(bench).find(({ id }) => id === 'answered')!
    assert.ok(Math.abs(answered.values.ours! - 735) < 1e-9)
    const { low, value, high } = answered.ratios.pc!
    assert.deepEqual(
      [low, value, high].map((value) => value.toFixed(6)),
      ['0.700000', '0.700000', '0.700000'],
    )
    assert.equal(answered.ratios.microvm!.value.toFixed(3), '0.875')
  })

  it('have costs of a packet, and none where nothing was measured', () => {
    const lines = summarize(bench)
    assert.equal(lines.find(({ id }) => id === 'udp-out exits')!.values.pc, 0.5)
    assert.equal(lines.find(({ id }) => id === 'udp-out userExits')!.ratios.pc!.value, 1)
    assert.equal(
      lines.find(({ id }) => id.startsWith('tcp-in')),
      undefined,
    )
    assert.equal(bareNodePss(bench), 40)
  })

  it('are all reached where ours are as good', () => {
    const verdicts = judge(bench)
    assert.deepEqual(
      verdicts.filter(({ reached }) => !reached),
      [],
    )
    assert.equal(verdicts.length, 5 + 2 + 2 + 1)
    assert.equal(exitCodeOf(verdicts), 0)
  })

  it('fail where a packet of ours costs more, or wakes somebody', () => {
    for (const [facts, what] of [
      [{ kicks: 106 }, 'UDP from the guest: kicks / QEMU pc'],
      [{ exits: 5300 }, 'UDP from the guest: KVM exits / QEMU pc'],
      [{ userExits: 1 }, 'UDP from the guest: user-space exits of a packet'],
      [{ wakeUps: 11 }, 'UDP from the guest: event-loop wake-ups of a packet'],
    ] as const) {
      const worse = benchOf([{ ...round(1), ours: measured(700, 11_000, facts) }])
      const missed = judge(worse).filter(({ shown, gate }) => gate && shown)
      assert.deepEqual(
        missed.map((each) => each.what),
        [what],
      )
      assert.equal(exitCodeOf(missed), 1)
    }
  })

  it('miss, and do not fail, where ours are slower', () => {
    const verdicts = judge(benchOf([{ ...round(1), ours: measured(900, 9000) }]))
    assert.deepEqual(
      verdicts.filter(({ reached }) => !reached).map(({ what }) => what),
      [
        'UDP from the guest / QEMU pc',
        'UDP from the guest / QEMU pc, upper end',
        'first ping answered / QEMU pc',
        'first ping answered / QEMU microvm',
      ],
    )
    assert.equal(exitCodeOf(verdicts), 0)
  })

  it('fit into 100 columns, with every command line and what guests found otherwise', () => {
    const other = round(1)
    other.microvm.boot.facts = { features: '1001', vectors: '3', rings: '256 512' }
    const unlike = benchOf([other])
    const table = tableOfVmm(unlike, summarize(unlike), judge(unlike))
    for (const line of table.split('\n')) assert.ok(line.length <= 100, `${line.length}: ${line}`)
    for (const word of [
      'first ping answered',
      'bare Node.js',
      '-M microvm,',
      'vhost=off',
      'dist/bin/vhost-net.cjs run',
    ]) {
      assert.ok(table.includes(word), word)
    }
    assert.deepEqual(differences(unlike), [
      'QEMU microvm: feature bits beside ours: -2 +3',
      'QEMU microvm: rings of 256 512, ours of 256 256',
      'QEMU microvm: 3 vectors, ours 4',
    ])
  })

  it('are written with three digits that count', () => {
    assert.deepEqual([0, 0.00012, 0.0123, 9.876, 123.4, 12345].map(figure), [
      '0',
      '1.2e-4',
      '0.0123',
      '9.88',
      '123',
      '12,345',
    ])
  })

  it('are a picture', () => {
    assert.match(plotVmm(bench, summarize(bench)), /^<svg .*QEMU microvm.*<\/svg>\n$/s)
  })
})
