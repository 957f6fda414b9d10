// The result of `vhost-net loop`: its sums, its verdict, its subnet and its options.

import assert from 'node:assert/strict'
import fc from 'fast-check'
import { UsageError } from '../../lib/cli/command.ts'
import { parseOptions } from '../../lib/cli/loop/options.ts'
import {
  conserveRx,
  conserveTx,
  type Measured,
  type PairReport,
  pingReport,
  positionsAgree,
  type RingReport,
  report,
  type TapCounters,
} from '../../lib/cli/loop/report.ts'
import {
  addressesBeside,
  type Cidr,
  chooseSubnet,
  formatCidr,
  networkOf,
  networkSize,
  overlap,
  parseCidr,
} from '../../lib/cli/loop/subnet.ts'
import { resultLines } from '../../lib/cli/loop/table.ts'

function ring(available: number, used = available): RingReport {
  const [availIdx, usedIdx] = [available % 0x10000, used % 0x10000]
  const vhostBase = usedIdx
  return {
    available,
    used,
    frames: used,
    bytes: 60 * used,
    kicks: 3,
    kicksSuppressed: 2,
    calls: 1,
    availIdx,
    usedIdx,
    vhostBase,
  }
}

function pair(index: number, tx: number, rx: number): PairReport {
  return {
    index,
    mac: '02:76:6e:74:00:00',
    address: '10.255.0.2',
    hostMac: '52:54:00:00:00:01',
    ping: pingReport({ sent: 5, rttUs: [5, 1, 2, 4, 3], receivedOn: [index, index, index, index, index], corrupt: 0 }),
    bulk: { sent: 10, answered: 10, corrupt: 0, unexpected: 0, lost: 0 },
    tx: ring(tx),
    rx: ring(rx + 256, rx),
    received: { arp: 1, echo: rx - 1, other: 0 },
  }
}

function counters(rx_packets: number, tx_packets: number): TapCounters {
  const zero = {
    rx_bytes: 0,
    rx_errors: 0,
    rx_dropped: 0,
    rx_frame_errors: 0,
    tx_bytes: 0,
    tx_errors: 0,
    tx_dropped: 0,
  }
  return { ...zero, rx_packets, tx_packets }
}

function measured(pairs: PairReport[], tap: TapCounters): Measured {
  return {
    kernel: { sysname: 'Linux', release: '6.1', version: '#1', machine: 'x86_64' },
    features: ['VIRTIO_F_VERSION_1'],
    tap: { ifname: 'vnt0', mac: '52:54:00:00:00:01', address: '10.255.0.1/24', mtu: 1500, counters: tap },
    bulk: { milliseconds: 1000, payloadBytes: 1400, txFrames: 20, rxFrames: 20 },
    pairs,
    faults: [],
    unsettled: [],
  }
}

const good = (): Measured => measured([pair(0, 100, 90), pair(1, 70000, 65536)], counters(70100, 65626))

describe('conservation', () => {
  it('holds where every sum agrees, and only there', () => {
    const count = fc.nat(1e6)
    fc.assert(
      fc.property(
        fc.array(count, { minLength: 1 }),
        count,
        count,
        fc.integer({ min: -3, max: 3 }),
        (used, dropped, bad, off) => {
          const total = used.reduce((sum, n) => sum + n, 0)
          const tap = {
            ...counters(total - dropped - bad + off, total + off),
            rx_dropped: dropped,
            rx_frame_errors: bad,
          }
          const pairs = used.map((n, index) => ({ ...pair(index, n, n), rx: ring(n) }))
          assert.equal(conserveTx(pairs, tap).exact, off === 0)
          assert.equal(conserveRx(pairs, tap).exact, off === 0)
        },
      ),
    )
  })

  it('does not hold while the device has a chain, even if the tap counted it', () => {
    const tx = conserveTx([{ tx: ring(10, 9) }], counters(9, 0))
    assert.deepEqual([tx.available, tx.used, tx.exact], [10, 9, false])
  })
})

describe('ring positions', () => {
  it('agree modulo 65536, and with vhost', () => {
    assert.ok(positionsAgree(ring(70000)))
    assert.ok(positionsAgree(ring(65536 + 256, 65536)))
    assert.ok(!positionsAgree({ ...ring(10), vhostBase: 9 }))
    assert.ok(!positionsAgree({ ...ring(10), availIdx: 11 }))
    assert.ok(!positionsAgree({ ...ring(10), usedIdx: 9 }))
  })
})

describe('pingReport', () => {
  const of = (rttUs: number[]) => {
    const { minUs, medianUs, maxUs } = pingReport({ sent: 5, rttUs, receivedOn: [], corrupt: 0 })
    return [minUs, medianUs, maxUs]
  }

  it('gives minimum, median and maximum', () => {
    assert.deepEqual(of([50, 10, 30, 20, 40]), [10, 30, 50])
    assert.deepEqual(of([40, 10, 30, 20]), [10, 25, 40])
    assert.deepEqual(of([7]), [7, 7, 7])
  })

  it('gives none where nothing was answered', () => {
    assert.deepEqual(of([]), [null, null, null])
  })
})

describe('verdict', () => {
  const failures = (change: (m: Measured) => void): string[] => {
    const facts = good()
    change(facts)
    const { ok, failures } = report(facts).verdict
    assert.equal(ok, failures.length === 0)
    return failures
  }

  it('is good where everything agrees', () => {
    assert.deepEqual(
      failures(() => undefined),
      [],
    )
  })

  it('says each thing that is wrong', () => {
    const first = ({ pairs }: Measured): PairReport => pairs[0] as PairReport
    const cases: [change: (m: Measured) => void, text: RegExp][] = [
      [({ tap }) => tap.counters.rx_packets++, /^TX is not conserved$/],
      [({ tap }) => tap.counters.tx_packets--, /^RX is not conserved$/],
      [(m) => first(m).ping.answered--, /^pair 0: 4 of 5 pings/],
      [(m) => first(m).ping.corrupt++, /^pair 0: 1 ping replies were not/],
      [(m) => first(m).bulk.corrupt++, /^pair 0: 1 bulk echo replies were not/],
      [(m) => first(m).bulk.unexpected++, /^pair 0: 1 bulk echo replies nobody/],
      [(m) => Object.assign(first(m).bulk, { answered: 0, lost: 10 }), /^pair 0: none of 10 bulk/],
      [
        (m) => first(m).tx.vhostBase++,
        /^pair 0 tx: the ring's positions disagree \(avail\.idx 100, used\.idx 100, vhost base 101\)/,
      ],
      [(m) => m.faults.push({ pair: 1, ring: 'rx', errors: 2 }), /^pair 1 rx: vhost reported 2 errors$/],
      [(m) => m.unsettled.push('frames are missing'), /^frames are missing$/],
    ]
    for (const [change, text] of cases) {
      const found = failures(change)
      assert.equal(found.length, 1, String(text))
      assert.match(found[0] as string, text)
    }
  })

  it('does not mind losses that are counted', () => {
    assert.deepEqual(
      failures((m) => Object.assign((m.pairs[0] as PairReport).bulk, { answered: 8, lost: 2 })),
      [],
    )
  })
})

describe('the table', () => {
  const plain = (text: string): string => text

  it('shows the sums and fits 100 columns', () => {
    const lines = resultLines(report(good()), { good: plain, bad: plain, strong: plain })
    assert.ok(
      lines.includes('TX  70100 available = 70100 used = 70100 rx_packets + 0 rx_dropped + 0 rx_frame_errors  exact'),
    )
    assert.ok(lines.includes('RX  65626 used, not discarded = 65626 tx_packets  exact'))
    for (const line of lines) assert.ok(line.length <= 100, line)
  })

  it('parts large counts by thousands', () => {
    const lines = resultLines(report(good()), { good: plain, bad: plain, strong: plain })
    assert.ok(lines.some((line) => /^ sum +tx +70,100 +4,206,000 /.test(line)))
    assert.ok(lines.some((line) => /^ +rx +65,626 +3,937,560 /.test(line)))
  })

  it('marks what is not exact', () => {
    const facts = good()
    facts.tap.counters.tx_packets++
    const text = resultLines(report(facts), { good: plain, bad: (t) => `<${t}>`, strong: plain }).join('\n')
    assert.match(text, /65627 tx_packets {2}<NOT EXACT>/)
    assert.match(text, /<FAILED {2}RX is not conserved>/)
  })
})

describe('subnets', () => {
  const cidr = fc.record({
    address: fc.integer({ min: 0, max: 0xffffffff }),
    prefixLength: fc.integer({ min: 8, max: 32 }),
  })

  it('overlap where they share an address', () => {
    const [from, to] = [(c: Cidr) => networkOf(c), (c: Cidr) => networkOf(c) + networkSize(c.prefixLength)]
    fc.assert(fc.property(cidr, cidr, (a, b) => assert.equal(overlap(a, b), from(a) < to(b) && from(b) < to(a))))
    assert.ok(overlap(parseCidr('10.9.0.1/24', 'a'), parseCidr('10.1.2.3/8', 'b')))
  })

  it('are chosen private, large enough, and apart from all in use', () => {
    assert.equal(formatCidr(chooseSubnet(4, []) as Cidr), '10.255.0.1/24')
    assert.equal(formatCidr(chooseSubnet(256, [parseCidr('10.255.3.1/24', 'a')]) as Cidr), '10.254.0.1/16')
    assert.equal(formatCidr(chooseSubnet(4, [parseCidr('10.0.0.1/8', 'a')]) as Cidr), '172.31.0.1/24')
    const all = ['10.0.0.1/8', '172.16.0.1/12', '192.168.0.1/16'].map((text) => parseCidr(text, 'a'))
    assert.equal(chooseSubnet(4, all), undefined)
  })

  it('have addresses beside the host that are neither it nor the network nor broadcast', () => {
    fc.assert(
      fc.property(fc.integer({ min: 2, max: 253 }), (host) => {
        const at = parseCidr(`192.168.7.${host}/24`, 'a')
        const others = addressesBeside(at, 253)
        assert.equal(new Set(others).size, 253)
        for (const other of others) {
          assert.ok(other !== at.address && other % 256 > 0 && other % 256 < 255)
        }
      }),
    )
  })
})

describe('options of vhost-net loop', () => {
  it('have defaults', () => {
    assert.deepEqual(parseOptions([]), {
      pairs: 4,
      seconds: 3,
      ifname: 'vnt%d',
      mtu: 1500,
      payloadBytes: 1400,
      address: undefined,
      json: false,
    })
    assert.equal(parseOptions(['--mtu', '576'])?.payloadBytes, 548)
    assert.equal(parseOptions(['--pairs', '3', '--help']), undefined)
  })

  it('are refused by name', () => {
    const wrong: [args: string[], option: string][] = [
      [['--pairs', '0'], '--pairs'],
      [['--pairs', '257'], '--pairs'],
      [['--pairs', '1.5'], '--pairs'],
      [['--pairs', '0x4'], '--pairs'],
      [['--pairs'], '--pairs'],
      [['--seconds', '-1'], '--seconds'],
      [['--seconds', 'soon'], '--seconds'],
      [['--mtu', '67'], '--mtu'],
      [['--mtu', '65522'], '--mtu'],
      [['--size', '1473'], '--size'],
      [['--size', '3'], '--size'],
      [['--ifname', 'much-too-long-name'], '--ifname'],
      [['--ifname', 'a/b'], '--ifname'],
      [['--address', '10.0.0.1'], '--address'],
      [['--address', '10.0.0.0/24'], '--address'],
      [['--address', '10.0.0.999/24'], '--address'],
      [['--address', '10.0.0.1/30'], '--address'],
      [['--json=yes'], '--json'],
      [['--bogus'], '--bogus'],
      [['surplus'], 'surplus'],
    ]
    for (const [args, option] of wrong) {
      assert.throws(
        () => parseOptions(args),
        (error) => error instanceof UsageError && error.message.includes(option) && error.usage.startsWith('Usage:'),
        args.join(' '),
      )
    }
  })
})
