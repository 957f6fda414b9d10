// One queue of a tap device: one method per ioctl (drivers/net/tun.c). No policy.

import { IFF, TUN_DEVICE } from '../abi/tun.ts'
import { adoptFd, binding, FdHandle, type Hints, type NativeFd, systemCall } from '../binding/index.ts'
import { checkIfname } from './ifname.ts'

const openHints: Hints = {
  ENOENT: 'Load the module: modprobe tun (the kernel needs CONFIG_TUN).',
  ENODEV: 'Load the module: modprobe tun (the kernel needs CONFIG_TUN).',
  EACCES: 'Run as root, or hand over an open tap fd.',
  EMFILE: 'Raise the limit of open files (ulimit -n): a queue pair takes 8.',
}

const hints: Hints = {
  'TUNSETIFF EPERM':
    'Creating a tap needs CAP_NET_ADMIN; attaching to one needs it too, or to be its owner (ip tuntap add … user U).',
  'TUNSETIFF EBUSY': 'Another process is attached to the tap; only a multi_queue tap takes several.',
  'TUNSETIFF EINVAL':
    'The device exists as another type, or its multi_queue differs: ip -d link shows it; recreate it to match.',
  'TUNSETIFF E2BIG': 'A tap has at most 256 queues.',
  'TUNSETOFFLOAD EINVAL': 'This kernel lacks one of the offloads, or one was asked for without those it needs.',
  'TUNSETQUEUE EINVAL': 'The tap has a single queue, or the queue is in that state already.',
  EBADFD: 'The fd is not attached to a device, or the device was deleted.',
}

export interface TapOptions {
  /** 1..15 bytes; with `%d` in it, the kernel picks the number. */
  ifname: string
  /** Default false. A tap is multi-queue or not for all its life. */
  multiQueue?: boolean
  /** A virtio header in front of each frame. Default true. */
  vnetHdr?: boolean
  /** Refuse an existing device with `EBUSY`. Default false. */
  exclusive?: boolean
  /** Another node than `/dev/net/tun` (libvirt's `<backend tap='…'/>`). */
  path?: string
}

/** One attached queue of a tap. The device goes with its last queue unless it is persistent. */
export class Tap extends FdHandle {
  /** The device's name. */
  readonly ifname: string

  private constructor(native: NativeFd, ifname: string) {
    super(native, `tap ${ifname}`)
    this.ifname = ifname
  }

  /**
   * Creates the device, or attaches one more queue to it.
   * @throws {InvalidOptionError} `ERR_OPTION_TYPE`, `ERR_OPTION_RANGE` for a bad name
   * @throws {SystemCallError} `ENOENT`, `EACCES`, `EPERM`, `EBUSY`, `EINVAL`, `E2BIG`, `EMFILE`
   */
  static open({ ifname, multiQueue = false, vnetHdr = true, exclusive = false, path = TUN_DEVICE }: TapOptions): Tap {
    checkIfname(ifname, 'ifname', { pattern: true })
    const flags =
      IFF.IFF_TAP |
      IFF.IFF_NO_PI |
      (vnetHdr ? IFF.IFF_VNET_HDR : 0) |
      (multiQueue ? IFF.IFF_MULTI_QUEUE : 0) |
      (exclusive ? IFF.IFF_TUN_EXCL : 0)
    return Tap.attach(ifname, flags, path)
  }

  /** TUNSETIFF with these flags, whatever they are; for putting back what another had set. @internal */
  static attach(ifname: string, flags: number, path: string = TUN_DEVICE): Tap {
    const fd = systemCall(() => binding().openDevice(path), { subject: path, hints: openHints })
    try {
      const { name } = systemCall(() => binding().tunSetIff(fd, ifname, flags), {
        subject: `tap ${ifname}`,
        context: { ifname, flags: `0x${flags.toString(16)}` },
        hints,
      })
      return new Tap(fd, name)
    } catch (error) {
      binding().closeFd(fd)
      throw error
    }
  }

  /** Takes over a tap queue that somebody else opened (QEMU's `fd=`). @throws {SystemCallError} `EBADF`, `EBADFD` */
  static fromFd(fd: number): Tap {
    const native = adoptFd(fd, `tap fd ${fd}`)
    try {
      const { name } = systemCall(() => binding().tunGetIff(native), { subject: `tap fd ${fd}`, hints })
      return new Tap(native, name)
    } catch (error) {
      binding().detachFd(native)
      throw error
    }
  }

  #call<T>(operation: (fd: NativeFd) => T, context: Record<string, string | number | boolean> = {}): T {
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

  /** TUNSETSNDBUF: bytes in flight towards the network, of the whole device; 2³¹−1 lets vhost batch. @throws `EINVAL` */
  setSndbuf(bytes: number): void {
    this.#call((fd) => binding().tunSetSndbuf(fd, bytes), { bytes })
  }

  /** TUNGETSNDBUF. */
  getSndbuf(): number {
    return this.#call((fd) => binding().tunGetSndbuf(fd))
  }

  /** TUNSETPERSIST: whether the device outlives its last queue. */
  setPersist(persist: boolean): void {
    this.#call((fd) => binding().tunSetPersist(fd, persist), { persist })
  }

  /** TUNSETCARRIER: the device's carrier. */
  setCarrier(carrier: boolean): void {
    this.#call((fd) => binding().tunSetCarrier(fd, carrier), { carrier })
  }
}
