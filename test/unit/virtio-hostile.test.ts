// Guests that mean harm: any accesses to registers, any bytes in rings, changed while they are read. The device works or
// needs a reset with a cause; nothing throws, nothing outside of guest memory is asked for, and a reset makes it well.

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { setImmediate } from 'node:timers/promises'
import { Worker } from 'node:worker_threads'
import fc from 'fast-check'
import { VIRTIO_CONFIG_S, VRING_DESC_F, VRING_DESC_SIZE } from '../../lib/abi/virtio.ts'
import { VIRTIO_MMIO } from '../../lib/abi/virtio-mmio.ts'
import { BufferMemory, GuestMemory } from '../../lib/memory/index.ts'
import { VirtioMmioTransport } from '../../lib/transport/index.ts'
import { GuestRing, type RawDescriptor } from '../support/guest-ring.ts'
import { CountedInterrupts, MmioGuest, VERSION_1 } from '../support/mmio-guest.ts'
import { soon } from '../support/soon.ts'
import { RNG_FEATURES, VirtioRng } from '../support/virtio-rng.ts'

const SIZE = 0x4000
const RING = 0x1000
const TABLE = 0x2000
const POOL = 0x3000
const NUM = 8
const FEATURES = VERSION_1 | RNG_FEATURES

/** Remembers what was asked for that does not exist, though whoever asked may catch the error. */
class StrictMemory extends BufferMemory {
  readonly refused: unknown[] = []

  override window(guestAddress: number, length: number): Uint8Array {
    try {
      return super.window(guestAddress, length)
    } catch (error) {
      this.refused.push(error)
      throw error
    }
  }
}

/** What a guest may be told: broken rings, and rings that cannot be enabled. */
const CAUSES = new Set([
  'avail-index',
  'head-out-of-range',
  'next-out-of-range',
  'chain-loop',
  'chain-too-long',
  'readable-after-writable',
  'indirect-not-agreed',
  'indirect-in-indirect',
  'indirect-with-next',
  'indirect-table-size',
  'outside-memory',
  'ERR_QUEUE_SIZE',
  'ERR_GPA_ALIGN',
  'ERR_GPA_RANGE',
  'ERR_GPA_OVERLAP',
])

class Victim {
  readonly buffer = new ArrayBuffer(SIZE)
  readonly memory = new StrictMemory(this.buffer)
  readonly device = new VirtioRng(this.memory, { queueSizes: [NUM, NUM], config: new Uint8Array(7) })
  readonly interrupts = new CountedInterrupts()
  readonly transport = new VirtioMmioTransport(this.device, { interrupts: this.interrupts })
  readonly guest = new MmioGuest(this.transport)
  ring = new GuestRing(this.buffer, RING, NUM)

  /** Whether it is in one of the two states it may be in. */
  check(): string | undefined {
    const { status } = this.guest
    const { fault } = this.device.inspect()
    assert.deepEqual(this.memory.refused, [])
    assert.equal(fault !== null, (status & VIRTIO_CONFIG_S.VIRTIO_CONFIG_S_NEEDS_RESET) !== 0)
    if (fault !== null) assert.ok(CAUSES.has(fault.cause), `${fault.cause}: ${fault.message}`)
    return fault?.cause
  }

  /** Kicks, and waits until the device has taken the kick and had its turn. */
  async kick(): Promise<void> {
    const { kick } = this.device.queues[0]!
    const taken = (): boolean => /^eventfd-count:\s+0$/m.test(readFileSync(`/proc/self/fdinfo/${kick.fd}`, 'utf8'))
    this.guest.kick()
    await soon('the kick', () => taken() || this.device.log.at(-1) !== 'start 0')
    // The device's turn, and one for what it left.
    await setImmediate()
    await setImmediate()
  }

  async worksAfterReset(): Promise<void> {
    this.ring = new GuestRing(this.buffer, RING, NUM)
    this.guest.start(this.ring, FEATURES)
    this.ring.chain([{ address: POOL, length: 16, deviceWrites: true }])
    this.ring.offer(0)
    this.guest.kick()
    await soon('a buffer', () => this.ring.usedIdx === 1)
    assert.equal(this.check(), undefined)
  }

  close(): void {
    this.transport.close()
    this.device.close()
  }
}

type Deed = (victim: Victim) => unknown

const registers = Object.values(VIRTIO_MMIO)
const word = fc.oneof(
  fc.constantFrom(0, 1, 2, 3, 7, 8, 0x0f, 0x40, 0x80, 0xff, 0xffff_ffff),
  fc.constantFrom(RING, RING + 0x80, RING + 0x94, TABLE, SIZE - 4),
  fc.nat(0xffff_ffff),
)
const width = fc.oneof(
  { weight: 8, arbitrary: fc.constant(4) },
  { weight: 2, arbitrary: fc.constantFrom(1, 2, 8, 3, 0) },
)
const offset = fc.oneof(
  { weight: 8, arbitrary: fc.constantFrom(...registers) },
  { weight: 2, arbitrary: fc.nat(0x210) },
)
const descriptor: fc.Arbitrary<RawDescriptor> = fc.record({
  address: fc.oneof(
    { weight: 6, arbitrary: fc.constantFrom(POOL, TABLE, SIZE - 16).map(BigInt) },
    { weight: 1, arbitrary: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }) },
  ),
  length: fc.oneof({ weight: 6, arbitrary: fc.constantFrom(0, 16, NUM * VRING_DESC_SIZE) }, fc.nat(0xffff_ffff)),
  flags: fc.oneof({ weight: 6, arbitrary: fc.constantFrom(0, 1, 2, 2, 3, 4, 4, 5) }, fc.nat(0xffff)),
  next: fc.oneof({ weight: 6, arbitrary: fc.nat(NUM - 1) }, fc.nat(0xffff)),
})

const access: fc.Arbitrary<Deed> = fc.oneof(
  fc.tuple(offset, width, word).map(([at, bytes, value]): Deed => {
    return ({ transport }) => transport.write(at, bytes, value)
  }),
  fc.tuple(offset, width).map(([at, bytes]): Deed => {
    return ({ transport }) => {
      const value = transport.read(at, bytes)
      assert.ok(Number.isInteger(value) && value >= 0 && value <= 0xffff_ffff, `${value} at 0x${at.toString(16)}`)
    }
  }),
  // FAILED, behind which nothing comes, is drawn often enough above.
  fc.nat(0x7f).map((bits): Deed => {
    return ({ guest }) => guest.addStatus(bits)
  }),
  // What a driver does, so that more gets behind the first gate.
  fc.constantFrom<Deed>(
    ({ guest }) => guest.begin(),
    ({ guest }) => guest.accept(FEATURES),
    ({ guest, ring }) => guest.place(0, ring),
    ({ guest }) => guest.write('VIRTIO_MMIO_QUEUE_READY', 1),
  ),
)

const ringWork: fc.Arbitrary<Deed> = fc.oneof(
  fc.tuple(fc.nat(NUM - 1), descriptor, fc.constantFrom(RING, TABLE)).map(([index, raw, table]): Deed => {
    return ({ ring }) => ring.describe(index, raw, table)
  }),
  // Mostly in the ring: what is not there ends it all.
  fc.array(fc.integer({ min: 0, max: 32 }), { minLength: 1, maxLength: 3 }).map((draws): Deed => {
    return async (victim) => {
      victim.ring.offer(...draws.map((draw) => (draw === 32 ? NUM : draw % NUM)))
      await victim.kick()
    }
  }),
  fc.constant<Deed>(({ guest }) => guest.kick()),
)

/** Rarely, so that the rest gets somewhere. */
const smash: fc.Arbitrary<Deed> = fc.oneof(
  fc.tuple(fc.integer({ min: RING, max: POOL - 64 }), fc.uint8Array({ maxLength: 64 })).map(([at, bytes]): Deed => {
    return ({ memory }) => memory.write(at, bytes)
  }),
  fc.nat(0xffff).map((index): Deed => {
    return ({ ring }) => {
      ring.availIdx = index
    }
  }),
)

const offers = (...heads: readonly number[]): Deed => {
  return async (victim) => {
    victim.ring.offer(...heads)
    await victim.kick()
  }
}
const describes = (raw: RawDescriptor): Deed => {
  return ({ ring }) => ring.describe(0, raw)
}

/** What a running device may come to, and the least that leads there. */
const STORIES: ReadonlyArray<readonly [end: string, deeds: readonly Deed[]]> = [
  ['no fault', []],
  ['served', [describes({ address: POOL, length: 16, flags: VRING_DESC_F.VRING_DESC_F_WRITE }), offers(0)]],
  ['head-out-of-range', [offers(NUM)]],
  ['outside-memory', [describes({ address: SIZE, length: 16, flags: VRING_DESC_F.VRING_DESC_F_WRITE }), offers(0)]],
  [
    'indirect-with-next',
    [
      describes({
        address: TABLE,
        length: VRING_DESC_SIZE,
        flags: VRING_DESC_F.VRING_DESC_F_INDIRECT | VRING_DESC_F.VRING_DESC_F_NEXT,
      }),
      offers(0),
    ],
  ],
  [
    'avail-index',
    [
      ({ ring }) => {
        ring.availIdx = NUM + 1
      },
    ],
  ],
  [
    'ERR_GPA_OVERLAP',
    [
      ({ guest, ring }) => {
        guest.begin()
        assert.ok(guest.accept(FEATURES))
        guest.place(0, { num: NUM, desc: ring.desc, avail: ring.desc, used: ring.used })
        assert.ok(!guest.enable())
      },
    ],
  ],
]

describe('a virtio device under a hostile guest', () => {
  /** Does all of it to a device, which must stay well or say why it does not. Returns what came of it. */
  const suffer = async (deeds: readonly Deed[], started: boolean): Promise<readonly string[]> => {
    const victim = new Victim()
    try {
      if (started) victim.guest.start(victim.ring, FEATURES)
      for (const deed of deeds) {
        await deed(victim)
        victim.check()
      }
      await victim.kick()
      const end = victim.check() ?? 'no fault'
      const ends = victim.device.served > 0 ? [end, 'served'] : [end]
      await victim.worksAfterReset()
      return ends
    } finally {
      victim.close()
    }
  }

  const endures = async (deeds: fc.Arbitrary<Deed>, started: boolean, numRuns: number): Promise<void> => {
    const lists = fc.array(deeds, { minLength: 20, maxLength: 60, size: 'max' })
    await fc.assert(
      fc.asyncProperty(lists, async (list) => {
        await suffer(list, started)
      }),
      { numRuns },
    )
  }

  for (const [end, deeds] of STORIES) {
    it(`comes to "${end}" by the least that leads there`, async () => {
      assert.ok((await suffer(deeds, true)).includes(end))
    })
  }

  it('endures any accesses to registers, in any order', async () => {
    await endures(access, false, 300)
  })

  it('endures any accesses to the registers of a running device, with rings at work', async () => {
    await endures(fc.oneof({ weight: 1, arbitrary: access }, { weight: 4, arbitrary: ringWork }), true, 300)
  })

  it('endures any rings', async () => {
    await endures(fc.oneof({ weight: 20, arbitrary: ringWork }, smash), true, 400)
  })

  it('endures rings that a second thread changes while they are read', async () => {
    const shared = new SharedArrayBuffer(SIZE)
    const memory = GuestMemory.adopt({ regions: [{ guestAddress: 0, buffer: shared }] })
    const device = new VirtioRng(memory, { queueSizes: [NUM] })
    const transport = new VirtioMmioTransport(device, { interrupts: new CountedInterrupts() })
    const guest = new MmioGuest(transport)
    const scribbler = new Worker(SCRIBBLER, {
      eval: true,
      workerData: { shared, RING, NUM, TABLE, POOL, ...VRING_DESC_F },
    })
    const ended = new Promise((resolve) => scribbler.once('exit', resolve))
    const causes = new Map<string, number>()
    try {
      let running = true
      const stopped = ended.then(() => {
        running = false
      })
      while (running) {
        // The memory is the other thread's; only the registers are ours.
        guest.begin()
        assert.ok(guest.accept(FEATURES))
        guest.place(0, placeAt(RING))
        assert.ok(guest.enable())
        guest.addStatus(VIRTIO_CONFIG_S.VIRTIO_CONFIG_S_DRIVER_OK)
        for (let turn = 0; turn < 20 && device.inspect().fault === null; turn++) {
          guest.kick()
          await setImmediate()
        }
        const cause = device.inspect().fault?.cause ?? 'none'
        assert.ok(cause === 'none' || CAUSES.has(cause), cause)
        causes.set(cause, (causes.get(cause) ?? 0) + 1)
      }
      await stopped
    } finally {
      await scribbler.terminate()
      transport.close()
      device.close()
      memory.close()
    }
    assert.ok(device.served > 0)
    assert.ok(causes.size > 1, [...causes.keys()].join())
  })
})

function placeAt(desc: number) {
  const avail = desc + NUM * VRING_DESC_SIZE
  return { num: NUM, desc, avail, used: Math.ceil((avail + 6 + 2 * NUM) / 4) * 4 }
}

/** Changes descriptors, heads and the available index, mostly to what may be, a million times. */
const SCRIBBLER = `
  const { shared, RING, NUM, TABLE, POOL } = require('node:worker_threads').workerData
  const view = new DataView(shared)
  let seed = 1
  const random = (below) => ((seed = (Math.imul(seed, 1103515245) + 12345) >>> 0) >>> 16) % below
  const describe = (at) => {
    view.setBigUint64(at, BigInt([POOL, POOL, TABLE, 0x7fffffff][random(64) === 0 ? 3 : random(3)]), true)
    view.setUint32(at + 8, [16, 128, 32][random(3)], true)
    view.setUint16(at + 12, [0, 1, 2, 2, 3, 4][random(6)], true)
    view.setUint16(at + 14, random(NUM), true)
  }
  const avail = RING + 16 * NUM
  for (let i = 0, idx = 0; i < 1_000_000; i++) {
    describe(RING + 16 * random(NUM))
    describe(TABLE + 16 * random(NUM))
    view.setUint16(avail + 4 + 2 * random(NUM), random(NUM), true)
    if (i % 50 === 0) view.setUint16(avail + 2, random(NUM), true)
  }
`
