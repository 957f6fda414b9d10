// The command line of the emulated machine.

import type { Kernel } from './kernels.ts'

export interface MachineOptions {
  readonly kernel: Kernel
  readonly cpus: number
  /** In MiB. */
  readonly memory: number
  /** Further words for the kernel's command line. */
  readonly append: string
  /** One instruction takes a fixed time, so that counts can be repeated. Needs a single CPU. */
  readonly icount: boolean
  /** It runs guests of its own, by KVM. Needs a single CPU. */
  readonly guests: boolean
  /** What follows each `-netdev` of QEMU, without an id: the machine has a NIC on it. */
  readonly nics: readonly string[]
  readonly initramfs: string
  readonly outDirectory: string
  /** With a terminal the command talks to a virtconsole, else to two streams. */
  readonly terminal: boolean
}

/** The channels between the runner and the machine: inherited sockets, from this file descriptor on. */
export const channels = ['console', 'control', 'monitor', 'stdout', 'stderr', 'terminal'] as const
export type Channel = (typeof channels)[number]
export const firstChannelFd = 3

const kernelCommandLine = [
  'console=ttyS0',
  'quiet',
  // Any oops ends the run: a kernel in an unknown state must not report a success.
  'oops=panic',
  'panic=-1',
  // Without this the watchdog of the clock source gives up on an emulated TSC.
  'tsc=reliable',
  'mitigations=off',
  // The runner sends an NMI to a machine that has fallen silent: the panic shows where it stands.
  'unknown_nmi_panic',
]

/**
 * What nested guests need of the lab, for two faults of QEMU's SVM.
 *
 * With several CPUs in one thread a guest gets some of its interrupts twice: helper_vmrun leaves exception_index at the
 * vector that it has injected, and where another CPU's turn comes before the next exit the vector is delivered again, even
 * with interrupts off. Guests hang and crash of it, so that they get a lab of one CPU.
 *
 * helper_vmrun also sets CPU_INTERRUPT_VIRQ without the lock under which other threads set theirs: an interrupt of the lab
 * that comes in this moment waits for the next one. Where it was the timer's, and the timer is set for one event each time,
 * nothing comes next: the lab and its guests sleep for ever. A tick that comes by itself makes up for it.
 */
const guestsCommandLine = ['nohz=off', 'highres=off']

// QEMU's option syntax separates by commas and doubles those that are meant literally.
const literal = (text: string): string => text.replaceAll(',', ',,')

const socket = (channel: Channel): string[] => [
  '-chardev',
  `socket,id=${channel},fd=${firstChannelFd + channels.indexOf(channel)}`,
]

const port = (channel: Channel): string[] => [
  ...socket(channel),
  '-device',
  `virtserialport,bus=ports.0,chardev=${channel},name=lab.${channel}`,
]

const share = (tag: string, directory: string, access: 'read-only' | 'writable'): string[] => {
  const options = `local,path=${literal(directory)},mount_tag=${tag},security_model=none,multidevs=remap`
  return ['-virtfs', access === 'read-only' ? `${options},readonly=on` : options]
}

/** Its own driver, virtio_net, is loaded by who uses it. */
const nic = (netdev: string, index: number): string[] => {
  const device = `virtio-net-pci,netdev=nic${index},mac=52:54:00:1a:b0:0${index + 1}`
  // Else QEMU fetches firmware that boots from it.
  return ['-netdev', `${netdev},id=nic${index}`, '-device', `${device},romfile=`]
}

export const qemuArguments = (options: MachineOptions): string[] => [
  ...['-M', 'q35', '-nodefaults', '-no-user-config', '-display', 'none', '-no-reboot'],
  // One thread runs all CPUs in turn. With one for each, QEMU before 8.1 may translate an instruction while another CPU
  // writes it (its commit deba78709a), which a kernel that patches its own code does not survive: 7.3 was once seen to
  // stop before /init on a breakpoint in sched_clock_cpu that was there no more.
  ...['-accel', 'tcg,thread=single'],
  ...(options.icount ? ['-icount', 'shift=3,sleep=off'] : []),
  // "max" has the virtualization extension, for a nested /dev/kvm. A processor with ERMS is one whose `rep movsb` is the
  // fastest copy, and the kernel and glibc go by that; QEMU emulates it byte by byte: without it, pages are cleared and
  // copied three times as fast.
  ...['-cpu', 'max,-erms', '-smp', String(options.cpus), '-m', String(options.memory)],
  ...['-kernel', options.kernel.vmlinux, '-initrd', options.initramfs],
  ...['-append', [...kernelCommandLine, ...(options.guests ? guestsCommandLine : []), options.append].join(' ').trim()],
  ...[...socket('console'), '-serial', 'chardev:console'],
  ...[...socket('monitor'), '-mon', 'chardev=monitor,mode=control'],
  ...['-device', 'virtio-serial-pci,id=ports'],
  ...options.nics.flatMap(nic),
  ...port('control'),
  ...(options.terminal
    ? [...socket('terminal'), '-device', 'virtconsole,bus=ports.0,chardev=terminal']
    : [...port('stdout'), ...port('stderr')]),
  ...share('root', '/', 'read-only'),
  ...share('out', options.outDirectory, 'writable'),
]
