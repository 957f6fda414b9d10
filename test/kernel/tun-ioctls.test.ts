// Every ioctl of /dev/net/tun: what it does, seen from outside where it can be, and each refusal of the kernel's.

import assert from 'node:assert/strict'
import {
  chmodSync,
  closeSync,
  constants,
  existsSync,
  openSync,
  readFileSync,
  readlinkSync,
  readSync,
  statSync,
} from 'node:fs'
import {
  IFF,
  NETIF_MSG_DRV,
  TAP_MAX_QUEUES,
  TUN_DEVICE,
  TUN_F,
  TUN_FLT_EXACT_COUNT,
  TUN_SNDBUF_UNLIMITED,
} from '../../lib/abi/tun.ts'
import { type BpfInstruction, binding, systemCall } from '../../lib/binding/index.ts'
import { SystemCallError } from '../../lib/errors.ts'
import { ethtoolFeatures, RtNetlink, Tap, type TapOptions } from '../../lib/host/index.ts'
import { Teardown } from '../../lib/teardown.ts'
import { BPF_PROG_TYPE_SOCKET_FILTER, BPF_PROG_TYPE_XDP, runWithPrograms } from '../support/ebpf.ts'
import { sendFrames, setUpHost, takeFrames } from '../support/host-frames.ts'
import { since } from '../support/kernel.ts'
import { type Refusal, refused } from '../support/refused.ts'
import { addTap, ip, sysfs } from '../support/tuntap.ts'

const ifname = 'tioctl0'
const unmapped = /does not map the id/
const mac = (number: number): string => `52:54:00:00:00:${number.toString(16).padStart(2, '0')}`

describe('tun ioctls', () => {
  let opened: Teardown

  beforeEach(() => {
    opened = new Teardown()
  })
  afterEach('everything closes', () => opened.run())

  const open = (options: Partial<TapOptions> = {}): Tap => opened.own(Tap.open({ ifname, ...options }))

  /** A tap of frames without header, with an address of the host's. */
  function openUp(options: Partial<TapOptions> = {}): Tap {
    const tap = open({ vnetHdr: false, ...options })
    setUpHost(ifname)
    return tap
  }

  /** A tun, whose packets have no MAC addresses. */
  const openTun = (): Tap => opened.own(Tap.attach(ifname, IFF.IFF_TUN | IFF.IFF_NO_PI))

  /** A persistent tap that goes when the test is over. */
  function persistent(...options: string[]): void {
    addTap(ifname, ...options)
    opened.add(() => ip('link', 'delete', ifname))
  }

  /** Runs `body` as a user without capabilities who may open the node, as udev has it. */
  function asUser<T>(uid: number, body: () => T): T {
    const { mode } = statSync(TUN_DEVICE)
    chmodSync(TUN_DEVICE, 0o666)
    process.seteuid!(uid)
    try {
      return body()
    } finally {
      process.seteuid!(0)
      chmodSync(TUN_DEVICE, mode & 0o777)
    }
  }

  const numqueues = (): number => {
    const netlink = RtNetlink.open()
    try {
      return netlink.getLink({ ifname })!.tun!.numqueues!
    } finally {
      netlink.close()
    }
  }

  it('TUNGETFEATURES has the flags of this kernel', () => {
    assert.equal(open().getFeatures(), since(7, 0) ? 0x71f3 : 0x7173)
  })

  describe('TUNSETIFF', () => {
    it('makes a device that is as asked for, and TUNGETIFF says so', () => {
      const tap = open({ ifname: 'tioctl%d', multiQueue: true })
      assert.equal(tap.ifname, 'tioctl0')
      const { IFF_TAP, IFF_NO_PI, IFF_VNET_HDR, IFF_MULTI_QUEUE } = IFF
      assert.deepEqual(tap.getIff(), { name: 'tioctl0', flags: IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | IFF_MULTI_QUEUE })
      ip('link', 'set', ifname, 'name', 'renamed0')
      assert.equal(tap.getIff().name, 'renamed0')
    })

    it('attaches another queue to one of several', () => {
      open({ multiQueue: true })
      open({ multiQueue: true })
      assert.equal(numqueues(), 2)
    })

    it('is refused for a device that is busy, or exists where it must not', () => {
      const busy: Refusal = ['TUNSETIFF', 'EBUSY', /only a multi_queue tap takes several/]
      open()
      refused(() => open(), busy)
      refused(() => open({ exclusive: true }), busy)
    })

    it('is refused for a device of another type, or with one queue where it has several', () => {
      const other: Refusal = ['TUNSETIFF', 'EINVAL', /its multi_queue differs/]
      persistent()
      refused(openTun, other)
      refused(() => open({ multiQueue: true }), other)
    })

    it('is refused for the 257th queue', () => {
      for (let i = 0; i < TAP_MAX_QUEUES; i++) open({ multiQueue: true })
      refused(() => open({ multiQueue: true }), ['TUNSETIFF', 'E2BIG', /at most 256 queues/])
    })

    it('is refused the second time', () => {
      const tap = open()
      const again = () => systemCall(() => binding().tunSetIff(tap.native, 'other0', IFF.IFF_TAP), { subject: 'a tap' })
      assert.throws(again, (error) => error instanceof SystemCallError && error.code === 'EEXIST')
    })

    it('is refused without privilege', () => {
      refused(() => asUser(1000, open), ['TUNSETIFF', 'EPERM', /CAP_NET_ADMIN/])
      assert.equal(existsSync(`/sys/class/net/${ifname}`), false)
    })
  })

  describe('TUNSETIFINDEX', () => {
    it('gives a new device its index', () => {
      open({ ifindex: 424_242 })
      assert.equal(sysfs(ifname, 'ifindex'), '424242')
    })

    it('is refused above 2³¹ − 1, and once there is a device; TUNSETIFF is where the index is taken', () => {
      refused(() => open({ ifindex: 2 ** 31 }), ['TUNSETIFINDEX', 'EINVAL', /at most 2³¹ − 1/])
      assert.throws(() => open({ ifindex: -1 }), { code: 'ERR_OPTION_RANGE' })
      refused(() => open({ ifindex: 1 }), ['TUNSETIFF', 'EBUSY', /its index is taken/])
      const tap = open()
      const late = () => systemCall(() => binding().tunSetIfindex(tap.native, 424_242), { subject: 'a tap' })
      assert.throws(late, (error) => error instanceof SystemCallError && error.code === 'EPERM')
    })
  })

  describe('on a queue without a device', () => {
    const calls: readonly (readonly [syscall: string, call: (tap: Tap) => unknown])[] = [
      ['TUNGETIFF', (tap) => tap.getIff()],
      ['TUNSETOFFLOAD', (tap) => tap.setOffload(0)],
      ['TUNSETVNETHDRSZ', (tap) => tap.setVnetHdrSz(12)],
      ['TUNGETVNETHDRSZ', (tap) => tap.getVnetHdrSz()],
      ['TUNSETVNETLE', (tap) => tap.setVnetLe(true)],
      ['TUNGETVNETLE', (tap) => tap.getVnetLe()],
      ['TUNSETVNETBE', (tap) => tap.setVnetBe(true)],
      ['TUNGETVNETBE', (tap) => tap.getVnetBe()],
      ['TUNSETSNDBUF', (tap) => tap.setSndbuf(4096)],
      ['TUNGETSNDBUF', (tap) => tap.getSndbuf()],
      ['TUNSETPERSIST', (tap) => tap.setPersist(true)],
      ['TUNSETOWNER', (tap) => tap.setOwner(0)],
      ['TUNSETGROUP', (tap) => tap.setGroup(0)],
      ['TUNSETCARRIER', (tap) => tap.setCarrier(true)],
      ['TUNSETLINK', (tap) => tap.setLink(1)],
      ['TUNSETTXFILTER', (tap) => tap.setTxFilter({ addresses: [] })],
      ['TUNATTACHFILTER', (tap) => tap.attachFilter([])],
      ['TUNDETACHFILTER', (tap) => tap.detachFilter()],
      ['TUNGETFILTER', (tap) => tap.getFilterLength()],
      ['TUNSETSTEERINGEBPF', (tap) => tap.setSteeringEbpf(null)],
      ['TUNSETFILTEREBPF', (tap) => tap.setFilterEbpf(null)],
      ['TUNGETDEVNETNS', (tap) => tap.getDevNetNs()],
    ]
    for (const [syscall, call] of calls) {
      it(`${syscall} is refused`, () => {
        const tap = open()
        ip('link', 'delete', ifname)
        refused(() => call(tap), [syscall, 'EBADFD', /not attached to a device, or the device was deleted/])
      })
    }

    it('and one that never had one is no tap', () => {
      const fd = openSync(TUN_DEVICE, 'r+')
      opened.add(() => binding().closeFd(binding().adoptFd(fd)))
      refused(() => Tap.fromFd(fd), ['TUNGETIFF', 'EBADFD', /not attached/])
    })
  })

  describe('TUNSETQUEUE', () => {
    it('detaches a queue and attaches it again', () => {
      open({ multiQueue: true })
      const second = open({ multiQueue: true })
      second.setQueue(false)
      assert.equal(numqueues(), 1)
      second.setQueue(true)
      assert.equal(numqueues(), 2)
    })

    it('is refused on a single queue, and for a queue that is so already', () => {
      const so: Refusal = ['TUNSETQUEUE', 'EINVAL', /in that state already/]
      const single = open()
      for (const attached of [false, true]) refused(() => single.setQueue(attached), so)
      const several = open({ ifname: 'tioctl1', multiQueue: true })
      refused(() => several.setQueue(true), so)
      several.setQueue(false)
      refused(() => several.setQueue(false), so)
    })
  })

  describe('TUNSETOFFLOAD', () => {
    const uso = since(6, 2)
    const tunnel = since(6, 17)
    const sets: readonly (readonly [offload: number, taken: boolean])[] = [
      ...[0x00, 0x01, 0x03, 0x05, 0x07, 0x0b, 0x0f, 0x1f].map((offload) => [offload, true] as const),
      ...[0x02, 0x04, 0x08, 0x20, 0x21, 0x41, 0x60, 0x80, 0x81, 0x200].map((offload) => [offload, false] as const),
      ...[0x61, 0x67, 0x7f].map((offload) => [offload, uso] as const),
      ...[0x83, 0xe1, 0xff, 0x1ff].map((offload) => [offload, tunnel] as const),
    ]
    for (const [offload, taken] of sets) {
      it(`0x${offload.toString(16)} is ${taken ? 'taken' : 'refused'}`, () => {
        const tap = open()
        if (taken) tap.setOffload(offload)
        else refused(() => tap.setOffload(offload), ['TUNSETOFFLOAD', 'EINVAL', /lacks one of the offloads/])
      })
    }

    it('is what the device offers to the stack', () => {
      const tap = open()
      const { TUN_F_CSUM, TUN_F_TSO4, TUN_F_TSO6 } = TUN_F
      const features = ['tx-checksum-ip-generic', 'tx-tcp-segmentation', 'tx-tcp6-segmentation']
      const active = () => features.filter((name) => ethtoolFeatures(ifname)[name])
      tap.setOffload(0)
      assert.deepEqual(active(), [])
      tap.setOffload(TUN_F_CSUM | TUN_F_TSO4)
      assert.deepEqual(active(), features.slice(0, 2))
      tap.setOffload(TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6)
      assert.deepEqual(active(), features)
    })
  })

  describe('the virtio header', () => {
    it('TUNSETVNETHDRSZ takes 10 bytes and more, which TUNGETVNETHDRSZ says again, and no less', () => {
      const tap = open()
      assert.equal(tap.getVnetHdrSz(), 10)
      for (const size of [12, 24, 11, 10]) {
        tap.setVnetHdrSz(size)
        assert.equal(tap.getVnetHdrSz(), size)
      }
      for (const size of [9, 0, -1]) {
        refused(() => tap.setVnetHdrSz(size), ['TUNSETVNETHDRSZ', 'EINVAL', /at least 10 bytes/])
      }
    })

    it('TUNSETVNETHDRSZ is how many bytes are in front of a frame', async () => {
      const tap = openUp({ vnetHdr: true })
      const lengths: number[] = []
      for (const size of [10, 12, 24]) {
        tap.setVnetHdrSz(size)
        await sendFrames(ifname, mac(1))
        lengths.push(...takeFrames(tap).map((frame) => frame.length - size))
      }
      assert.deepEqual(lengths, [64, 64, 64])
    })

    it('TUNSETVNETLE is what TUNGETVNETLE says again', () => {
      const tap = open()
      assert.equal(tap.getVnetLe(), false)
      for (const littleEndian of [true, false]) {
        tap.setVnetLe(littleEndian)
        assert.equal(tap.getVnetLe(), littleEndian)
      }
    })

    it('TUNSETVNETBE and TUNGETVNETBE are not in the kernels of distributions', () => {
      const tap = open()
      const noBigEndian = /CONFIG_TUN_VNET_CROSS_LE/
      refused(() => tap.setVnetBe(true), ['TUNSETVNETBE', 'EINVAL', noBigEndian])
      refused(() => tap.getVnetBe(), ['TUNGETVNETBE', 'EINVAL', noBigEndian])
    })
  })

  it('TUNSETSNDBUF takes a byte and more, which TUNGETSNDBUF says again, and no less', () => {
    const tap = open()
    assert.equal(tap.getSndbuf(), TUN_SNDBUF_UNLIMITED)
    for (const bytes of [1, 65536, TUN_SNDBUF_UNLIMITED]) {
      tap.setSndbuf(bytes)
      assert.equal(tap.getSndbuf(), bytes)
    }
    for (const bytes of [0, -1]) refused(() => tap.setSndbuf(bytes), ['TUNSETSNDBUF', 'EINVAL', /at least 1 byte/])
  })

  it('TUNSETSNDBUF reaches every queue that is attached, and none that is attached later', () => {
    const [one, two] = [open({ multiQueue: true }), open({ multiQueue: true })]
    one.setSndbuf(123_456)
    assert.equal(two.getSndbuf(), 123_456)
    assert.equal(open({ multiQueue: true }).getSndbuf(), TUN_SNDBUF_UNLIMITED)
    assert.equal(one.getSndbuf(), 123_456)
  })

  it('TUNSETPERSIST says whether the device outlives its last queue', () => {
    const exists = () => existsSync(`/sys/class/net/${ifname}`)
    const tap = open()
    tap.setPersist(true)
    assert.ok(tap.getIff().flags & IFF.IFF_PERSIST)
    tap.close()
    assert.equal(exists(), true)
    const again = open()
    again.setPersist(false)
    again.close()
    assert.equal(exists(), false)
  })

  describe('who may attach', () => {
    const notAllowed: Refusal = ['TUNSETIFF', 'EPERM', /to be its owner/]
    const attachAs = (uid: number) => asUser(uid, () => Tap.open({ ifname }).close())

    it('TUNSETOWNER and TUNSETGROUP are seen in sysfs', () => {
      const tap = open()
      assert.deepEqual([sysfs(ifname, 'owner'), sysfs(ifname, 'group')], ['-1', '-1'])
      tap.setOwner(1000)
      tap.setGroup(1001)
      assert.deepEqual([sysfs(ifname, 'owner'), sysfs(ifname, 'group')], ['1000', '1001'])
    })

    it('TUNSETOWNER lets that user attach, and no other', () => {
      persistent()
      const tap = open()
      tap.setOwner(1000)
      tap.close()
      attachAs(1000)
      refused(() => attachAs(1001), notAllowed)
    })

    it('TUNSETGROUP lets no user attach who is not in it', () => {
      persistent()
      const tap = open()
      tap.setGroup(4711)
      tap.close()
      refused(() => attachAs(1000), notAllowed)
    })

    it('a tap with neither is anybody’s up to Linux 6.1, and needs privilege in 6.12.117 and 7.3.3', () => {
      persistent()
      if (since(6, 12)) refused(() => attachAs(1000), notAllowed)
      else attachAs(1000)
    })

    it('TUNSETOWNER and TUNSETGROUP are refused for what is no id', () => {
      const tap = open()
      refused(() => tap.setOwner(2 ** 32 - 1), ['TUNSETOWNER', 'EINVAL', unmapped])
      refused(() => tap.setGroup(2 ** 32 - 1), ['TUNSETGROUP', 'EINVAL', unmapped])
    })
  })

  it('TUNSETCARRIER is the device’s carrier', () => {
    const tap = openUp()
    for (const carrier of [false, true]) {
      tap.setCarrier(carrier)
      assert.equal(sysfs(ifname, 'carrier'), carrier ? '1' : '0')
    }
  })

  it('TUNSETLINK is the device’s type, which cannot change while it is up', () => {
    const tap = open()
    assert.equal(sysfs(ifname, 'type'), '1')
    tap.setLink(512)
    assert.equal(sysfs(ifname, 'type'), '512')
    tap.setLink(1)
    ip('link', 'set', ifname, 'up')
    refused(() => tap.setLink(512), ['TUNSETLINK', 'EBUSY', /set it down first/])
  })

  it('TUNSETNOCSUM does nothing but say so in the kernel’s log, where TUNSETDEBUG lets the driver', () => {
    const tap = open()
    const log = openSync('/dev/kmsg', constants.O_RDONLY | constants.O_NONBLOCK)
    opened.add(() => closeSync(log))
    const lines = (): number => messages(log).filter((line) => line.includes(ifname) && /checksum/.test(line)).length
    const before = ethtoolFeatures(ifname)
    lines()
    tap.setNocsum(true)
    assert.equal(lines(), 0)
    tap.setDebug(NETIF_MSG_DRV)
    tap.setNocsum(true)
    tap.setNocsum(false)
    assert.equal(lines(), 2)
    tap.setDebug(0)
    tap.setNocsum(true)
    assert.equal(lines(), 0)
    assert.deepEqual(ethtoolFeatures(ifname), before)
  })

  it('TUNSETDEBUG takes 32 bits, and no others', () => {
    const tap = open()
    tap.setDebug(2 ** 32 - 1)
    tap.setDebug(0)
    for (const wrong of [-1, 2 ** 32, 0.5]) assert.throws(() => tap.setDebug(wrong), { code: 'ERR_OPTION_RANGE' })
  })

  /** What the kernel's log has to say since it was last asked; each read is a message. */
  function messages(log: number): string[] {
    const found: string[] = []
    const buffer = Buffer.alloc(8192)
    for (;;) {
      try {
        found.push(buffer.toString('utf8', 0, readSync(log, buffer)))
      } catch (error) {
        const { code } = error as NodeJS.ErrnoException
        if (code === 'EAGAIN') return found
        // Some were overwritten before they were read.
        if (code !== 'EPIPE') throw error
      }
    }
  }

  describe('TUNSETTXFILTER', () => {
    const arrived = (tap: Tap): string[] =>
      takeFrames(tap).map((frame) =>
        [...frame.subarray(0, 6)].map((byte) => byte.toString(16).padStart(2, '0')).join(':'),
      )
    const multicast = '01:00:5e:00:00:07'

    it('lets frames to its addresses through, and no others', async () => {
      const tap = openUp()
      const all = [mac(1), mac(2), mac(3), multicast]
      await sendFrames(ifname, ...all)
      assert.deepEqual(arrived(tap), all)
      assert.equal(tap.setTxFilter({ addresses: [mac(1), mac(3)] }), 2)
      await sendFrames(ifname, ...all)
      assert.deepEqual(arrived(tap), [mac(1), mac(3)])
      assert.equal(tap.setTxFilter({ addresses: [mac(2)], allMulticast: true }), 1)
      await sendFrames(ifname, ...all)
      assert.deepEqual(arrived(tap), [mac(2), multicast])
      assert.equal(tap.setTxFilter({ addresses: [] }), 0)
      await sendFrames(ifname, ...all)
      assert.deepEqual(arrived(tap), all)
    })

    it('matches eight exactly, further multicast ones too, and is off after a ninth unicast one', async () => {
      const tap = openUp()
      const eight = Array.from({ length: TUN_FLT_EXACT_COUNT }, (_, i) => mac(i + 1))
      assert.equal(tap.setTxFilter({ addresses: [...eight, multicast] }), 8)
      await sendFrames(ifname, mac(8), mac(9), multicast)
      assert.deepEqual(arrived(tap), [mac(8), multicast])
      assert.equal(tap.setTxFilter({ addresses: [...eight, mac(9)] }), 0)
      await sendFrames(ifname, mac(8), mac(10))
      assert.deepEqual(arrived(tap), [mac(8), mac(10)])
    })

    it('is refused for what is no MAC address, before it is set, and on a tun', () => {
      assert.throws(() => open().setTxFilter({ addresses: ['52:54:00'] }), { option: 'addresses[0]' })
      opened.run()
      refused(() => openTun().setTxFilter({ addresses: [] }), ['TUNSETTXFILTER', 'EINVAL', /not a tun/])
    })
  })

  describe('TUNATTACHFILTER', () => {
    /** BPF_RET | BPF_K */
    const keep = (bytes: number): BpfInstruction => ({ code: 0x06, jt: 0, jf: 0, k: bytes })

    it('keeps as much of each frame as its program says, on each queue, until TUNDETACHFILTER', async () => {
      const tap = openUp({ multiQueue: true })
      const second = open({ vnetHdr: false, multiQueue: true })
      const lengths = async (...queues: Tap[]) => {
        await sendFrames(ifname, ...Array.from({ length: 6 }, (_, i) => mac(i)))
        return queues.flatMap((queue) => takeFrames(queue).map(({ length }) => length))
      }
      const six = (length: number) => Array<number>(6).fill(length)
      assert.deepEqual(await lengths(tap, second), six(64))
      tap.attachFilter([keep(0)])
      assert.deepEqual(await lengths(tap, second), [])
      tap.attachFilter([{ code: 0x00, jt: 0, jf: 0, k: 2 ** 32 - 1 }, keep(20)])
      assert.equal(tap.getFilterLength(), 2)
      assert.deepEqual(await lengths(tap, second), six(20))

      const third = open({ vnetHdr: false, multiQueue: true })
      second.setQueue(false)
      tap.setQueue(false)
      assert.deepEqual(await lengths(third), six(64), 'a queue that comes later has no filter')

      second.setQueue(true)
      assert.equal(numqueues(), 1, 'tun_attach leaves off once it has given the queue the filter')
      third.detachFilter()
      second.setQueue(true)
      assert.equal(numqueues(), 2)
      third.setQueue(false)
      assert.deepEqual(await lengths(second), six(20), 'it was not there to lose its filter')
      second.detachFilter()
      assert.deepEqual(await lengths(second), six(64))
    })

    it('is refused for what is no program, whose length TUNGETFILTER says all the same', () => {
      const tap = open()
      const notValid: Refusal = ['TUNATTACHFILTER', 'EINVAL', /the last of which returns/]
      const programs = [
        [],
        [{ ...keep(0), code: 0 }],
        Array.from({ length: 4097 }, () => keep(0)),
        [{ ...keep(0), code: 0xffff }],
      ]
      for (const program of programs) {
        refused(() => tap.attachFilter(program), notValid)
        assert.equal(tap.getFilterLength(), program.length)
      }
      assert.throws(() => tap.attachFilter([{ ...keep(0), jt: 256 }]), { code: 'ERR_OPTION_RANGE', option: 'jt' })
    })

    it('is refused on a tun, as are TUNDETACHFILTER and TUNGETFILTER', () => {
      const tun = openTun()
      refused(() => tun.attachFilter([keep(0)]), ['TUNATTACHFILTER', 'EINVAL', /only a tap has a filter/])
      refused(() => tun.detachFilter(), ['TUNDETACHFILTER', 'EINVAL', /not a tun/])
      refused(() => tun.getFilterLength(), ['TUNGETFILTER', 'EINVAL', /not a tun/])
    })
  })

  describe('eBPF programs', () => {
    it('TUNSETSTEERINGEBPF chooses the queue, TUNSETFILTEREBPF how much to keep, and other types are refused', () => {
      const [socketFilter, xdp] = [BPF_PROG_TYPE_SOCKET_FILTER, BPF_PROG_TYPE_XDP]
      const refusal = (syscall: string) => ({
        code: 'EINVAL',
        message: `${syscall} on tap ebpf0: EINVAL, Invalid argument\n  The fd is not an eBPF program of type BPF_PROG_TYPE_SOCKET_FILTER.`,
      })
      assert.deepEqual(
        runWithPrograms([socketFilter, 2], [socketFilter, 7], [socketFilter, 0], [socketFilter, 20], [xdp, 2]),
        {
          toThird: [0, 0, 6, 0],
          toEighth: [0, 0, 0, 6],
          refused: [refusal('TUNSETSTEERINGEBPF'), refusal('TUNSETFILTEREBPF')],
          afterRefusal: [0, 0, 0, 6],
          without: 6,
          dropped: [],
          shortened: [20, 20, 20, 20, 20, 20],
          whole: [64, 64, 64, 64, 64, 64],
        },
      )
    })

    for (const [syscall, set] of [
      ['TUNSETSTEERINGEBPF', (tap, program) => tap.setSteeringEbpf(program)],
      ['TUNSETFILTEREBPF', (tap, program) => tap.setFilterEbpf(program)],
    ] as readonly (readonly [string, (tap: Tap, program: number | null) => void])[]) {
      it(`${syscall} takes none, and is refused for what is closed and what is no program`, () => {
        const tap = open()
        set(tap, null)
        refused(() => set(tap, 2 ** 31 - 1), [syscall, 'EBADF', /was closed/])
        refused(() => set(tap, tap.fd), [syscall, 'EINVAL', /not an eBPF program/])
        assert.throws(() => set(tap, -1), { code: 'ERR_OPTION_RANGE', option: 'program' })
      })
    }
  })

  describe('TUNGETDEVNETNS', () => {
    it('is the namespace of the device, close-on-exec', () => {
      const namespace = opened.own(open().getDevNetNs())
      assert.equal(readlinkSync(`/proc/self/fd/${namespace.fd}`), readlinkSync('/proc/self/ns/net'))
      const [, flags] = /^flags:\s+([0-7]+)$/m.exec(readFileSync(`/proc/self/fdinfo/${namespace.fd}`, 'utf8'))!
      assert.ok(Number.parseInt(flags!, 8) & 0o2000000)
    })

    it('is refused without privilege', () => {
      const tap = open()
      refused(() => asUser(1000, () => tap.getDevNetNs()), ['TUNGETDEVNETNS', 'EPERM', /CAP_NET_ADMIN/])
    })
  })
})
