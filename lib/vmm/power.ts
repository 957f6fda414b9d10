// The ports through which a guest switches its machine off, or resets it (ACPI 6.5 sections 4.8.3.6 and 4.8.3.7).

import type { Registers } from '../event/index.ts'

/** Offsets of its ports, and what is written there. */
export const POWER = { sleepControl: 0, sleepStatus: 1, reset: 2, resetValue: 1, sleepTypeOff: 5 } as const

/** SLP_EN, behind SLP_TYP of three bits. */
const SLEEP_ENABLE = 1 << 5

export type PowerRequest = 'poweroff' | 'reset'

export class PowerRegisters implements Registers {
  readonly size = 3
  readonly #onRequest: (request: PowerRequest) => void

  constructor(onRequest: (request: PowerRequest) => void) {
    this.#onRequest = onRequest
  }

  read(): number {
    return 0
  }

  write(offset: number, _width: number, value: number): void {
    if (offset === POWER.reset && value === POWER.resetValue) this.#onRequest('reset')
    const sleepType = (value >>> 2) & 7
    if (offset === POWER.sleepControl && value & SLEEP_ENABLE && sleepType === POWER.sleepTypeOff) {
      this.#onRequest('poweroff')
    }
  }
}
