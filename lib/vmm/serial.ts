// The serial port of a machine: bytes of the guest out, bytes for it in.

import { binding, Handle, type NativeRegisters, systemCall } from '../binding/index.ts'
import { EventFd, type Watch, watchReadable } from '../event/index.ts'
import { Teardown } from '../teardown.ts'

/** A 16550A, served on the thread of the vCPU. */
export class Serial extends Handle<NativeRegisters> {
  /** Signalled for each edge of its interrupt. */
  readonly interrupt: EventFd
  readonly #ready: EventFd
  readonly #watch: Watch

  /**
   * @param onReady called when there is something to take where there was nothing, and when there is room again for what
   *   `put` had none for
   * @throws {SystemCallError} `EMFILE`
   */
  constructor(onReady: () => void) {
    const made = new Teardown()
    try {
      const interrupt = made.own(EventFd.create('the interrupt of the serial port'))
      const ready = made.own(EventFd.create('the readiness of the serial port'))
      const create = () => binding().serialCreate(interrupt.native, ready.native)
      super(systemCall(create, { subject: 'the serial port' }), 'the serial port', (native) => {
        binding().closeRegisters(native)
      })
      this.interrupt = interrupt
      this.#ready = ready
      this.#watch = watchReadable(ready, () => {
        ready.read()
        onReady()
      })
    } catch (error) {
      throw made.unwind(error)
    }
  }

  /** What the guest wrote since. While 64 KiB of it wait here the port has no room, and the guest waits. */
  take(): Uint8Array {
    return binding().serialTake(this.native)
  }

  /** What the guest is to read. @returns how many bytes there was room for */
  put(bytes: Uint8Array): number {
    return binding().serialPut(this.native, bytes)
  }

  override close(): void {
    if (this.closed) return
    const all = new Teardown()
    all.own(this.#ready)
    all.own(this.interrupt)
    all.add(() => super.close())
    all.add(() => this.#watch.stop())
    all.run()
  }
}
