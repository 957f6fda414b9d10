// `vhost-net run` as a user runs it: a stock guest typed to through its console, and every way in which it ends.

import assert from 'node:assert/strict'
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { createInterface } from 'node:readline'
import { RtNetlink } from '../../lib/host/index.ts'
import { ConsoleShell } from '../../scripts/guest/console-shell.ts'
import { writeGuestInitramfs } from '../../scripts/guest/initramfs.ts'
import { provideKernel } from '../../scripts/lab/kernels.ts'
import { end, main, run, start } from '../support/command.ts'
import { diffSoon, resources } from '../support/resources.ts'
import { writeTinyKernel } from '../support/tiny-kernel.ts'

const APPEND = 'console=ttyS0 quiet panic=-1 mitigations=off no_timer_check tsc=reliable 8250.nr_uarts=1 i8042.nokbd'
const BOOT_SECONDS = 90
/** `jmp $` */
const FOREVER = [0xeb, 0xfe]
/** `mov dx, port; mov al, value; out dx, al` */
const out = (port: number, value: number): number[] => [0x66, 0xba, port & 0xff, port >> 8, 0xb0, value, 0xee]

interface Event {
  event: string
  [fact: string]: unknown
}

describe('vhost-net run', () => {
  let held: ReturnType<typeof resources>
  let directory: string
  let child: ChildProcessWithoutNullStreams | undefined

  beforeEach(() => {
    held = resources()
    directory = mkdtempSync(path.join(tmpdir(), 'run-'))
  })

  afterEach('nothing is left', async () => {
    if (child !== undefined && child.exitCode === null && child.signalCode === null) {
      const ended = once(child, 'close')
      child.kill('SIGKILL')
      await ended
    }
    child = undefined
    rmSync(directory, { recursive: true })
    assert.deepEqual(await diffSoon(held, 5000), [])
  })

  const tiny = (...code: readonly number[]): string => {
    const kernel = path.join(directory, 'kernel')
    writeTinyKernel(kernel, code)
    return kernel
  }

  /** The stock guest with a NIC on PCI; `words` are further options. */
  const boot = async (ifname: string, ...words: string[]): Promise<ChildProcessWithoutNullStreams> => {
    const kernel = await provideKernel('6.12')
    const initrd = path.join(directory, 'initrd')
    writeGuestInitramfs(kernel, initrd)
    child = start(
      'run',
      ...['--kernel', kernel.vmlinux, '--initrd', initrd, '--append', APPEND, '--smp', '2', '--memory', '512M'],
      ...['--netdev', `tap,id=n0,ifname=${ifname}`, '--device', 'virtio-net-pci,netdev=n0,mac=52:54:00:12:34:56,mq=on'],
      ...words,
    )
    return child
  }

  const addAddress = (ifname: string): void => {
    using netlink = RtNetlink.open()
    const link = netlink.getLink({ ifname })
    assert.ok(link?.up, `${ifname} is switched on`)
    netlink.addAddress(link.index, { address: '192.0.2.1', prefixLength: 24 })
  }

  const ping = 'ip addr add 192.0.2.2/24 dev eth0 && ip link set eth0 up && ping -c 1 -w 30 192.0.2.1'

  it("boots a guest that is typed to, pings this host, and switches off; it says what it does beside the guest's words", async () => {
    const running = await boot('run0')
    const ended = end(running)
    const write = (text: string) => running.stdin.write(text)
    const shell = new ConsoleShell({ write, ended })
    running.stdout.on('data', (bytes: Buffer) => shell.hear(bytes))
    await shell.ready(BOOT_SECONDS)
    addAddress('run0')
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
    const running = await boot('run1', '--json')
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
    addAddress('run1')
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
      child = start('run', '--kernel', tiny(...out(0x3f8, 0x21), ...FOREVER), '--json', '--smp', '2', ...tap)
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

    it('a guest that switches off', () => ends([...out(0x600, (5 << 2) | (1 << 5)), ...FOREVER], 0, /switched/))

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
    child = spawn('script', ['--quiet', '--return', '--command', command, '/dev/null'])
    let said = ''
    const heard = (text: string) =>
      new Promise<void>((resolve) => {
        const look = () => said.includes(text) && resolve()
        child!.stdout.on('data', look)
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
