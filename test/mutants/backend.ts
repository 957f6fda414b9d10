// Faults in the virtio and backend rooms.

import type { Fault } from './fault.ts'

const ORDER =
  'bring-up of queue pairs of 1, as the kernel sees it is activated in the order of drivers/vhost, and stopped in strict reverse'
const REFUSED_RING =
  'bad input in a ring or its features is refused before the kernel sees any of it, and the pair starts with what is right'

export const BACKEND: readonly Fault[] = [
  {
    name: 'parts of a ring may overlap',
    file: 'lib/virtio/vring.ts',
    line: 'if (a.address >= b.address + b.size || b.address >= a.address + a.size) continue',
    faulty: 'if (a.address >= b.address + b.size || b.address >= a.address + a.size / 2) continue',
    test: 'unit/vring',
    title: 'a split virtqueue is refused with parts that overlap by as little as one unit',
  },
  {
    name: 'a ring may go on at index 65536',
    file: 'lib/virtio/vring.ts',
    line: 'if (!Number.isInteger(base) || base < 0 || base > 0xffff) {',
    faulty: 'if (!Number.isInteger(base) || base < 0 || base > 0x10000) {',
    test: 'kernel/bad-input',
    title: REFUSED_RING,
  },
  {
    name: 'a guest may agree on an IOTLB',
    file: 'lib/backend/vhost-net/features.ts',
    line: 'bit(VIRTIO_F.VIRTIO_F_ACCESS_PLATFORM)',
    faulty: '0n',
    test: 'kernel/bad-input',
    title: REFUSED_RING,
  },
  {
    name: 'the offloads of the tap are told to vhost',
    file: 'lib/backend/vhost-net/features.ts',
    line: 'return agreed & vhost & ~NOT_FOR_GUESTS',
    faulty: 'return (agreed | vhost) & agreed & ~NOT_FOR_GUESTS',
    test: 'unit/features',
    title: 'features of vhost-net and a tap tell vhost of exactly those agreed bits that it knows',
  },
  {
    name: 'the transmit ring runs before the receive ring',
    file: 'lib/backend/vhost-net/queue-pair.ts',
    line: 'for (const index of [VHOST_NET_VQ_RX, VHOST_NET_VQ_TX]) {',
    faulty: 'for (const index of [VHOST_NET_VQ_TX, VHOST_NET_VQ_RX]) {',
    test: 'kernel/unwind',
    title: ORDER,
  },
  {
    name: 'a stopped ring keeps its call',
    file: 'lib/backend/vhost-net/queue-pair.ts',
    line: 'undo.add(() => vhost.setVringCall(index, null))',
    faulty: 'void undo',
    test: 'kernel/unwind',
    title: 'bring-up of queue pairs of 1, as the kernel sees it undoes exactly what was done when a step fails',
  },
  {
    name: 'the header of the tap is as long as its owner had it',
    file: 'lib/backend/vhost-net/queue-pair.ts',
    line: 'tap.setVnetHdrSz(VIRTIO_NET_HDR_SIZE)',
    faulty: 'tap.setVnetHdrSz(VIRTIO_NET_HDR_SIZE - 2)',
    test: 'kernel/traffic',
    title:
      'traffic between two NICs with few notifications wakes a sleeping receiver for a single frame, again and again, with all ring features',
  },
  {
    name: 'the used ring is where the available ring is',
    file: 'lib/backend/vhost-net/queue-pair.ts',
    line: 'used_user_addr: memory.hostAddress(ring.used, sizes.used),',
    faulty: 'used_user_addr: memory.hostAddress(ring.avail, sizes.avail),',
    test: 'kernel/lifetime',
    title: 'the lifetime of handles in an odd order a pair stopped and started again goes on where it stood',
  },
  {
    name: 'nobody is called after a restart',
    file: 'lib/backend/vhost-net/queue-pair.ts',
    line: 'for (const event of [rx.kick, tx.kick, rx.call, tx.call]) event.signal()',
    faulty: 'for (const event of [rx.kick, tx.kick]) event.signal()',
    test: 'kernel/stop-start',
    title:
      'stopping and starting queue pairs signals both ends of both rings once after a restart, whatever was missed meanwhile',
  },
  {
    name: 'a ring begins anew after a stop',
    file: 'lib/backend/vhost-net/queue-pair.ts',
    line: 'vhost.setVringBase(index, ring.base ?? 0)',
    faulty: 'vhost.setVringBase(index, 0)',
    test: 'kernel/stop-start',
    title:
      'stopping and starting queue pairs delivers what was sent and what arrived in the meantime, 20 times, 1 pairs, VERSION_1 alone',
  },
  {
    name: 'the bases of the two rings are swapped',
    file: 'lib/backend/vhost-net/queue-pair.ts',
    line: 'this.#bases = { rx: vhost.getVringBase(VHOST_NET_VQ_RX), tx: vhost.getVringBase(VHOST_NET_VQ_TX) }',
    faulty: 'this.#bases = { tx: vhost.getVringBase(VHOST_NET_VQ_RX), rx: vhost.getVringBase(VHOST_NET_VQ_TX) }',
    test: 'kernel/stop-start',
    title:
      'stopping and starting queue pairs returns where the rings stand: TX at the end of what was sent, RX after what was received',
  },
  {
    name: 'closing leaves a pair running',
    file: 'lib/backend/vhost-net/queue-pair.ts',
    line: 'if (this.#running !== undefined) all.add(() => this.stop())',
    faulty: 'void this.#running',
    test: 'kernel/lifetime',
    title: 'the lifetime of handles of one object is closed once and for all: a backend',
  },
  {
    name: 'faults of the transmit ring are reported of the receive ring',
    file: 'lib/backend/vhost-net/queue-pair.ts',
    line: "ring: index === VHOST_NET_VQ_RX ? 'rx' : 'tx',",
    faulty: "ring: index === VHOST_NET_VQ_RX ? 'tx' : 'rx',",
    test: 'kernel/memory',
    title:
      'guest memory under vhost whose regions come and go reaches a running ring: a buffer in a new region is sent, one in a removed region is a fault',
  },
  {
    name: 'a tap of somebody else is not given back as it was',
    file: 'lib/backend/vhost-net/vhost-net-backend.ts',
    line: 'if (index === 0) existing?.remember(tap)',
    faulty: 'if (index === 1) existing?.remember(tap)',
    test: 'kernel/existing-tap',
    title: 'a tap made by somebody else is as it was where no pair was ever started',
  },
  {
    name: 'a tap is given back by its name, which another may have now',
    file: 'lib/backend/vhost-net/existing-tap.ts',
    line: 'const link = findLink({ index: this.#index })',
    faulty: 'const link = findLink(this.#index > 0 ? { ifname: this.ifname } : { index: 0 })',
    test: 'kernel/existing-tap',
    title: 'a tap made by somebody else is not confused with another one that took its name',
  },
  {
    name: 'a tap does not get the length of its header back',
    file: 'lib/backend/vhost-net/existing-tap.ts',
    line: '(tap) => tap.setVnetHdrSz(vnetHdrSz),',
    faulty: '() => void vnetHdrSz,',
    test: 'kernel/existing-tap',
    title: 'a tap made by somebody else carries frames and is as it was afterwards: vnet_hdr',
  },
  {
    name: 'a single-queue tap in use is not recognised as such',
    file: 'lib/backend/vhost-net/existing-tap.ts',
    line: 'return link.up && link.lowerUp',
    faulty: 'return link.up && !link.lowerUp',
    test: 'kernel/bad-input',
    title: 'bad input in a device of that name a single-queue tap in use is refused while it is up',
  },
]
