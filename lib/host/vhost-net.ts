// /dev/vhost-net: the one ioctl that networking adds (drivers/vhost/net.c).

import { VHOST_NET_DEVICE } from '../abi/vhost.ts'
import { adoptFd, binding, systemCall } from '../binding/index.ts'
import type { Tap } from './tap.ts'
import { Vhost } from './vhost.ts'

const openHints = {
  ENOENT: 'Load the module: modprobe vhost_net (the kernel needs CONFIG_VHOST_NET).',
  ENODEV: 'Load the module: modprobe vhost_net (the kernel needs CONFIG_VHOST_NET).',
  EACCES: 'Run as root, join the group that owns the device (usually kvm), or hand over an open fd.',
  EPERM: "The device cgroup forbids it: allow '/dev/vhost-net rw' (systemd: DeviceAllow=).",
  EMFILE: 'Raise the limit of open files (ulimit -n): a queue pair takes 8.',
}

const backendHints = {
  ENOTSOCK: 'The fd is not a tap queue, or it was closed.',
  EINVAL: 'The tap fd is not attached to a device: TUNSETIFF comes first.',
  EFAULT: 'The memory table or the ring addresses are not set, or the rings are not in accessible memory.',
}

/** One queue pair's end in the kernel: ring 0 receives, ring 1 transmits, one worker serves both. */
export class VhostNet extends Vhost {
  /**
   * Opens the device.
   * @param options.path another node than `/dev/vhost-net` (libvirt's `<backend vhost='…'/>`).
   * @throws {SystemCallError} `ENOENT`, `EACCES`, `EMFILE`
   */
  static open({ path = VHOST_NET_DEVICE }: { path?: string } = {}): VhostNet {
    return new VhostNet(
      systemCall(() => binding().openDevice(path), { subject: path, hints: openHints }),
      path,
    )
  }

  /** Takes over a vhost-net fd that somebody else opened (QEMU's `vhostfd=`). @throws {SystemCallError} `EBADF` */
  static fromFd(fd: number): VhostNet {
    const label = `vhost-net fd ${fd}`
    return new VhostNet(adoptFd(fd, label), label)
  }

  /**
   * VHOST_NET_SET_BACKEND: attaches a tap queue, from when on the ring is live; null detaches it, and returns when the
   * worker has let go. Detaching needs the memory table and ring addresses still set.
   * @throws {GuestMemoryError} `ERR_GPA_NOT_LOGGED` where writes are to be logged and there is no dirty bitmap
   * @throws {SystemCallError} `EPERM`, `ENOTSOCK`, `EINVAL`, `EFAULT`, `ENOBUFS`
   */
  setBackend(index: number, tap: Tap | null): void {
    if (tap !== null) this.assertLog()
    this.call((fd) => binding().vhostNetSetBackend(fd, index, tap?.native ?? null), { index }, backendHints)
  }
}
