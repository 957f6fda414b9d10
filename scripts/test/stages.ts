// What `npm test` consists of.

import { readdirSync } from 'node:fs'
import { defaultKernel, type GuestKernelName, isKernelName, type KernelName, kernelNames } from '../lab/kernels.ts'
import { alone } from '../lab/lock.ts'
import { provideDpdk } from './dpdk.ts'
import { provideEmbed } from './embed.ts'
import { provideOvs } from './ovs.ts'

export interface Stage {
  /** The option that chooses it, together with others. */
  readonly option: 'unit' | 'package-tests' | 'kernel-tests' | 'network-tests' | 'guest-tests' | 'lab-tests'
  /** In front of each line of its output, where others run beside it. */
  readonly label: string
  readonly name: string
  /** Patterns below dist/test. */
  readonly files: readonly string[]
  /** Seconds for one test. */
  readonly testTimeout: number
  /** In the lab, on this kernel; on this machine if there is none. */
  readonly kernel?: KernelName
  /** Kernels of guests inside the lab. */
  readonly guestKernels?: readonly GuestKernelName[]
  /** What else is made ready on this machine before. */
  readonly prepare?: () => Promise<void>
}

const kernelFile = (name: string): string => `kernel/${name}.test.js`

const unit: Stage = {
  option: 'unit',
  label: 'unit',
  name: 'unit tests',
  files: ['unit/**/*.test.js'],
  testTimeout: 60,
}

const kernelNamed = (name: string): KernelName => {
  if (isKernelName(name)) return name
  throw new Error(`--kernel must be one of ${kernelNames.join(', ')}, not ${name}`)
}

/** Each ioctl, memory, the ring at work, guests drawn by chance and how everything ends: what the addon's own code does. */
const core = [
  'vhost-ioctls',
  'tun-ioctls',
  'kvm',
  'vcpu',
  'pc-ports',
  'vmm',
  'memory',
  'bad-input',
  'stop-start',
  'traffic',
  'fuzz',
  'lifetime',
  'process-end',
  'worker-threads',
]

/** They take half of the time: a lab machine of their own has them, beside the one that has all others. */
const longest = ['loop', 'lifetime', 'process-end', 'worker-threads', 'wake-ups']

/** They run guests for so long that these meet the faults of QEMU that a lab for guests has none of. */
const ofGuests = ['interrupt-storm']

/** Their subject is in the kernel since 6.17. */
const ofNewest = ['rx-tunnel', 'tx-tunnel']

const testFiles = (folder: string): string[] =>
  readdirSync(new URL(`../../test/${folder}`, import.meta.url))
    .filter((file) => file.endsWith('.test.js'))
    .map((file) => `${folder}/${file}`)

const allBut = (left: readonly string[]): string[] =>
  testFiles('kernel').filter((file) => !left.map(kernelFile).includes(file))

/** On the kernel asked for, else on this machine's own where it can, else on the lab's default. */
const inFull = (asked: string | undefined, missing: readonly string[]): Stage[] => {
  const stage = { option: 'kernel-tests', testTimeout: 180 } as const
  if (asked === undefined && missing.length === 0)
    return [{ ...stage, files: ['kernel/**/*.test.js'], label: 'here', name: 'kernel tests, on this machine' }]
  const kernel = kernelNamed(asked ?? defaultKernel)
  const reason = asked === undefined ? `, since this machine lacks ${missing.join(' and ')}` : ''
  const half = (label: string, which: string, files: readonly string[]): Stage => ({
    ...stage,
    kernel,
    label: `${kernel}${label}`,
    name: `kernel tests, ${which}, in the lab on ${kernel}${reason}`,
    files,
  })
  return [
    half('a', 'most of them', allBut([...longest, ...ofGuests, ...(kernel === '7.3' ? [] : ofNewest)])),
    half('b', 'the longest', longest.map(kernelFile)),
  ]
}

// What other kernels do differently. vhost-ioctls, tun-ioctls, kvm, memory: which ioctls and features there are, and how each
// refuses. bad-input: what the worker makes of a bad ring. net-device: which features a guest is offered. backpressure:
// whether a tap has any. live-operations: how a worker takes it that it is stopped, moved and pinned. process-end: before 6.4
// the worker is a kernel thread, since then a thread of this process. rx-buffers: since 6.15 their count is in every header.
// Frames pass in memory and readme; the other files vary what this package does with them, not the kernel, and would take
// longer than all these: `--kernel` runs everything on another one.
const everywhere = [
  'vhost-ioctls',
  'tun-ioctls',
  'kvm',
  'memory',
  'bad-input',
  'net-device',
  'backpressure',
  'live-operations',
  'readme',
]
const differing: Readonly<Record<KernelName, readonly string[]>> = {
  '6.1': [...everywhere, 'process-end'],
  '6.12': everywhere,
  '7.3': [...everywhere, 'rx-buffers', ...ofNewest],
}

const inPart = (kernel: KernelName): Stage => ({
  option: 'kernel-tests',
  label: kernel,
  name: `kernel tests, those that the kernel's version can change, in the lab on ${kernel}`,
  files: differing[kernel].map(kernelFile),
  testTimeout: 180,
  kernel,
})

/** The unit tests and the core of the kernel tests, for an addon that is slow. */
export const coreStages = (kernel: KernelName): Stage[] => [
  {
    ...inPart(kernel),
    name: `the core of the kernel tests, in the lab on ${kernel}`,
    files: core.map(kernelFile),
    testTimeout: 600,
  },
  unit,
]

/** Whole machines, and what is done to them while they run. */
const ofMachines = ['bridge', 'disturbed', 'killed', 'refused', 'run', 'sixteen']

/** In lab machines that take about as long as each other. */
const inGuests = (asked: string | undefined): Stage[] => {
  const kernel = kernelNamed(asked ?? defaultKernel)
  const stage = {
    option: 'guest-tests',
    testTimeout: 180,
    kernel,
  } as const
  const stock = 'guest/stock.test.js'
  const machines = ofMachines.map((name) => `guest/${name}.test.js`)
  const others = testFiles('guest').filter((file) => file !== stock && !machines.includes(file))
  return [
    {
      ...stage,
      label: 'guest',
      name: `tests with stock guests on KVM, in the lab on ${kernel}`,
      files: [stock],
      guestKernels: ['6.1', '6.12', '6.1-cloud', '6.12-cloud'],
    },
    {
      ...stage,
      label: 'vm',
      name: `tests of machines at work, and of vhost-net run, in the lab on ${kernel}`,
      files: machines,
      guestKernels: ['6.12'],
    },
    {
      ...stage,
      label: 'kvm',
      name: `tests of how guests end, of other drivers, machines and VMMs, in the lab on ${kernel}`,
      files: [...others, ...ofGuests.map(kernelFile)],
      guestKernels: ['6.12'],
      prepare: async () => {
        // Its packages come the way that kernels do.
        await alone('kernels', provideDpdk)
        await provideEmbed()
      },
    },
  ]
}

/** What the bridge of the kernel, and the door to all networks, make of it; the rest is of Open vSwitch, which is the same. */
const coreOfNetworks = ['bridge', 'plug']

/** Real bridges and switches. */
const inNetworks = (kernel: KernelName, part?: readonly string[]): Stage => ({
  option: 'network-tests',
  label: `${kernel}net`,
  name: `network tests, ${part === undefined ? 'all' : 'the core'} of them, in the lab on ${kernel}`,
  files: part?.map((name) => `network/${name}.test.js`) ?? testFiles('network'),
  testTimeout: 180,
  kernel,
  // Its packages come the way that kernels do.
  prepare: () => alone('kernels', provideOvs),
})

/**
 * The longest first, so that those that run side by side end at about the same time.
 * @param kernel the one to run everything on, and no other.
 * @param missing what this machine lacks for the kernel tests.
 */
export const stagesOf = (kernel: string | undefined, missing: readonly string[]): Stage[] => {
  const full = inFull(kernel, missing)
  const others = kernel === undefined ? kernelNames.filter((name) => name !== full[0]?.kernel) : []
  return [
    ...full,
    ...others.map(inPart),
    ...inGuests(kernel),
    inNetworks(kernelNamed(kernel ?? defaultKernel)),
    ...others.map((name) => inNetworks(name, coreOfNetworks)),
    { option: 'lab-tests', label: 'lab', name: 'tests of the lab', files: ['lab/**/*.test.js'], testTimeout: 300 },
    {
      option: 'package-tests',
      label: 'package',
      name: 'tests of the package',
      files: ['package/**/*.test.js'],
      testTimeout: 60,
    },
    unit,
  ]
}
