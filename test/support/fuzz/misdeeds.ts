// Guests that put one known thing wrong, where what must become of it is known, too: in a ring, or in where it lies.

import { setTimeout } from 'node:timers/promises'
import { VIRTIO_F } from '../../../lib/abi/virtio.ts'
import { vnetHdrSize } from '../../../lib/backend/vhost-net/features.ts'
import { RING_CASES, type RingCase } from '../ring-faults.ts'
import { END, REGIONS } from './fuzz-nic.ts'
import { type FuzzGuest, RX_POOL, SLOT_SIZE, TABLE, TX_POOL } from './guest.ts'
import type { NotedRing } from './noted-ring.ts'
import type { QueueModel } from './queue-model.ts'
import type { Random } from './random.ts'

export class Misdeeds {
  readonly #guest: FuzzGuest
  readonly #random: Random

  constructor(guest: FuzzGuest, random: Random) {
    this.#guest = guest
    this.#random = random
  }

  /** One thing is wrong with where it lies, or nothing after all. */
  misplace(queue: QueueModel): void {
    const [guest, random] = [this.#guest, this.#random]
    const at = SLOT_SIZE * queue.index
    const size = 64
    const addresses = { desc: at, avail: at + 0x800, used: at + 0x1000 }
    const part = random.pick(['desc', 'avail', 'used'] as const)
    const ends = [...REGIONS.map(({ guestAddress, size }) => guestAddress + size)]
    switch (random.weighted({ size: 2, alignment: 2, end: 8, far: 2, overlap: 2 })) {
      case 'size':
        guest.place(queue, random.pick([0, 3, 65, 512, 1024, 32768, 0xffff]), addresses)
        break
      case 'alignment':
        addresses[part] += random.between(1, 15)
        guest.place(queue, size, addresses)
        break
      case 'end':
        // Some of these lie within memory.
        addresses[part] = random.pick(ends) - 16 * random.between(0, 80)
        guest.place(queue, size, addresses)
        break
      case 'far':
        addresses[part] = random.pick([END, 2 ** 32, 2 ** 52, 2 ** 53 - 4096, 0xffff_f000])
        guest.place(queue, size, addresses)
        break
      case 'overlap':
        addresses[part] = random.pick([addresses.desc, addresses.avail, addresses.used]) + 16 * random.below(8)
        guest.place(queue, size, addresses)
    }
    guest.enable(queue)
    // What lies there is not looked at: the ring, where it is one, is empty.
    guest.anything ||= queue.ready
  }

  /** One of the known things that a guest can do wrong in a ring, and just what must become of it. */
  async spoil(): Promise<void> {
    const [guest, random] = [this.#guest, this.#random]
    const name = random.weighted({ tx: 5, rx: 3, control: 4 })
    const ring = name === 'control' ? guest.runningControl : guest.running(0, name)
    // With several pairs, what is received may come another way; with a filter, not at all.
    if (ring === undefined || (name === 'rx' && (guest.active > 1 || !guest.promiscuous))) return
    if (name === 'tx' && random.percent(8)) return this.#putRight(ring)
    const cases = RING_CASES.filter((each) => each.ring === (name === 'rx' ? 'rx' : 'tx') && this.#applies(each, name))
    const one = random.pick(cases)
    const outcome = name === 'control' ? outcomeOfCommand(one, this.#indirect) : one.outcome
    guest.operations.remark(`${one.name}, in ${name}: ${outcome}`)
    const before = ring.offered
    const pool = name === 'rx' ? RX_POOL : TX_POOL
    one.spoil({ ring, pool, table: TABLE, end: END, bytes: new DataView(guest.device.bytes) })
    if (outcome === 'avail-index' && name !== 'control') {
      // Linux 6.1 was seen to take entries of before then, and what is wrong is found there.
      guest.anything = true
    } else if (outcome !== 'returned') {
      guest.allowed.add(outcome)
      guest.doomed = true
      ring.barrier = before
    }
    guest.kick(name === 'control' ? guest.control!.index : name === 'rx' ? 0 : 1)
    // What is wrong with room to receive into is found when something is received.
    if (name === 'rx') await guest.device.sendFrame()
    await guest.settle(name === 'rx' ? ring : undefined)
  }

  #applies({ name }: RingCase, where: 'tx' | 'rx' | 'control'): boolean {
    const { accepted } = this.#guest
    if (!this.#indirect && name.includes('indirect') && where !== 'control') return false
    return vnetHdrSize(accepted) === 12 || !name.startsWith('a header without')
  }

  /** What is wrong is put right before anybody has looked. */
  async #putRight(ring: NotedRing): Promise<void> {
    const guest = this.#guest
    guest.allowed.add('outside-memory').add('unknown')
    ring.describe(0, { address: END, length: 72 })
    ring.offer(0)
    guest.kick(1)
    // This thread sleeps, and with it whoever would look.
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 4)
    ring.describe(0, { address: TX_POOL, length: 72 })
    await setTimeout(1)
    await guest.settle()
  }

  get #indirect(): boolean {
    return this.#guest.has(VIRTIO_F.VIRTIO_RING_F_INDIRECT_DESC)
  }
}

/** A command is served by this process, which is stricter; and what is a frame has no room for an answer. */
function outcomeOfCommand({ name, outcome }: RingCase, indirect: boolean): RingCase['outcome'] {
  if (name.includes('indirect') && !indirect) return 'indirect-not-agreed'
  if (name === 'a frame to send that the device may write to') return 'returned'
  if (name === 'an indirect descriptor with another behind it') return 'indirect-with-next'
  return ['returned', 'empty-buffer', 'short-header', 'header-beyond-frame'].includes(outcome)
    ? 'no-room-for-answer'
    : outcome
}
