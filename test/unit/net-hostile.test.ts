// Guests that mean harm on the control queue: any bytes in buffers of any shape. Each command is answered OK or ERR, or
// the device needs a reset with a cause; and after a reset it works.

import assert from 'node:assert/strict'
import fc from 'fast-check'
import type { Buffer } from '../support/guest-ring.ts'
import { NetRig } from '../support/net-rig.ts'
import { RecordingBackend } from '../support/recording-backend.ts'
import { soon } from '../support/soon.ts'

const READABLE = 0x30000
const WRITABLE = 0x38000
const TABLE = 0x3c000
const CAUSES = new Set(['no-room-for-answer', 'readable-after-writable', 'outside-memory', 'indirect-table-size'])

interface Shape {
  bytes: Uint8Array
  /** Where the bytes are cut into descriptors. */
  cuts: number[]
  /** Lengths of the writable descriptors. */
  room: number[]
  indirect: boolean
  /** The first two descriptors change places. */
  swapped: boolean
  /** What the backend is asked for fails. */
  fails: boolean
}

const u8 = fc.nat(0xff)
const small = fc.constantFrom(0, 1, 2, 3, 4, 5)
const tables = fc.tuple(fc.nat(3), fc.nat(3), fc.uint8Array({ minLength: 36, maxLength: 36 })).map(([n, m, macs]) => {
  return Uint8Array.of(1, 0, n, 0, 0, 0, ...macs.subarray(0, 6 * n), m, 0, 0, 0, ...macs.subarray(0, 6 * m))
})
const bytes: fc.Arbitrary<Uint8Array> = fc.oneof(
  fc.uint8Array({ maxLength: 40 }),
  fc.tuple(small, small, fc.array(fc.oneof(small, u8), { maxLength: 12 })).map(([kind, command, data]) => {
    return Uint8Array.of(kind, command, ...data)
  }),
  tables,
  fc.tuple(fc.constantFrom(0, 1), fc.constantFrom(0, 1)).map(([mode, on]) => Uint8Array.of(0, mode, on)),
  fc.nat(6).map((pairs) => Uint8Array.of(4, 0, pairs, 0)),
  fc.constant(Uint8Array.of(5, 0, 2, 0, 0, 0, 0, 0, 0, 0)),
)
const rarely = fc.nat(19).map((draw) => draw === 0)
const shape: fc.Arbitrary<Shape> = fc.record({
  bytes,
  cuts: fc.array(fc.nat(40), { maxLength: 3 }),
  room: fc.oneof(
    { weight: 12, arbitrary: fc.array(fc.constantFrom(1, 2, 64), { minLength: 1, maxLength: 2 }) },
    { weight: 1, arbitrary: fc.array(fc.constantFrom(0, 0x100_0000), { maxLength: 2 }) },
  ),
  indirect: fc.boolean(),
  swapped: rarely,
  fails: fc.boolean(),
})

/** The buffer as descriptors; none where there is nothing to read and nothing to write. */
function buffersOf({ bytes, cuts, room, swapped }: Shape): Buffer[] {
  const edges = [0, ...cuts.map((cut) => cut % (bytes.length + 1)).sort((a, b) => a - b), bytes.length]
  const buffers: Buffer[] = edges.slice(1).map((end, i) => {
    return { address: READABLE + edges[i]!, length: end - edges[i]! }
  })
  for (const [i, length] of room.entries()) {
    buffers.push({ address: WRITABLE + 0x100 * i, length, deviceWrites: true })
  }
  if (swapped) buffers.reverse()
  return buffers
}

/** Sends it; the answer, or the cause of the fault. */
async function send(rig: NetRig, command: Shape): Promise<number | string> {
  const buffers = buffersOf(command)
  new Uint8Array(rig.buffer, READABLE, command.bytes.length).set(command.bytes)
  new Uint8Array(rig.buffer, WRITABLE, 0x400).fill(0xee)
  rig.backend.before = (entry) => {
    if (command.fails && !entry.startsWith('stop')) throw new Error('not today')
  }
  const ring = rig.control
  const before = ring.usedIdx
  if (command.indirect) ring.indirect(buffers, TABLE)
  else ring.chain(buffers)
  ring.offer(0)
  rig.guest.kick(rig.device.inspect().controlQueue!)
  await soon('an answer', () => ring.usedIdx !== before || rig.fault !== undefined)
  if (rig.fault !== undefined) return rig.fault
  assert.deepEqual(ring.usedElement(before), { id: 0, length: 1 })
  const first = buffers.findIndex(({ deviceWrites, length }) => deviceWrites && length > 0)
  const written = new Uint8Array(rig.buffer, WRITABLE, 0x400)
  const at = buffers[first]!.address - WRITABLE
  assert.ok(
    written.every((byte, i) => i === at || byte === 0xee),
    'nothing but the answer was written',
  )
  return written[at]!
}

describe('a virtio-net device under a hostile guest', () => {
  it('[NET-CTRL-02] answers whatever is on the control queue, or needs a reset and says why', async () => {
    const ends = new Map<string | number, number>()
    await fc.assert(
      fc.asyncProperty(fc.array(shape, { minLength: 1, maxLength: 20, size: 'max' }), async (commands) => {
        const rig = new NetRig({}, new RecordingBackend({ queuePairs: 4 }))
        try {
          rig.up()
          for (const command of commands) {
            const end = await send(rig, command)
            ends.set(end, (ends.get(end) ?? 0) + 1)
            if (typeof end === 'string') {
              assert.ok(CAUSES.has(end), end)
              break
            }
            assert.ok(end === 0 || end === 1, `the answer ${end}`)
          }
          rig.backend.before = undefined
          const state = rig.device.inspect()
          assert.deepEqual(JSON.parse(JSON.stringify(state)), state)
          rig.up()
          assert.ok(await rig.command(0, 0, 0))
          assert.ok(await rig.command(4, 0, 4, 0))
        } finally {
          rig.close()
        }
      }),
      { numRuns: 100 },
    )
    for (const end of [0, 1, 'no-room-for-answer', 'readable-after-writable']) {
      assert.ok(ends.has(end), `never drawn: ${end} among ${[...ends.keys()].join()}`)
    }
  })

  it('answers a command whatever descriptors it is cut into', async () => {
    const rig = new NetRig().up()
    try {
      const commands = [
        [Uint8Array.of(0, 0, 0), 0],
        [Uint8Array.of(1, 1, 0x52, 0x54, 0, 1, 2, 3), 0],
        [Uint8Array.of(1, 1, 0x53, 0x54, 0, 1, 2, 3), 1],
      ] as const
      for (const [bytes, answer] of commands) {
        for (let first = 0; first <= bytes.length; first++) {
          for (const indirect of [false, true]) {
            const cuts = [first, bytes.length - 1]
            const command = { bytes, cuts, room: [1], indirect, swapped: false, fails: false }
            assert.equal(await send(rig, command), answer, `cut at ${cuts}`)
          }
        }
      }
    } finally {
      rig.close()
    }
  })

  it('needs a reset where a command has no byte for its answer', async () => {
    const rig = new NetRig().up()
    try {
      await rig.send([0, 0, 1], { room: 0 })
      assert.equal(rig.fault, 'no-room-for-answer')
      assert.deepEqual(rig.backend.filter?.promiscuous, true)
      rig.up()
      assert.ok(await rig.command(0, 0, 1))
    } finally {
      rig.close()
    }
  })
})
