// A network namespace, as the kernel hands one out.

import { FdHandle, type NativeFd } from '../binding/index.ts'

/** One open network namespace (nsfs), which exists for as long as this does; `fd` is what setns(2) takes. */
export class NetNamespace extends FdHandle {
  /** @internal */
  constructor(native: NativeFd, label: string) {
    super(native, label)
  }
}
