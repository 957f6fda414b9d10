// What `vhost-net run` cannot run: it says why, leaves nothing, and what was there before is as it was.

import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { exitCodeOf } from '../../lib/cli/exit-code.ts'
import { run } from '../../lib/cli/run.ts'
import { RtNetlink, Tap } from '../../lib/host/index.ts'
import { leavesNothing } from '../support/leaves-nothing.ts'
import { POWER_OFF, writeTinyKernel } from '../support/tiny-kernel.ts'

const FAILED = 1
const WRONG_USAGE = 2
const GiB = 2 ** 30

describe('vhost-net run refuses', () => {
  const closing = leavesNothing()
  let kernel: string

  beforeEach(() => {
    const directory = mkdtempSync(path.join(tmpdir(), 'refused-'))
    closing.add(() => rmSync(directory, { recursive: true }))
    kernel = path.join(directory, 'kernel')
    writeTinyKernel(kernel, POWER_OFF)
  })

  /** In this process, in which all that it opened would be seen. */
  const refuses = async (words: readonly string[], exitCode: number, ...messages: readonly RegExp[]) => {
    const error = await run.run(['--kernel', kernel, ...words]).then(
      (code) => assert.fail(`it ran, and ended with ${code}`),
      (error: unknown) => error as Error,
    )
    for (const message of messages) assert.match(error.message, message)
    assert.equal(exitCodeOf(error), exitCode)
  }
  const nicOn = (ifname: string, queues = 1) => [
    ...['--netdev', `tap,id=n0,ifname=${ifname},queues=${queues}`],
    ...['--device', 'virtio-net-pci,netdev=n0'],
  ]

  it('a tap whose only queue somebody has, up or down', async () => {
    const netlink = closing.own(RtNetlink.open())
    closing.own(Tap.open({ ifname: 'busy0' }))
    const { index } = netlink.getLink({ ifname: 'busy0' })!
    await refuses(nicOn('busy0'), FAILED, /TUNSETIFF on tap busy0: EBUSY/)
    netlink.setLink(index, { up: true })
    const before = netlink.getLink({ ifname: 'busy0' })
    const problem = /'busy0' is in use: another process is attached to its only queue/
    await refuses(nicOn('busy0'), WRONG_USAGE, problem, /Stop that process/)
    assert.deepEqual(netlink.getLink({ ifname: 'busy0' }), before)
  })

  it('a tap with fewer queues than were asked for, and what is no tap', async () => {
    const netlink = closing.own(RtNetlink.open())
    closing.own(Tap.open({ ifname: 'single0' }))
    const problem = /'single0' has a single queue, 2 queue pairs were asked for/
    await refuses(nicOn('single0', 2), WRONG_USAGE, problem, /multi_queue/)
    const { index } = netlink.addLink({ kind: 'bridge', ifname: 'notap0' })
    closing.add(() => netlink.deleteLink(index))
    await refuses(nicOn('notap0'), WRONG_USAGE, /'notap0' is a bridge, not a tap/, /Choose another name/)
  })

  it('more memory than it may have', async () => {
    const limit = (bytes: string) => execFileSync('prlimit', ['--pid', String(process.pid), `--as=${bytes}:`])
    limit(String(64 * GiB))
    closing.add(() => limit('unlimited'))
    const hint = /Less memory, or a higher limit of address space/
    await refuses(['--memory', '512G', ...nicOn('refused0')], FAILED, /bytes of guest memory: ENOMEM/, hint)
  })

  it('huge pages that nobody has set aside', async () => {
    const words = ['--memory', '64M,hugetlb=on', ...nicOn('refused0')]
    await refuses(words, FAILED, /bytes of guest memory: ENOMEM/, /raise vm\.nr_hugepages/)
  })

  it('kernels of other processors, by name', async () => {
    const image = Buffer.alloc(4096)
    image.write('ARM\x64', 0x38, 'latin1')
    const elf = Buffer.alloc(4096)
    elf.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1])
    elf.writeUInt16LE(183, 18)
    for (const bytes of [image, elf]) {
      writeFileSync(kernel, bytes)
      const hint = /vmlinuz of a distribution for x86-64/
      await refuses(nicOn('refused0'), FAILED, /is a kernel of arm64, not of x86-64/, hint)
    }
  })
})
