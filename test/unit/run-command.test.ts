// `vhost-net run` before anything is opened: its words, what is typed at a terminal, and what is told in JSON.

import assert from 'node:assert/strict'
import { Writable } from 'node:stream'
import { EscapeKey } from '../../lib/cli/run/escape.ts'
import { parseOptions } from '../../lib/cli/run/options.ts'
import { jsonReporter } from '../../lib/cli/run/report.ts'
import { run } from '../support/command.ts'

describe('the options of vhost-net run', () => {
  it('have defaults, but for the kernel', () => {
    assert.deepEqual(parseOptions(['--kernel', 'k']), {
      kernel: 'k',
      initrd: undefined,
      append: 'console=ttyS0',
      smp: 1,
      memory: { size: 256 << 20 },
      nics: [],
      json: false,
    })
    assert.equal(parseOptions(['--help']), undefined)
  })

  it("are QEMU's words for machine and NICs, a queue pair for each processor", () => {
    const words = '--kernel k --smp cpus=4 --memory 1G --netdev tap,id=a,ifname=t0 --netdev tap,id=b,queues=2'
    const devices = '--device virtio-net-pci,netdev=a --device virtio-net-device,netdev=b --json'
    const options = parseOptions(`${words} ${devices}`.split(' '))!
    assert.deepEqual([options.smp, options.memory, options.json], [4, { size: 2 ** 30 }, true])
    assert.deepEqual(
      options.nics.map(({ id, transport, options: { queuePairs } }) => [id, transport, queuePairs]),
      [
        ['a', 'pci', 4],
        ['b', 'mmio', 2],
      ],
    )
  })

  it('have the words of a memory backend for memory', () => {
    for (const [text, memory] of [
      ['512M,hugetlb=on', { size: 2 ** 29, backing: 'hugetlb' }],
      ['size=2G,hugetlb=on,hugetlbsize=1G', { size: 2 ** 31, backing: 'hugetlb', pageSize: 2 ** 30 }],
      ['64,share=on', { size: 2 ** 26, backing: 'memfd' }],
      ['64,prealloc=on', { size: 2 ** 26, prefault: true }],
    ] as const) {
      assert.deepEqual(parseOptions(['--kernel', 'k', '--memory', text])?.memory, memory)
    }
  })

  it('that are wrong are named, with the one that was meant, and exit code 2', async () => {
    const nic = ['--netdev', 'tap,id=n0', '--device', 'virtio-net-pci,netdev=n0']
    for (const [words, message] of [
      [[], /--kernel is missing/],
      [['--kernle', 'k'], /unknown option '--kernle': did you mean '--kernel'\?/],
      [['--kernel', 'k', '--cpus', '4'], /unknown option '--cpus'\n/],
      [['--kernel', 'k', 'more'], /more/],
      [['--kernel'], /--kernel/],
      [['--kernel', 'k', '--smp', 'two'], /--smp.cpus: must be an integer, not 'two'/],
      [['--kernel', 'k', '--memory', 'all'], /--memory.size: must be a size/],
      [['--kernel', 'k', '--memory', '1G,hugetlbsize=2M'], /--memory.hugetlbsize: .*\n {2}Add hugetlb=on/],
      [['--kernel', 'k', '--memory', '1G,hugetlb=on,share=off'], /--memory.share: must be on/],
      [['--kernel', 'k', '--memory', '1G,hugetlbs=on'], /Did you mean 'hugetlb'\?/],
      [['--kernel', 'k', '--netdev', 'tap,id=n0'], /--netdev\[n0\]: no device has it/],
      [['--kernel', 'k', ...nic.slice(2)], /--device\[n0\].netdev: there is no netdev 'n0'/],
      [['--kernel', 'k', '--netdev', 'tap,id=n0,queue=2', ...nic.slice(2)], /Did you mean 'queues'\?/],
    ] as const) {
      const { code, stdout, stderr } = await run('run', ...words)
      assert.deepEqual({ code, stdout }, { code: 2, stdout: '' }, words.join(' '))
      assert.match(stderr, message)
      assert.match(stderr, /^Usage: vhost-net run /m)
    }
  })

  it('that are out of range are named before anything is opened, with exit code 2', async () => {
    for (const [words, message] of [
      [['--smp', '65'], /smp: must be an integer in 1\.\.64, not 65/],
      [['--memory', '8M'], /memory.size: must be an integer/],
    ] as const) {
      const { code, stderr } = await run('run', '--kernel', 'k', ...words)
      assert.match(stderr, message)
      assert.equal(code, 2)
    }
  })
})

describe('Ctrl-A at the terminal', () => {
  const take = (...pieces: string[]) => {
    const key = new EscapeKey()
    const taken = pieces.map((piece) => key.take(Buffer.from(piece, 'latin1')))
    return {
      typed: taken.map(({ typed }) => Buffer.from(typed).toString('latin1')).join(''),
      left: taken.map(({ left }) => left),
    }
  }

  it('leaves with x, at once or later, and drops what follows', () => {
    assert.deepEqual(take('ab\x01xcd'), { typed: 'ab', left: [true] })
    assert.deepEqual(take('ab\x01', 'xcd'), { typed: 'ab', left: [false, true] })
  })

  it('is for the guest when it comes twice, or before another key', () => {
    assert.deepEqual(take('\x01\x01x'), { typed: '\x01x', left: [false] })
    assert.deepEqual(take('\x01\x01', '\x01x'), { typed: '\x01', left: [false, true] })
    assert.deepEqual(take('\x01b', 'x'), { typed: '\x01bx', left: [false, false] })
  })

  it('lets everything else pass', () => {
    const all = Array.from({ length: 255 }, (_, i) => String.fromCharCode(i === 0 ? 0 : i + 1)).join('')
    assert.deepEqual(take(all), { typed: all, left: [false] })
  })
})

describe('the events of vhost-net run --json', () => {
  const lines: string[] = []
  const stream = new Writable({
    write(chunk: Buffer, _encoding, done) {
      lines.push(chunk.toString())
      done()
    },
  }) as unknown as NodeJS.WriteStream

  beforeEach(() => {
    lines.length = 0
  })

  it('have characters whole, however the guest wrote them', () => {
    const report = jsonReporter(stream)
    const bytes = Buffer.from('größer\n')
    for (const byte of bytes) report.console.write(Uint8Array.of(byte))
    const events = lines.map((line) => JSON.parse(line) as { event: string; text: string })
    assert.ok(events.every(({ event }) => event === 'console'))
    assert.equal(events.map(({ text }) => text).join(''), 'größer\n')
  })

  it('say why a processor could not go on', () => {
    const report = jsonReporter(stream)
    const end = { why: 'exit', exit: 'KVM_EXIT_INTERNAL_ERROR', detail: 1 } as const
    report.ended({ why: 'failed', vcpu: 3, end }, 5, [])
    const { ms: _, ...event } = JSON.parse(lines.join('')) as Record<string, unknown>
    assert.deepEqual(event, {
      event: 'end',
      why: 'failed',
      message: 'processor 3 could not go on: KVM_EXIT_INTERNAL_ERROR (1)',
      exitCode: 5,
      vcpu: 3,
      vcpus: [],
    })
  })
})
