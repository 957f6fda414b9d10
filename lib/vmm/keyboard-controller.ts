// As much of a PC's keyboard controller as resets the machine: Linux tries it before it gives up (`reboot=k`).

import type { Registers } from '../event/index.ts'

/** Its command port; there is no keyboard behind it. */
export const KEYBOARD_CONTROLLER_PORT = 0x64

/** Pulses the line that resets the processor. */
const PULSE_RESET = 0xfe

export class KeyboardController implements Registers {
  readonly size = 1
  readonly #onReset: () => void

  constructor(onReset: () => void) {
    this.#onReset = onReset
  }

  /** Status: it has nothing to say, and takes the next command. */
  read(): number {
    return 0
  }

  write(_offset: number, _width: number, value: number): void {
    if (value === PULSE_RESET) this.#onReset()
  }
}
