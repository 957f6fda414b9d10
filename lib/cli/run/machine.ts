// One run of `vhost-net run`: the machine, its NICs, its console, until it ends, and the undoing of all that.

import { once } from 'node:events'
import { pipeline } from 'node:stream/promises'
import type { ReadStream } from 'node:tty'
import { RtNetlink, type VcpuCounters } from '../../host/index.ts'
import type { QemuNic } from '../../interop/index.ts'
import { checkWhere, plug, type Where } from '../../network/index.ts'
import type { VirtioNet } from '../../nic.ts'
import { AsyncTeardown } from '../../teardown.ts'
import { Vm, type VmEnd } from '../../vmm/index.ts'
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
): Promise<{ end: VmEnd; vcpus: VcpuCounters[] }> {
  // A tap that was there before is somebody's, who has it up or not.
  const theirs = withNetlink((netlink) => nics.map((nic) => isThere(netlink, nic)))
  // What the words of a network leave to it, before anything is made.
  for (const nic of nics) if (nic.plug !== undefined) checkWhere(nic.plug)
  const closing = new AsyncTeardown()
  try {
    const vm = closing.own(
      await Vm.create({
        kernel,
        append,
        smp,
        memory,
        ...(initrd === undefined ? {} : { initrd }),
        nics: nics.map(({ transport, vectors, options }) => ({
          ...options,
          transport,
          ...(vectors === undefined ? {} : { vectors }),
        })),
      }),
    )
    signal.throwIfAborted()
    for (const [i, nic] of vm.nics.entries()) {
      if (!theirs[i]) switchOn(nic.backend.ifname)
      await plugIn(nics[i] as QemuNic, nic, { signal, closing })
      announce(nics[i] as QemuNic, nic, report)
    }
    const starting = () => report.started({ kernel, smp, memory: memory.size })
    return { end: await untilEnd(vm, { report, stdin, signal, closing, starting }), vcpus: vm.counters() }
  } finally {
    await closing.run()
  }
}

function announce({ id, transport }: QemuNic, nic: VirtioNet, report: Reporter): void {
  nic.on('state', (status) => report.status(id, status))
  nic.on('fault', (fault) => report.fault(id, fault))
  const { mac } = nic.inspect()
  report.nic({ id, transport, ifname: nic.backend.ifname, mac, queuePairs: nic.queuePairs })
}

/** Taken back before the tap is closed. */
async function plugIn(
  { plug: where, options }: QemuNic,
  nic: VirtioNet,
  { signal, closing }: { signal: AbortSignal; closing: AsyncTeardown },
): Promise<void> {
  if (where === undefined) return
  const { mac } = nic.inspect()
  const link = { ifname: nic.backend.ifname, mac, mtu: options.host_mtu }
  const plugged = await plug(link, where as unknown as Where, { signal })
  closing.add(() => plugged.unplug())
}

function withNetlink<T>(operation: (netlink: RtNetlink) => T): T {
  const netlink = RtNetlink.open()
  try {
    return operation(netlink)
  } finally {
    netlink.close()
  }
}

function isThere(netlink: RtNetlink, { options }: QemuNic): boolean {
  const ifname = options.backend.tap?.ifname
  // Fds are of a tap that somebody made.
  return ifname === undefined || netlink.getLink({ ifname }) !== undefined
}

function switchOn(ifname: string): void {
  withNetlink((netlink) => {
    const index = netlink.getLink({ ifname })?.index
    if (index !== undefined) netlink.setLink(index, { up: true })
  })
}

/** Runs it until it ends by itself, or its user leaves it; what it wrote is passed on by then. */
async function untilEnd(
  vm: Vm,
  { report, stdin, signal, closing, starting }: Surroundings & { closing: AsyncTeardown; starting: () => void },
): Promise<VmEnd> {
  const copied = pipeline(vm.console, report.console, { signal })
  const ended = once(vm, 'end', { signal }) as Promise<[VmEnd]>
  closing.add(readInput(stdin, vm.console, () => vm.stop()))
  // By now every key is the guest's.
  starting()
  vm.start()
  try {
    const [[end]] = await Promise.all([ended, copied])
    return end
  } catch (error) {
    throw signal.aborted ? signal.reason : error
  }
}
