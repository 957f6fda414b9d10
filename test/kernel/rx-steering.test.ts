// Which queue of a device with several a frame comes to, and what becomes of it where that one is reset.

import assert from 'node:assert/strict'
import { FramePort } from '../../lib/driver/index.ts'
import { RtNetlink } from '../../lib/host/index.ts'
import { Teardown } from '../../lib/teardown.ts'
import { FarEnd } from '../support/far-end.ts'
import { KernelNic, MAC } from '../support/kernel-nic.ts'
import { build, parse } from '../support/packets.ts'
import { soon } from '../support/soon.ts'

const PAIRS = 4
const FAR_MAC = '02:00:00:00:00:0f'
const [GUEST, FAR] = ['192.0.2.1', '192.0.2.2']

/** A frame of this flow, from the guest or to it. */
const outward = (flow: number): Buffer =>
  build({
    ...{ protocol: 'udp', payload: Buffer.from('out'), sourcePort: 1000 + flow, destinationPort: 7 },
    ...{ sourceMac: MAC, destinationMac: FAR_MAC, source: GUEST, destination: FAR },
  }).frame
const inward = (flow: number): Buffer =>
  build({
    ...{ protocol: 'udp', payload: Buffer.from('back'), sourcePort: 7, destinationPort: 1000 + flow },
    ...{ sourceMac: FAR_MAC, destinationMac: MAC, source: FAR, destination: GUEST },
  }).frame

describe('receive steering', () => {
  let closing: Teardown
  let machine: KernelNic
  let far: FarEnd
  let netlink: RtNetlink
  let ports: FramePort[]

  beforeEach(async () => {
    closing = new Teardown()
    netlink = closing.own(RtNetlink.open())
    machine = await KernelNic.open({ ifname: 'vns0', queuePairs: PAIRS })
    closing.add(() => machine[Symbol.dispose]())
    machine.up()
    far = closing.own(await FarEnd.open(netlink, 'vns0'))
    ports = machine.driver.pairs.map((_, pair) => closing.own(new FramePort(machine.driver, pair)))
    assert.ok(await machine.command(4, 0, PAIRS, 0))
  })
  afterEach(() => closing.run())

  /** The guest sends of this flow through this pair. */
  const send = async (flow: number, pair: number): Promise<void> => {
    await ports[pair]!.send(outward(flow))
    assert.ok((await far.received()).bytes.equals(outward(flow)))
  }

  /** The far end answers. @returns the pair that its frame comes to. */
  const answered = async (flow: number): Promise<number> => {
    far.send(inward(flow))
    let arrived: number | undefined
    await soon(`a frame of flow ${flow}`, () => {
      for (const [pair, port] of ports.entries()) {
        const frame = port.receive()
        if (frame === undefined) continue
        assert.equal(parse(frame.bytes)?.destinationPort, 1000 + flow)
        arrived = pair
      }
      return arrived !== undefined
    })
    return arrived!
  }

  const resetReceiveRing = (pair: number): void => {
    machine.guest.write('VIRTIO_MMIO_QUEUE_SEL', 2 * pair)
    machine.guest.write('VIRTIO_MMIO_QUEUE_RESET', 1)
    assert.equal(machine.guest.read('VIRTIO_MMIO_QUEUE_READY'), 0)
  }

  it('[NET-CTRL-MQ-01] brings each flow to the pair that the guest sends it from, and another one always to the same', async () => {
    const flows = Array.from({ length: 2 * PAIRS }, (_, flow) => flow)
    for (const shift of [0, 1]) {
      for (const flow of flows) await send(flow, (flow + shift) % PAIRS)
      for (const flow of flows) assert.equal(await answered(flow), (flow + shift) % PAIRS, `flow ${flow}`)
    }
    const strangers = Array.from({ length: 32 }, (_, flow) => 100 + flow)
    const queues: number[] = []
    for (const flow of strangers) queues.push(await answered(flow))
    assert.ok(new Set(queues).size > 1)
    for (const [i, flow] of strangers.entries()) assert.equal(await answered(flow), queues[i])
  })

  it('[NET-CTRL-MQ-05] brings the frames of a ring that is reset to another one', async () => {
    const flow = 1
    await send(flow, 1)
    assert.equal(await answered(flow), 1)
    resetReceiveRing(1)
    for (let times = 0; times < 3; times++) assert.notEqual(await answered(flow), 1)
    // Each that is reset leaves it to those that are not.
    resetReceiveRing(0)
    resetReceiveRing(3)
    for (let times = 0; times < 3; times++) assert.equal(await answered(flow), 2)
  })

  it('[NET-CTRL-MQ-06] drops every frame while all receive rings are reset', async () => {
    const dropped = (): number => netlink.getLink({ ifname: 'vns0' })!.stats.tx_dropped
    for (let pair = 0; pair < PAIRS; pair++) resetReceiveRing(pair)
    const before = dropped()
    for (let flow = 0; flow < 5; flow++) far.send(inward(flow))
    await soon('five frames dropped', () => dropped() === before + 5)
    machine.guest.place(0, machine.driver.pairs[0]!.rx.vring)
    assert.ok(machine.guest.enable())
    // None of those before it.
    assert.equal(await answered(9), 0)
    assert.equal(dropped(), before + 5)
  })
})
