// Many bytes between a guest and this process, over TCP, each looked at.

import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { type AddressInfo, createServer, type Socket } from 'node:net'
import { pipeline } from 'node:stream/promises'
import type { StockGuest } from '../../scripts/guest/stock-guest.ts'

const MiB = 1 << 20
const SECONDS = 170
/** Of one write: as large as the largest segment that is left to the device. */
const BLOCK = 65536

const md5 = (bytes: Uint8Array): string => createHash('md5').update(bytes).digest('hex')

/** Has one connection served, while `guest` does what connects to it. */
async function serveOne<T>(
  host: string,
  use: (socket: Socket) => Promise<T>,
  connect: (port: number) => Promise<void>,
) {
  // The guest has nothing to say and says so at once, which is no reason to hang up.
  const server = createServer({ allowHalfOpen: true }).listen(0, host)
  await once(server, 'listening')
  try {
    const serving = once(server, 'connection').then(([socket]) => use(socket as Socket))
    const [result] = await Promise.all([serving, connect((server.address() as AddressInfo).port)])
    return result
  } finally {
    server.close()
  }
}

/** So many MiB, none like another. */
function* manyBytes(count: number): Generator<Buffer> {
  const random = randomBytes(MiB)
  for (let i = 0; i < count; i++) {
    const chunk = Buffer.from(random)
    chunk.writeUInt32LE(i)
    yield chunk
  }
}

/** A program of the guest's with a connection to this process as its input and output: nothing relays, a `cat` is one sendfile(2). */
async function connected(guest: StockGuest, program: string, to: { host: string; port: number }): Promise<void> {
  await guest.run(`echo '${program}' > /tmp/connected`)
  await guest.run(`socat TCP:${to.host}:${to.port} EXEC:'sh /tmp/connected',nofork`, SECONDS)
}

/** This process sends, and the guest's sum over all of it is the right one. */
export async function guestReceives(guest: StockGuest, host: string, count: number): Promise<void> {
  const hash = createHash('md5')
  const chunks = function* () {
    for (const chunk of manyBytes(count)) {
      hash.update(chunk)
      yield chunk
    }
  }
  await serveOne(
    host,
    (socket) => pipeline(chunks, socket),
    (port) => connected(guest, 'md5sum > /tmp/sum', { host, port }),
  )
  assert.equal((await guest.run('cat /tmp/sum')).split(' ')[0], hash.digest('hex'))
}

/** The guest sends the same random MiB again and again, and each comes out as it went in. */
export async function guestSends(guest: StockGuest, host: string, count: number): Promise<void> {
  await guest.run('dd if=/dev/urandom of=/tmp/blob bs=1M count=1 2>/dev/null')
  const sum = (await guest.run('md5sum /tmp/blob')).split(' ')[0]
  const received = await serveOne(
    host,
    async (socket) => {
      const sums: string[] = []
      const chunk = Buffer.alloc(MiB)
      let filled = 0
      for await (const bytes of socket as AsyncIterable<Buffer>) {
        for (let at = 0; at < bytes.length; ) {
          const copied = bytes.copy(chunk, filled, at)
          at += copied
          filled += copied
          if (filled < MiB) continue
          sums.push(md5(chunk))
          filled = 0
        }
      }
      assert.equal(filled, 0)
      return sums
    },
    (port) => connected(guest, `for i in $(seq ${count}); do cat /tmp/blob; done`, { host, port }),
  )
  assert.deepEqual(received, Array(count).fill(sum))
}

/** Two guests send each other a random MiB again and again, numbered, at the same time, and the sums over all of it are right. */
export async function guestsExchange(
  guests: readonly { guest: StockGuest; address: string }[],
  count: number,
): Promise<void> {
  const port = 5001
  const listens = `grep -q ':${port.toString(16).toUpperCase()} ' /proc/net/tcp`
  const receive = `(socat -u -b ${BLOCK} TCP4-LISTEN:${port} - | md5sum > /tmp/received) & receiving=$!`
  const all = `for i in $(seq ${count}); do echo $i; cat /tmp/blob; done`
  for (const { guest } of guests) {
    await guest.run(
      `dd if=/dev/urandom of=/tmp/blob bs=1M count=1 2>/dev/null; ${receive}; until ${listens}; do :; done`,
    )
  }
  await Promise.all(
    guests.map(({ guest }, i) => {
      const { address } = guests[1 - i]!
      return guest.run(`(${all}) | socat -u -b ${BLOCK} - TCP4:${address}:${port}; wait $receiving`, SECONDS)
    }),
  )
  const sums = (command: string) => Promise.all(guests.map(({ guest }) => guest.run(command, SECONDS)))
  assert.deepEqual((await sums('cat /tmp/received')).reverse(), await sums(`(${all}) | md5sum`))
}
