// One queue of a tap or a macvtap: one method per ioctl (drivers/net/tun.c, tap.c). No policy.

import { fstatSync } from 'node:fs'
import { IFF, TUN_DEVICE, TUN_FLT_ALLMULTI, TUN_RDEV } from '../abi/tun.ts'
import { parseMac } from '../address.ts'
import {
  adoptFd,
  type BpfInstruction,
  binding,
  FdHandle,
  type Hints,
  type NativeFd,
  systemCall,
} from '../binding/index.ts'
import { type ErrorContext, SystemCallError } from '../errors.ts'
import { checkIfname } from './ifname.ts'
import { NetNamespace } from './net-namespace.ts'

const openHints: Hints = {
  ENOENT: 'Load the module: modprobe tun (the kernel needs CONFIG_TUN).',
  ENODEV: 'Load the module: modprobe tun (the kernel needs CONFIG_TUN).',
  EACCES: 'Run as root, or hand over an open tap fd.',
  EMFILE: 'Raise the limit of open files (ulimit -n): a queue pair takes 8.',
}

const hints: Hints = {
  'TUNSETIFF EPERM':
    'Creating a tap needs CAP_NET_ADMIN; attaching to one needs it too, or to be its owner (ip tuntap add … user U).',
  'TUNSETIFF EBUSY':
    'Another process is attached to the tap, and only a multi_queue tap takes several; or its index is taken.',
  'TUNSETIFF EINVAL':
    'The device exists as another type, or its multi_queue differs: ip -d link shows it; recreate it to match.',
  'TUNSETIFF E2BIG': 'A tap has at most 256 queues.',
  'TUNSETOFFLOAD EINVAL': 'This kernel lacks one of the offloads, or one was asked for without those it needs.',
  'TUNSETQUEUE EINVAL': 'The tap has a single queue, or the queue is in that state already.',
  'TUNSETVNETHDRSZ EINVAL': 'A virtio header has at least 10 bytes.',
  'TUNSETVNETBE EINVAL': 'This kernel was built without it (CONFIG_TUN_VNET_CROSS_LE).',
  'TUNGETVNETBE EINVAL': 'This kernel was built without it (CONFIG_TUN_VNET_CROSS_LE).',
  'TUNSETSNDBUF EINVAL': 'A send buffer has at least 1 byte.',
  'TUNSETIFINDEX EINVAL': 'An index is at most 2³¹ − 1.',
  'TUNSETIFINDEX EPERM': 'The fd has a device already.',
  'TUNSETOWNER EINVAL': 'The user namespace of this process does not map the id.',
  'TUNSETGROUP EINVAL': 'The user namespace of this process does not map the id.',
  'TUNSETLINK EBUSY': 'The device is up: set it down first.',
  'TUNATTACHFILTER EINVAL':
    'A program has 1..4096 instructions, the last of which returns; and only a tap has a filter.',
  'TUNDETACHFILTER EINVAL': 'Only a tap has a filter, not a tun.',
  'TUNGETFILTER EINVAL': 'Only a tap has a filter, not a tun.',
  'TUNSETTXFILTER EINVAL': 'Only a tap has MAC addresses to filter by, not a tun.',
  'TUNSETSTEERINGEBPF EBADF': 'The program was closed.',
  'TUNSETSTEERINGEBPF EINVAL': 'The fd is not an eBPF program of type BPF_PROG_TYPE_SOCKET_FILTER.',
  'TUNSETFILTEREBPF EBADF': 'The program was closed.',
  'TUNSETFILTEREBPF EINVAL': 'The fd is not an eBPF program of type BPF_PROG_TYPE_SOCKET_FILTER.',
  'TUNGETDEVNETNS EPERM': "It needs CAP_NET_ADMIN in the device's network namespace.",
  EBADFD: 'The fd is not attached to a device, or the device was deleted.',
  ENOLINK: 'The macvtap was deleted.',
}

/** What an ioctl says of a tap, or of a macvtap, that was deleted. */
export const isGone = (error: unknown): boolean =>
  error instanceof SystemCallError && (error.code === 'EBADFD' || error.code === 'ENOLINK')

export interface TapOptions {
  /** 1..15 bytes; with `%d` in it, the kernel picks the number. */
  ifname: string
  /** Default false. A tap is multi-queue or not for all its life. */
  multiQueue?: boolean
  /** A virtio header in front of each frame. Default true. */
  vnetHdr?: boolean
  /** Refuse an existing device with `EBUSY`. Default false. */
  exclusive?: boolean
  /**
   * IFF_BACKPRESSURE: frames for which there is no room wait in the queueing discipline. Default false. Older kernels do
   * not know it, and say nothing: ask {@link Tap.knownFlags}.
   */
  backpressure?: boolean
  /** The index that a new device is to have, 1..2³¹−1 (TUNSETIFINDEX); an existing one keeps its own. */
  ifindex?: number
  /** Another node than `/dev/net/tun` (libvirt's `<backend tap='…'/>`). */
  path?: string
}

/** Makes something of an fd; where that fails, it is closed. */
function orClosed<T>(fd: NativeFd, make: () => T): T {
  try {
    return make()
  } catch (error) {
    binding().closeFd(fd)
    throw error
  }
}

/** One attached queue of a tap. The device goes with its last queue unless it is persistent, or a macvtap. */
export class Tap extends FdHandle {
  /** The device's name. */
  readonly ifname: string
  /**
   * Whether it is a macvtap's. That knows fewer ioctls, and answers the others with `EINVAL`: nothing tells its send buffer
   * or its network namespace, and it has no filters, no owner and no steering (drivers/net/tap.c).
   */
  readonly macvtap: boolean

  private constructor(native: NativeFd, ifname: string, macvtap: boolean) {
    super(native, `${macvtap ? 'macvtap' : 'tap'} ${ifname}`)
    this.ifname = ifname
    this.macvtap = macvtap
  }

  /**
   * Creates the device, or attaches one more queue to it.
   * @throws {InvalidOptionError} `ERR_OPTION_TYPE`, `ERR_OPTION_RANGE` for a bad name
   * @throws {SystemCallError} `ENOENT`, `EACCES`, `EPERM`, `EBUSY`, `EINVAL`, `E2BIG`, `EMFILE`
   */
  static open(options: TapOptions): Tap {
    const { ifname, multiQueue = false, vnetHdr = true, backpressure = false } = options
    const { exclusive = false, ifindex, path = TUN_DEVICE } = options
    checkIfname(ifname, 'ifname', { pattern: true })
    const flags =
      IFF.IFF_TAP |
      IFF.IFF_NO_PI |
      (vnetHdr ? IFF.IFF_VNET_HDR : 0) |
      (multiQueue ? IFF.IFF_MULTI_QUEUE : 0) |
      (backpressure ? IFF.IFF_BACKPRESSURE : 0) |
      (exclusive ? IFF.IFF_TUN_EXCL : 0)
    return Tap.attach(ifname, flags, path, ifindex)
  }

  /**
   * TUNGETFEATURES without a device: the IFF_* flags that this kernel knows.
   * @throws {SystemCallError} `ENOENT`, `EACCES`, `EMFILE`
   */
  static knownFlags(path: string = TUN_DEVICE): number {
    const native = systemCall(() => binding().openDevice(path), { subject: path, hints: openHints })
    try {
      return systemCall(() => binding().tunGetFeatures(native), { subject: path, hints })
    } finally {
      binding().closeFd(native)
    }
  }

  /** TUNSETIFF with these flags, whatever they are; for putting back what another had set. @internal */
  static attach(ifname: string, flags: number, path: string = TUN_DEVICE, ifindex?: number): Tap {
    const fd = systemCall(() => binding().openDevice(path), { subject: path, hints: openHints })
    return orClosed(fd, () => {
      if (ifindex !== undefined) {
        const context = { ifname, ifindex }
        systemCall(() => binding().tunSetIfindex(fd, ifindex), { subject: `tap ${ifname}`, context, hints })
      }
      const { name } = systemCall(() => binding().tunSetIff(fd, ifname, flags), {
        subject: `tap ${ifname}`,
        context: { ifname, flags: `0x${flags.toString(16)}` },
        hints,
      })
      return new Tap(fd, name, false)
    })
  }

  /**
   * Opens one more queue of a macvtap by its node; TUNSETIFF sets flags there, and takes no name.
   * @param given.hints what to do where the node cannot be opened.
   * @internal
   */
  static openNode(path: string, flags: number, given: Hints): Tap {
    const fd = systemCall(() => binding().openDevice(path), { subject: path, hints: { ...openHints, ...given } })
    return orClosed(fd, () => {
      const about = { subject: path, context: { path, flags: `0x${flags.toString(16)}` }, hints }
      const { name } = systemCall(() => binding().tunGetIff(fd), about)
      systemCall(() => binding().tunSetIff(fd, name, flags), about)
      return new Tap(fd, name, true)
    })
  }

  /**
   * Takes over a queue of a tap or a macvtap that somebody else opened (QEMU's `fd=`).
   * @throws {SystemCallError} `EBADF`, `EBADFD`, `ENOLINK`
   */
  static fromFd(fd: number): Tap {
    const native = adoptFd(fd, `tap fd ${fd}`)
    try {
      const { name } = systemCall(() => binding().tunGetIff(native), { subject: `tap fd ${fd}`, hints })
      return new Tap(native, name, fstatSync(fd).rdev !== TUN_RDEV)
    } catch (error) {
      binding().detachFd(native)
      throw error
    }
  }

  #call<T>(operation: (fd: NativeFd) => T, context: ErrorContext = {}): T {
    const fd = this.native
    return systemCall(() => operation(fd), {
      subject: this.label,
      context: { ifname: this.ifname, ...context },
      hints,
    })
  }

  /** TUNGETFEATURES: the IFF_* flags this kernel knows; it ignores others in silence. */
  getFeatures(): number {
    return this.#call((fd) => binding().tunGetFeatures(fd))
  }

  /** TUNGETIFF: the device's name and IFF_* flags now. @throws `EBADFD` */
  getIff(): { name: string; flags: number } {
    return this.#call((fd) => binding().tunGetIff(fd))
  }

  /** TUNSETQUEUE: detaches this queue, dropping the frames it holds, or attaches it again. @throws `EINVAL` */
  setQueue(attached: boolean): void {
    this.#call((fd) => binding().tunSetQueue(fd, attached ? IFF.IFF_ATTACH_QUEUE : IFF.IFF_DETACH_QUEUE), { attached })
  }

  /** TUNSETOFFLOAD: the TUN_F_* that the reader accepts, of the whole device. @throws `EINVAL` */
  setOffload(offload: number): void {
    this.#call((fd) => binding().tunSetOffload(fd, offload), { offload: `0x${offload.toString(16)}` })
  }

  /** TUNSETVNETHDRSZ: bytes of virtio header per frame, of the whole device; a persistent tap keeps it. @throws `EINVAL` */
  setVnetHdrSz(size: number): void {
    this.#call((fd) => binding().tunSetVnetHdrSz(fd, size), { size })
  }

  /** TUNGETVNETHDRSZ. */
  getVnetHdrSz(): number {
    return this.#call((fd) => binding().tunGetVnetHdrSz(fd))
  }

  /** TUNSETVNETLE: whether the header is little-endian, as virtio 1 wants it. */
  setVnetLe(littleEndian: boolean): void {
    this.#call((fd) => binding().tunSetVnetLe(fd, littleEndian), { littleEndian })
  }

  /** TUNGETVNETLE. */
  getVnetLe(): boolean {
    return this.#call((fd) => binding().tunGetVnetLe(fd))
  }

  /** TUNSETVNETBE: whether a legacy guest's header is big-endian on this little-endian host. @throws `EINVAL` where the kernel has no CONFIG_TUN_VNET_CROSS_LE, as most */
  setVnetBe(bigEndian: boolean): void {
    this.#call((fd) => binding().tunSetVnetBe(fd, bigEndian), { bigEndian })
  }

  /** TUNGETVNETBE. @throws `EINVAL` as `setVnetBe` */
  getVnetBe(): boolean {
    return this.#call((fd) => binding().tunGetVnetBe(fd))
  }

  /**
   * TUNSETSNDBUF: bytes in flight towards the network, of every queue now attached, of a macvtap of this one; 2³¹−1 lets
   * vhost batch. @throws {SystemCallError} `EINVAL`
   */
  setSndbuf(bytes: number): void {
    this.#call((fd) => binding().tunSetSndbuf(fd, bytes), { bytes })
  }

  /** TUNGETSNDBUF: this queue's; 2³¹−1 when it was just opened. @throws {SystemCallError} `EINVAL` of a macvtap */
  getSndbuf(): number {
    return this.#call((fd) => binding().tunGetSndbuf(fd))
  }

  /** TUNSETPERSIST: whether the device outlives its last queue. */
  setPersist(persist: boolean): void {
    this.#call((fd) => binding().tunSetPersist(fd, persist), { persist })
  }

  /**
   * TUNSETOWNER: the user, by number, who may attach without CAP_NET_ADMIN; with a group set too, it takes both. There is
   * no way back to none. @throws {SystemCallError} `EINVAL` for an id that this user namespace does not map
   */
  setOwner(uid: number): void {
    this.#call((fd) => binding().tunSetOwner(fd, uid), { uid })
  }

  /** TUNSETGROUP: the group, by number; as `setOwner`. @throws {SystemCallError} `EINVAL` */
  setGroup(gid: number): void {
    this.#call((fd) => binding().tunSetGroup(fd, gid), { gid })
  }

  /** TUNSETCARRIER: the device's carrier. */
  setCarrier(carrier: boolean): void {
    this.#call((fd) => binding().tunSetCarrier(fd, carrier), { carrier })
  }

  /** TUNSETLINK: the device's type, ARPHRD_* of linux/if_arp.h (1 is Ethernet). @throws `EBUSY` where it is up */
  setLink(type: number): void {
    this.#call((fd) => binding().tunSetLink(fd, type), { type })
  }

  /**
   * TUNSETDEBUG: which messages of the device, NETIF_MSG_* of linux/netdevice.h, go to the kernel's log. There are few.
   * @param messages 0..2³²−1; 0, as made, for none.
   */
  setDebug(messages: number): void {
    this.#call((fd) => binding().tunSetDebug(fd, messages), { messages: `0x${messages.toString(16)}` })
  }

  /** TUNSETNOCSUM: does nothing, but say so in the kernel's log where `setDebug` lets it. Checksums are `setOffload`'s. */
  setNocsum(disabled: boolean): void {
    this.#call((fd) => binding().tunSetNocsum(fd, disabled), { disabled })
  }

  /**
   * TUNSETTXFILTER: lets only frames to these MAC addresses, and broadcast where it is one of them, through to the reader;
   * of the whole device. The first 8 match exactly, further multicast ones by a hash that lets others through, too; no
   * address at all lifts the filter, and so does a unicast one beyond the eighth (drivers/net/tun.c: update_filter).
   * @param filter.addresses at most 65535, as `'52:54:00:12:34:56'`.
   * @param filter.allMulticast lets all multicast through. Default false.
   * @returns how many addresses match exactly: 0 where there is no filter now.
   * @throws {InvalidOptionError} `ERR_OPTION_TYPE`, `ERR_OPTION_RANGE`
   */
  setTxFilter(filter: { addresses: readonly string[]; allMulticast?: boolean }): number {
    const { addresses, allMulticast = false } = filter
    const bytes = Uint8Array.from(addresses.flatMap((address, i) => [...parseMac(address, `addresses[${i}]`)]))
    const flags = allMulticast ? TUN_FLT_ALLMULTI : 0
    return this.#call((fd) => binding().tunSetTxFilter(fd, flags, bytes), { addresses: addresses.length, allMulticast })
  }

  /**
   * TUNATTACHFILTER: a classic BPF program, 1..4096 instructions, that says of each frame to the reader how many bytes to
   * keep, 0 to drop it; on the queues that the device has now. One opened later is not filtered, since the number of
   * IFF_NO_PI, which all taps of this package have, is that of IFF_NOFILTER. While there is a filter, `setQueue(true)`
   * attaches nothing and reports no error (drivers/net/tun.c: tun_attach): call `detachFilter` before it. The kernel reads
   * the program again then, so it is kept until this object is closed.
   * @throws {SystemCallError} `EINVAL` where the program is not valid; there may be no filter at all then
   */
  attachFilter(program: readonly BpfInstruction[]): void {
    this.#call((fd) => binding().tunAttachFilter(fd, program), { instructions: program.length })
  }

  /** TUNDETACHFILTER: takes the filter of `attachFilter` from the queues attached now; none being there is no error. */
  detachFilter(): void {
    this.#call((fd) => binding().tunDetachFilter(fd))
  }

  /** TUNGETFILTER: how many instructions the last program given to `attachFilter` has, be it refused or detached since. */
  getFilterLength(): number {
    return this.#call((fd) => binding().tunGetFilter(fd))
  }

  /**
   * TUNSETSTEERINGEBPF: an eBPF program that chooses the queue of each frame to the reader, modulo their number, instead of
   * the kernel's own learning; null removes it. Of the whole device.
   * @param program number of an fd of a BPF_PROG_TYPE_SOCKET_FILTER, which may be closed afterwards.
   * @throws {SystemCallError} `EBADF`, `EINVAL`
   */
  setSteeringEbpf(program: number | null): void {
    this.#call((fd) => binding().tunSetSteeringEbpf(fd, program), { program })
  }

  /** TUNSETFILTEREBPF: as `attachFilter`, with an eBPF program as `setSteeringEbpf` takes it. @throws `EBADF`, `EINVAL` */
  setFilterEbpf(program: number | null): void {
    this.#call((fd) => binding().tunSetFilterEbpf(fd, program), { program })
  }

  /** TUNGETDEVNETNS: the network namespace in which the device is now. @throws {SystemCallError} `EPERM` */
  getDevNetNs(): NetNamespace {
    return new NetNamespace(
      this.#call((fd) => binding().tunGetDevNetNs(fd)),
      `network namespace of ${this.label}`,
    )
  }
}
