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
    line: 'VIRTIO_F.VIRTIO_F_ACCESS_PLATFORM,',
    faulty: 'VIRTIO_F.VIRTIO_F_NOTIFY_ON_EMPTY,',
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
    file: 'lib/backend/vhost-net/kernel-ring.ts',
    line: 'this.#options.vhost.setBackend(this.index, tap)',
    faulty: 'this.#options.vhost.setBackend(1 - this.index, tap)',
    test: 'kernel/unwind',
    title: ORDER,
  },
  {
    name: 'a stopped ring keeps its call',
    file: 'lib/backend/vhost-net/kernel-ring.ts',
    line: 'undo.add(() => vhost.setVringCall(index, null))',
    faulty: 'void undo',
    test: 'kernel/unwind',
    title: 'bring-up of queue pairs of 1, as the kernel sees it undoes exactly what was done when a step fails',
  },
  {
    name: 'the header of the tap is as long as its owner had it',
    file: 'lib/backend/vhost-net/tap-queue.ts',
    line: 'tap.setVnetHdrSz(vnetHdrSize(features))',
    faulty: 'tap.setVnetHdrSz(vnetHdrSize(features) - 2)',
    test: 'kernel/traffic',
    title:
      'traffic between two NICs with few notifications wakes a sleeping receiver for a single frame, again and again, with all ring features',
  },
  {
    name: 'the used ring is where the available ring is',
    file: 'lib/backend/vhost-net/kernel-ring.ts',
    line: 'used_user_addr: memory.hostAddress(vring.used, sizes.used),',
    faulty: 'used_user_addr: memory.hostAddress(vring.avail, sizes.avail),',
    test: 'kernel/lifetime',
    title: 'the lifetime of handles in an odd order a pair stopped and started again goes on where it stood',
  },
  {
    name: 'nobody is called after a restart',
    file: 'lib/backend/vhost-net/kernel-ring.ts',
    line: 'this.#vring?.call.signal()',
    faulty: 'void this.#vring',
    test: 'kernel/stop-start',
    title:
      'stopping and starting queue pairs signals both ends of both rings once after a restart, whatever was missed meanwhile',
  },
  {
    name: 'a ring begins anew after a stop',
    file: 'lib/backend/vhost-net/kernel-ring.ts',
    line: 'vhost.setVringBase(index, vring.base ?? 0)',
    faulty: 'vhost.setVringBase(index, 0)',
    test: 'kernel/stop-start',
    title:
      'stopping and starting queue pairs delivers what was sent and what arrived in the meantime, 20 times, 1 pairs, VERSION_1 alone',
  },
  {
    name: 'the bases of the two rings are swapped',
    file: 'lib/backend/vhost-net/pair-rings.ts',
    line: 'for (const name of names) this.#bases[name] = this[name].standing()',
    faulty: "for (const name of names) this.#bases[name] = this[name === 'rx' ? 'tx' : 'rx'].base()",
    test: 'kernel/stop-start',
    title:
      'stopping and starting queue pairs returns where the rings stand: TX at the end of what was sent, RX after what was received',
  },
  {
    name: 'closing leaves a pair running',
    file: 'lib/backend/vhost-net/queue-pair.ts',
    line: 'if (this.#running) all.add(() => this.stop())',
    faulty: 'void this.#running',
    test: 'kernel/lifetime',
    title: 'the lifetime of handles of one object is closed once and for all: a backend',
  },
  {
    name: 'faults of the transmit ring are reported of the receive ring',
    file: 'lib/backend/vhost-net/queue-pair.ts',
    line: 'else fault({ pair: index, ring, ...finding })',
    faulty: "else fault({ pair: index, ring: ring === 'rx' ? 'tx' : 'rx', ...finding })",
    test: 'kernel/memory',
    title:
      'guest memory under vhost whose regions come and go reaches a running ring: a buffer in a new region is sent, one in a removed region is a fault',
  },
  {
    name: 'a tap of somebody else is not given back as it was',
    file: 'lib/backend/vhost-net/tap-queues.ts',
    line: 'if (first === undefined) before = existing?.remember(tap).offload ?? 0',
    faulty: 'if (first !== undefined) before = existing?.remember(tap).offload ?? 0',
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
    file: 'lib/backend/vhost-net/tap-settings.ts',
    line: 'all.add(() => queue.setVnetHdrSz(this.#vnetHdrSz))',
    faulty: 'all.add(() => void this.#vnetHdrSz)',
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
  {
    name: 'the length of the header is not read back from the tap',
    file: 'lib/backend/vhost-net/tap-queue.ts',
    line: 'checkVnetHdrSize(tap, features)',
    faulty: 'void checkVnetHdrSize',
    test: 'kernel/bad-input',
    title:
      'bad input in a ring or its features is refused where somebody else changes the tap’s header while the pair starts, and works afterwards',
  },
  {
    name: 'pairs may run with different features',
    file: 'lib/backend/vhost-net/features.ts',
    line: 'if (agreed === undefined || agreed === features) return',
    faulty: 'if (agreed === undefined || agreed !== features) return',
    test: 'kernel/bad-input',
    title:
      'bad input in a ring or its features is refused where another pair runs with other features, which are the whole tap’s',
  },
  {
    name: 'the worker polls for one of its rings',
    file: 'lib/backend/vhost-net/pair-vhost.ts',
    line: 'vhost.setVringBusyloopTimeout(index, microseconds)',
    faulty: 'vhost.setVringBusyloopTimeout(VHOST_NET_VQ_RX, microseconds)',
    test: 'kernel/stop-start',
    title: 'stopping and starting queue pairs polls for as long as it was told, running or not, and loses nothing',
  },
  {
    name: 'pairs go on polling where one of them could not be told',
    file: 'lib/backend/vhost-net/vhost-net-backend.ts',
    line: 'undo.add(() => vhost.setPollUs(before))',
    faulty: 'undo.add(() => vhost.setPollUs(before + microseconds))',
    test: 'kernel/stop-start',
    title: 'stopping and starting queue pairs polls for as long as it was told, running or not, and loses nothing',
  },
  {
    name: 'fds handed over are closed where opening fails',
    file: 'lib/backend/vhost-net/handed-fds.ts',
    line: 'this.#opened.add(() => (this.#taken ? handle.close() : void handle.detach()))',
    faulty: 'this.#opened.add(() => handle.close())',
    test: 'kernel/handed-fds',
    title: 'fds handed over are left as they were whichever step of opening fails',
  },
  {
    name: 'fds handed over are never taken over',
    file: 'lib/backend/vhost-net/vhost-net-backend.ts',
    line: 'lease.take()',
    faulty: 'void lease',
    test: 'kernel/handed-fds',
    title: 'fds handed over of a tap and of vhost-net carry frames, 1 pairs, and are closed with the backend',
  },
  {
    name: 'a vhost-net goes back with an owner that it did not have',
    file: 'lib/backend/vhost-net/vhost-net-backend.ts',
    line: 'lease.addBeforeReturn(() => vhost.resetOwner())',
    faulty: 'void vhost',
    test: 'kernel/handed-fds',
    title: 'fds handed over are refused, and stay open where one is no vhost-net, with what came before it as it was',
  },
  {
    name: 'an fd that is no tap is closed under its giver',
    file: 'lib/backend/vhost-net/handed-fds.ts',
    line: 'tap.detach()',
    faulty: 'tap.close()',
    test: 'kernel/handed-fds',
    title: 'fds handed over are refused, and stay open where one is a tun',
  },
  {
    name: 'back-pressure that the kernel does not know is taken for granted',
    file: 'lib/backend/vhost-net/tap-queues.ts',
    line: 'if ((Tap.knownFlags(path) & IFF.IFF_BACKPRESSURE) !== 0) return',
    faulty: 'if (Tap.knownFlags(path) !== 0) return',
    test: 'kernel/backpressure',
    title: 'tap.backpressure is refused by a kernel that does not know it, before anything is made',
  },
  {
    name: 'what a deleted tap was given to send is never sent',
    file: 'lib/backend/vhost-net/kernel-ring.ts',
    line: 'return returned !== base && gone() ? returned : base',
    faulty: 'return returned !== base && gone() ? base : base',
    test: 'kernel/swap-tap',
    title:
      'a NIC that gets another tap after its tap was deleted has all buffers back, as many as its ring has, whether it has noticed or not',
  },
  {
    name: 'another tap passes everything on',
    file: 'lib/backend/vhost-net/tap-swap.ts',
    line: 'if (rxFilter !== undefined) next.filter.set(rxFilter)',
    faulty: 'void rxFilter',
    test: 'kernel/swap-tap',
    title:
      'a NIC that gets another tap takes over offloads, filter, MTU and open queues, and its guest hears of its link',
  },
  {
    name: 'the queues of another tap stay closed',
    file: 'lib/backend/vhost-net/queue-pair.ts',
    line: 'if (before.attached) queue.attach()',
    faulty: 'if (!before.attached) queue.attach()',
    test: 'kernel/swap-tap',
    title:
      'a NIC that gets another tap takes over offloads, filter, MTU and open queues, and its guest hears of its link',
  },
  {
    name: 'a ring is not woken when it is held no more',
    file: 'lib/backend/vhost-net/kernel-ring.ts',
    line: 'if (this.#connected) this.signalEnds()',
    faulty: 'void this.#connected',
    test: 'kernel/held-nic',
    title: 'a NIC that is held signals both ends of each ring when it goes on',
  },
  {
    name: 'a guest has no link whose tap is in another network namespace',
    file: 'lib/backend/vhost-net/tap-watch.ts',
    line: 'this.#up = link?.up ?? nameOf(this.#tap) !== undefined',
    faulty: 'this.#up = link?.up ?? nameOf(this.#tap) === undefined',
    test: 'kernel/tap-moves',
    title:
      'a tap in traffic is moved to another network namespace and back 3 times: its rings run on, its guest has link there',
  },
  {
    name: 'a ring that the kernel would not let go of is never let go of',
    file: 'lib/backend/vhost-net/kernel-ring.ts',
    line: 'this.detach()',
    faulty: 'this.unwire()',
    test: 'kernel/failing-calls',
    title:
      'a network device, each of whose system calls fails in turn answers that it could not, or begins anew, and can the next time: one pair instead of two',
  },
]
