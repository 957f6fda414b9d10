// What `npm start` reads in its guest: interrupts, counters, and what programs there say.

import assert from 'node:assert/strict'
import { NetlinkWriter } from '../../lib/host/netlink-message.ts'
import { parseInterrupts, since } from '../../scripts/guest/interrupts.ts'
import { familyRequest, queueStatsRequest } from '../../scripts/guest/netdev-genl.ts'
import { CounterReader } from '../../scripts/guest/queue-counters.ts'
import { parseQueues } from '../../scripts/start/changes.ts'
import { onlyCpu } from '../../scripts/start/pairs.ts'
import { onVcpu, parseIperf, parseLease, parsePing } from '../../scripts/start/traffic.ts'

const NEW = `           CPU0       CPU1       
  4:        900          0   IO-APIC   4-edge      ttyS0
 24:          0          1  PCI-MSIX-0000:00:01.0   0-edge      virtio0-config
 25:       1234          5  PCI-MSIX-0000:00:01.0   1-edge      virtio0-input.0
 26:          6        789  PCI-MSIX-0000:00:01.0   2-edge      virtio0-output.0
LOC:       4000       4001   Local timer interrupts
`
/** Before Linux 6.2 a message's number has the device in it: slot 1 here. */
const OLD = `           CPU0       
 26:         40   PCI-MSI 16387-edge      virtio0-input.1
`

describe("a guest's interrupts", () => {
  it('are found by name, each with its vector and its counts', () => {
    assert.deepEqual(
      [...parseInterrupts(NEW, 'virtio0-')],
      [
        ['virtio0-config', { irq: 24, vector: 0, counts: [0, 1] }],
        ['virtio0-input.0', { irq: 25, vector: 1, counts: [1234, 5] }],
        ['virtio0-output.0', { irq: 26, vector: 2, counts: [6, 789] }],
      ],
    )
  })

  it('have the same vectors in older kernels, and none where they are no messages', () => {
    assert.equal(parseInterrupts(OLD, 'virtio0-').get('virtio0-input.1')?.vector, 3)
    assert.deepEqual(parseInterrupts(NEW, 'ttyS').get('ttyS0'), { irq: 4, vector: undefined, counts: [900, 0] })
  })

  it('are counted from one moment to another', () => {
    const later = parseInterrupts(NEW.replace('1234', '1334'), 'virtio0-input')
    assert.deepEqual(since(parseInterrupts(NEW, 'virtio0-'), later).get('virtio0-input.0')?.counts, [100, 0])
    assert.deepEqual(since(new Map(), later).get('virtio0-input.0')?.counts, [1334, 5])
  })
})

describe("the counters of a guest's queues", () => {
  const OLD_NAMES = [
    'rx_queue_0_packets: 5',
    'rx_queue_0_bytes: 600',
    'rx_queue_0_xdp_packets: 9',
    'rx_queue_0_kicks: 1',
    'tx_queue_0_packets: 7',
    'tx_queue_0_bytes: 800',
    'tx_queue_0_kicks: 2',
  ]
  const NEW_NAMES = ['rx0_xdp_packets: 9', 'rx0_kicks: 1', 'tx0_kicks: 2', 'tx0_tx_timeouts: 0']
  const WHOLE = { rx: [{ packets: 5, bytes: 600, kicks: 1 }], tx: [{ packets: 7, bytes: 800, kicks: 2 }] }
  const ethtool = (lines: string[]) => lines.map((line) => `     ${line}\n`).join('')

  /** What socat prints in base64. */
  const messages = (...parts: Uint8Array[]) => `${Buffer.concat(parts).toString('base64')}\n`
  const genl = (type: number, write: (writer: NetlinkWriter) => NetlinkWriter) =>
    write(new NetlinkWriter().struct(new Uint8Array(4))).finish({ type, flags: 2, sequence: 0 })
  const DONE = new NetlinkWriter().struct(new Uint8Array(4)).finish({ type: 3, flags: 2, sequence: 0 })
  const uint64 = (value: bigint) => new Uint8Array(BigUint64Array.of(value).buffer)

  /** A guest of which each command is asked once for each answer. */
  const guestOf = (answers: Record<string, string>) => ({
    run: async (command: string) => {
      const found = Object.entries(answers).find(([part]) => command.includes(part))
      return found?.[1] ?? assert.fail(command)
    },
  })
  const FAMILY = Buffer.from(familyRequest()).toString('base64')
  const STATS = Buffer.from(queueStatsRequest(0x1c, 2)).toString('base64')
  const newGuest = (stats: string) =>
    guestOf({
      'ethtool -S eth0 ': ethtool(NEW_NAMES),
      [FAMILY]: messages(genl(0x10, (writer) => writer.attribute(1, Uint8Array.of(0x1c, 0)))),
      ifindex: '2\n',
      [STATS]: stats,
    })

  it('are all told by ethtool before Linux 6.10', async () => {
    assert.deepEqual(await new CounterReader(guestOf({ 'ethtool -S eth0 ': ethtool(OLD_NAMES) }), 'eth0').read(), WHOLE)
  })

  it('are told by netlink since then, in 4 bytes or 8', async () => {
    const stats = messages(
      genl(0x1c, (writer) => writer.u32(1, 2).u32(3, 0).u32(2, 0).u32(8, 5).attribute(9, uint64(600n))),
      genl(0x1c, (writer) => writer.u32(1, 2).u32(3, 0).u32(2, 1).u32(10, 7).u32(11, 800)),
      DONE,
    )
    assert.deepEqual(await new CounterReader(newGuest(stats), 'eth0').read(), WHOLE)
  })

  it('are missed where they are nowhere', async () => {
    const read = (stats: string) => new CounterReader(newGuest(stats), 'eth0').read()
    await assert.rejects(read(messages(DONE)), /does not count/)
    await assert.rejects(read(''), /answered not at all/)
    const refusal = new NetlinkWriter().struct(new Uint8Array(Int32Array.of(-95).buffer)).struct(new Uint8Array(16))
    await assert.rejects(read(messages(refusal.finish({ type: 2, flags: 0x100, sequence: 0 }))), /refused: -95/)
  })
})

describe('what programs of a guest say', () => {
  it('is understood: udhcpc', () => {
    const said = 'udhcpc: started, v1.35.0\nudhcpc: lease of 10.255.0.10 obtained from 10.255.0.1, lease time 3600\n'
    assert.deepEqual(parseLease(said), { address: '10.255.0.10', server: '10.255.0.1', leaseSeconds: 3600 })
    assert.throws(() => parseLease('udhcpc: no lease, failing\n'), /no address by DHCP:\nudhcpc: no lease/)
  })

  it('is understood: ping', () => {
    const sums = '3 packets transmitted, 2 packets received, 33% packet loss\n'
    const times = 'round-trip min/avg/max = 0.501/1.613/2.812 ms\n'
    assert.deepEqual(parsePing(sums + times), { sent: 3, answered: 2, minMs: 0.501, avgMs: 1.613, maxMs: 2.812 })
    assert.deepEqual(parsePing(sums.replace('2 packets', '0 packets')), {
      sent: 3,
      answered: 0,
      minMs: null,
      avgMs: null,
      maxMs: null,
    })
    assert.throws(() => parsePing('ping: sendto: Network is unreachable'), /unreachable/)
  })

  it('is understood: iperf3, by what arrived', () => {
    const said =
      '[  5]   0.00-4.00   sec  9.12 MBytes  19122 Kbits/sec    0             sender\n' +
      '[  5]   0.00-4.02   sec  9.00 MBytes  18761 Kbits/sec                  receiver\n'
    assert.equal(parseIperf(said), 18761)
    assert.throws(() => parseIperf('iperf3: error - unable to connect to server'), /unable to connect/)
  })

  it('is understood: sysfs', () => {
    assert.deepEqual(parseQueues('rx-0\nrx-1\ntx-0\ntx-1\ntx-2\n'), { rx: 2, tx: 3 })
    assert.equal(onlyCpu('4\n'), 2)
    assert.equal(onlyCpu('00000001,00000000'), 32)
    assert.equal(onlyCpu('f'), undefined)
    assert.equal(onlyCpu('0'), undefined)
  })

  it('comes from the vCPU that it is to run on', () => {
    assert.equal(onVcpu(0), 'taskset 1')
    assert.equal(onVcpu(5), 'taskset 20')
  })
})
