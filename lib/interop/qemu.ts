// QEMU's words for a machine and its NICs, as options of this package: `-smp`, `-m`, `-netdev tap`, `-device virtio-net-*`.

import { parseMac } from '../address.ts'
import { InvalidOptionError } from '../errors.ts'
import type { BackingOptions } from '../memory/index.ts'
import type { FeatureOptions } from '../net/index.ts'
import type { VirtioNetOptions } from '../nic.ts'
import { unknownOption } from '../options.ts'
import { backendAt, type Place, placesOf } from './netdev-places.ts'
import { QemuWords } from './qemu-words.ts'

/** A NIC that QEMU's words describe, to be opened and put into a machine. */
export interface QemuNic {
  /** Of its `-netdev`. */
  id: string
  transport: 'pci' | 'mmio'
  /** MSI-X vectors; the transport's default where it is not given. */
  vectors?: number
  /**
   * Where its tap is to be plugged in: {@link plug} checks and does it. A macvtap is plugged in before the NIC is opened.
   */
  plug?: Place
  /** All that {@link VirtioNet.open} takes but for the memory. Ranges of values are checked there. */
  options: Omit<VirtioNetOptions, 'memory'>
}

interface Netdev {
  id: string
  /** As many as the machine has processors, or as there are fds. */
  queues: number | undefined
  /** A Linux bridge. */
  br: string | undefined
  backend: VirtioNetOptions['backend']
}

type Settings = Omit<VirtioNetOptions, 'memory' | 'queuePairs' | 'backend'>

interface Device {
  netdev: string
  transport: QemuNic['transport']
  vectors: number | undefined
  settings: Settings
}

/** Written out, since only types are known here; the type holds it to be complete. */
const SWITCHES = Object.keys({
  csum: true,
  guest_csum: true,
  guest_tso4: true,
  guest_tso6: true,
  guest_ecn: true,
  guest_ufo: true,
  guest_uso4: true,
  guest_uso6: true,
  guest_tunnel: true,
  guest_tunnel_csum: true,
  host_tso4: true,
  host_tso6: true,
  host_ecn: true,
  host_ufo: true,
  host_uso: true,
  host_tunnel: true,
  host_tunnel_csum: true,
  status: true,
  ctrl_vq: true,
  ctrl_rx: true,
  ctrl_mac_addr: true,
  ctrl_guest_offloads: true,
  guest_announce: true,
  mq: true,
  event_idx: true,
  indirect_desc: true,
  in_order: true,
} satisfies Record<keyof FeatureOptions, true>) as (keyof FeatureOptions)[]

/** Switches of QEMU that can only say what is the case here, and why. */
const FIXED: Readonly<Record<string, { value: boolean; why: string }>> = {
  mrg_rxbuf: { value: true, why: 'mergeable receive buffers are always offered' },
  queue_reset: { value: true, why: 'queues can always be reset one by one' },
  'disable-legacy': { value: true, why: 'devices are modern, of virtio 1.0 and later' },
  'disable-modern': { value: false, why: 'devices are modern, of virtio 1.0 and later' },
  ctrl_vlan: { value: false, why: 'a tap does not filter by VLAN: what is not filtered is received' },
  ctrl_rx_extra: { value: false, why: 'vhost-net has no such filter' },
  rss: { value: false, why: 'the tap chooses the queue, by the flow' },
  hash: { value: false, why: 'vhost-net reports no hashes' },
  packed: { value: false, why: 'vhost-net has split rings only' },
  iommu_platform: { value: false, why: 'the device reaches all memory of the guest' },
  guest_rsc_ext: { value: false, why: 'the host puts no segments together' },
  failover: { value: false, why: 'there is no primary device to stand in for' },
}

const DRIVERS: Readonly<Record<string, QemuNic['transport']>> = {
  'virtio-net-pci': 'pci',
  'virtio-net-device': 'mmio',
}

/** TUN_SNDBUF_UNLIMITED: what QEMU makes of 0 (net/tap-linux.c). */
const SNDBUF_UNLIMITED = 2 ** 31 - 1
const SUFFIXES = 'BKMGTPE'

/**
 * A size with one of QEMU's suffixes, or as many MiB without (`-m`), and words of its memory backends: `share=on` is a
 * memfd, `hugetlb=on` one of huge pages of `hugetlbsize`; `prealloc`.
 * @throws {InvalidOptionError} `ERR_OPTION_*`
 */
export function parseMemory(text: string): BackingOptions & { size: number } {
  const words = new QemuWords(text, 'memory', 'size')
  const size = parseSize(words, 'size', 'M')
  const hugetlb = words.takeSwitch('hugetlb') ?? false
  const pageSize = parseSize(words, 'hugetlbsize', 'B')
  const prealloc = words.takeSwitch('prealloc')
  const share = words.takeSwitch('share')
  words.end()
  if (size === undefined) throw new InvalidOptionError('ERR_OPTION_RANGE', 'memory', 'has no size')
  if (pageSize !== undefined && !hugetlb) {
    throw words.error('ERR_OPTION_CONFLICT', 'hugetlbsize', 'is the size of huge pages', 'Add hugetlb=on.')
  }
  if (share === false && hugetlb) {
    throw words.error('ERR_OPTION_CONFLICT', 'share', 'must be on: huge pages are those of a memfd')
  }
  return {
    size,
    ...(hugetlb ? { backing: 'hugetlb' as const } : share === true ? { backing: 'memfd' as const } : {}),
    ...(pageSize === undefined ? {} : { pageSize }),
    ...(prealloc === undefined ? {} : { prefault: prealloc }),
  }
}

/** Processors: one socket of as many cores. @throws {InvalidOptionError} `ERR_OPTION_*` */
export function parseSmp(text: string): number {
  const words = new QemuWords(text, 'smp', 'cpus')
  const given = words.takeInteger('cpus')
  const cores = words.takeInteger('cores')
  const cpus = given ?? cores
  if (cpus === undefined) throw new InvalidOptionError('ERR_OPTION_RANGE', 'smp', 'has no cpus')
  for (const [name, value] of [
    ['cores', cores],
    ['maxcpus', words.takeInteger('maxcpus')],
  ] as const) {
    if (value === undefined || value === cpus) continue
    throw words.error('ERR_OPTION_CONFLICT', name, `${value} is not the number of processors, ${cpus}`)
  }
  for (const name of ['sockets', 'dies', 'clusters', 'threads']) {
    const value = words.takeInteger(name) ?? 1
    if (value === 1) continue
    throw words.error('ERR_OPTION_CONFLICT', name, 'must be 1: the machine has one socket of cores, a thread each')
  }
  words.end()
  return cpus
}

/** What is known of the machine whose NICs they are. */
export interface NicSurroundings {
  /** What `queues` is where it is not given, or is `per-vcpu`: a queue pair for each processor. */
  smp: number
  /** What follows each `--plug`, which QEMU does not have: where a netdev is plugged in. */
  plugs?: readonly string[]
}

/**
 * NICs in the order of their devices.
 * @param netdevs what follows each `-netdev`
 * @param devices what follows each `-device`
 * @throws {InvalidOptionError} `ERR_OPTION_*`, with the place of what is wrong: `'netdev[n0].queues'`
 */
export function parseNics(
  netdevs: readonly string[],
  devices: readonly string[],
  { smp, plugs = [] }: NicSurroundings,
): QemuNic[] {
  const found = new Map<string, Netdev>()
  for (const text of netdevs) {
    const netdev = parseNetdev(text)
    if (found.has(netdev.id)) throw conflict(`netdev[${netdev.id}]`, 'is there twice')
    found.set(netdev.id, netdev)
  }
  assertDistinctTaps([...found.values()])
  const places = placesOf([...found.values()], plugs)
  const ids = new Set<string>()
  const used = new Set<string>()
  const nics = devices.map((text) => {
    const { id, ...device } = parseDevice(text)
    if (id !== undefined && ids.has(id)) throw conflict(`device[${id}]`, 'is there twice')
    if (id !== undefined) ids.add(id)
    const netdev = found.get(device.netdev)
    if (netdev === undefined) throw missingNetdev(device.netdev, [...found.keys()])
    if (used.has(netdev.id)) throw conflict(`device[${netdev.id}]`, 'there are two devices with this netdev')
    used.add(netdev.id)
    return join(netdev, device, places.get(netdev.id), smp)
  })
  const idle = [...found.keys()].find((id) => !used.has(id))
  if (idle !== undefined) {
    throw conflict(`netdev[${idle}]`, 'no device has it', `Add --device virtio-net-pci,netdev=${idle}`)
  }
  return nics
}

function join(netdev: Netdev, { transport, vectors, settings }: Device, plug: Place | undefined, smp: number): QemuNic {
  const { id, queues } = netdev
  const backend = backendAt(netdev, plug)
  return {
    id,
    transport,
    ...(vectors === undefined ? {} : { vectors }),
    ...(plug === undefined ? {} : { plug }),
    options: { ...settings, queuePairs: queues ?? backend.fds?.length ?? smp, backend },
  }
}

function conflict(option: string, problem: string, hint?: string): InvalidOptionError {
  return new InvalidOptionError('ERR_OPTION_CONFLICT', option, problem, hint === undefined ? {} : { hint })
}

function missingNetdev(id: string, known: readonly string[]): InvalidOptionError {
  const path = `device[${id}].netdev`
  if (known.length === 0) return conflict(path, `there is no netdev '${id}'`, `Add --netdev tap,id=${id},ifname=…`)
  const { hint } = unknownOption(path, id, known)
  return conflict(path, `there is no netdev '${id}'`, hint)
}

function assertDistinctTaps(netdevs: readonly Netdev[]): void {
  const names = new Map<string, string>()
  for (const { id, backend } of netdevs) {
    const name = backend.tap?.ifname
    if (name === undefined || name.includes('%d')) continue
    const other = names.get(name)
    if (other !== undefined) throw conflict(`netdev[${id}].ifname`, `'${name}' is netdev ${other}'s`)
    names.set(name, id)
  }
}

function parseNetdev(text: string): Netdev {
  const words = new QemuWords(text, 'netdev', 'type')
  const type = words.take('type')
  if (type !== 'tap') throw words.error('ERR_OPTION_RANGE', 'type', `must be tap, not '${type ?? ''}'`)
  const id = takeId(words)
  if (id === undefined) throw words.error('ERR_OPTION_RANGE', 'id', 'is missing', 'The device names it: netdev=…')
  words.place = `netdev[${id}]`
  refuseScripts(words)
  if (words.takeSwitch('vhost') === false || words.takeSwitch('vhostforce') === false) {
    throw words.error(
      'ERR_OPTION_RANGE',
      'vhost',
      'must be on',
      'Packets go through vhost-net, and nothing else moves them.',
    )
  }
  const fds = takeFds(words, 'fd', 'fds')
  const vhostfds = takeFds(words, 'vhostfd', 'vhostfds')
  const ifname = words.take('ifname')
  const queues = takeQueues(words)
  for (const [name, value] of Object.entries({ ifname, queues: words.take('queues') })) {
    if (fds !== undefined && value !== undefined) {
      throw words.error('ERR_OPTION_CONFLICT', name, 'and fds exclude each other', 'Each fd is a queue of its tap.')
    }
  }
  const br = words.take('br')
  const sndbuf = parseSize(words, 'sndbuf', 'B')
  const poll_us = words.takeInteger('poll-us')
  words.end()
  return {
    id,
    queues,
    br,
    backend: {
      ...(fds === undefined ? { tap: { ifname: ifname ?? 'tap%d' } } : { fds }),
      ...(vhostfds === undefined ? {} : { vhostfds }),
      ...(sndbuf === undefined ? {} : { sndbuf: sndbuf === 0 ? SNDBUF_UNLIMITED : sndbuf }),
      ...(poll_us === undefined ? {} : { poll_us }),
    },
  }
}

/** Letters first (util/id.c: id_wellformed). */
function takeId(words: QemuWords): string | undefined {
  const id = words.take('id')
  if (id === undefined || /^[a-z][\w.-]*$/i.test(id)) return id
  throw words.error(
    'ERR_OPTION_RANGE',
    'id',
    `'${id}' must begin with a letter, and go on with these, digits and '-._'`,
  )
}

function refuseScripts(words: QemuWords): void {
  for (const name of ['script', 'downscript']) {
    const value = words.take(name)
    if (value === undefined || value === 'no') continue
    throw words.error(
      'ERR_OPTION_RANGE',
      name,
      `must be no, not '${value}'`,
      'No script is run: br= and --plug say where the tap is plugged in.',
    )
  }
  if (words.take('helper') !== undefined) {
    const hint = 'Run this as root with br=, or make a tap, add it to the bridge, and name it by ifname=.'
    throw words.error('ERR_OPTION_RANGE', 'helper', 'nothing is run that would open a tap on a bridge', hint)
  }
}

function takeFds(words: QemuWords, one: string, several: string): number[] | undefined {
  const single = words.takeInteger(one)
  const all = words.takeIntegers(several)
  if (single === undefined) return all
  if (all !== undefined) throw words.error('ERR_OPTION_CONFLICT', one, `and ${several} exclude each other`)
  return [single]
}

function takeQueues(words: QemuWords): number | undefined {
  const value = words.take('queues')
  return value === undefined || value === 'per-vcpu' ? undefined : words.integer('queues', value)
}

/** @param unit the suffix of a number without one */
function parseSize(words: QemuWords, name: string, unit: string): number | undefined {
  const text = words.take(name)
  if (text === undefined) return undefined
  const [, digits, suffix = ''] = /^(\d+(?:\.\d+)?)([bkmgtpe]?)$/i.exec(text) ?? []
  const size = Number(digits) * 1024 ** SUFFIXES.indexOf((suffix || unit).toUpperCase())
  if (Number.isSafeInteger(size)) return size
  throw words.error('ERR_OPTION_RANGE', name, `must be a size such as 512M or 2G, not '${text}'`)
}

function parseDevice(text: string): Device & { id: string | undefined } {
  const words = new QemuWords(text, 'device', 'driver')
  const driver = words.take('driver') ?? ''
  const transport = DRIVERS[driver]
  if (transport === undefined || !Object.hasOwn(DRIVERS, driver)) {
    const { hint } = unknownOption('device', driver, Object.keys(DRIVERS))
    throw words.error('ERR_OPTION_RANGE', 'driver', `there is no device '${driver}'`, hint)
  }
  const id = takeId(words)
  const netdev = words.take('netdev')
  if (netdev === undefined) throw words.error('ERR_OPTION_RANGE', 'netdev', 'is missing', 'Name a --netdev by its id.')
  words.place = `device[${netdev}]`
  const vectors = words.takeInteger('vectors')
  if (vectors !== undefined && transport === 'mmio') {
    throw words.error('ERR_OPTION_CONFLICT', 'vectors', 'a device over MMIO has one interrupt', 'Take virtio-net-pci.')
  }
  const settings = takeSettings(words)
  words.end()
  return { id, netdev, transport, vectors, settings }
}

function takeSettings(words: QemuWords): Settings {
  for (const [name, { value, why }] of Object.entries(FIXED)) {
    const given = words.takeSwitch(name)
    if (given === undefined || given === value) continue
    throw words.error('ERR_OPTION_RANGE', name, `must be ${value ? 'on' : 'off'}: ${why}`)
  }
  const numbers = ['host_mtu', 'speed', 'rx_queue_size', 'tx_queue_size'].map((name) => [name, words.takeInteger(name)])
  const switches = SWITCHES.map((name) => [name, words.takeSwitch(name)])
  const mac = words.take('mac')
  if (mac !== undefined) parseMac(mac, `${words.place}.mac`)
  const given = [...numbers, ...switches, ['mac', mac], ['duplex', words.take('duplex')]].filter(
    ([, value]) => value !== undefined,
  )
  return Object.fromEntries(given) as Settings
}
