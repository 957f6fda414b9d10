// A virtio-net driver in this process: what a guest's kernel would do with the queues, without a guest.

import { setMaxListeners } from 'node:events'
import { VIRTIO_F } from '../abi/virtio.ts'
import { VIRTIO_NET_F, VIRTIO_NET_HDR_SIZE } from '../abi/virtio-net.ts'
import { InvalidOptionError, StateError } from '../errors.ts'
import { NativeMemory } from '../memory/index.ts'
import { checkBigInt, checkInteger, checkObject, checkPowerOfTwo } from '../options.ts'
import { Teardown } from '../teardown.ts'
import { hasFeature } from '../virtio/features.ts'
import { DRIVER_FEATURES } from './features.ts'
import { type DriverLayout, type LayoutOptions, layOut } from './layout.ts'
import { RxQueue } from './rx-queue.ts'
import { TxQueue } from './tx-queue.ts'

export interface DriverOptions {
  memory: NativeMemory
  /** The feature bits agreed on; VERSION_1, MRG_RXBUF, EVENT_IDX and INDIRECT_DESC change what the rings do. */
  features: bigint
  /** 1..256. Default 1. */
  queuePairs?: number
  /** Entries of each ring: a power of two, 2..32768. Default 256. */
  queueSize?: number
  /** Bytes of each buffer, virtio header included, 128..65562. Default 2048. */
  bufferSize?: number
  /** Guest-physical address of the first byte to use. Default 0. */
  address?: number
  /**
   * Microseconds, 0..10000, for which whoever waits for a queue looks for what it waits for, blocking this thread, before
   * it asks for a call and sleeps. Default 0.
   */
  busyPoll?: number
}

export interface DriverPair {
  readonly rx: RxQueue
  readonly tx: TxQueue
}

function checkOptions(options: unknown): LayoutOptions & { memory: unknown; features: bigint; busyPoll: number } {
  const given = checkObject(options, [
    'memory',
    'features',
    'queuePairs',
    'queueSize',
    'bufferSize',
    'address',
    'busyPoll',
  ])
  const features = checkBigInt(given.features, 'features')
  if (!hasFeature(features, VIRTIO_F.VIRTIO_F_VERSION_1)) {
    throw new InvalidOptionError('ERR_OPTION_CONFLICT', 'features', 'must have VIRTIO_F_VERSION_1 (32)')
  }
  const checked = {
    queuePairs: checkInteger(given.queuePairs, 'queuePairs', 1, 256, 1),
    queueSize: checkPowerOfTwo(given.queueSize, 'queueSize', 2, 32768, 256),
    bufferSize: checkInteger(given.bufferSize, 'bufferSize', 128, 65562, 2048),
    address: checkInteger(given.address, 'address', 0, Number.MAX_SAFE_INTEGER, 0),
    busyPoll: checkInteger(given.busyPoll, 'busyPoll', 0, 10_000, 0),
  }
  // The pool is handed out as one window.
  if (2 * checked.queueSize * checked.bufferSize > 2 ** 30) {
    throw new InvalidOptionError('ERR_OPTION_CONFLICT', 'bufferSize', 'times twice the queueSize is over 1 GiB')
  }
  const unknown = features & ~DRIVER_FEATURES
  if (unknown !== 0n) {
    const problem = `has bits this driver does not know: 0x${unknown.toString(16)}`
    throw new InvalidOptionError('ERR_OPTION_CONFLICT', 'features', problem, {
      hint: 'It knows split rings and the bits of VIRTIO_NET_F that concern checksums, segmentation and MRG_RXBUF.',
    })
  }
  const indirect = hasFeature(features, VIRTIO_F.VIRTIO_RING_F_INDIRECT_DESC)
  return { ...checked, indirect, features, memory: given.memory }
}

/** @throws {InvalidOptionError} `ERR_OPTION_TYPE` */
export function checkMemory(memory: unknown): asserts memory is NativeMemory {
  if (memory instanceof NativeMemory) return
  throw new InvalidOptionError('ERR_OPTION_TYPE', 'memory', 'must be memory that the kernel can reach', {
    hint: 'Make it with GuestMemory.allocate().',
  })
}

/** The driver's queues. Belongs to the thread that made it; keeps the process alive once something waited on it. */
export class Driver {
  readonly pairs: readonly DriverPair[]
  readonly features: bigint
  readonly #closing: Teardown
  #draining: Promise<void> | undefined

  private constructor(pairs: DriverPair[], features: bigint, closing: Teardown) {
    this.pairs = pairs
    this.features = features
    this.#closing = closing
  }

  /**
   * Bytes of guest memory that a driver with these options takes from its `address` on.
   * @throws {InvalidOptionError} `ERR_OPTION_*`
   */
  static memoryNeeded(options: Omit<DriverOptions, 'memory'>): number {
    return layOut(checkOptions(options)).size
  }

  /**
   * Lays the rings out in guest memory and fills the receive rings. Nothing moves until a device runs on
   * `pairs[i].rx.vring` and `pairs[i].tx.vring`.
   * @throws {InvalidOptionError} `ERR_OPTION_*`
   * @throws {GuestMemoryError} `ERR_GPA_RANGE` where the memory is too small
   * @throws {SystemCallError} `EMFILE`
   */
  static create(options: DriverOptions): Driver {
    const checked = checkOptions(options)
    const { memory, features } = checked
    checkMemory(memory)
    const layout: DriverLayout = layOut(checked)
    const closing = new Teardown()
    closing.add(memory.pin(checked.address, layout.size, 'a driver'))
    try {
      const pairs = layout.pairs.map(({ rx, tx }, index) => {
        const common = {
          memory,
          vnetHdrLen: VIRTIO_NET_HDR_SIZE,
          eventIdx: hasFeature(features, VIRTIO_F.VIRTIO_RING_F_EVENT_IDX),
          indirect: checked.indirect,
          busyPoll: checked.busyPoll,
          mrgRxbuf: hasFeature(features, VIRTIO_NET_F.VIRTIO_NET_F_MRG_RXBUF),
        }
        return {
          rx: closing.own(new RxQueue({ ...common, name: `pair ${index} rx`, layout: rx })),
          tx: closing.own(new TxQueue({ ...common, name: `pair ${index} tx`, layout: tx })),
        }
      })
      return new Driver(pairs, features, closing)
    } catch (error) {
      throw closing.unwind(error)
    }
  }

  get closed(): boolean {
    return this.pairs.every(({ rx, tx }) => rx.closed && tx.closed)
  }

  /**
   * Waits until the device has returned everything that was sent, then releases rings and eventfds. The device must
   * still be running; stop it afterwards. Idempotent.
   * @param options.drainTimeoutMs how long to wait. Default 5000.
   * @throws {StateError} `ERR_NOT_DRAINED`, with everything released, where chains were still with the device
   */
  close({ drainTimeoutMs = 5000 }: { drainTimeoutMs?: number } = {}): Promise<void> {
    this.#draining ??= this.closed ? Promise.resolve() : this.#drainAndClose(AbortSignal.timeout(drainTimeoutMs))
    return this.#draining
  }

  async #drainAndClose(signal: AbortSignal): Promise<void> {
    // Every queue listens to it; ten is where Node suspects a leak.
    setMaxListeners(this.pairs.length, signal)
    try {
      await Promise.all(this.pairs.map(({ tx }) => tx.drained(signal)))
    } catch (error) {
      if (!signal.aborted) throw error
      const left = this.pairs.filter(({ tx }) => tx.inFlight > 0).map(({ tx }) => `${tx.name}: ${tx.inFlight}`)
      throw new StateError('ERR_NOT_DRAINED', `the device kept what was sent (${left.join(', ')})`, {
        hint: 'Close the driver before the backend, and look for faults of the backend.',
        cause: error,
      })
    } finally {
      this.#closing.run()
    }
  }

  /** Releases rings and eventfds at once; what is still with the device is abandoned. Idempotent. */
  destroy(): void {
    this.#closing.run()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }
}
