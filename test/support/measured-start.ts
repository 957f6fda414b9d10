// A run of `npm start` in which everything is in order, for tests of what is said of it.

import type { Measured, PairPicture, RingPicture } from '../../scripts/start/measured.ts'

const VCPUS = 4
const interruptsOn = (vcpu: number, own: number): number[] =>
  Array.from({ length: VCPUS }, (_, i) => (i === vcpu ? own : 1))

function ring(vector: number, vcpu: number, packets: number, buffers = packets): RingPicture {
  const index = buffers % 0x10000
  return {
    vector,
    irq: 24 + vector,
    interrupts: interruptsOn(vcpu, 1234),
    packets,
    bytes: 1000 * packets,
    kicks: 7,
    usedIdx: index,
    vhostBase: index,
  }
}

function pair(index: number): PairPicture {
  return {
    index,
    vcpu: index,
    rx: ring(1 + 2 * index, index, 60_000 + index, 70_000 + index),
    tx: ring(2 + 2 * index, index, 1_270_000 + index),
    worker: { name: 'vhost-4711', tid: 4720 + index, cpuMs: 1234.5 },
    tapFd: 31 + index,
    vhostFd: 41 + index,
  }
}

const PING = { sent: 3, answered: 3, minMs: 1.2, avgMs: 2.3, maxMs: 3.4 }

export function measuredStart(): Measured {
  const pairs = Array.from({ length: VCPUS }, (_, i) => pair(i))
  const total = (name: 'rx' | 'tx', field: 'packets' | 'bytes'): number =>
    pairs.reduce((sum, each) => sum + each[name][field], 0)
  return {
    host: { kernel: '6.12.0-amd64', cpu: 'A CPU', cpus: 1, lab: true },
    guest: { kernel: '6.12.0-amd64', image: 'vmlinuz', vcpus: VCPUS, memory: 2 ** 29, bootMs: 12_345 },
    nic: { ifname: 'vnt0', mac: '52:54:00:12:34:56', address: '10.255.0.1/24', mtu: 1500, queuePairs: VCPUS },
    features: [
      { bit: 0, name: 'VIRTIO_NET_F_CSUM', offeredBy: 'backend', refused: null, accepted: true },
      { bit: 22, name: 'VIRTIO_NET_F_MQ', offeredBy: 'device', refused: null, accepted: true },
      { bit: 40, name: 'VIRTIO_F_RING_RESET', offeredBy: 'device', refused: null, accepted: false },
      {
        bit: 60,
        name: 'VIRTIO_NET_F_RSS',
        offeredBy: null,
        refused: { by: 'device', why: 'no backend has hashes of frames' },
        accepted: false,
      },
      {
        bit: 63,
        name: 'VIRTIO_NET_F_SPEED_DUPLEX',
        offeredBy: null,
        refused: { by: 'options', why: 'it was not asked for' },
        accepted: false,
      },
    ],
    dhcp: { address: '10.255.0.10', server: '10.255.0.1', leaseSeconds: 3600 },
    ping: { fromGuest: pairs.map(() => ({ ...PING })), fromHost: { ...PING } },
    changes: {
      pings: { sent: 400, answered: 397 },
      steps: pairs.map((_, i) => ({
        pairs: i + 1,
        guest: { rx: i + 1, tx: i + 1 },
        device: i + 1,
        tap: { attached: i + 1, waiting: VCPUS - i - 1 },
        sent: Array.from({ length: i + 1 }, () => 1000),
        idleMoved: false,
      })),
    },
    iperf: {
      toHost: { seconds: 4, kbits: pairs.map(() => 12_345) },
      toGuest: { seconds: 4, kbits: pairs.map(() => 23_456) },
    },
    exits: { registers: 0, asked: 0 },
    pairs,
    tap: {
      rx_packets: total('tx', 'packets'),
      rx_bytes: total('tx', 'bytes'),
      rx_errors: 0,
      rx_dropped: 0,
      rx_frame_errors: 0,
      tx_packets: total('rx', 'packets'),
      tx_bytes: total('rx', 'bytes'),
      tx_errors: 0,
      tx_dropped: 0,
    },
    faults: [],
  }
}
