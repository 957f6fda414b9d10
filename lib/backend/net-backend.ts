// The contract between a virtio-net device and where its packets go.

import type { Vring } from '../virtio/vring.ts'

/** What a queue pair runs with. */
export interface PairConfig {
  /** The bits that device and driver agreed on. */
  features: bigint
  rx: Vring
  tx: Vring
}

/** The available index that each ring goes on from. */
export interface PairBases {
  rx: number
  tx: number
}

/** A ring could not go on. */
export interface RingFault {
  pair: number
  ring: 'rx' | 'tx'
  /** Error messages the kernel counted since the last fault. */
  errors: number
}

export interface NetBackendEvents {
  fault: [RingFault]
}

/** Moves the packets of a virtio-net device. Everything here is synchronous: a guest may be waiting for it. */
export interface NetBackend {
  readonly queuePairs: number
  /** The feature bits it can serve. */
  readonly features: bigint
  /** Brings a pair to life, or leaves everything as it was. */
  start(pair: number, config: PairConfig): void
  /** Stops a pair; no ring of it is touched afterwards. */
  stop(pair: number): PairBases
  /** Whether a pair is running. */
  running(pair: number): boolean
  on<E extends keyof NetBackendEvents>(event: E, listener: (...details: NetBackendEvents[E]) => void): unknown
  close(): void
}
