// N queue pairs on vhost-net and one tap.

import { EventEmitter } from 'node:events'
import { setImmediate } from 'node:timers/promises'
import { TAP_MAX_QUEUES, TUN_DEVICE, TUN_SNDBUF_UNLIMITED } from '../../abi/tun.ts'
import { VHOST_NET_DEVICE } from '../../abi/vhost.ts'
import { InvalidOptionError } from '../../errors.ts'
import { checkIfname } from '../../host/ifname.ts'
import { Tap } from '../../host/tap.ts'
import { NativeMemory } from '../../memory/index.ts'
import { checkInteger, checkObject, checkString } from '../../options.ts'
import { Teardown } from '../../teardown.ts'
import type { NetBackend, NetBackendEvents, PairBases, PairConfig } from '../net-backend.ts'
import { ExistingTap } from './existing-tap.ts'
import { QueuePair } from './queue-pair.ts'

export interface VhostNetBackendOptions {
  /** What the guest and the kernel's workers share. It must outlive the backend. */
  memory: NativeMemory
  /** 1..256. Each takes a vhost-net fd, a tap queue and a kernel worker. Default 1. */
  queuePairs?: number
  tap: {
    /** The tap to create, or to attach to where it exists; 1..15 bytes, `%d` lets the kernel choose a number. */
    ifname: string
    /** Node of tun. Default `/dev/net/tun`. */
    path?: string
  }
  vhost?: {
    /** Node of vhost-net. Default `/dev/vhost-net`. */
    path?: string
  }
  /** Bytes in flight towards the tap, 1..2³¹−1. Anything below the default turns the kernel's batching off. */
  sndbuf?: number
}

interface CheckedOptions {
  memory: NativeMemory
  queuePairs: number
  ifname: string
  tapPath: string
  vhostPath: string
  sndbuf: number
}

function checkOptions(options: unknown): CheckedOptions {
  const given = checkObject(options, ['memory', 'queuePairs', 'tap', 'vhost', 'sndbuf'])
  if (!(given.memory instanceof NativeMemory)) {
    throw new InvalidOptionError('ERR_OPTION_TYPE', 'memory', 'must be memory that the kernel can reach', {
      hint: 'Make it with GuestMemory.allocate().',
    })
  }
  const tap = checkObject(given.tap, ['ifname', 'path'], 'tap')
  const vhost = checkObject(given.vhost ?? {}, ['path'], 'vhost')
  return {
    memory: given.memory,
    queuePairs: checkInteger(given.queuePairs, 'queuePairs', 1, TAP_MAX_QUEUES, 1),
    ifname: checkIfname(tap.ifname, 'tap.ifname', { pattern: true }),
    tapPath: checkString(tap.path, 'tap.path', TUN_DEVICE),
    vhostPath: checkString(vhost.path, 'vhost.path', VHOST_NET_DEVICE),
    sndbuf: checkInteger(given.sndbuf, 'sndbuf', 1, TUN_SNDBUF_UNLIMITED, TUN_SNDBUF_UNLIMITED),
  }
}

/**
 * Packets go through the kernel's vhost-net to a tap. Emits `fault` where a ring cannot go on.
 * Pair i is tap queue i and vhost-net fd i.
 */
export class VhostNetBackend extends EventEmitter<NetBackendEvents> implements NetBackend {
  readonly ifname: string
  readonly queuePairs: number
  readonly features: bigint
  readonly #pairs: readonly QueuePair[]
  readonly #opened: Teardown

  private constructor(ifname: string, pairs: QueuePair[], opened: Teardown) {
    super()
    this.ifname = ifname
    this.queuePairs = pairs.length
    this.features = pairs.reduce((features, pair) => features & pair.features, pairs[0]?.features ?? 0n)
    this.#pairs = pairs
    this.#opened = opened
  }

  /**
   * Opens all fds and starts all workers; no ring runs yet. Rejects, with everything undone, with
   * {@link InvalidOptionError} `ERR_OPTION_*` before anything is opened, or {@link SystemCallError}.
   */
  static async open(options: VhostNetBackendOptions): Promise<VhostNetBackend> {
    const { memory, queuePairs, ifname, tapPath, vhostPath, sndbuf } = checkOptions(options)
    const existing = ifname.includes('%d') ? undefined : ExistingTap.find(ifname, queuePairs)
    const opened = new Teardown()
    if (existing !== undefined) opened.add(() => existing.restore())
    try {
      const pairs: QueuePair[] = []
      let backend: VhostNetBackend | undefined
      let name = ifname
      for (let index = 0; index < queuePairs; index++) {
        const multiQueue = existing?.multiQueue ?? queuePairs > 1
        // The first queue creates the device or finds it as it was found above: one that appeared since is not ours.
        const exclusive = existing === undefined && index === 0
        const tap = opened.own(Tap.open({ ifname: name, multiQueue, exclusive, path: tapPath }))
        if (index === 0) existing?.remember(tap)
        name = tap.ifname
        pairs.push(
          opened.own(
            new QueuePair({
              index,
              memory,
              tap,
              vhost: vhostPath,
              sndbuf,
              fault: (fault) => backend?.emit('fault', fault),
            }),
          ),
        )
        // Creating a queue waits for RTNL and a worker to start: other work of this thread goes between.
        if (index + 1 < queuePairs) await setImmediate()
      }
      backend = new VhostNetBackend(name, pairs, opened)
      return backend
    } catch (error) {
      throw opened.unwind(error)
    }
  }

  #pair(index: number): QueuePair {
    const pair = this.#pairs[index]
    if (pair === undefined) {
      throw new InvalidOptionError('ERR_OPTION_RANGE', 'pair', `must be in 0..${this.queuePairs - 1}, not ${index}`)
    }
    return pair
  }

  /** @see {@link QueuePair.start} */
  start(pair: number, config: PairConfig): void {
    this.#pair(pair).start(config)
  }

  /** Stops a pair and returns where its rings stand, as `base` for the next start. @throws `ERR_NOT_ACTIVE` */
  stop(pair: number): PairBases {
    return this.#pair(pair).stop()
  }

  running(pair: number): boolean {
    return this.#pair(pair).running
  }

  /** Stops every pair, ends the workers, closes the tap and puts back what was changed on one not ours. Idempotent. */
  close(): void {
    this.#opened.run()
  }

  [Symbol.dispose](): void {
    this.close()
  }
}
