// `vhost-net loop` as a user runs it, on the running kernel's vhost-net. Needs root.

import assert from 'node:assert/strict'
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { release } from 'node:os'
import { text } from 'node:stream/consumers'
import { Ajv2020 } from 'ajv/dist/2020.js'
import type { LoopReport } from '../../lib/cli/loop/report.ts'
import { RtNetlink } from '../../lib/host/rtnetlink.ts'
import { end, main, run, start } from '../support/command.ts'

const root = new URL('../../../', import.meta.url)
const schema = JSON.parse(readFileSync(new URL('lib/cli/loop.schema.json', root), 'utf8')) as object
const validate = new Ajv2020({ allErrors: true, strict: true, allowUnionTypes: true }).compile(schema)

function ifnames(): string[] {
  using netlink = RtNetlink.open()
  return netlink.listLinks().map(({ ifname }) => ifname)
}

function ip(...args: string[]): string {
  return execFileSync('ip', args, { encoding: 'utf8' })
}

async function runJson(...args: string[]): Promise<LoopReport> {
  const { code, stdout, stderr } = await run('loop', '--json', ...args)
  assert.equal(code, 0, stderr)
  const result: unknown = JSON.parse(stdout)
  assert.ok(validate(result), JSON.stringify(validate.errors, null, 2))
  return result as LoopReport
}

const total = (numbers: number[]): number => numbers.reduce((sum, number) => sum + number, 0)

/** Everything that must hold between the raw numbers of a good run, computed again. */
function checkNumbers({ pairs, tap, bulk, conservation, verdict, faults, unsettled }: LoopReport): void {
  assert.deepEqual({ verdict, faults, unsettled }, { verdict: { ok: true, failures: [] }, faults: [], unsettled: [] })
  const { rx_packets, rx_dropped, rx_frame_errors, rx_bytes, tx_packets, tx_bytes, tx_dropped } = tap.counters
  assert.equal(total(pairs.map(({ tx }) => tx.available)), rx_packets + rx_dropped + rx_frame_errors)
  assert.equal(total(pairs.map(({ tx }) => tx.used)), rx_packets + rx_dropped + rx_frame_errors)
  assert.equal(total(pairs.map(({ tx }) => tx.bytes)), rx_bytes)
  assert.equal(total(pairs.map(({ rx }) => rx.frames)), tx_packets)
  assert.equal(total(pairs.map(({ rx }) => rx.bytes)), tx_bytes)
  assert.ok(conservation.tx.exact && conservation.rx.exact && conservation.positionsAgree)
  // The host's own frames, neighbour discovery among them, can be dropped as well.
  assert.ok(total(pairs.map((pair) => pair.bulk.lost)) <= tx_dropped)
  assert.ok(bulk.txFrames > 0 && bulk.rxFrames > 0)
  for (const { ping, bulk, tx, rx, received, hostMac } of pairs) {
    assert.equal(hostMac, tap.mac)
    assert.equal(ping.answered, 5)
    assert.equal(ping.receivedOn.length, 5)
    assert.ok(ping.receivedOn.every((pair) => pair < pairs.length))
    assert.ok(bulk.answered > 0 && bulk.corrupt === 0 && bulk.unexpected === 0)
    assert.equal(bulk.sent, bulk.answered + bulk.lost)
    assert.equal(received.arp + received.echo + received.other, rx.frames)
    assert.equal(tx.availIdx, tx.available % 0x10000)
    assert.equal(tx.usedIdx, tx.availIdx)
    assert.equal(tx.vhostBase, tx.availIdx)
    assert.equal(rx.vhostBase, rx.used % 0x10000)
    assert.ok(tx.kicks > 0 && tx.calls > 0 && rx.kicks > 0 && rx.calls > 0)
  }
  const echoes = total(pairs.map(({ received }) => received.echo))
  assert.equal(echoes, total(pairs.map(({ ping, bulk }) => ping.answered + bulk.answered)))
}

describe('vhost-net loop', () => {
  let before: string[]

  beforeEach(() => {
    before = ifnames()
  })

  afterEach(() => {
    assert.deepEqual(ifnames(), before, 'no tap is left')
  })

  for (const pairs of [1, 2, 4]) {
    it(`moves frames over ${pairs} pairs, and every count agrees`, async () => {
      const result = await runJson('--seconds', '1', '--pairs', String(pairs))
      assert.equal(result.pairs.length, pairs)
      checkNumbers(result)
    })
  }

  it('does so with jumbo frames and with the smallest', async () => {
    const jumbo = await runJson('--seconds', '0.3', '--pairs', '2', '--mtu', '9000', '--size', '8972')
    assert.equal(jumbo.tap.mtu, 9000)
    checkNumbers(jumbo)
    checkNumbers(await runJson('--seconds', '0.3', '--pairs', '2', '--size', '4'))
  })

  it('uses the name and the address it is given', async () => {
    const { tap, pairs } = await runJson(
      '--seconds',
      '0.1',
      '--pairs',
      '2',
      '--ifname',
      'loopt0',
      '--address',
      '10.77.0.2/28',
    )
    assert.equal(tap.ifname, 'loopt0')
    assert.equal(tap.address, '10.77.0.2/28')
    assert.deepEqual(
      pairs.map(({ address }) => address),
      ['10.77.0.1', '10.77.0.3'],
    )
  })

  it('tells people the same, without colours where nobody sees them', async () => {
    const { code, stdout, stderr } = await run('loop', '--seconds', '0.2', '--pairs', '2')
    assert.equal(code, 0, stderr)
    assert.ok(!`${stdout}${stderr}`.includes('\x1b'))
    assert.match(stdout, /^pair 1 {2}[\d.]+ {2}5 of 5 pings answered {2}RTT min\/median\/max \d+\/\d+\/\d+ µs/m)
    const [, available, used, packets] =
      /^TX {2}(\d+) available = (\d+) used = (\d+) rx_packets .* exact$/m.exec(stdout) ?? []
    assert.ok(Number(available) > 10)
    assert.deepEqual([used, packets], [available, available])
    assert.match(stdout, /^RX {2}(\d+) used, not discarded = \1 tx_packets {2}exact$/m)
    assert.ok(
      stdout.split('\n').some((line) => line.startsWith(`Linux ${release()} `)),
      stdout,
    )
  })

  for (const [signal, exitCode] of [
    ['SIGINT', 130],
    ['SIGTERM', 143],
  ] as const) {
    it(`unwinds everything on ${signal} and exits with ${exitCode}`, async () => {
      const child = start('loop', '--seconds', '60', '--pairs', '2', '--ifname', 'loopt0')
      const ended = end(child)
      // The first progress line: it is in the middle of the bulk traffic.
      await once(child.stderr, 'data')
      assert.ok(ifnames().includes('loopt0'))
      child.kill(signal)
      const { code, stderr } = await ended
      assert.equal(code, exitCode, stderr)
      assert.match(stderr, new RegExp(`interrupted by ${signal}`))
    })
  }

  it('unwinds everything when nobody reads its output any more, and exits with 141', async () => {
    const child = start('loop', '--seconds', '60', '--pairs', '2', '--ifname', 'loopt2')
    const exited = once(child, 'close') as Promise<[number | null, NodeJS.Signals | null]>
    const stderr = text(child.stderr)
    await once(child.stdout, 'data')
    child.stdout.destroy()
    const [code] = await exited
    assert.equal(code, 141, await stderr)
    assert.match(await stderr, /interrupted by SIGPIPE/)
  })

  it('puts a tap that was there before back as it was', async () => {
    ip('tuntap', 'add', 'dev', 'loopt1', 'mode', 'tap', 'multi_queue', 'vnet_hdr')
    try {
      // The kernel gives it a queueing discipline when it is first up, and leaves it that.
      const shown = () => ({
        ...(JSON.parse(ip('-j', '-d', 'address', 'show', 'dev', 'loopt1')) as [object])[0],
        qdisc: '',
      })
      const was = shown()
      checkNumbers(await runJson('--seconds', '0.2', '--pairs', '2', '--ifname', 'loopt1', '--mtu', '1400'))
      // Again: its counters go on from where they were.
      checkNumbers(await runJson('--seconds', '0.2', '--pairs', '2', '--ifname', 'loopt1'))
      assert.deepEqual(shown(), was)
    } finally {
      ip('link', 'delete', 'loopt1')
    }
  })

  it('says what is in the way, and how to get it out', async () => {
    const lo = await run('loop', '--address', '127.0.0.2/8')
    assert.deepEqual([lo.code, lo.stdout], [2, ''])
    assert.match(lo.stderr, /^vhost-net: --address: 127\.0\.0\.2\/8 overlaps with 127\.0\.0\.1\/8 of lo\n {2}Choose/)
    const notTap = await run('loop', '--ifname', 'lo')
    assert.equal(notTap.code, 2)
    assert.match(notTap.stderr, /^vhost-net: tap\.ifname: 'lo' is a .*not a tap/)
  })

  it('exits with 1 and says what failed where the host answers no pings', async () => {
    // In a network namespace of its own: nobody else's pings are to fail.
    const script = `echo 1 >/proc/sys/net/ipv4/icmp_echo_ignore_all && exec "$0" "$@"`
    const command = [process.execPath, main, 'loop', '--json', '--pairs', '1', '--seconds', '0.1']
    const { code, stdout, stderr } = await end(spawn('unshare', ['-n', 'sh', '-c', script, ...command]))
    assert.equal(code, 1, stderr)
    const result = JSON.parse(stdout) as LoopReport
    assert.ok(validate(result), JSON.stringify(validate.errors, null, 2))
    assert.ok(result.conservation.tx.exact && result.conservation.rx.exact)
    const [pings = '', bulk = '', ...rest] = result.verdict.failures
    assert.match(pings, /^pair 0: 0 of 5 pings were answered .*icmp_echo_ignore_all/)
    assert.match(bulk, /^pair 0: none of \d+ bulk echo requests was answered$/)
    assert.deepEqual(rest, [])
  })
})
