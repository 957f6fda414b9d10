// The contract between a virtio-net device and where its packets go.

import type { RingFaultCause } from '../virtio/ring-fault.ts'
import type { Vring } from '../virtio/vring.ts'

/** What a queue pair runs with. */
export interface PairConfig {
  /** The bits that device and driver agreed on. */
  features: bigint
  /** Those guest offloads among them that the driver takes now. Default all of them. */
  offloads?: bigint
  rx: Vring
  tx: Vring
}

/** One of a pair's two rings. */
export type RingName = 'rx' | 'tx'

/** The available index that each ring goes on from. */
export type PairBases = Record<RingName, number>

/** Why a ring cannot go on, beyond what is wrong with any ring. */
export type NetRingFaultCause =
  | RingFaultCause
  /** A buffer to send has room for the device to write, or one to receive into something to read. */
  | 'writable-in-tx'
  | 'readable-in-rx'
  /** A buffer to send of no bytes, or one to receive into without room. */
  | 'empty-buffer'
  /** A frame to send that ends within its virtio-net header. */
  | 'short-header'
  /** The checksum that is to be made lies behind the frame. */
  | 'header-beyond-frame'
  /** Whoever serves it is at work and finishes nothing, though nothing is wrong with what comes next. */
  | 'no-progress'
  /** Whoever serves it gave up, though nothing is wrong with what is there now. */
  | 'unknown'

/** A ring could not go on. */
export interface RingFault {
  pair: number
  ring: RingName
  /** Error messages the kernel counted since the last fault; 0 where it said nothing. */
  errors: number
  cause: NetRingFaultCause
  /** What is wrong, in words. */
  message: string
}

/** Which frames the driver wants, by their destination. Broadcast is always among them. */
export interface RxFilter {
  /** Every frame, whatever else is said here. */
  promiscuous: boolean
  /** Every multicast frame. */
  allMulticast: boolean
  /** `'52:54:00:12:34:56'`: the device's own address and further ones. */
  unicast: readonly string[]
  multicast: readonly string[]
}

export interface NetBackendEvents {
  fault: [RingFault]
  /** Where packets go is there no more. */
  gone: []
  /** After `gone`: there is another place for them. */
  back: []
}

/** Moves the packets of a virtio-net device. Everything here is synchronous: a guest may be waiting for it. */
export interface NetBackend {
  readonly queuePairs: number
  /** The feature bits it can serve. VERSION_1 and MRG_RXBUF are among them. */
  readonly features: bigint
  /** Why it does not serve a feature bit; undefined where it does. */
  explain(feature: number): string | undefined
  /** Brings a pair to life, or leaves everything as it was. Frames reach it from then on. */
  start(pair: number, config: PairConfig): void
  /**
   * Stops a pair; no ring of it is touched afterwards. Frames on their way to it wait for its next start; with `detach` they
   * are lost, and others go to the remaining pairs.
   */
  stop(pair: number, options?: { detach?: boolean }): PairBases
  /** Starts the ring of a running pair that `stopRing` stopped. */
  startRing(pair: number, ring: RingName, vring: Vring): void
  /** Stops one ring while the other goes on, and returns its base. Without a receive ring, frames go to the other pairs. */
  stopRing(pair: number, ring: RingName): number
  /** Whether a pair is running. */
  running(pair: number): boolean
  /** No ring is touched until `resume`, whatever is done to pairs meanwhile; they do not count as stopped. Idempotent. */
  pause(): void
  /** Rings go on from where they stood. Without effect where nothing is paused. */
  resume(): void
  /** The guest offloads, of those agreed on, that the driver takes from now on; whether pairs run or not. */
  setOffloads(offloads: bigint): void
  /** Which frames to deliver from now on: all that the filter wants, and as few others as the backend can tell apart. */
  setRxFilter(filter: RxFilter): void
  on<E extends keyof NetBackendEvents>(event: E, listener: (...details: NetBackendEvents[E]) => void): unknown
  off<E extends keyof NetBackendEvents>(event: E, listener: (...details: NetBackendEvents[E]) => void): unknown
  close(): void
}
