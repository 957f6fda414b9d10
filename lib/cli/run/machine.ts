// One run of `vhost-net run`: the machine, its NICs, its console, until it ends, and the undoing of all that.

import { once } from 'node:events'
import { pipeline } from 'node:stream/promises'
import type { ReadStream } from 'node:tty'
import { localMac } from '../../address.ts'
import { RtNetlink, type VcpuCounters } from '../../host/index.ts'
import type { QemuNic } from '../../interop/index.ts'
import { type BandwidthOptions, checkWhere, type PluggedLink, plug, type Where } from '../../network/index.ts'
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
  { kernel, initrd, append, smp, memory, nics: words }: RunOptions,
  { report, stdin, signal }: Surroundings,
): Promise<{ end: VmEnd; vcpus: VcpuCounters[] }> {
  // A tap that was there before is somebody's, who has it up or not.
  const theirs = withNetlink((netlink) => words.map((nic) => isThere(netlink, nic)))
  // What the words of a network leave to it, before anything is made.
  for (const { plug } of words) if (plug !== undefined) checkWhere(plug.where, plug.bandwidth)
  const closing = new AsyncTeardown()
  try {
    const nics = await makeMacvtaps(words, { signal, closing })
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
      const of = nics[i] as QemuNic
      if (!theirs[i]) switchOn(nic.backend.ifname)
      if (of.options.backend.macvtap === undefined) {
        const link = { ifname: nic.backend.ifname, mac: nic.inspect().mac, mtu: of.options.host_mtu }
        await plugIn(link, of.plug, { signal, closing })
      }
      announce(of, nic, report)
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

interface Plugging {
  signal: AbortSignal
  closing: AsyncTeardown
}

/** A NIC is opened over a macvtap that has its address already, and is closed before that is deleted. */
async function makeMacvtaps(nics: readonly QemuNic[], how: Plugging): Promise<QemuNic[]> {
  const ready: QemuNic[] = []
  for (const nic of nics) {
    const { mac = localMac(), host_mtu: mtu, backend } = nic.options
    if (backend.macvtap === undefined) {
      ready.push(nic)
      continue
    }
    await plugIn({ ifname: backend.macvtap.ifname, mac, mtu }, nic.plug, how)
    ready.push({ ...nic, options: { ...nic.options, mac } })
  }
  return ready
}

/** Taken back before what was opened earlier is closed. */
async function plugIn(link: PluggedLink, place: QemuNic['plug'], { signal, closing }: Plugging): Promise<void> {
  if (place === undefined) return
  const { where, bandwidth } = place as unknown as { where: Where; bandwidth?: BandwidthOptions }
  const plugged = await plug(link, where, { bandwidth, signal })
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
