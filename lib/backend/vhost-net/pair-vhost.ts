// The vhost-net fd of a queue pair, and its worker: what belongs to neither of its rings.

import { VHOST_NET_VQ_RX, VHOST_NET_VQ_TX } from '../../abi/vhost.ts'
import { UnsupportedError } from '../../errors.ts'
import { knownFeatures } from '../../host/probe.ts'
import type { VhostNet } from '../../host/vhost-net.ts'
import type { VhostWorker } from '../../host/vhost-worker.ts'
import type { NativeMemory } from '../../memory/index.ts'
import { forAllOrNone } from '../../teardown.ts'
import { hasFeature } from '../../virtio/features.ts'
import { checkOffloads, servedFeatures, vhostFeatures, whyNotServed } from './features.ts'

export interface PairVhostOptions {
  /** For messages: `'pair 0'`. */
  name: string
  memory: NativeMemory
  /** With an owner, hence a worker. */
  vhost: VhostNet
  /** Undefined where nobody knows which thread it is. */
  worker: VhostWorker | undefined
  /** TUN_F_* that its tap knows. */
  offloads: number
  /** Microseconds for which the worker polls before it sleeps. */
  pollUs: number
}

/** The thread that moves the packets of a pair, and the CPUs that may run it; JSON-safe. */
export interface PairWorkerState {
  tid: number
  cpus: number[]
}

/** The fd is lent to it. */
export class PairVhost {
  /** The bits that it serves together with its tap. */
  readonly features: bigint
  readonly #options: PairVhostOptions
  readonly #known: bigint
  #pollUs = 0
  #unfollow: (() => void) | undefined

  /** @throws {SystemCallError} */
  constructor(options: PairVhostOptions) {
    this.#options = options
    this.#known = knownFeatures(options.vhost)
    this.features = servedFeatures(this.#known, options.offloads)
    if (options.pollUs > 0) this.setPollUs(options.pollUs)
  }

  get fd(): number {
    return this.#options.vhost.fd
  }

  /** Why it does not serve a bit. */
  explain(feature: number): string | undefined {
    return hasFeature(this.features, feature) ? undefined : whyNotServed(feature, this.#options.offloads)
  }

  /** Checks that a tap can take the place of the one it has. @throws {FeatureNegotiationError} `ERR_FEATURE_MISSING` */
  checkTap({ ifname, offloads }: { ifname: string; offloads: number }): void {
    checkOffloads(ifname, offloads, this.features, this.#known)
  }

  /** What its rings run with from now on, while none of them does; and memory as it is, now and later. @throws {SystemCallError} */
  setUp(features: bigint): void {
    const { memory, vhost } = this.#options
    this.#setFeatures(vhostFeatures(features, this.#known))
    vhost.setMemTable(memory)
    // The fd has a table from here on, whether rings run or not, and what is in it stays mapped.
    this.#unfollow ??= memory.follow(() => vhost.setMemTable(memory))
  }

  // Kernels before 6.17 have only the call for the low 64 bits, and then no others to set.
  #setFeatures(features: bigint): void {
    const { vhost } = this.#options
    if (features >> 64n === 0n) vhost.setFeatures(features)
    else vhost.setFeaturesArray(features)
  }

  /** Microseconds for which its worker polls. */
  get pollUs(): number {
    return this.#pollUs
  }

  /** Microseconds for which the worker polls for either ring before it sleeps, from now on. @throws {SystemCallError} */
  setPollUs(microseconds: number): void {
    const { vhost } = this.#options
    forAllOrNone([VHOST_NET_VQ_RX, VHOST_NET_VQ_TX], (index, undo) => {
      vhost.setVringBusyloopTimeout(index, microseconds)
      undo.add(() => vhost.setVringBusyloopTimeout(index, this.#pollUs))
    })
    this.#pollUs = microseconds
  }

  /**
   * Lets its worker run on these CPUs only.
   * @throws {UnsupportedError} `ERR_PLATFORM` where nobody knows which thread that is
   * @throws what {@link VhostWorker.setAffinity} throws
   */
  pinWorker(cpus: readonly number[]): void {
    const { name, worker } = this.#options
    if (worker === undefined) {
      throw new UnsupportedError('ERR_PLATFORM', `the worker of ${name} is not known`, {
        hint: "Before Linux 6.4 it is a kernel thread, which a PID namespace of one's own hides.",
      })
    }
    worker.setAffinity(cpus)
  }

  /** While the fd is open. */
  inspectWorker(): PairWorkerState | null {
    const { worker } = this.#options
    return worker === undefined ? null : { tid: worker.tid, cpus: worker.affinity() }
  }

  /** Memory may change without it. Idempotent. */
  close(): void {
    this.#unfollow?.()
    this.#unfollow = undefined
  }
}
