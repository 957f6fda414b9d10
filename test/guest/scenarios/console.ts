// A console that more is typed at, or that more comes from, than fits on the way.

import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { type Booted, HOST } from './story.ts'

/** Each byte is an access or two to a register. */
const SECONDS = 170
/** Of it more than port and stream have room for. */
const FLOOD = 256 << 10
/** Of a number with seven digits. */
const FLOOD_LINE = 8
/** Of the port (native/sys/serial.h). */
const PORT_ROOM = 64 << 10
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
      assert.equal((await sum).split(' ')[0], createHash('md5').update(paste).digest('hex'))
    })

    it('that nobody reads for a while: the guest waits, and nothing of what it wrote is lost', async () => {
      const { vm } = guest()
      const socket = createSocket('udp4')
      try {
        socket.bind(0, HOST)
        await once(socket, 'listening')
        // What it wrote so far is told over the network once it is no more than a second before.
        const written = "sed -n 's/^wchar: //p' /proc/$writing/io"
        const stuck = `n=-1; until [ $n = $(${written}) ]; do n=$(${written}); sleep 1; done`
        const tell = `echo $n | socat -u - UDP4:${HOST}:${socket.address().port}`
        const [first, last] = [1_000_000, 1_000_000 + FLOOD / FLOOD_LINE - 1]
        const told = once(socket, 'message')
        const said = guest().run(`seq ${first} ${last} & writing=$!; ${stuck}; ${tell}; wait $writing`, SECONDS)
        vm.console.pause()
        const bytes = Number(String((await told)[0]))
        assert.ok(bytes > PORT_ROOM && bytes < FLOOD, `${bytes} written`)
        assert.ok(vm.console.readableLength < bytes, `${vm.console.readableLength} unread`)
        vm.console.resume()
        const numbers = Array.from({ length: last - first + 1 }, (_, i) => `${first + i}\n`)
        assert.equal(await said, numbers.join(''))
      } finally {
        vm.console.resume()
        socket.close()
      }
    })
  })
}
