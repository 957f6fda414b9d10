// Faults in the host room: tap, vhost, rtnetlink.

import type { Fault } from './fault.ts'

export const HOST: readonly Fault[] = [
  {
    name: "a name may have one byte more than the kernel's",
    file: 'lib/abi/tun.ts',
    line: 'export const IFNAME_MAX = 15',
    faulty: 'export const IFNAME_MAX = 16',
    test: 'unit/ifname',
    title: 'checkIfname refuses what it does not',
  },
  {
    name: 'the host room goes through the front door',
    file: 'lib/host/ifname.ts',
    line: "import { InvalidOptionError } from '../errors.ts'",
    faulty: "import { InvalidOptionError } from '../index.ts'",
    test: 'unit/build-files',
    title: 'layers this package keeps to its table',
  },
  {
    name: 'netlink attributes begin right behind each other',
    file: 'lib/host/netlink-message.ts',
    line: 'const at = this.#extend(aligned(bytes.length))',
    faulty: 'const at = this.#extend(bytes.length)',
    test: 'kernel/rtnetlink',
    title: 'RtNetlink makes a dummy, with MAC and MTU',
  },
  {
    name: 'the length of a netlink attribute includes its padding',
    file: 'lib/host/netlink-message.ts',
    line: 'const length = valueLength === undefined ? this.#length - start : attributeHeaderBytes + valueLength',
    faulty:
      'const length = valueLength === undefined ? this.#length - start : aligned(attributeHeaderBytes + valueLength)',
    test: 'unit/netlink-message',
    title: 'rtnetlink requests RTM_NEWLINK of a bridge, with IFLA_LINKINFO nested',
  },
  {
    name: 'an attribute longer than its message is read',
    file: 'lib/host/netlink-message.ts',
    line: 'if (length < attributeHeaderBytes || length > left) {',
    faulty: 'if (length < attributeHeaderBytes) {',
    test: 'unit/netlink-message',
    title: 'NetlinkWriter and NetlinkAttributes refuse impossible lengths',
  },
  {
    name: 'what exists is changed instead of refused',
    file: 'lib/host/rtnetlink-request.ts',
    line: 'export const CREATE = NLM_F.NLM_F_ACK | NLM_F.NLM_F_CREATE | NLM_F.NLM_F_EXCL',
    faulty: 'export const CREATE = NLM_F.NLM_F_ACK | NLM_F.NLM_F_CREATE',
    test: 'kernel/rtnetlink',
    title: 'RtNetlink errors EEXIST: the name is taken',
  },
  {
    name: 'a closed watch of links goes on telling',
    file: 'lib/host/link-watch.ts',
    line: 'while (!this.closed) {',
    faulty: 'while (true) {',
    test: 'kernel/rtnetlink',
    title: 'RtNetlink watchLinks is silent once closed, from inside the callback too',
  },
  {
    name: 'the fd of a tap that could not be made is lost',
    file: 'lib/host/tap.ts',
    line: 'binding().closeFd(fd)',
    faulty: 'void fd',
    test: 'kernel/unwind',
    title: 'bring-up of queue pairs of 1 reports each failing step by its name and leaves nothing of those before it',
  },
  {
    name: 'an fd that is no tap is closed under its owner',
    file: 'lib/host/tap.ts',
    line: 'binding().detachFd(native)',
    faulty: 'binding().closeFd(native)',
    test: 'kernel/lifetime',
    title:
      'the lifetime of handles of one object refuses an fd that is closed or of another kind, and leaves it to its owner',
  },
  {
    name: "the worker's errors go to the call",
    file: 'lib/host/vhost.ts',
    line: 'this.call((fd) => binding().vhostSetVringErr(fd, index, event?.native ?? null), { index })',
    faulty: 'this.call((fd) => binding().vhostSetVringCall(fd, index, event?.native ?? null), { index })',
    test: 'kernel/vhost-ioctls',
    title: 'vhost-net ioctls rings VHOST_SET_VRING_ERR takes an eventfd or none',
  },
  {
    name: 'the probe asks without an owner',
    file: 'lib/host/probe.ts',
    line: 'vhost.setOwner()',
    faulty: 'vhost.getFeatures()',
    test: 'kernel/vhost-ioctls',
    title: 'vhost-net ioctls the probe says what this kernel has, and leaves nothing behind',
  },
  {
    name: 'the dirty bitmap may lack its last byte',
    file: 'lib/host/dirty-log.ts',
    line: 'const needed = Math.ceil(end / VHOST_PAGE_SIZE / 8)',
    faulty: 'const needed = Math.floor(end / VHOST_PAGE_SIZE / 8)',
    test: 'kernel/vhost-ioctls',
    title: 'vhost-net ioctls the dirty log reaches up to the end of guest memory or memory does not grow',
  },
  {
    name: 'the dirty bitmap is not looked at where the table comes last',
    file: 'lib/host/vhost.ts',
    line: 'this.#relog(this.#log.with({ table }), () => {',
    faulty: 'this.#relog(this.#log, () => {',
    test: 'kernel/vhost-ioctls',
    title:
      'vhost-net ioctls the dirty log reaches up to the end of guest memory or the last call of three does not reach the kernel: features, bitmap, table',
  },
  {
    name: 'of a logged ring only its first bytes count',
    file: 'lib/host/dirty-log.ts',
    line: 'return [{ address: Number(addresses.log_guest_addr), size: vringSizes(num).used }]',
    faulty: 'return [{ address: Number(addresses.log_guest_addr), size: vringSizes(1).used + 0 * num }]',
    test: 'kernel/vhost-ioctls',
    title:
      'vhost-net ioctls the dirty log reaches up to the end of guest memory where a single ring is logged, only as far as that',
  },
  {
    name: 'what is to be logged starts without a bitmap',
    file: 'lib/host/vhost-net.ts',
    line: 'if (tap !== null) this.assertLog()',
    faulty: 'if (tap === null) this.assertLog()',
    test: 'kernel/vhost-ioctls',
    title:
      'vhost-net ioctls the dirty log reaches up to the end of guest memory or nothing that is to be logged starts without it',
  },
  {
    name: 'a bitmap that the kernel forgot counts on',
    file: 'lib/host/vhost.ts',
    line: 'this.#relog(DirtyLog.none, () => this.call((fd) => binding().vhostResetOwner(fd)))',
    faulty: 'this.#relog(this.#log, () => this.call((fd) => binding().vhostResetOwner(fd)))',
    test: 'kernel/vhost-ioctls',
    title:
      'vhost-net ioctls the dirty log reaches up to the end of guest memory until the owner is reset, which forgets the bitmap',
  },
]
