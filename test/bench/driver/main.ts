// What `npm run bench -- driver` runs in the lab, where time counts instructions. Writes its result as JSON.
// Usage: node --expose-gc main.js BASELINE INJECTOR ROUNDS CYCLES ONLY RESULT

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, openSync, writeFileSync } from 'node:fs'
import { release } from 'node:os'
import { setImmediate } from 'node:timers/promises'
import { IFF, TUN_DEVICE } from '../../../lib/abi/tun.ts'
import { VIRTIO_NET_HDR_SIZE } from '../../../lib/abi/virtio-net.ts'
import { adoptFd, binding } from '../../../lib/binding/index.ts'
import { Burst, type DriverQueue } from '../../../lib/driver/index.ts'
import { runBaseline } from './baseline.ts'
import { cycle, type Footprint } from './cycles.ts'
import { countProcess, INSTRUCTIONS_PER_MILLISECOND, measure, type Sample } from './measure.ts'
import { BATCH, type Nic, openNic, prepareLink } from './nic.ts'
import { countAllPairs, type PairCalls } from './pairs.ts'
import { readAsync, receiveBursts } from './receive.ts'
import { fillRing, sendBursts, writeAsync, writeSync } from './transmit.ts'

export interface Row {
  direction: 'tx' | 'rx'
  /** Bytes of a frame, without virtio header. */
  size: number
  path: string
  samples: Sample[]
}

export interface DriverBench {
  kernel: string
  node: string
  rows: Row[]
  pairs: PairCalls[]
  footprints: Footprint[]
}

const SIZES = [64, 1500, 65000] as const
const PAIRS = [1, 4, 64, 256]
/** Of guest time, for each sample. */
const MILLISECONDS = 1000
/**
 * Before each sample: until V8 has compiled what is measured again, for what it has seen since. It does so on threads of
 * its own, and takes a third of a sample for that.
 */
const WARM_UP_MILLISECONDS = 3000
const WAKE_UPS = 10_000

const [baseline = '', injector = '', rounds = '', cycles = '', only = '', result = ''] = process.argv.slice(2)

const say = (message: string): void => {
  process.stderr.write(`${message}\n`)
}

/** A tap's fd as fs likes it: blocking. */
function openTap(): { fd: number; ifname: string } {
  const fd = openSync(TUN_DEVICE, 'r+')
  const flags = IFF.IFF_TAP | IFF.IFF_NO_PI | IFF.IFF_VNET_HDR
  const native = adoptFd(fd, 'tap')
  const { name } = binding().tunSetIff(native, 'bench%d', flags)
  binding().tunSetVnetHdrSz(native, VIRTIO_NET_HDR_SIZE)
  binding().detachFd(native)
  prepareLink(name)
  return { fd, ifname: name }
}

/** The source has ended when this returns: it must not outlive the interface. */
async function fed(ifname: string, size: number, body: () => Promise<Sample>): Promise<Sample> {
  const source = spawn(injector, [ifname, String(size)], { stdio: ['ignore', 'ignore', 'inherit'] })
  const ended = once(source, 'exit')
  await once(source, 'spawn')
  try {
    const count = countProcess(source.pid as number)
    const sample = await body()
    return { ...sample, source: count(sample) }
  } finally {
    source.kill()
    await ended
  }
}

async function onTap(body: (tap: { fd: number; ifname: string }) => Promise<Sample>): Promise<Sample> {
  const tap = openTap()
  try {
    return await body(tap)
  } finally {
    closeSync(tap.fd)
  }
}

/** As the program in C: a frame to send lies in one buffer, one received in buffers of 2048 bytes. */
const sendBufferSize = (size: number): number => Math.max(2048, VIRTIO_NET_HDR_SIZE + size)
const RECEIVE_BUFFER_SIZE = 2048

/** Measures what moves packets through a queue, with its notifications. */
async function measureQueue(queue: DriverQueue, body: () => Promise<number>): Promise<Sample> {
  const before = queue.counters()
  const sample = await measure(body)
  const after = queue.counters()
  const perThousand = (name: 'kicks' | 'calls') => ((after[name] - before[name]) * 1000) / sample.packets
  return { ...sample, kicks: perThousand('kicks'), sleeps: perThousand('calls') }
}

/** For as many frames as take about as long as the other paths are given, by a first, short run. */
async function measureNatively(queue: DriverQueue, run: (frames: number) => Promise<void>): Promise<Sample> {
  const moving = (frames: number) => async () => {
    await run(frames)
    return frames
  }
  const { instructionsPerPacket } = await measure(moving(512))
  return measureQueue(queue, moving(Math.ceil((MILLISECONDS * INSTRUCTIONS_PER_MILLISECOND) / instructionsPerPacket)))
}

/** A NIC of its own for each sample, as the program in C has: what the kernel's allocators came to is not passed on. */
async function onNic(bufferSize: number, body: (nic: Nic) => Promise<Sample>): Promise<Sample> {
  const nic = await openNic(bufferSize)
  try {
    return await body(nic)
  } finally {
    await nic.close()
    // Its memory goes in the next turn of the event loop, which is not to be that of the next sample.
    await setImmediate()
  }
}

/** Kept for all samples from JavaScript: V8 would compile anew what it knows of objects that are gone. */
const kept = new Map<string, Nic>()

async function keptNic(direction: Row['direction'], size: number): Promise<Nic> {
  const key = `${direction} ${size}`
  const known = kept.get(key)
  if (known !== undefined) return known
  const nic = await openNic(direction === 'tx' ? sendBufferSize(size) : RECEIVE_BUFFER_SIZE)
  kept.set(key, nic)
  return nic
}

type Path = (size: number, milliseconds: number) => Promise<Sample>

const paths: Record<Row['direction'], Record<string, Path>> = {
  tx: {
    C: (size) => runBaseline(baseline, 'tx', size),
    'native loop': (size) =>
      onNic(sendBufferSize(size), ({ tx }) => {
        fillRing(tx, size)
        return measureNatively(tx, (frames) => tx.repeat({ frames, batch: BATCH }))
      }),
    'JavaScript bursts': async (size, milliseconds) => {
      const { tx } = await keptNic('tx', size)
      const sample = await measureQueue(tx, () => sendBursts(tx, size, milliseconds))
      await tx.drained()
      return sample
    },
    'fs.writeSync': (size, milliseconds) => onTap(({ fd }) => measure(() => writeSync(fd, size, milliseconds))),
    'fs.write': (size, milliseconds) => onTap(({ fd }) => measure(() => writeAsync(fd, size, milliseconds))),
  },
  rx: {
    C: (size) => runBaseline(baseline, 'rx', size),
    'native loop': (size) =>
      onNic(RECEIVE_BUFFER_SIZE, ({ ifname, rx }) =>
        fed(ifname, size, () => measureNatively(rx, (frames) => rx.discard({ frames, batch: BATCH }))),
      ),
    'JavaScript bursts': async (size, milliseconds) => {
      const { ifname, rx } = await keptNic('rx', size)
      return fed(ifname, size, () => measureQueue(rx, () => receiveBursts(rx, milliseconds)))
    },
    'fs.read': (size, milliseconds) =>
      onTap(({ fd, ifname }) => fed(ifname, size, () => measure(() => readAsync(fd, milliseconds)))),
  },
}

/** Sleeping and waking is rare while packets flow, and V8 compiles what is frequent: so it is, at first. */
async function warmUpWaiting(): Promise<void> {
  say('warming up: sleeping and waking')
  const { tx } = await keptNic('tx', SIZES[0])
  const burst = new Burst(1)
  for (let i = 0; i < WAKE_UPS; i++) {
    tx.prepare(burst, VIRTIO_NET_HDR_SIZE + SIZES[0])
    tx.send(burst)
    await tx.writable(undefined, { frames: 1 })
  }
}

function emptyRows(): Row[] {
  return (['tx', 'rx'] as const)
    .flatMap((direction) =>
      SIZES.flatMap((size) => Object.keys(paths[direction]).map((path) => ({ direction, size, path, samples: [] }))),
    )
    .filter(({ direction, size, path }) => path === 'C' || `${direction} ${size} ${path}`.includes(only))
}

async function measureRows(): Promise<Row[]> {
  const rows = emptyRows()
  const run = ({ direction, path, size }: Row, milliseconds: number) =>
    (paths[direction][path] as Path)(size, milliseconds)
  await warmUpWaiting()
  // Round by round, so that whatever drifts drifts for all.
  for (let round = 1; round <= Number(rounds); round++) {
    for (const row of rows) {
      if (row.path !== 'C') await run(row, WARM_UP_MILLISECONDS)
      const sample = await run(row, MILLISECONDS)
      row.samples.push(sample)
      say(
        `round ${round} of ${rounds}  ${row.direction} ${String(row.size).padStart(5)} ${row.path.padEnd(17)} ` +
          `${sample.instructionsPerPacket.toFixed(0)} instructions a packet, ${sample.packets} packets` +
          (sample.kicks === undefined
            ? ''
            : `, for 1000: ${sample.kicks.toFixed(1)} kicks, ${sample.sleeps?.toFixed(1)} sleeps`),
      )
    }
  }
  return rows
}

const rows = await measureRows()
for (const nic of kept.values()) await nic.close()
say('counting system calls')
const pairs = await countAllPairs(PAIRS)
const footprints = await cycle(Number(cycles), (done) => say(`${done} of ${cycles} cycles of open, start and close`))
const bench: DriverBench = {
  kernel: process.env.LAB_KERNEL ?? release(),
  node: process.version,
  rows,
  pairs,
  footprints,
}
writeFileSync(result, JSON.stringify(bench))
