// A machine on KVM: processors, memory, a console, and virtio devices on PCI or over MMIO.

import { EventEmitter } from 'node:events'
import type { Duplex } from 'node:stream'
import { KVM_PIT_SPEAKER_DUMMY } from '../abi/kvm.ts'
import { StateError } from '../errors.ts'
import {
  GuestBus,
  type KvmVcpu,
  type KvmVcpuState,
  KvmVm,
  type VcpuCounters,
  type VcpuEnd,
  type VcpuThread,
} from '../host/index.ts'
import { GuestMemory, type NativeMemory } from '../memory/index.ts'
import { VirtioNet } from '../nic.ts'
import type { PciFunctionState } from '../pci/index.ts'
import { Teardown } from '../teardown.ts'
import type { VirtioMmioTransport, VirtioPciTransport } from '../transport/index.ts'
import type { VirtioDevice } from '../virtio/index.ts'
import { writeTables } from './acpi/tables.ts'
import { loadBootFiles } from './boot.ts'
import { Console } from './console.ts'
import { cpuidOf } from './cpuid.ts'
import { enterKernel, type KernelEntry } from './entry.ts'
import { KEYBOARD_CONTROLLER_PORT, KeyboardController } from './keyboard-controller.ts'
import { MEMORY_MAP, memoryRegions } from './memory-map.ts'
import { MmioHost } from './mmio-host.ts'
import { type CheckedNic, type CheckedVm, checkVmOptions, type VmOptions } from './options.ts'
import { PciHost } from './pci-host.ts'
import { POWER, PowerRegisters } from './power.ts'
import { PVPANIC_PORT, PvPanic } from './pvpanic.ts'
import { writeResetVector } from './reset-vector.ts'
import { Rtc } from './rtc.ts'
import { Serial } from './serial.ts'

const COM1 = { port: 0x3f8, gsi: 4 } as const
const RTC_PORT = 0x70
const POWER_PORT = 0x600

/** Why a machine runs no more. */
export type VmEnd =
  | { readonly why: 'poweroff' }
  /** By its reset register, or by a triple fault: Linux does the latter with `reboot=t`, and when all else fails. */
  | { readonly why: 'reset' }
  /** Its kernel panicked, and said so: Linux does with the module pvpanic-mmio. */
  | { readonly why: 'panic' }
  /** A processor cannot go on. */
  | { readonly why: 'failed'; readonly vcpu: number; readonly end: VcpuEnd }
  /** By {@link Vm.stop}. */
  | { readonly why: 'stopped' }

export interface VmEvents {
  /** It runs no more, and never will. What it wrote last is on its console by then. */
  end: [end: VmEnd]
}

/** What a machine is now; JSON-safe. */
export interface VmState {
  state: 'created' | 'running' | 'paused' | 'ended' | 'closed'
  /** Bytes. */
  memory: number
  /** Of each processor what it did, and where it stands; null while it runs. */
  vcpus: { counters: VcpuCounters; stands: KvmVcpuState | null }[]
  /** Devices over MMIO, in the order in which they were attached. */
  virtioMmio: { address: number; gsi: number }[]
  /** What is in each slot of its PCI bus. */
  pci: Record<number, PciFunctionState>
}

/** A machine. Create it, start it; whatever it runs ends with `close`, and so do its NICs. */
export class Vm extends EventEmitter<VmEvents> {
  readonly memory: NativeMemory
  /** What its guest writes to its serial port, and what is typed there. */
  readonly console: Duplex
  /** Those of the options, in their order. */
  readonly nics: readonly VirtioNet[]
  readonly #console: Console
  readonly #vm: KvmVm
  readonly #bus: GuestBus
  readonly #mmio: MmioHost
  readonly #pci: PciHost
  readonly #vcpus: KvmVcpu[] = []
  readonly #threads: VcpuThread[] = []
  readonly #nics: VirtioNet[] = []
  readonly #all = new Teardown()
  readonly #entry: KernelEntry
  #state: VmState['state'] = 'created'

  private constructor(options: CheckedVm) {
    super()
    this.nics = this.#nics
    try {
      const { size, ...backing } = options.memory
      // Memory is made first, so that it goes last; NICs go before it, and after the transports that use them.
      this.memory = this.#all.own(GuestMemory.allocate({ ...backing, regions: memoryRegions(size) }))
      this.#all.add(() => this.#closeNics())
      this.#vm = this.#all.own(KvmVm.create())
      this.#vm.setIdentityMapAddr(MEMORY_MAP.identityMap)
      this.#vm.setTssAddr(MEMORY_MAP.tss)
      this.#vm.createIrqchip()
      this.#vm.createPit2(KVM_PIT_SPEAKER_DUMMY)
      this.#vm.addMemory(this.memory)
      this.#entry = loadBootFiles(this.memory, options)
      this.#bus = this.#all.own(new GuestBus())
      const serial = this.#all.own(new Serial(() => this.#console.service()))
      this.#console = new Console(serial)
      this.#all.add(() => this.#console.finish())
      this.console = this.#console
      this.#mapPc(serial)
      this.#mmio = this.#all.own(new MmioHost(this.#vm, this.#bus))
      this.#pci = this.#all.own(new PciHost(this.#vm, this.#bus))
      this.#createVcpus(options.smp)
    } catch (error) {
      this.#state = 'closed'
      throw this.#all.unwind(error)
    }
  }

  /**
   * Makes a machine with its NICs, and puts its kernel into its memory. Rejects, with everything undone, with
   * {@link InvalidOptionError} `ERR_OPTION_*`, before anything is made where no file and no tap need be looked at;
   * {@link BootError} `ERR_KERNEL_IMAGE`, `ERR_MEMORY_TOO_SMALL`; {@link SystemCallError} `ENOENT`, `EACCES` and what else
   * {@link KvmVm.create} and {@link VirtioNet.open} throw, `ENOMEM`.
   */
  static async create(options: VmOptions): Promise<Vm> {
    const checked = checkVmOptions(options)
    const vm = new Vm(checked)
    try {
      for (const nic of checked.nics) await vm.#addNic(nic)
      return vm
    } catch (error) {
      vm.#state = 'closed'
      throw vm.#all.unwind(error)
    }
  }

  async #addNic({ transport, vectors, options }: CheckedNic): Promise<void> {
    const nic = await VirtioNet.open({ ...options, memory: this.memory })
    this.#nics.push(nic)
    if (transport === 'pci') this.#pci.attach(nic, vectors)
    else this.#mmio.attach(nic)
  }

  #closeNics(): void {
    const all = new Teardown()
    for (const nic of this.#nics) all.own(nic)
    all.run()
  }

  #mapPc(serial: Serial): void {
    this.#vm.assignIrqfd(serial.interrupt, COM1.gsi)
    this.#bus.mapNative('ports', COM1.port, serial)
    this.#bus.mapNative('ports', RTC_PORT, this.#all.own(new Rtc()))
    this.#bus.map('ports', POWER_PORT, new PowerRegisters((why) => this.#end({ why })))
    this.#bus.map('ports', KEYBOARD_CONTROLLER_PORT, new KeyboardController(() => this.#end({ why: 'reset' })))
    this.#bus.map('ports', PVPANIC_PORT, new PvPanic(() => this.#end({ why: 'panic' })))
  }

  #createVcpus(smp: number): void {
    const supported = KvmVm.supportedCpuid()
    for (let id = 0; id < smp; id++) {
      const vcpu = this.#all.own(this.#vm.createVcpu(id))
      vcpu.setCpuid(cpuidOf(supported, { apicId: id, cpus: smp }))
      this.#vcpus.push(vcpu)
    }
  }

  /**
   * Puts a virtio device of yours into a slot of the PCI bus. One that is put there while the guest runs is found when the
   * guest looks: Linux does when it is told to (`/sys/bus/pci/rescan`). The device's memory is to be the machine's.
   * @param options.vectors of MSI-X. Default one for each queue and one for the configuration: 2N + 2 of a network device
   *   with N pairs.
   * @throws {StateError} `ERR_CLOSED`
   * @throws {InvalidOptionError} `ERR_OPTION_RANGE`, `ERR_OPTION_CONFLICT` where no slot is left
   * @throws {SystemCallError} what KVM says
   */
  attachPci(device: VirtioDevice, { vectors }: { vectors?: number } = {}): VirtioPciTransport {
    this.#assertOpen()
    return this.#pci.attach(device, vectors)
  }

  /** Takes one out again, whatever the guest does with it. @throws {StateError} `ERR_CLOSED` */
  detachPci(transport: VirtioPciTransport): void {
    this.#assertOpen()
    this.#pci.detach(transport)
  }

  /**
   * Puts a virtio device of yours into the machine, over MMIO; before it starts. Its memory is to be the machine's.
   * @throws {StateError} `ERR_ALREADY_ACTIVE`, `ERR_CLOSED`
   * @throws {InvalidOptionError} `ERR_OPTION_RANGE` where there is no interrupt left for it
   */
  attachMmio(device: VirtioDevice): VirtioMmioTransport {
    this.#assertUnstarted()
    return this.#mmio.attach(device)
  }

  /** Begins at the kernel's entry. @throws {StateError} `ERR_ALREADY_ACTIVE`, `ERR_CLOSED` */
  start(): void {
    this.#assertUnstarted()
    const power = {
      sleepControl: POWER_PORT + POWER.sleepControl,
      sleepStatus: POWER_PORT + POWER.sleepStatus,
      reset: POWER_PORT + POWER.reset,
      resetValue: POWER.resetValue,
      sleepTypeOff: POWER.sleepTypeOff,
    }
    writeTables(this.memory, {
      cpus: this.#vcpus.length,
      serial: COM1,
      pvpanic: PVPANIC_PORT,
      power,
      virtioMmio: this.#mmio.devices,
      pci: this.#pci.description,
    })
    writeResetVector(this.memory, power)
    enterKernel(this.#vcpus[0] as KvmVcpu, this.#entry)
    for (const vcpu of this.#vcpus) {
      this.#threads.push(this.#all.own(vcpu.start(this.#bus, (end) => this.#vcpuEnded(vcpu.id, end))))
    }
    this.#state = 'paused'
    this.resume()
  }

  #vcpuEnded(vcpu: number, end: VcpuEnd): void {
    const reset = end.why === 'exit' && end.exit === 'KVM_EXIT_SHUTDOWN'
    this.#end(reset ? { why: 'reset' } : { why: 'failed', vcpu, end })
  }

  #end(end: VmEnd): void {
    if (this.#state === 'ended' || this.#state === 'closed') return
    this.pause()
    this.#state = 'ended'
    // Not within the guest's access.
    process.nextTick(() => {
      this.#console.finish()
      this.emit('end', end)
    })
  }

  /** Holds all processors: when it returns, none runs. Does nothing where it does not run. @throws {StateError} `ERR_CLOSED` */
  pause(): void {
    this.#assertOpen()
    for (const thread of this.#threads) thread.pause()
    if (this.#state === 'running') this.#state = 'paused'
  }

  /** Lets them run again. Does nothing where it is not paused. @throws {StateError} `ERR_CLOSED` */
  resume(): void {
    this.#assertOpen()
    if (this.#state !== 'paused') return
    this.#state = 'running'
    for (const thread of this.#threads) thread.resume()
  }

  /**
   * Ends it for good, whatever its guest is doing, as if its plug was pulled; what it was can still be looked at, until
   * `close`. Does nothing where it has ended. @throws {StateError} `ERR_CLOSED`
   */
  stop(): void {
    this.#assertOpen()
    this.#end({ why: 'stopped' })
  }

  /** What each processor did so far. */
  counters(): VcpuCounters[] {
    return this.#threads.map((thread) => thread.counters())
  }

  /** What it is now. */
  inspect(): VmState {
    const standing = this.#state === 'paused' || this.#state === 'ended'
    return {
      state: this.#state,
      memory: this.memory.regions.reduce((sum, { size }) => sum + size, 0),
      vcpus: this.#threads.map((thread, i) => ({
        counters: thread.counters(),
        stands: standing ? (this.#vcpus[i] as KvmVcpu).inspect() : null,
      })),
      virtioMmio: this.#mmio.devices.map(({ address, gsi }) => ({ address, gsi })),
      pci: this.#pci.inspect(),
    }
  }

  #assertOpen(): void {
    if (this.#state === 'closed') throw new StateError('ERR_CLOSED', 'the machine is closed')
  }

  #assertUnstarted(): void {
    this.#assertOpen()
    if (this.#state !== 'created') throw new StateError('ERR_ALREADY_ACTIVE', 'the machine has been started')
  }

  /**
   * Stops it, whatever it is doing, and lets go of all it has, NICs of its options included; devices that were attached are
   * the caller's. Its console ends; no `end` comes. Idempotent.
   */
  close(): void {
    if (this.#state === 'closed') return
    this.#state = 'closed'
    this.#all.run()
  }

  [Symbol.dispose](): void {
    this.close()
  }
}
