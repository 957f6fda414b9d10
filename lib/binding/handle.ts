// What every object that owns a native resource is: closed once, refused afterwards, never silently lost.

import { StateError } from '../errors.ts'

interface Lost {
  label: string
  release: () => void
  opened: Error | undefined
}

const lost = new FinalizationRegistry<Lost>(({ label, release, opened }) => {
  release()
  process.emitWarning(`${label} was collected without close()`, {
    code: 'VHOST_HANDLE_LEAK',
    ...(opened?.stack !== undefined && { detail: opened.stack }),
  })
})

/** The owner of one native resource `N`. Belongs to the thread that made it. */
export abstract class Handle<N extends object> {
  #native: N | undefined
  readonly #label: string
  readonly #release: (native: N) => void

  /** @param label what it is, for messages: `'tap vnet0'`. */
  protected constructor(native: N, label: string, release: (native: N) => void) {
    this.#native = native
    this.#label = label
    this.#release = release
    const opened = process.env.NODE_DEBUG?.includes('vhost-net') ? new Error('opened here') : undefined
    lost.register(this, { label, release: () => release(native), opened }, this)
  }

  get closed(): boolean {
    return this.#native === undefined
  }

  /** What this is, for messages. */
  get label(): string {
    return this.#label
  }

  /** @internal The native resource. @throws {StateError} `ERR_CLOSED` */
  get native(): N {
    if (this.#native === undefined) throw new StateError('ERR_CLOSED', `${this.#label} is closed`)
    return this.#native
  }

  /** Releases the resource. Idempotent. */
  close(): void {
    const native = this.surrender()
    if (native !== undefined) this.#release(native)
  }

  [Symbol.dispose](): void {
    this.close()
  }

  /** Gives the resource up without releasing it; undefined where it was given up before. */
  protected surrender(): N | undefined {
    const native = this.#native
    this.#native = undefined
    lost.unregister(this)
    return native
  }
}
