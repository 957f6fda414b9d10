// `vhost-net run` as a user runs it: a stock guest typed to through its console, and every way in which it ends.

import assert from 'node:assert/strict'
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { createInterface } from 'node:readline'
import { ConsoleShell } from '../../scripts/guest/console-shell.ts'
import { BOOT_SECONDS } from '../../scripts/guest/stock-guest.ts'
import { end, kill, main, run, start } from '../support/command.ts'
import { leavesNothing } from '../support/leaves-nothing.ts'
import { ADDRESSES, addHostAddress, configure, startGuest } from '../support/run-guest.ts'
import { FOREVER, out, POWER_OFF, writeTinyKernel } from '../support/tiny-kernel.ts'

interface Event {
  event: string
  [fact: string]: unknown
}

describe('vhost-net run', () => {
  const closing = leavesNothing()
  let directory: string

  beforeEach(() => {
    directory = mkdtempSync(path.join(tmpdir(), 'run-'))
    closing.add(() => rmSync(directory, { recursive: true }))
  })

  const tiny = (...code: readonly number[]): string => {
    const kernel = path.join(directory, 'kernel')
    writeTinyKernel(kernel, code)
    return kernel
  }

  /** It is killed behind the test, if it has not ended by then. */
  const started = (child: ChildProcessWithoutNullStreams): ChildProcessWithoutNullStreams => {
    closing.add(() => kill(child))
    return child
  }

  const ping = `${configure} && ping -c 1 -w 30 ${ADDRESSES.host}`

  it("boots a guest that is typed to, pings this host, and switches off; it says what it does beside the guest's words", async () => {
    const running = started(await startGuest(directory, 'run0'))
    const ended = end(running)
    const write = (text: string) => running.stdin.write(text)
    const shell = new ConsoleShell({ write, ended })
    running.stdout.on('data', (bytes: Buffer) => shell.hear(bytes))
    await shell.ready(BOOT_SECONDS)
    addHostAddress('run0')
    assert.match(await shell.run(ping), /1 packets received/)
    assert.match(await shell.run('cat /sys/class/net/eth0/address'), /^52:54:00:12:34:56\n/)
    assert.match(await shell.run('ethtool -l eth0'), /Combined:\s+2\n/)
    write('poweroff -f\n')
    const { code, stderr } = await ended
    assert.equal(code, 0, stderr)
    assert.match(stderr, /^vhost-net: n0: 52:54:00:12:34:56 on run0, 2 queue pairs, over pci\n/)
    assert.match(stderr, /^vhost-net: the guest switched the machine off\n$/m)
  })

  it('with --json tells everything in lines of JSON, what the guest writes among it, and ends by a reset with 3', async () => {
    const running = started(await startGuest(directory, 'run1', '--json'))
    const events: Event[] = []
    const ended = end(running)
    const write = (text: string) => running.stdin.write(text)
    const shell = new ConsoleShell({ write, ended, explain: () => JSON.stringify(events) })
    let rest = ''
    running.stdout.on('data', (bytes: Buffer) => {
      const lines = (rest + bytes.toString()).split('\n')
      rest = lines.pop()!
      for (const line of lines) {
        const event = JSON.parse(line) as Event
        events.push(event)
        if (event.event === 'console') shell.hear(Buffer.from(event.text as string))
      }
    })
    await shell.ready(BOOT_SECONDS)
    addHostAddress('run1')
    assert.match(await shell.run(ping), /1 packets received/)
    running.stdin.write('reboot -f\n')
    const { code, stderr } = await ended
    assert.deepEqual({ code, stderr }, { code: 3, stderr: '' })
    const facts = (name: string) => events.filter(({ event }) => event === name)
    const { ms, ...nic } = facts('nic')[0]!
    assert.equal(typeof ms, 'number')
    assert.deepEqual(nic, {
      event: 'nic',
      id: 'n0',
      transport: 'pci',
      ifname: 'run1',
      mac: '52:54:00:12:34:56',
      queuePairs: 2,
    })
    assert.ok(facts('status').some(({ id, status }) => id === 'n0' && (status as string[]).includes('DRIVER_OK')))
    const { why, exitCode, vcpus } = events.at(-1)!
    assert.deepEqual({ why, exitCode, count: (vcpus as unknown[]).length }, { why: 'reset', exitCode: 3, count: 2 })
  })

  for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
    it(`leaves nothing where ${signal} ends it`, async () => {
      const tap = ['--netdev', 'tap,id=n0,ifname=run2', '--device', 'virtio-net-device,netdev=n0']
      const words = ['--kernel', tiny(...out(0x3f8, 0x21), ...FOREVER), '--json', '--smp', '2', ...tap]
      const child = started(start('run', ...words))
      const ended = end(child)
      for await (const line of createInterface({ input: child.stdout })) {
        if ((JSON.parse(line) as Event).event === 'console') break
      }
      child.kill(signal)
      const { code, signal: by } = await ended
      assert.deepEqual([code, by], signal === 'SIGTERM' ? [143, null] : [null, signal])
    })
  }

  describe('has an exit code for', () => {
    const ends = async (code: readonly number[], expected: number, message: RegExp) => {
      const { code: exitCode, stderr } = await run('run', '--kernel', tiny(...code))
      assert.match(stderr, message)
      assert.equal(exitCode, expected, stderr)
    }

    it('a guest that switches off', () => ends(POWER_OFF, 0, /switched/))

    it('one that resets', () => ends([...out(0x602, 1), ...FOREVER], 3, /reset the machine/))

    it('one that panics', () => ends([...out(0x505, 1), ...FOREVER], 4, /kernel panicked/))

    it('a processor that cannot go on', async () => {
      // mov eax, 0xd0100000; jmp eax: code where nothing lies.
      await ends([0xb8, 0, 0, 0x10, 0xd0, 0xff, 0xe0], 5, /processor 0 could not go on: KVM_EXIT_INTERNAL_ERROR/)
    })

    it('a host without KVM, and says so in JSON too', async () => {
      const script = 'mount -t tmpfs tmpfs /dev && exec "$0" "$@"'
      const args = [
        '--mount',
        'sh',
        '-c',
        script,
        process.execPath,
        main,
        'run',
        '--json',
        '--kernel',
        tiny(...FOREVER),
      ]
      const { code, stdout, stderr } = await end(spawn('unshare', args))
      assert.match(stderr, /^vhost-net: open on \/dev\/kvm: ENOENT/)
      const { event, exitCode } = JSON.parse(stdout) as Event
      assert.deepEqual({ code, event, exitCode }, { code: 6, event: 'error', exitCode: 6 })
    })

    it('a host without vhost-net', async () => {
      const kvm = path.join(directory, 'kvm')
      const away = `touch ${kvm} && mount --bind /dev/kvm ${kvm} && mount -t tmpfs tmpfs /dev`
      const script = `${away} && touch /dev/kvm && mount --bind ${kvm} /dev/kvm && exec "$0" "$@"`
      const words = ['--kernel', tiny(...FOREVER), '--netdev', 'tap,id=n0,ifname=run3', '--device']
      const args = ['--mount', 'sh', '-c', script, process.execPath, main, 'run', ...words, 'virtio-net-pci,netdev=n0']
      const { code, stderr } = await end(spawn('unshare', args))
      assert.match(stderr, /^vhost-net: open on \/dev\/(vhost-net|net\/tun): ENOENT/)
      assert.equal(code, 6)
    })

    it('a setting of a NIC out of its range, and a file that is no kernel', async () => {
      const net = ['--netdev', 'tap,id=n0,ifname=run4', '--device', 'virtio-net-pci,netdev=n0,rx_queue_size=100']
      for (const [words, expected, message] of [
        [['--kernel', tiny(...FOREVER), ...net], 2, /rx_queue_size: must be/],
        [['--kernel', main], 1, /no Linux kernel/],
      ] as const) {
        const { code, stderr } = await run('run', ...words)
        assert.match(stderr, message)
        assert.equal(code, expected, stderr)
      }
    })
  })

  it('at a terminal gives the guest every key but Ctrl-A x, which leaves with 7', async () => {
    // again: in al, 0x3fd; test al, 1; jz again; in al, 0x3f8; out 0x3f8, al; jmp again
    const receive = [
      0x66, 0xba, 0xfd, 0x03, 0xec, 0xa8, 0x01, 0x74, 0xf7, 0x66, 0xba, 0xf8, 0x03, 0xec, 0xee, 0xeb, 0xef,
    ]
    const command = [process.execPath, main, 'run', '--kernel', tiny(...receive)].join(' ')
    const child = started(spawn('script', ['--quiet', '--return', '--command', command, '/dev/null']))
    let said = ''
    const heard = (text: string) =>
      new Promise<void>((resolve) => {
        const look = () => said.includes(text) && resolve()
        child.stdout.on('data', look)
        look()
      })
    child.stdout.on('data', (bytes: Buffer) => {
      said += bytes.toString('latin1')
    })
    const ended = once(child, 'close')
    await heard('Ctrl-A x leaves it')
    child.stdin.write('\x03typed\x01\x01\x01b')
    await heard('\x03typed\x01\x01b')
    child.stdin.write('\x01x')
    assert.deepEqual(await ended, [7, null])
  })
})
