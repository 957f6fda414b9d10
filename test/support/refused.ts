// A call that the kernel refuses, and what the error must say.

import assert from 'node:assert/strict'
import { SystemCallError } from '../../lib/errors.ts'

/** The call's name in the UAPI, the errno's name, and what the hint says. */
export type Refusal = readonly [syscall: string, code: string, hint: RegExp]

/** Asserts that the call is refused by the kernel, in just this way. */
export function refused(call: () => unknown, [syscall, code, hint]: Refusal): void {
  try {
    call()
  } catch (error) {
    assert.ok(error instanceof SystemCallError, `${syscall} ${code} expected: ${error}`)
    assert.deepEqual([error.syscall, error.code], [syscall, code])
    assert.match(error.hint ?? '(no hint)', hint)
    assert.ok(error.message.startsWith(`${syscall} on `), error.message)
    return
  }
  assert.fail(`${syscall} was not refused with ${code}`)
}
