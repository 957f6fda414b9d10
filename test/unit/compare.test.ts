// What `npm run compare` makes of two machines' features.

import assert from 'node:assert/strict'
import { compare } from '../../scripts/compare/compare.ts'
import type { Measurement } from '../../scripts/compare/measure.ts'
import { OPTION_SETS } from '../../scripts/compare/option-sets.ts'
import { qemuNic } from '../../scripts/compare/qemu-words.ts'
import { REASONS, type Reason } from '../../scripts/compare/reasons.ts'
import { compareTable, isInOrder } from '../../scripts/compare/table.ts'

const CSUM = 1n
const GUEST_CSUM = 2n
const HOST_TSO4 = 1n << 11n

const hex = (set: bigint): string => `0x${set.toString(16)}`

interface Side {
  offered: bigint
  accepted?: bigint
}

/** Of one NIC; whatever is offered is accepted, if nothing else is said. */
function measured(ours: Side, theirs: Side): Measurement {
  const nic = ({ offered, accepted = offered }: Side) => ({ offered: hex(offered), accepted: hex(accepted) })
  return {
    host: '6.12.1',
    guest: '6.12.1',
    qemu: '7.2.22',
    ours: [{ ...nic(ours), driven: true, device: nic(ours) }],
    theirs: [{ ...nic(theirs), driven: true }],
  }
}

const reason = (more: Partial<Reason>): Reason => ({
  features: ['VIRTIO_NET_F_HOST_TSO4'],
  only: 'qemu',
  why: 'It is so.',
  ...more,
})

describe('a comparison of features', () => {
  const check = (measurement: Measurement, ...reasons: Reason[]) =>
    compare(measurement, [{ name: 'a NIC', options: {} }], reasons)

  it('is in order where both are alike', () => {
    const comparison = check(measured({ offered: CSUM }, { offered: CSUM }))
    assert.ok(isInOrder(comparison))
    assert.deepEqual(
      comparison.sets[0]?.rows.map(({ name, alike }) => [name, alike]),
      [['VIRTIO_NET_F_CSUM', true]],
    )
  })

  it('names a difference that has no reason', () => {
    const comparison = check(measured({ offered: CSUM }, { offered: CSUM | HOST_TSO4 }))
    assert.deepEqual(comparison.unexplained, ['a NIC: VIRTIO_NET_F_HOST_TSO4 differs for no reason'])
    assert.ok(!isInOrder(comparison))
    assert.equal(compareTable(comparison, false).at(-1), 'WRONG  a NIC: VIRTIO_NET_F_HOST_TSO4 differs for no reason')
  })

  it('takes a reason for its own direction only', () => {
    const { unexplained } = check(measured({ offered: HOST_TSO4 }, { offered: 0n }), reason({}))
    assert.equal(unexplained.length, 1)
  })

  it('knows no reason why equal offers are not accepted alike', () => {
    const both = measured({ offered: HOST_TSO4 }, { offered: HOST_TSO4, accepted: 0n })
    assert.equal(check(both, reason({}), reason({ only: 'ours' })).unexplained.length, 1)
  })

  it('names a reason whose difference is not there', () => {
    const comparison = check(measured({ offered: CSUM }, { offered: CSUM }), reason({}))
    assert.ok(!isInOrder(comparison))
    assert.deepEqual(comparison.stale, ['this difference is not there: VIRTIO_NET_F_HOST_TSO4: It is so.'])
  })

  it('expects no difference on versions that have none', () => {
    const old = reason({ expected: ({ qemu }) => qemu.startsWith('10.') })
    assert.deepEqual(check(measured({ offered: 0n }, { offered: 0n }), old).stale, [])
    assert.equal(check(measured({ offered: 0n }, { offered: HOST_TSO4 }), old).unexplained.length, 1)
  })

  it('takes a reason that is about a missing feature only where it is missing', () => {
    const needs = reason({ without: 'VIRTIO_NET_F_CSUM' })
    assert.equal(check(measured({ offered: 0n }, { offered: HOST_TSO4 }), needs).unexplained.length, 0)
    assert.equal(check(measured({ offered: CSUM }, { offered: CSUM | HOST_TSO4 }), needs).unexplained.length, 1)
  })

  it('tells where our device and its guest disagree, and where a guest accepts what is not offered', () => {
    const measurement = measured({ offered: CSUM }, { offered: CSUM, accepted: CSUM | GUEST_CSUM })
    const [our] = measurement.ours
    const lying = { ...measurement, ours: [{ ...our!, driven: false, device: { offered: '0x3', accepted: '0x0' } }] }
    assert.deepEqual(check(lying).disagreements, [
      "a NIC: the guest's driver refuses our device",
      'a NIC: our device and its guest disagree on the offer: VIRTIO_NET_F_GUEST_CSUM',
      'a NIC: our device and its guest disagree on what was accepted: VIRTIO_NET_F_CSUM',
      "a NIC: the guest accepted what QEMU's does not offer: VIRTIO_NET_F_GUEST_CSUM",
    ])
  })

  it('is told in at most 100 columns, whatever there is to tell', () => {
    const [ours, theirs] = [
      measured({ offered: 0n }, { offered: 0n }),
      measured({ offered: 0n }, { offered: (1n << 64n) - 1n }),
    ]
    const measurement = {
      ...theirs,
      ours: OPTION_SETS.map(() => ours.ours[0]!),
      theirs: OPTION_SETS.map(() => ({ ...theirs.theirs[0]!, driven: false })),
    }
    for (const all of [false, true]) {
      const lines = compareTable(compare(measurement), all)
      assert.deepEqual(
        lines.filter((line) => line.length > 100),
        [],
      )
    }
  })
})

describe("a NIC in QEMU's words", () => {
  it('has the same names, switches as on and off, and queue pairs at the tap', () => {
    assert.deepEqual(qemuNic(2, 'tap7', { queuePairs: 4, mq: true, csum: false, host_mtu: 9000 }), [
      '-netdev',
      'tap,id=net2,ifname=tap7,script=no,downscript=no,vhost=on,queues=4',
      '-device',
      'virtio-net-device,netdev=net2,bus=virtio-mmio-bus.2,mq=on,csum=off,host_mtu=9000',
    ])
  })

  it('is nothing but the NIC without options', () => {
    const [, tap, , device] = qemuNic(0, 'tap0', {})
    assert.equal(tap, 'tap,id=net0,ifname=tap0,script=no,downscript=no,vhost=on')
    assert.equal(device, 'virtio-net-device,netdev=net0,bus=virtio-mmio-bus.0')
  })
})

describe('the reasons for differences', () => {
  it('are sentences', () => {
    for (const { why } of REASONS) assert.match(why, /^[A-Z].*\.$/)
  })
})
