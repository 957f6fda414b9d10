// A plan that is refused, and what its error must say.

import assert from 'node:assert/strict'
import type { InvalidOptionError, LinkError } from '../../lib/errors.ts'

/** For `assert.throws` and `assert.rejects`: an error of just this kind. */
export const refused =
  (type: typeof LinkError | typeof InvalidOptionError, code: string, text: RegExp) =>
  (error: unknown): true => {
    assert.ok(error instanceof type, String(error))
    assert.equal(error.code, code)
    assert.match(error.message, text)
    return true
  }

/** Asserts that the kernel refuses it to a user without CAP_NET_ADMIN, and that the hint says so. */
export async function refusedWithoutAdmin(work: () => Promise<unknown>): Promise<void> {
  const uid = process.geteuid!()
  process.seteuid!(65_534)
  try {
    await assert.rejects(work, { code: 'EPERM', hint: /CAP_NET_ADMIN/ })
  } finally {
    process.seteuid!(uid)
  }
}
