// The serial port of a machine: its console.

import { binding, Handle, type NativeRegisters, systemCall } from '../binding/index.ts'
import { EventFd, type Watch, watchReadable } from '../event/index.ts'
import { Teardown } from '../teardown.ts'

/** A 16550A, served on the thread of the vCPU. */
export class Serial extends Handle<NativeRegisters> {
  /** Signalled for each edge of its interrupt. */
  readonly interrupt: EventFd
  readonly #output: EventFd
  readonly #watch: Watch
  /** What the port had no room for yet. */
  #input: Uint8Array = new Uint8Array()
  readonly #onOutput: (bytes: Uint8Array) => void

  /** @param onOutput called with what the guest writes. @throws {SystemCallError} `EMFILE` */
  constructor(onOutput: (bytes: Uint8Array) => void) {
    const made = new Teardown()
    try {
      const interrupt = made.own(EventFd.create('the interrupt of the serial port'))
      const output = made.own(EventFd.create('the output of the serial port'))
      const create = () => binding().serialCreate(interrupt.native, output.native)
      super(systemCall(create, { subject: 'the serial port' }), 'the serial port', (native) => {
        binding().closeRegisters(native)
      })
      this.interrupt = interrupt
      this.#output = output
      this.#onOutput = onOutput
      this.#watch = watchReadable(output, () => this.flush())
    } catch (error) {
      throw made.unwind(error)
    }
  }

  /** Takes what the guest wrote, without waiting for the event loop to come to it. */
  flush(): void {
    this.#output.read()
    const bytes = binding().serialTake(this.native)
    if (bytes.length > 0) this.#onOutput(bytes)
    if (this.#input.length > 0) this.write(new Uint8Array())
  }

  /** What the guest is to read. What the port has no room for is kept until the guest writes something. */
  write(bytes: Uint8Array): void {
    const all = Buffer.concat([this.#input, bytes])
    this.#input = all.subarray(binding().serialPut(this.native, all))
  }

  override close(): void {
    if (this.closed) return
    this.flush()
    const all = new Teardown()
    all.own(this.#output)
    all.own(this.interrupt)
    all.add(() => super.close())
    all.add(() => this.#watch.stop())
    all.run()
  }
}
