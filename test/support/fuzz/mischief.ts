// Guests of which nobody can say what they do: chains with anything wrong in them, bytes anywhere, accesses of any register.

import { VIRTIO_F } from '../../../lib/abi/virtio.ts'
import { vnetHdrSize } from '../../../lib/backend/vhost-net/features.ts'
import { frameToSend, MOST_PIECES, writeChain } from './chains.ts'
import { END, QUEUE_PAIRS } from './fuzz-nic.ts'
import { ANSWER, COMMANDS_AT, type FuzzGuest, RX_POOL, SLOT_SIZE } from './guest.ts'
import type { Random } from './random.ts'
import { REGISTERS } from './registers.ts'

export class Mischief {
  readonly #guest: FuzzGuest
  readonly #random: Random

  constructor(guest: FuzzGuest, random: Random) {
    this.#guest = guest
    this.#random = random
  }

  /** Chains with something wrong in them, or bytes anywhere. */
  async mutate(): Promise<void> {
    const [guest, random] = [this.#guest, this.#random]
    for (let mutations = random.between(1, 4); mutations > 0; mutations--) {
      const pair = random.below(QUEUE_PAIRS)
      const control = random.percent(30)
      const ring = control ? guest.runningControl : guest.running(pair, 'tx')
      if (ring === undefined) continue
      guest.anything = true
      if (random.percent(25)) this.#scribble()
      const pieces = control
        ? [
            { address: COMMANDS_AT, length: 3, deviceWrites: false },
            { address: COMMANDS_AT + ANSWER, length: 1, deviceWrites: true },
          ]
        : frameToSend(random, vnetHdrSize(guest.accepted))
      if (pieces.length === 0 || pieces.length > MOST_PIECES) continue
      const written = writeChain(random, ring, pieces, {
        indirect: guest.has(VIRTIO_F.VIRTIO_RING_F_INDIRECT_DESC),
        spoilt: true,
      })
      if (written === undefined) continue
      if (written.outside) ring.barrier ??= ring.offered
      ring.offer(written.head)
      guest.kick(control ? guest.control!.index : 2 * pair + 1)
      if (random.percent(30)) await guest.settle()
    }
  }

  #scribble(): void {
    const [guest, random] = [this.#guest, this.#random]
    const bytes = Array.from({ length: random.between(1, 16) }, () =>
      random.pick([0, 1, 2, 4, 0xff, random.below(256)]),
    )
    guest.fill(random.below(random.percent(80) ? SLOT_SIZE * 5 : RX_POOL), bytes)
    // What stands where is not known any more.
    for (const { ring } of guest.queues) if (ring !== undefined) ring.barrier = Number.NaN
  }

  /** Any access, of any width, anywhere. */
  runWild(): void {
    const [guest, random] = [this.#guest, this.#random]
    const { registers } = guest.device
    guest.anything = true
    guest.driverOk = false
    for (let acts = random.between(20, 80); acts > 0; acts--) {
      const window = random.pick(registers.windows)
      const width = random.pick([1, 2, 4])
      const offset = random.percent(80) ? width * random.below(64) : random.below(0x210)
      const value = random.pick([0, 1, 2, 3, 4, 0x0b, 0x0f, 0x80, 0xffff, 0xffff_ffff, SLOT_SIZE, END, random.word()])
      if (random.percent(30)) {
        guest.operations.note('registers', 'readAt', window, offset, width)
        registers.readAt(window, offset, width)
      } else if (random.percent(20)) {
        guest.write(random.pick(REGISTERS), value)
      } else {
        guest.operations.note('registers', 'writeAt', window, offset, width, value)
        registers.writeAt(window, offset, width, value)
      }
    }
    registers.restore()
  }
}
