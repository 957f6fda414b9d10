// What a multi-queue tap does with eBPF programs: `node ebpf-child.js THIRD EIGHTH DROP SHORT XDP`, numbers of fds.
// Prints a line of JSON.

import { closeSync } from 'node:fs'
import { VhostNetError } from '../../lib/errors.ts'
import { Tap } from '../../lib/host/index.ts'
import { sendFrames, setUpHost, takeFrames } from './host-frames.ts'

const ifname = 'ebpf0'
const macs = Array.from({ length: 6 }, (_, i) => `52:54:00:00:00:0${i}`)
const [third, eighth, drop, short, xdp] = process.argv.slice(2).map(Number) as [number, number, number, number, number]

const queues = Array.from({ length: 4 }, () => Tap.open({ ifname, multiQueue: true, vnetHdr: false }))
const [tap] = queues as [Tap]
setUpHost(ifname)

/** Frames on each queue once six were sent, each of another flow. */
async function spread(): Promise<number[]> {
  await sendFrames(ifname, ...macs)
  return queues.map((queue) => takeFrames(queue).length)
}

async function lengths(): Promise<number[]> {
  await sendFrames(ifname, ...macs)
  return queues.flatMap((queue) => takeFrames(queue).map((frame) => frame.length))
}

function failureOf(call: () => void): object {
  try {
    call()
    return {}
  } catch (error) {
    if (!VhostNetError.is(error)) throw error
    return { code: error.code, message: error.message }
  }
}

tap.setSteeringEbpf(third)
const toThird = await spread()
tap.setSteeringEbpf(eighth)
// The kernel has a reference of its own.
closeSync(eighth)
const toEighth = await spread()
const refused = [failureOf(() => tap.setSteeringEbpf(xdp)), failureOf(() => tap.setFilterEbpf(xdp))]
const afterRefusal = await spread()
tap.setSteeringEbpf(null)
const without = (await spread()).reduce((sum, count) => sum + count)
tap.setFilterEbpf(drop)
const dropped = await lengths()
tap.setFilterEbpf(short)
const shortened = await lengths()
tap.setFilterEbpf(null)
const whole = await lengths()
for (const queue of queues) queue.close()

process.stdout.write(JSON.stringify({ toThird, toEighth, refused, afterRefusal, without, dropped, shortened, whole }))
