// One run of `vhost-net run`: the machine, its NICs, its console, until it ends, and the undoing of all that.

import type { ReadStream } from 'node:tty'
import { type Link, RtNetlink, type VcpuCounters } from '../../host/index.ts'
import type { QemuNic } from '../../interop/index.ts'
import { VirtioNet } from '../../nic.ts'
import { Teardown } from '../../teardown.ts'
import { Vm } from '../../vmm/index.ts'
import type { RunEnd } from './exit-codes.ts'
import { readInput } from './input.ts'
import type { RunOptions } from './options.ts'
import type { Reporter } from './report.ts'

export interface Surroundings {
  report: Reporter
  /** What is typed there is for the guest. */
  stdin: ReadStream
  /** Ends it, with everything undone, when it aborts. */
  signal: AbortSignal
}

/** @throws what making the machine and its NICs throws, and the reason of an abortion, after everything was undone */
export async function runMachine(
  { kernel, initrd, append, smp, memory, nics }: RunOptions,
  { report, stdin, signal }: Surroundings,
): Promise<{ end: RunEnd; vcpus: VcpuCounters[] }> {
  const closing = new Teardown()
  const devices = new Teardown()
  try {
    // The devices are used by the machine's transports, which go first.
    closing.add(() => devices.run())
    const vm = closing.own(new Vm({ kernel, append, smp, memory, ...(initrd === undefined ? {} : { initrd }) }))
    vm.on('console', (bytes) => report.console(bytes))
    for (const each of nics) {
      await attach(vm, each, devices, report)
      signal.throwIfAborted()
    }
    const ended = endOf(vm, { stdin, signal, closing })
    report.started({ kernel, smp, memory })
    vm.start()
    return { end: await ended, vcpus: vm.counters() }
  } finally {
    closing.run()
  }
}

async function attach(vm: Vm, { id, transport, vectors, options }: QemuNic, devices: Teardown, report: Reporter) {
  const ifname = options.backend.tap?.ifname
  const before = ifname === undefined ? undefined : linkOf(ifname)
  const nic = devices.own(await VirtioNet.open({ ...options, memory: vm.memory }))
  // A tap that was there before is somebody's, who has it up or not.
  if (ifname !== undefined && before === undefined) switchOn(nic.backend.ifname)
  nic.on('state', (status) => report.status(id, status))
  nic.on('fault', (fault) => report.fault(id, fault))
  if (transport === 'pci') vm.attachPci(nic, vectors === undefined ? {} : { vectors })
  else vm.attachMmio(nic)
  const { mac } = nic.inspect()
  report.nic({ id, transport, ifname: nic.backend.ifname, mac, queuePairs: nic.queuePairs })
}

function withNetlink<T>(operation: (netlink: RtNetlink) => T): T {
  const netlink = RtNetlink.open()
  try {
    return operation(netlink)
  } finally {
    netlink.close()
  }
}

const linkOf = (ifname: string): Link | undefined => withNetlink((netlink) => netlink.getLink({ ifname }))

function switchOn(ifname: string): void {
  withNetlink((netlink) => {
    const index = netlink.getLink({ ifname })?.index
    if (index !== undefined) netlink.setLink(index, { up: true })
  })
}

/** By itself, by its user, or by an abortion, whose reason rejects. */
function endOf(
  vm: Vm,
  { stdin, signal, closing }: Pick<Surroundings, 'stdin' | 'signal'> & { closing: Teardown },
): Promise<RunEnd> {
  return new Promise((resolve, reject) => {
    const abort = () => reject(signal.reason as Error)
    signal.addEventListener('abort', abort)
    closing.add(() => signal.removeEventListener('abort', abort))
    vm.once('end', resolve)
    const left = () => resolve({ why: 'left' })
    closing.add(readInput(stdin, { typed: (bytes) => vm.write(bytes), left }))
  })
}
