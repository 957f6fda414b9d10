// A guest whose acts are noted, with what it knows of its device: what it has agreed on, which rings run, what is owed to it.

import { VIRTIO_CONFIG_S, VIRTIO_F } from '../../../lib/abi/virtio.ts'
import { VIRTIO_NET_F, VIRTIO_NET_F_NEEDS } from '../../../lib/abi/virtio-net.ts'
import type { RingName } from '../../../lib/backend/net-backend.ts'
import { FEATURE_WORDS, unmetFeatures } from '../../../lib/virtio/features.ts'
import { featureSet, featureWord, hasFeature, withFeatureWord } from '../../../lib/virtio/index.ts'
import type { Command } from './commands.ts'
import type { Coverage } from './coverage.ts'
import { type FuzzNic, QUEUE_PAIRS } from './fuzz-nic.ts'
import { NotedRing } from './noted-ring.ts'
import type { Operations } from './operations.ts'
import { must, until } from './oracle.ts'
import { PARTS, QueueModel } from './queue-model.ts'
import type { RegisterName } from './registers.ts'

const { VIRTIO_CONFIG_S_ACKNOWLEDGE: ACKNOWLEDGE, VIRTIO_CONFIG_S_DRIVER: DRIVER } = VIRTIO_CONFIG_S
const { VIRTIO_CONFIG_S_FEATURES_OK: FEATURES_OK, VIRTIO_CONFIG_S_DRIVER_OK: DRIVER_OK } = VIRTIO_CONFIG_S
const { VIRTIO_CONFIG_S_NEEDS_RESET: NEEDS_RESET } = VIRTIO_CONFIG_S
const VERSION_1 = featureSet(VIRTIO_F.VIRTIO_F_VERSION_1)
const RING_SIZE = 256
const CONTROL_SIZE = 64

/** Where things lie in the first region. Behind the rings, which have a slot each. */
export const SLOT_SIZE = 0x2000
export const TABLE = 0x10000
export const COMMANDS_AT = 0x1e000
/** From a command to its answer. */
export const ANSWER = 0x180
export const TX_POOL = 0x20000
export const RX_POOL = 0x30000
export const POOL_SIZE = 0x10000
/** As many for each queue as it has entries at most. */
export const INDIRECT = 0x80000

/** What a command is sent with, and where its answer comes. */
export interface SentCommand extends Command {
  answerAt: number
}

export class FuzzGuest {
  readonly device: FuzzNic
  readonly operations: Operations
  readonly coverage: Coverage
  readonly offered: bigint
  readonly queues: readonly QueueModel[]
  accepted = 0n
  featuresOk = false
  driverOk = false
  active = 1
  linkUp = true
  /** It receives whatever the host sends. */
  promiscuous = true
  /** Causes for which it may need a reset by now. */
  readonly allowed = new Set<string>()
  /** It may need one for any cause, and nothing is known of it. */
  anything = false
  /** It must need one soon. */
  doomed = false
  /** Commands that were not answered yet. */
  readonly sent: SentCommand[] = []
  /** Frames that were taken from it, in order, since the last reset. */
  moved = 0
  #told = false

  constructor(device: FuzzNic, operations: Operations, coverage: Coverage) {
    this.device = device
    this.operations = operations
    this.coverage = coverage
    const sizes = [...Array.from({ length: 2 * QUEUE_PAIRS }, () => RING_SIZE), CONTROL_SIZE]
    this.queues = sizes.map((size, index) => new QueueModel(index, size))
    this.offered = this.readOffered()
  }

  write(name: RegisterName, value: number): void {
    this.operations.note('registers', 'write', name, value)
    this.device.registers.write(name, value)
  }

  read(name: RegisterName): number {
    const value = this.device.registers.read(name)
    this.operations.note('registers', 'read', name)
    return value
  }

  readOffered(): bigint {
    let set = 0n
    for (let select = 0; select < FEATURE_WORDS; select++) {
      this.write('deviceFeaturesSelect', select)
      set = withFeatureWord(set, select, this.read('deviceFeatures'))
    }
    return set
  }

  kick(queue: number): void {
    this.operations.note('kicks', 'kick', queue)
    this.device.registers.kick(queue)
  }

  /** Writes into memory. */
  fill(address: number, bytes: readonly number[]): void {
    this.operations.note('memory', 'fill', address, Buffer.from(bytes).toString('hex'))
    new Uint8Array(this.device.bytes, address, bytes.length).set(bytes)
    for (const { ring } of this.queues) ring?.wrote(address, bytes.length)
  }

  has(feature: number): boolean {
    return this.featuresOk && hasFeature(this.accepted, feature)
  }

  get pairs(): number {
    return this.has(VIRTIO_NET_F.VIRTIO_NET_F_MQ) ? QUEUE_PAIRS : 1
  }

  /** undefined where there is none. */
  get control(): QueueModel | undefined {
    return this.has(VIRTIO_NET_F.VIRTIO_NET_F_CTRL_VQ) ? this.queues[2 * this.pairs] : undefined
  }

  get fault(): { cause: string; message: string } | undefined {
    return (this.device.nic.status & NEEDS_RESET) === 0 ? undefined : this.device.nic.inspect().fault!
  }

  /** Resets the device and makes itself known. Its memory is empty then, but for what is received. */
  begin(): void {
    this.write('status', 0)
    const status = this.read('status')
    must(status === 0, () => `the status is 0x${status.toString(16)} after a reset`)
    this.accepted = 0n
    this.featuresOk = false
    this.driverOk = false
    this.active = 1
    this.promiscuous = true
    this.allowed.clear()
    this.anything = false
    this.doomed = false
    this.sent.length = 0
    this.moved = 0
    this.#told = false
    for (const queue of this.queues) queue.reset()
    new Uint8Array(this.device.bytes, 0, RX_POOL).fill(0)
    this.write('status', ACKNOWLEDGE)
    this.write('status', ACKNOWLEDGE | DRIVER)
  }

  /** Writes what it accepts, and FEATURES_OK, which sticks where that is right and no sooner. */
  accept(features: bigint): void {
    for (let select = 0; select < FEATURE_WORDS; select++) {
      this.write('driverFeaturesSelect', select)
      this.write('driverFeatures', featureWord(features, select))
    }
    this.write('status', ACKNOWLEDGE | DRIVER | FEATURES_OK)
    const right =
      (features & ~this.offered) === 0n &&
      (features & VERSION_1) !== 0n &&
      unmetFeatures(features, VIRTIO_NET_F_NEEDS) === 0n
    const sticks = (this.read('status') & FEATURES_OK) !== 0
    must(sticks === right, () => `FEATURES_OK ${sticks ? 'sticks' : 'does not stick'} with 0x${features.toString(16)}`)
    this.accepted = features
    this.featuresOk = right
  }

  /** Says where a queue lies. */
  place(queue: QueueModel, size: number, addresses: QueueModel['addresses']): void {
    this.write('queueSelect', queue.index)
    this.write('queueSize', size)
    for (const part of PARTS) {
      const address = addresses[part]
      this.write(`${part}Low`, address % 2 ** 32)
      this.write(`${part}High`, Math.floor(address / 2 ** 32))
    }
    if (!this.featuresOk || queue.ready || !this.#exists(queue)) return
    queue.addresses = { ...addresses }
    const takes =
      this.device.registers.transport === 'mmio' || (size >= 1 && size <= queue.sizeMax && isPowerOfTwo(size))
    if (takes) queue.size = size
  }

  /** It is enabled where that is right, and else the device needs a reset. */
  enable(queue: QueueModel): void {
    const known = this.featuresOk && this.#exists(queue)
    const broken = known && !queue.ready ? queue.broken : new Set<string>()
    const expected = known && (queue.ready || broken.size === 0)
    this.write('queueSelect', queue.index)
    this.write('queueEnable', 1)
    const ready = this.read('queueEnable') === 1
    const why = (): string => (broken.size === 0 ? 'nothing is wrong with it' : [...broken].join(', '))
    must(ready === expected, () => `queue ${queue.index} is ${ready ? '' : 'not '}enabled, and ${why()}`)
    queue.ready = ready
    for (const code of broken) this.allowed.add(code)
    this.doomed ||= broken.size > 0
  }

  #exists({ index }: QueueModel): boolean {
    return index < 2 * this.pairs || index === this.control?.index
  }

  /** A ring of its own, empty, at an address; it is placed there and enabled. */
  setUp(queue: QueueModel, at: number, size: number): void {
    const { bytes } = this.device
    const ring = new NotedRing(bytes, at, size, queue.index, this.operations.note)
    this.place(queue, size, ring)
    this.enable(queue)
    if (queue.ready) queue.ring = ring
  }

  /** The driver takes a queue away, in one of two ways; each without effect where there is none. */
  takeAway(queue: QueueModel, how: 'reset' | 'disable'): void {
    this.write('queueSelect', queue.index)
    this.write(how === 'reset' ? 'queueReset' : 'queueEnable', how === 'reset' ? 1 : 0)
    if (!this.#exists(queue) || !this.featuresOk) return
    if (how === 'reset' && this.has(VIRTIO_F.VIRTIO_F_RING_RESET)) queue.reset()
    if (how === 'disable' && this.device.registers.transport === 'mmio') queue.drop()
    if (queue.index === this.control?.index && !queue.ready) this.sent.length = 0
  }

  ready(): void {
    this.write('status', ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK)
    this.driverOk = this.featuresOk
  }

  /** The ring of a pair, where the device must serve it. */
  running(pair: number, name: RingName): NotedRing | undefined {
    const [rx, tx] = [this.queues[2 * pair], this.queues[2 * pair + 1]]
    const runs = this.driverOk && this.linkUp && pair < Math.min(this.active, this.pairs)
    return runs && rx?.ready && tx?.ready ? (name === 'rx' ? rx.ring : tx.ring) : undefined
  }

  get runningControl(): NotedRing | undefined {
    return this.driverOk && this.control?.ready ? this.control.ring : undefined
  }

  /** Rings with what is owed to the guest: all that it made available is to be used. */
  #owed(): [queue: number, ring: NotedRing][] {
    const control = this.runningControl
    const rings: [number, NotedRing][] = control === undefined ? [] : [[this.control!.index, control]]
    for (let pair = 0; pair < QUEUE_PAIRS; pair++) {
      const tx = this.running(pair, 'tx')
      if (tx !== undefined) rings.push([2 * pair + 1, tx])
    }
    return rings.filter(([, ring]) => !ring.spoilt)
  }

  /** Waits until all that is owed was done, or the device needs a reset. @param rx whether its ring is to be used up, too */
  async settle(rx?: NotedRing): Promise<void> {
    const owed = this.#owed()
    if (rx !== undefined) owed.push([0, rx])
    for (const [queue, ring] of owed) if (!ring.idle) this.kick(queue)
    const done = (): boolean =>
      this.fault !== undefined ||
      this.#passedBarrier !== undefined ||
      (!this.doomed && owed.every(([, ring]) => ring.idle))
    const what = (): string => {
      const open = owed.filter(([, ring]) => !ring.idle)
      const each = open.map(([queue, ring]) => `queue ${queue}: ${ring.usedIdx} of ${ring.published} used`)
      const reset = this.doomed ? [`a reset for ${[...this.allowed].join(' or ')}`] : []
      return [...reset, ...each].join(', ')
    }
    await until(this.device, what, done)
    this.judge()
    for (const [queue, ring] of owed) {
      ring.taken = 0
      if (queue % 2 === 1) this.moved += ring.takeReturned()
    }
  }

  /** Whether what the device did, and needs, is what it may. */
  judge(): void {
    const { fault } = this
    if (fault !== undefined) {
      const { cause, message } = fault
      must(
        this.anything || this.allowed.has(cause),
        () => `the device needs a reset (${cause}: ${message}), ${this.#why}`,
      )
      if (!this.#told) this.coverage.fault(cause)
      this.#told = true
    }
    const passed = this.#passedBarrier
    must(
      passed === undefined,
      () => `queue ${passed!.index}: entry ${passed!.ring!.barrier} was used, which it must not be`,
    )
    if (fault === undefined) this.#takeAnswers()
  }

  /** A queue of which more was used than may be. */
  get #passedBarrier(): QueueModel | undefined {
    return this.queues.find(({ ring }) => {
      if (ring?.barrier === undefined || ring.spoilt) return false
      return ((ring.usedIdx - ring.barrier) << 16) >> 16 > 0
    })
  }

  get #why(): string {
    return this.allowed.size === 0 ? 'and nothing was wrong' : `and not for ${[...this.allowed].join(' or ')}`
  }

  #takeAnswers(): void {
    if (this.runningControl?.idle !== true || this.runningControl.spoilt) return
    for (const { name, answer, answerAt, bytes } of this.sent.splice(0)) {
      const given = new Uint8Array(this.device.bytes, answerAt, 1)[0]!
      if (!this.anything) must(given === answer, () => `${name} [${bytes}] was answered ${given}, not ${answer}`)
      if (given === 0 || given === 1) this.coverage.answered(name, given)
    }
  }
}

function isPowerOfTwo(value: number): boolean {
  return (value & (value - 1)) === 0
}
