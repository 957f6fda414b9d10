// A backend without packets: it notes what a device asks of it, and holds the device to the contract.

import assert from 'node:assert/strict'
import { EventEmitter } from 'node:events'
import type {
  NetBackend,
  NetBackendEvents,
  PairBases,
  PairConfig,
  RingName,
  RxFilter,
} from '../../lib/backend/index.ts'
import type { Vring } from '../../lib/virtio/index.ts'

/** VERSION_1, MRG_RXBUF, INDIRECT_DESC, EVENT_IDX, and every offload but UFO towards the guest. */
export const SERVED = [0, 1, 7, 8, 9, 11, 12, 13, 14, 15, 28, 29, 32, 54, 55, 56, 65, 66, 67, 68].reduce(
  (set, bit) => set | (1n << BigInt(bit)),
  0n,
)

export class RecordingBackend extends EventEmitter<NetBackendEvents> implements NetBackend {
  readonly queuePairs: number
  readonly features: bigint
  /** What was asked for, in order: `'start 1 rx@0 tx@0'`. */
  readonly log: string[] = []
  /** What each pair was started with last. */
  readonly configs: (PairConfig | undefined)[] = []
  /** Where each ring stands that is stopped. */
  bases: PairBases = { rx: 0, tx: 0 }
  /** The filter that is set. */
  filter: RxFilter | undefined
  /** Called with each entry before it is done; what it throws fails the operation. */
  before: ((entry: string) => void) | undefined
  closed = false
  /** How the device broke the contract; what is thrown at it may end as an answer to its guest. */
  readonly violations: string[] = []
  readonly #running = new Map<number, Set<RingName>>()

  constructor({ queuePairs = 1, features = SERVED }: { queuePairs?: number; features?: bigint } = {}) {
    super()
    this.queuePairs = queuePairs
    this.features = features
  }

  #note(entry: string): void {
    this.log.push(entry)
    this.before?.(entry)
  }

  /** What was asked for since this was called last. */
  take(): string[] {
    return this.log.splice(0)
  }

  #holds(condition: boolean, rule: string): asserts condition {
    if (!condition) this.violations.push(rule)
    assert.ok(condition, rule)
  }

  /** The rings of a pair that run. */
  rings(pair: number): RingName[] {
    return [...(this.#running.get(pair) ?? [])].sort()
  }

  explain(feature: number): string | undefined {
    return ((this.features >> BigInt(feature)) & 1n) === 1n ? undefined : `this backend has no bit ${feature}`
  }

  start(pair: number, config: PairConfig): void {
    const { features, rx, tx } = config
    this.#holds(pair < this.queuePairs, `there is no pair ${pair}`)
    this.#holds(!this.#running.has(pair), `pair ${pair} is running`)
    this.#holds((features & ~this.features) === 0n, 'only what the backend serves is agreed on with it')
    this.#note(`start ${pair} rx@${rx.base ?? 0} tx@${tx.base ?? 0}`)
    this.configs[pair] = config
    this.#running.set(pair, new Set(['rx', 'tx']))
  }

  stop(pair: number, { detach = false }: { detach?: boolean } = {}): PairBases {
    this.#holds(this.#running.delete(pair), `pair ${pair} is not running`)
    this.#note(`stop ${pair}${detach ? ' detach' : ''}`)
    return { ...this.bases }
  }

  startRing(pair: number, ring: RingName, vring: Vring): void {
    const rings = this.#running.get(pair)
    this.#holds(rings !== undefined, `pair ${pair} is not running`)
    this.#holds(!rings.has(ring), `${ring} of pair ${pair} is running`)
    this.#note(`start ${pair} ${ring}@${vring.base ?? 0}`)
    rings.add(ring)
  }

  stopRing(pair: number, ring: RingName): number {
    this.#holds(this.#running.get(pair)?.delete(ring) === true, `${ring} of pair ${pair} is not running`)
    this.#note(`stop ${pair} ${ring}`)
    return this.bases[ring]
  }

  running(pair: number): boolean {
    return this.#running.has(pair)
  }

  pause(): void {
    this.#note('pause')
  }

  resume(): void {
    this.#note('resume')
  }

  setOffloads(offloads: bigint): void {
    this.#note(`offloads 0x${offloads.toString(16)}`)
  }

  setRxFilter(filter: RxFilter): void {
    this.#note('filter')
    this.filter = filter
  }

  close(): void {
    this.closed = true
  }
}
