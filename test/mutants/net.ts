// Faults in the net room.

import type { Fault } from './fault.ts'

const PAIRS = 'queue pairs of a virtio-net device'
const CONTROL = 'the control queue of a virtio-net device'

export const NET: readonly Fault[] = [
  {
    name: 'the control queue is behind all pairs, whatever was agreed on',
    file: 'lib/net/virtio-net.ts',
    line: 'return this.negotiated(VIRTIO_NET_F.VIRTIO_NET_F_CTRL_VQ) ? 2 * this.#usablePairs : undefined',
    faulty: 'return this.negotiated(VIRTIO_NET_F.VIRTIO_NET_F_CTRL_VQ) ? 2 * this.queuePairs : undefined',
    test: 'unit/net-pairs',
    title: `${PAIRS} [NET-VQ-01] have the control queue behind the first pair without MQ`,
  },
  {
    name: 'all pairs run at once',
    file: 'lib/net/queue-pairs.ts',
    line: 'return this.#linkUp && index < this.#active && rx !== undefined && tx !== undefined',
    faulty: 'return this.#linkUp && rx !== undefined && tx !== undefined',
    test: 'unit/net-pairs',
    title: `${PAIRS} [NET-CTRL-MQ-03] [NET-CTRL-MQ-07] start with the first, and the others wait to be asked for`,
  },
  {
    name: 'a ring that was reset stops its pair',
    file: 'lib/net/queue-pairs.ts',
    line: 'if (pair.rings[other(ring)] === undefined) this.#stop(index)',
    faulty: 'if (other(ring) !== ring) this.#stop(index)',
    test: 'unit/net-pairs',
    title: `${PAIRS} whose ring is reset go on with tx, and rx joins it from its beginning`,
  },
  {
    name: 'a pair that is asked for no more keeps its share of frames',
    file: 'lib/net/queue-pairs.ts',
    line: 'this.#pairs[index]!.bases = this.#backend.stop(index, { detach: index > 0 })',
    faulty: 'this.#pairs[index]!.bases = this.#backend.stop(index)',
    test: 'unit/net-pairs',
    title: `${PAIRS} are attached from the lowest and detached from the highest on`,
  },
  {
    name: 'a reset leaves the address of the last driver',
    file: 'lib/net/virtio-net.ts',
    line: 'this.#config.mac = this.#mac',
    faulty: 'void this.#mac',
    test: 'unit/net-control',
    title: `${CONTROL} with an address has its own again after a reset`,
  },
  {
    name: 'commands are served whose feature was not agreed on',
    file: 'lib/net/control-queue.ts',
    line: "if (command === undefined || !this.#target.negotiated(command.feature)) return this.#count('unknown', false)",
    faulty: "if (command === undefined) return this.#count('unknown', false)",
    test: 'unit/net-control',
    title: `${CONTROL} refuses each command whose feature was not agreed on`,
  },
  {
    name: 'the length of a MAC table is believed',
    file: 'lib/net/rx-filter.ts',
    line: 'if (multicast?.end !== data.byteLength) return undefined',
    faulty: 'if (multicast === undefined) return undefined',
    test: 'unit/net-control',
    title: `${CONTROL} with receive modes [NET-CTRL-MAC-05] refuses tables that are cut, or longer than they say`,
  },
  {
    name: 'offloads are switched on that were not agreed on',
    file: 'lib/net/virtio-net.ts',
    line: 'if ((offloads & ~this.accepted) !== 0n || !isConsistent(offloads)) return false',
    faulty: 'if (!isConsistent(offloads)) return false',
    test: 'unit/net-control',
    title: `${CONTROL} with guest offloads [NET-CTRL-GOFF-03] refuses offloads not agreed on, not there, or without what they need`,
  },
  {
    name: 'features are offered without what they need',
    file: 'lib/net/offer.ts',
    line: 'const features = consistentFeatures(served, OFFER_RULES)',
    faulty: 'const features = consistentFeatures(served, [])',
    test: 'unit/net-offer',
    title:
      'the offer of a virtio-net device is explained: who offers each bit, who does not and why, and what the driver took',
  },
  {
    name: 'a pair that comes back begins anew',
    file: 'lib/net/queue-pairs.ts',
    line: 'this.#pairs[index]!.bases = this.#backend.stop(index, { detach: index > 0 })',
    faulty: 'this.#backend.stop(index, { detach: index > 0 })',
    test: 'unit/net-pairs',
    title: `${PAIRS} are attached from the lowest and detached from the highest on`,
  },
  {
    name: 'rings that begin are signalled',
    file: 'lib/net/queue-pairs.ts',
    line: 'const from = (vring: Vring, base: number | undefined): Vring => (base === undefined ? vring : { ...vring, base })',
    faulty: 'const from = (vring: Vring, base: number | undefined): Vring => ({ ...vring, base: base ?? 0 })',
    test: 'unit/net-pairs',
    title: `${PAIRS} run with the bits that the backend serves of those agreed on, and with the rings that the driver described`,
  },
  {
    name: 'a turn of a served queue is as long as its commands take',
    file: 'lib/virtio/queue-service.ts',
    line: 'if (performance.now() >= end) return true',
    faulty: 'if (performance.now() >= 2 * end) return true',
    test: 'unit/net-flood',
    title: 'a virtio-net device beside one whose driver never pauses answers after the command that ends behind 10 ms',
  },
  {
    name: 'a tap that exists gets the MTU that the guest is told',
    file: 'lib/backend/vhost-net/tap-queues.ts',
    line: 'if (exclusive && mtu !== undefined) setMtu(tap, mtu)',
    faulty: 'if (first === undefined && mtu !== undefined) setMtu(tap, mtu)',
    test: 'kernel/net-device',
    title: 'a virtio-net device on vhost-net leaves a tap that exists its MTU',
  },
  {
    name: 'a guest has link whose tap is switched off',
    file: 'lib/net/virtio-net.ts',
    line: 'this.#config.setStatus(LINK_UP, this.#pluggedIn && this.#networked && this.#hostLink)',
    faulty: 'this.#config.setStatus(LINK_UP, (this.#pluggedIn && this.#networked) || this.#hostLink)',
    test: 'kernel/net-device',
    title:
      'a virtio-net device on vhost-net has link while its tap is switched on and the cable is in, and the guest is told',
  },
]
