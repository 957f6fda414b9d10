// The port through which a guest says that its kernel panicked (QEMU's docs/specs/pvpanic.rst; Linux: pvpanic-mmio).

import type { Registers } from '../event/index.ts'

/** As QEMU has it on a PC. */
export const PVPANIC_PORT = 0x505

/** PVPANIC_PANICKED (include/uapi/misc/pvpanic.h). */
const PANICKED = 1

export class PvPanic implements Registers {
  readonly size = 1
  readonly #onPanic: () => void

  constructor(onPanic: () => void) {
    this.#onPanic = onPanic
  }

  /** Which events there are. */
  read(): number {
    return PANICKED
  }

  write(_offset: number, _width: number, value: number): void {
    if (value & PANICKED) this.#onPanic()
  }
}
