// The tap that a backend has: a queue for each pair, what is the whole tap's, and what has to be put back.

import { setImmediate } from 'node:timers/promises'
import { TUN_SNDBUF_UNLIMITED } from '../../abi/tun.ts'
import { InvalidOptionError } from '../../errors.ts'
import { Tap } from '../../host/tap.ts'
import { Teardown } from '../../teardown.ts'
import { Lease } from './handed-fds.ts'
import type { TapSource } from './options.ts'
import { TapFilter } from './tap-filter.ts'
import { nameOf, TapQueue } from './tap-queue.ts'
import { queuesByFd, queuesByName, queuesOfMacvtap, type TapQueues } from './tap-queues.ts'
import { namespaceOf, ownNamespace } from './tap-watch.ts'

export interface BackendTapOptions {
  queuePairs: number
  /** The option; undefined where nobody gave it. */
  sndbuf: number | undefined
}

/** Queues handed over are their giver's until they are taken. */
export class BackendTap {
  /** By the pair's index. */
  readonly queues: readonly TapQueue[]
  /** TUN_F_* that it knows. */
  readonly offloads: number
  readonly filter: TapFilter
  readonly #opened: Teardown
  readonly #lease: Lease
  #ifname: string

  private constructor(
    queues: readonly TapQueue[],
    offloads: number,
    filter: TapFilter,
    opened: Teardown,
    lease: Lease,
  ) {
    this.queues = queues
    this.offloads = offloads
    this.filter = filter
    this.#opened = opened
    this.#lease = lease
    this.#ifname = this.first.ifname
  }

  /**
   * Opens a queue for each pair, or takes those handed over; only the first one is open to frames. Rejects with everything
   * undone.
   */
  static async open(from: TapSource, { queuePairs, sndbuf }: BackendTapOptions): Promise<BackendTap> {
    const opened = new Teardown()
    const lease = new Lease(opened)
    try {
      const byFd = 'fds' in from
      const source: TapQueues = byFd
        ? queuesByFd(from.fds, lease, opened)
        : 'macvtap' in from
          ? queuesOfMacvtap({ ...from.macvtap, queuePairs }, opened)
          : queuesByName({ ...from, queuePairs }, opened)
      // A tap's queue that was just opened has no limit; a macvtap's has net.core.wmem_default; one handed over may have any.
      const bytes = sndbuf ?? ('ifname' in from ? undefined : TUN_SNDBUF_UNLIMITED)
      const queues: TapQueue[] = []
      for (let index = 0; index < queuePairs; index++) {
        const queue = new TapQueue(source.open(), { alone: queuePairs === 1, sndbuf: bytes })
        lease.addBeforeReturn(() => void queue.attach())
        queues.push(queue)
        // Creating a queue waits for RTNL: other work of this thread goes between.
        if (index + 1 < queuePairs) await setImmediate()
      }
      const offloads = source.offloads()
      const filter = opened.own(new TapFilter((queues[0] as TapQueue).tap))
      // From the highest on: the kernel fills the place of a queue that goes with its last one (drivers/net/tun.c).
      for (const queue of queues.slice(1).reverse()) {
        queue.detach()
        await setImmediate()
      }
      return new BackendTap(queues, offloads, filter, opened, lease)
    } catch (error) {
      throw opened.unwind(error)
    }
  }

  /** The first queue, for what is the whole tap's. */
  get first(): Tap {
    return (this.queues[0] as TapQueue).tap
  }

  /** Its name now, since somebody may rename it; of one that was deleted, or once closed, the last. */
  get ifname(): string {
    if (!this.first.closed) this.#ifname = nameOf(this.first) ?? this.#ifname
    return this.#ifname
  }

  /** Whether it was deleted. @throws {SystemCallError} */
  get gone(): boolean {
    return (this.queues[0] as TapQueue).gone
  }

  /** Bytes in flight towards it; undefined where queues have what they had. */
  get sndbuf(): number | undefined {
    return (this.queues[0] as TapQueue).sndbuf
  }

  /**
   * Checks that what is asked for is another tap. One of the same name in a network namespace that nobody may ask for
   * counts as the same.
   * @throws {InvalidOptionError} `ERR_OPTION_CONFLICT`
   * @throws {SystemCallError} of the first fd
   */
  refuse(from: TapSource): void {
    if (this.gone) return
    const { name } = this.first.getIff()
    const [wanted, namespace] = 'fds' in from ? deviceOf(from.fds[0] as number) : [nameIn(from), ownNamespace()]
    if (wanted !== name) return
    const ours = namespaceOf(this.first)
    if (ours !== undefined && namespace !== undefined && ours !== namespace) return
    const option = 'fds' in from ? 'fds' : 'macvtap' in from ? 'macvtap.ifname' : 'tap.ifname'
    throw new InvalidOptionError('ERR_OPTION_CONFLICT', option, `'${name}' is the tap that it has`, {
      hint: 'Another one is made under another name; rename it afterwards.',
      context: { ifname: name },
    })
  }

  /** Queues handed over are ours from now on. */
  take(): void {
    this.#lease.take()
  }

  /** Closes its queues, or gives them back where they were not taken, with what was changed put back. Idempotent. */
  close(): void {
    this.#opened.run()
  }
}

const nameIn = (from: Exclude<TapSource, { fds: number[] }>): string =>
  'macvtap' in from ? from.macvtap.ifname : from.ifname

/** Name and network namespace of the device that an fd is of. */
function deviceOf(fd: number): [name: string, namespace: number | undefined] {
  const tap = Tap.fromFd(fd)
  try {
    return [tap.getIff().name, namespaceOf(tap)]
  } finally {
    tap.detach()
  }
}
