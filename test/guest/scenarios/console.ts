// A console that more is typed at than fits on the way.

import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import type { Booted } from './story.ts'

/** Each byte is an access or two to a register. */
const SECONDS = 170
const PASTED = 64 << 10
/** Bytes of a line: a terminal that is not raw hands nothing over before its end. */
const LINE = 64

function lines(bytes: number): Buffer {
  const text = randomBytes(bytes).toString('hex').slice(0, bytes)
  return Buffer.from(text.replace(new RegExp(`(.{${LINE - 1}}).`, 'g'), '$1\n'))
}

export function console(guest: Booted): void {
  describe('has a console', () => {
    it(`at which ${PASTED >> 10} KiB are typed at once, and each byte arrives`, async () => {
      const paste = lines(PASTED)
      const sum = guest().run(`head -c ${paste.length} < /dev/console | md5sum`, SECONDS)
      guest().vm.console.write(paste)
      // The guest's kernel may have lines of its own there.
      assert.match(await sum, new RegExp(`^${createHash('md5').update(paste).digest('hex')} `, 'm'))
    })
  })
}
