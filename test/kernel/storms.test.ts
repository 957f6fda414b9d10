// What is done to a NIC again and again while it sends and receives on every pair: its driver begins anew, it is unplugged,
// its guest's memory grows and shrinks.

import assert from 'node:assert/strict'
import { leavesNothing } from '../support/leaves-nothing.ts'
import { soak } from '../support/soak.ts'
import { SoakTraffic } from '../support/soak-traffic.ts'

const PAIRS = 2
/** `STORM=25` makes each 25 times as long: a thousand resets. */
const STORM = Number(process.env.STORM ?? 1)
const RESETS = 40 * STORM
const PLUGS = 5 * STORM
const REGIONS = 100 * STORM
const PACKETS = 4000
/** Behind what the driver uses. */
const REGION_ADDRESS = 2 ** 32
const REGION_SIZE = 1 << 20

describe('a NIC in traffic', () => {
  const closing = leavesNothing()

  async function open(): Promise<SoakTraffic> {
    const traffic = await SoakTraffic.open(PAIRS)
    closing.add(() => traffic.close())
    return traffic
  }

  async function isExact(traffic: SoakTraffic, packets = PACKETS): Promise<void> {
    const [checkpoint] = await soak(traffic, { packets, checkpoints: 1 })
    assert.deepEqual(checkpoint!.wrong, [])
  }

  it(`is reset ${RESETS} times by drivers that come and go: each sends and receives, and no frame is altered or doubled`, async () => {
    const traffic = await open()
    const { nic } = traffic.nics[1]!
    traffic.blow()
    const { activations } = nic.stats()
    for (let reset = 0; reset < RESETS; reset++) {
      await traffic.restart(1)
      await traffic.flows()
    }
    assert.equal(nic.stats().activations - activations, RESETS)
    await traffic.calm()
    assert.deepEqual(traffic.wrong(), [])
    await isExact(traffic)
  })

  it(`is unplugged ${PLUGS} times, and another one plugged in: its peer goes on, and has traffic with each`, async () => {
    const traffic = await open()
    traffic.blow()
    for (let plug = 0; plug < PLUGS; plug++) {
      await traffic.unplug(1)
      await traffic.plug(1)
      await traffic.flows()
    }
    await traffic.calm()
    assert.deepEqual(traffic.wrong(), [])
    await isExact(traffic)
  })

  it(`has ${REGIONS} regions of memory come and go, and loses no frame`, async () => {
    const traffic = await open()
    const { memory, nic } = traffic.nics[1]!
    let done = 0
    await isExactWhile(traffic, () => {
      if (done === REGIONS) return
      memory.addRegion({ guestAddress: REGION_ADDRESS + (done % 7) * REGION_SIZE, size: REGION_SIZE })
      assert.equal(nic.backend.inspect().regions.length, 2)
      memory.removeRegion(REGION_ADDRESS + (done % 7) * REGION_SIZE)
      done++
    })
    assert.equal(done, REGIONS)
    assert.equal(nic.inspect().fault, null)
  })

  /** Does it at each burst of frames. */
  async function isExactWhile(traffic: SoakTraffic, step: () => void): Promise<void> {
    const [checkpoint] = await soak(traffic, { packets: REGIONS * 300, checkpoints: 1, progress: step })
    assert.deepEqual(checkpoint!.wrong, [])
  }
})
