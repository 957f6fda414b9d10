// A machine with many processors, a queue pair for each, and more memory than there is room for below 4 GiB.

import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { type AddressInfo, createServer, type Socket } from 'node:net'
import { guestInterrupts } from '../../scripts/guest/interrupts.ts'
import { StockGuest } from '../../scripts/guest/stock-guest.ts'
import { leavesNothing } from '../support/leaves-nothing.ts'
import { msixVectors } from '../support/pci-config.ts'

const MiB = 1 << 20
const GiB = 2 ** 30
const PROCESSORS = 16
const MEMORY = 3.5 * GiB
/** Where the memory lies that there is no room for below. */
const ABOVE_HOLE = 4 * GiB
const BOOT_SECONDS = 150
const HOST = '10.5.0.1'
const GUEST = '10.5.0.2'

const each = Array.from({ length: PROCESSORS }, (_, i) => i)

describe(`a machine with ${PROCESSORS} processors, as many queue pairs, and ${MEMORY / GiB} GiB`, () => {
  const closing = leavesNothing('all')
  let guest: StockGuest

  const wordAt = (address: number): Buffer => {
    const bytes = Buffer.alloc(8)
    guest.vm.memory.read(address, bytes)
    return bytes
  }

  before('boots', async () => {
    const nics = [{ ifname: 'many0', address: HOST, mac: '52:54:00:12:34:56' }]
    const options = { kernel: '6.12', smp: PROCESSORS, memory: MEMORY, nics, bootSeconds: BOOT_SECONDS } as const
    guest = closing.own(await StockGuest.boot(options))
    await guest.run(`ip addr add ${GUEST}/24 dev eth0; ip link set eth0 up`)
  })

  it('has all of its processors, cores of one socket', async () => {
    assert.equal(await guest.run('nproc; cat /sys/devices/system/cpu/online'), `${PROCESSORS}\n0-${PROCESSORS - 1}\n`)
    const cores = await guest.run('cat /sys/devices/system/cpu/cpu*/topology/core_id | sort -n')
    assert.equal(cores, each.map((i) => `${i}\n`).join(''))
    const packages = await guest.run('cat /sys/devices/system/cpu/cpu*/topology/physical_package_id | sort -u')
    assert.equal(packages, '0\n')
  })

  it('has its memory below the hole and above it', async () => {
    const ranges = [...(await guest.run('cat /proc/iomem')).matchAll(/^(\w+)-(\w+) : System RAM$/gm)]
    const bytes = ranges.map(([, first, last]) => [Number(`0x${first}`), Number(`0x${last}`) + 1] as const)
    assert.deepEqual(bytes.at(-1), [ABOVE_HOLE, ABOVE_HOLE + MEMORY - 3 * GiB])
    assert.equal(bytes.at(-2)![1], 3 * GiB)
    const total = 1024 * Number(/^MemTotal: +(\d+) kB$/m.exec(await guest.run('cat /proc/meminfo'))?.[1])
    // The kernel itself has the rest, 64 bytes for each page among it.
    assert.ok(total < MEMORY && total > 0.93 * MEMORY, `${total / MiB} MiB`)
  })

  it('has a queue pair for each processor, and a vector for each queue', async () => {
    const [most, current] = [...(await guest.run('ethtool -l eth0')).matchAll(/^Combined:\s+(\d+)/gm)]
    assert.deepEqual([most?.[1], current?.[1]], [String(PROCESSORS), String(PROCESSORS)])
    const config = await guest.run('od -An -v -tx1 /sys/bus/pci/devices/0000:00:01.0/config')
    assert.equal(msixVectors(Buffer.from(config.replaceAll(/\s/g, ''), 'hex')), 2 * PROCESSORS + 2)
    const queues = each.flatMap((i) => [`virtio0-input.${i}`, `virtio0-output.${i}`])
    // Linux polls the control queue.
    assert.deepEqual([...(await guestInterrupts(guest, 'virtio0-')).keys()], ['virtio0-config', ...queues])
  })

  it('sends and receives in every pair, each on the processor that it is of, and each byte is right', async () => {
    const sums: string[] = []
    const server = createServer({ allowHalfOpen: true }, (socket: Socket) => {
      const hash = createHash('md5')
      socket.on('data', (bytes) => hash.update(bytes))
      socket.on('end', () => {
        sums.push(hash.digest('hex'))
        // It goes on for as long as its answer is under way.
        socket.end(Buffer.alloc(MiB, 'answer'))
      })
    }).listen(0, HOST)
    await once(server, 'listening')
    const { port } = server.address() as AddressInfo
    try {
      const sum = await guest.run('dd if=/dev/urandom of=/tmp/blob bs=1M count=1 2>/dev/null; md5sum < /tmp/blob')
      const one = (i: number) =>
        `taskset ${(1 << i).toString(16)} socat -t 100 -b 65536 - TCP4:${HOST}:${port} < /tmp/blob | md5sum > /tmp/answer${i}`
      const all = each.map((i) => `(${one(i)}) & p${i}=$!`).join('; ')
      await guest.run(`${all}; ${each.map((i) => `wait $p${i}`).join(' && ')}`, 170)
      assert.deepEqual(sums, Array(PROCESSORS).fill(sum.split(' ')[0]))
      const answer = createHash('md5').update(Buffer.alloc(MiB, 'answer')).digest('hex')
      assert.equal(await guest.run('cat /tmp/answer*'), `${answer}  -\n`.repeat(PROCESSORS))
    } finally {
      server.close()
    }
    // How far the kernel has come in each ring (5.2.8): the index behind the flags.
    const { queues } = guest.nics[0]!.inspect()
    const used = queues.slice(0, 2 * PROCESSORS).map((queue) => wordAt(Number(queue.used) + 2).readUInt16LE())
    assert.ok(
      used.every((index) => index > 0),
      `buffers used by queue: ${used}`,
    )
    const interrupts = [...(await guestInterrupts(guest, 'virtio0-')).entries()].slice(1)
    const came = interrupts.map(([, { counts }]) => counts.reduce((sum, count) => sum + count))
    assert.ok(
      came.every((count) => count > 0),
      `interrupts by queue: ${came}`,
    )
    assert.equal(guest.nics[0]!.inspect().fault, null)
  })

  it('has rings and buffers above 4 GiB, from and to which the kernel moved them', () => {
    const { queues } = guest.nics[0]!.inspect()
    const ready = queues.filter(({ ready }) => ready)
    assert.equal(ready.length, 2 * PROCESSORS + 1)
    const rings = ready.map(({ desc }) => Number(desc))
    assert.ok(
      rings.some((address) => address >= ABOVE_HOLE),
      rings.join(),
    )
    // The first 8 bytes of a descriptor are its buffer's address.
    const buffers = rings.map((address) => Number(wordAt(address).readBigUInt64LE()))
    assert.ok(
      buffers.filter((_, i) => i % 2 === 0).some((address) => address >= ABOVE_HOLE),
      `received to ${buffers}`,
    )
    assert.ok(
      buffers.filter((_, i) => i % 2 === 1).some((address) => address >= ABOVE_HOLE),
      `sent from ${buffers}`,
    )
  })

  it('switches off', async () => {
    guest.vm.console.write('poweroff -f\n')
    assert.deepEqual(await guest.end(60), { why: 'poweroff' })
  })
})
