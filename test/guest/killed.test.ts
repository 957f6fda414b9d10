// A machine whose process is killed amid traffic.

import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { RtNetlink } from '../../lib/host/index.ts'
import { ConsoleShell } from '../../scripts/guest/console-shell.ts'
import { startIperfServer } from '../../scripts/guest/iperf-server.ts'
import { BOOT_SECONDS } from '../../scripts/guest/stock-guest.ts'
import { end, kill, run } from '../support/command.ts'
import { leavesNothing } from '../support/leaves-nothing.ts'
import { diffSoon, resources } from '../support/resources.ts'
import { ADDRESSES, addHostAddress, configure, startGuest } from '../support/run-guest.ts'
import { soon } from '../support/soon.ts'
import { POWER_OFF, writeTinyKernel } from '../support/tiny-kernel.ts'

const IFNAME = 'killed0'
const SOME_BYTES = 4 << 20

describe('a machine whose process is killed while iperf3 sends and receives', () => {
  const closing = leavesNothing()

  it('leaves nothing, and the name of its tap is free at once', async () => {
    const held = resources()
    const directory = mkdtempSync(path.join(tmpdir(), 'killed-'))
    closing.add(() => rmSync(directory, { recursive: true }))
    const child = await startGuest(directory, IFNAME)
    closing.add(() => kill(child))
    const ended = end(child)
    const shell = new ConsoleShell({ write: (text) => child.stdin.write(text), ended })
    child.stdout.on('data', (bytes: Buffer) => shell.hear(bytes))
    await shell.ready(BOOT_SECONDS)
    addHostAddress(IFNAME)
    await shell.run(configure)

    const server = await startIperfServer(ADDRESSES.host)
    const netlink = RtNetlink.open()
    try {
      await shell.run(`iperf3 -c ${ADDRESSES.host} --bidir -t 1000 > /tmp/out &`)
      const moved = () => {
        const { rx_bytes, tx_bytes } = netlink.getLink({ ifname: IFNAME })!.stats
        return Math.min(Number(rx_bytes), Number(tx_bytes))
      }
      await soon('traffic both ways', () => moved() > SOME_BYTES, 60)
      await kill(child)
      assert.equal((await ended).signal, 'SIGKILL')
    } finally {
      netlink.close()
      await server.stop()
    }
    assert.deepEqual(await diffSoon(held, 5000), [])

    const kernel = path.join(directory, 'kernel')
    writeTinyKernel(kernel, POWER_OFF)
    const nic = ['--netdev', `tap,id=n0,ifname=${IFNAME}`, '--device', 'virtio-net-pci,netdev=n0']
    const { code, stderr } = await run('run', '--kernel', kernel, ...nic)
    assert.equal(code, 0, stderr)
  })
})
