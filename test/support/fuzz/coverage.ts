// How far a run has come: what was done to the device, and what of its answers was seen.

import type { NetRingFaultCause } from '../../../lib/backend/net-backend.ts'
import type { CommandCounts } from '../../../lib/net/index.ts'
import { COMMANDS } from './commands.ts'
import type { Transport } from './fuzz-nic.ts'

/** Percent of the episodes in which a driver gets to DRIVER_OK and moves a packet, at least. */
export const LEAST_MOVING = 30
/** Episodes after which each command must have been answered both ways, and each cause seen. */
export const COMMANDS_AFTER = 100
export const CAUSES_AFTER = 1000

/**
 * Causes that a guest can bring about. Left out is `no-progress`: what keeps a worker at work for nothing is found to be
 * wrong when it is looked at, unless it is put right at that very moment, and then the worker goes on.
 */
export const CAUSES = [
  'avail-index',
  'head-out-of-range',
  'next-out-of-range',
  'chain-loop',
  'chain-too-long',
  'readable-after-writable',
  'indirect-not-agreed',
  'indirect-in-indirect',
  'indirect-with-next',
  'indirect-table-size',
  'outside-memory',
  'no-room-for-answer',
  'writable-in-tx',
  'readable-in-rx',
  'empty-buffer',
  'short-header',
  'header-beyond-frame',
  'unknown',
] as const satisfies readonly NetRingFaultCause[]

export class Coverage {
  episodes = 0
  readonly transports: Record<Transport, number> = { mmio: 0, pci: 0 }
  lives = 0
  /** Episodes in which a driver got so far. */
  driverOk = 0
  /** And a packet was moved. */
  moving = 0
  packets = 0
  /** Good rings after a reset, over which frames passed both ways. */
  revived = 0
  readonly commands: Record<string, CommandCounts> = {}
  readonly causes: Record<string, number> = {}

  answered(name: string, answer: 0 | 1): void {
    this.commands[name] ??= { ok: 0, err: 0 }
    this.commands[name][answer === 0 ? 'ok' : 'err']++
  }

  fault(cause: string): void {
    this.causes[cause] = (this.causes[cause] ?? 0) + 1
  }

  /** What a run that was long enough should have seen and did not. */
  get missed(): string[] {
    const missed: string[] = []
    const percent = (100 * this.moving) / Math.max(1, this.episodes)
    if (percent < LEAST_MOVING) missed.push(`packets moved in ${percent.toFixed()} % of the episodes`)
    if (this.episodes >= COMMANDS_AFTER) {
      for (const name of COMMANDS) {
        const { ok = 0, err = 0 } = this.commands[name] ?? {}
        if (ok === 0) missed.push(`${name} was never answered OK`)
        if (err === 0) missed.push(`${name} was never answered ERR`)
      }
    }
    if (this.episodes >= CAUSES_AFTER) {
      for (const cause of CAUSES) if (this.causes[cause] === undefined) missed.push(`no fault was ${cause}`)
    }
    return missed
  }
}
