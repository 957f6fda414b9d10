// What a guest does in order: it sends, makes room, gives commands, looks around, takes queues away and brings them again.

import { VIRTIO_F } from '../../../lib/abi/virtio.ts'
import { VIRTIO_NET_F } from '../../../lib/abi/virtio-net.ts'
import { vnetHdrSize } from '../../../lib/backend/vhost-net/features.ts'
import { frameToSend, roomToReceive, writeChain } from './chains.ts'
import { drawCommand } from './commands.ts'
import { QUEUE_PAIRS } from './fuzz-nic.ts'
import { ANSWER, COMMANDS_AT, type FuzzGuest, SLOT_SIZE } from './guest.ts'
import type { QueueModel } from './queue-model.ts'
import type { Random } from './random.ts'

/** Commands that are under way at a time. */
const MOST_COMMANDS = 16
const COMMAND_SIZE = 0x200

export class Acts {
  readonly #guest: FuzzGuest
  readonly #random: Random
  /** It is about to spoil a ring: none is small, and those to receive into are empty until then. */
  readonly #careful: boolean

  constructor(guest: FuzzGuest, random: Random, careful: boolean) {
    this.#guest = guest
    this.#random = random
    this.#careful = careful
  }

  /** Some of them. */
  async some(count: number): Promise<void> {
    for (let left = count; left > 0; left--) await this.#act()
  }

  /** A ring of any size, somewhere in its slot. */
  setUp(queue: QueueModel): void {
    const random = this.#random
    const small = !this.#careful && random.percent(10)
    const most = queue === this.#guest.control ? 64 : 256
    const size = small ? 2 ** random.below(4) : Math.min(most, random.pick([16, 32, 64, 128, 256, 256]))
    this.#guest.setUp(queue, SLOT_SIZE * queue.index + 16 * random.below(64), size)
  }

  async #act(): Promise<void> {
    const [guest, random] = [this.#guest, this.#random]
    switch (
      random.weighted({
        send: 40,
        post: 12,
        frame: 6,
        command: 14,
        registers: 14,
        settle: 3,
        queue: 2,
        announce: 2,
        link: 1,
      })
    ) {
      case 'send':
        return this.#send()
      case 'post':
        return this.#post()
      case 'frame':
        guest.operations.remark('the host sends a frame')
        return guest.device.sendFrame()
      case 'command':
        return this.#command()
      case 'registers':
        return this.#lookAround()
      case 'settle':
        return guest.settle()
      case 'queue':
        return this.#replace()
      case 'announce':
        guest.operations.remark('the host asks for an announcement')
        guest.device.nic.announce()
        return
      case 'link':
        guest.linkUp = !guest.linkUp
        guest.operations.remark(`the link is ${guest.linkUp ? 'up' : 'down'}`)
        guest.device.nic.setLink(guest.linkUp)
    }
  }

  get #indirect(): boolean {
    return this.#guest.has(VIRTIO_F.VIRTIO_RING_F_INDIRECT_DESC)
  }

  /** A burst of frames, in order. */
  async #send(): Promise<void> {
    const [guest, random] = [this.#guest, this.#random]
    const pair = random.below(QUEUE_PAIRS)
    const ring = guest.running(pair, 'tx')
    if (ring === undefined) return
    const heads: number[] = []
    for (let frames = random.between(1, 32); frames > 0; frames--) {
      const pieces = frameToSend(random, vnetHdrSize(guest.accepted))
      let written = writeChain(random, ring, pieces, { indirect: this.#indirect })
      if (written === undefined) {
        if (heads.length > 0) ring.offer(...heads.splice(0))
        await guest.settle()
        written = writeChain(random, ring, pieces, { indirect: this.#indirect })
      }
      // A ring that is smaller than the chain.
      if (written === undefined) break
      heads.push(written.head)
    }
    if (heads.length === 0) return
    ring.offer(...heads)
    if (random.percent(90)) guest.kick(2 * pair + 1)
  }

  /** Room to receive into; none of it is used again. */
  #post(): void {
    const [guest, random] = [this.#guest, this.#random]
    const pair = random.below(QUEUE_PAIRS)
    const ring = guest.running(pair, 'rx')
    if (ring === undefined || this.#careful) return
    const mergeable = guest.has(VIRTIO_NET_F.VIRTIO_NET_F_MRG_RXBUF)
    for (let buffers = random.between(1, 8); buffers > 0; buffers--) {
      const written = writeChain(random, ring, roomToReceive(random, mergeable), { indirect: this.#indirect })
      if (written === undefined) break
      ring.offer(written.head)
    }
    guest.kick(2 * pair)
  }

  async #command(): Promise<void> {
    const [guest, random] = [this.#guest, this.#random]
    const ring = guest.runningControl
    if (ring === undefined) return
    for (let commands = random.between(1, 4); commands > 0; commands--) {
      if (guest.sent.length >= MOST_COMMANDS) await guest.settle()
      const command = drawCommand(random, guest.accepted)
      // What waits in a pair that it stops is not used before the pair runs again.
      if (command.pairs !== undefined) await guest.settle()
      const at = COMMANDS_AT + (ring.offered % MOST_COMMANDS) * COMMAND_SIZE
      guest.fill(at, command.bytes)
      guest.fill(at + ANSWER, [0xee])
      const middle = random.below(command.bytes.length + 1)
      const pieces = [
        { address: at, length: middle, deviceWrites: false },
        { address: at + middle, length: command.bytes.length - middle, deviceWrites: false },
        { address: at + ANSWER, length: random.between(1, 16), deviceWrites: true },
      ]
      let written = writeChain(random, ring, pieces, { indirect: this.#indirect })
      if (written === undefined) {
        await guest.settle()
        written = writeChain(random, ring, pieces, { indirect: this.#indirect })
      }
      if (written === undefined) return
      ring.offer(written.head)
      guest.sent.push({ ...command, answerAt: at + ANSWER })
      guest.kick(guest.control!.index)
      if (command.name === 'RX_PROMISC' && command.answer === 0) guest.promiscuous = command.bytes[2] === 1
      // Which pairs run is known once it is answered.
      if (command.pairs !== undefined) {
        await guest.settle()
        if (command.answer === 0) guest.active = command.pairs
      }
    }
  }

  /** Registers that a guest may read at any time, and write without effect. */
  #lookAround(): void {
    const [guest, random] = [this.#guest, this.#random]
    const { registers } = guest.device
    for (let acts = random.between(1, 20); acts > 0; acts--) {
      const width = random.pick([1, 2, 4])
      const offset = random.below(20)
      switch (random.below(6)) {
        case 0:
          guest.read(random.pick(['status', 'generation', 'deviceFeatures'] as const))
          break
        case 1:
          guest.operations.note('registers', 'readConfig', offset, width)
          registers.readConfig(offset, width)
          break
        case 2:
          guest.operations.note('registers', 'takeInterrupt')
          registers.takeInterrupt()
          break
        case 3:
          guest.operations.note('registers', 'writeConfig', offset, width)
          registers.writeConfig(offset, width, random.word())
          break
        case 4:
          // Too late, of a queue that is there already, or is not at all.
          guest.write('driverFeatures', random.word())
          break
        case 5:
          guest.kick(random.below(guest.queues.length + 2))
      }
    }
  }

  /** A queue goes, and comes again. */
  async #replace(): Promise<void> {
    const [guest, random] = [this.#guest, this.#random]
    await guest.settle()
    const queue = random.pick(guest.queues)
    guest.takeAway(queue, random.pick(['reset', 'disable']))
    if (guest.featuresOk && !queue.ready && random.percent(80)) this.setUp(queue)
  }
}
