// A machine on KVM: processors, memory, a console, and virtio devices over MMIO.

import { EventEmitter } from 'node:events'
import { KVM_PIT_SPEAKER_DUMMY } from '../abi/kvm.ts'
import { InvalidOptionError, StateError } from '../errors.ts'
import {
  GuestBus,
  type KvmVcpu,
  type KvmVcpuState,
  KvmVm,
  type VcpuCounters,
  type VcpuEnd,
  type VcpuThread,
} from '../host/index.ts'
import { KvmDoorbells, KvmInterrupts } from '../kvm/index.ts'
import { GuestMemory, type NativeMemory } from '../memory/index.ts'
import { checkInteger, checkObject, checkString } from '../options.ts'
import type { PciFunctionState } from '../pci/index.ts'
import { Teardown } from '../teardown.ts'
import { VirtioMmioTransport, type VirtioPciTransport } from '../transport/index.ts'
import type { VirtioDevice } from '../virtio/index.ts'
import { type MmioDevice, writeTables } from './acpi/tables.ts'
import { loadBootFiles } from './boot.ts'
import { cpuidOf } from './cpuid.ts'
import { enterKernel, type KernelEntry } from './entry.ts'
import { KEYBOARD_CONTROLLER_PORT, KeyboardController } from './keyboard-controller.ts'
import { MEMORY_MAP, memoryRegions } from './memory-map.ts'
import { PciHost } from './pci-host.ts'
import { POWER, PowerRegisters } from './power.ts'
import { PVPANIC_PORT, PvPanic } from './pvpanic.ts'
import { writeResetVector } from './reset-vector.ts'
import { Rtc } from './rtc.ts'
import { Serial } from './serial.ts'

const MiB = 1 << 20
const MOST_MEMORY = 2 ** 40
/** As many as have a local APIC id of 8 bits. */
const MOST_CPUS = 64
const COM1 = { port: 0x3f8, gsi: 4 } as const
const RTC_PORT = 0x70
const POWER_PORT = 0x600
/** Interrupts of devices over MMIO: those below are a PC's own, those above the PCI bus's. */
const FIRST_GSI = 5
const LAST_GSI = 15
const MMIO_WINDOW = 0x1000

export interface VmOptions {
  /** What a distribution ships as vmlinuz (a bzImage), or a vmlinux with a PVH entry: the file's bytes say which. */
  kernel: string
  initrd?: string
  /** The kernel's command line. Default `'console=ttyS0'`. */
  append?: string
  /** Bytes of memory: whole MiB, at least 16 of them. Default 256 MiB. */
  memory?: number
  /** Processors, 1..64. Default 1. */
  smp?: number
}

/** Why a machine stopped by itself. */
export type VmEnd =
  | { readonly why: 'poweroff' }
  /** By its reset register, or by a triple fault: Linux does the latter with `reboot=t`, and when all else fails. */
  | { readonly why: 'reset' }
  /** Its kernel panicked, and said so: Linux does with the module pvpanic-mmio. */
  | { readonly why: 'panic' }
  /** A processor cannot go on. */
  | { readonly why: 'failed'; readonly vcpu: number; readonly end: VcpuEnd }

export interface VmEvents {
  /** What the guest wrote to its serial port. */
  console: [bytes: Uint8Array]
  /** It runs no more, and does not by itself. */
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

/** A machine. Attach its devices, and start it; whatever it runs ends with `close`. */
export class Vm extends EventEmitter<VmEvents> {
  readonly memory: NativeMemory
  readonly #vm: KvmVm
  readonly #bus: GuestBus
  readonly #pci: PciHost
  readonly #serial: Serial
  readonly #vcpus: KvmVcpu[] = []
  readonly #threads: VcpuThread[] = []
  readonly #devices: MmioDevice[] = []
  readonly #all = new Teardown()
  readonly #entry: KernelEntry
  #state: VmState['state'] = 'created'

  /**
   * Makes a machine, and puts its kernel into its memory.
   * @throws {InvalidOptionError} `ERR_OPTION_TYPE`, `ERR_OPTION_RANGE`, `ERR_OPTION_UNKNOWN`
   * @throws {BootError} `ERR_KERNEL_IMAGE`, `ERR_MEMORY_TOO_SMALL`
   * @throws {SystemCallError} `ENOENT`, `EACCES` and what else {@link KvmVm.create} throws; `ENOMEM`
   */
  constructor(options: VmOptions) {
    super()
    checkObject(options, ['kernel', 'initrd', 'append', 'memory', 'smp'])
    const kernel = checkString(options.kernel, 'kernel')
    const initrd = options.initrd === undefined ? undefined : checkString(options.initrd, 'initrd')
    const commandLine = checkString(options.append, 'append', 'console=ttyS0')
    const size = checkInteger(options.memory, 'memory', 16 * MiB, MOST_MEMORY, 256 * MiB)
    if (size % MiB !== 0) throw new InvalidOptionError('ERR_OPTION_RANGE', 'memory', 'must be whole MiB')
    const smp = checkInteger(options.smp, 'smp', 1, MOST_CPUS, 1)
    try {
      // Memory is made first, so that it goes last.
      this.memory = this.#all.own(GuestMemory.allocate({ regions: memoryRegions(size) }))
      this.#vm = this.#all.own(KvmVm.create())
      this.#vm.setIdentityMapAddr(MEMORY_MAP.identityMap)
      this.#vm.setTssAddr(MEMORY_MAP.tss)
      this.#vm.createIrqchip()
      this.#vm.createPit2(KVM_PIT_SPEAKER_DUMMY)
      this.#vm.addMemory(this.memory)
      this.#entry = loadBootFiles(this.memory, { kernel, initrd, commandLine })
      this.#bus = this.#all.own(new GuestBus())
      this.#serial = this.#all.own(new Serial((bytes) => this.emit('console', bytes)))
      this.#mapPc()
      this.#pci = this.#all.own(new PciHost(this.#vm, this.#bus))
      this.#createVcpus(smp)
    } catch (error) {
      this.#state = 'closed'
      throw this.#all.unwind(error)
    }
  }

  #mapPc(): void {
    this.#vm.assignIrqfd(this.#serial.interrupt, COM1.gsi)
    this.#bus.mapNative('ports', COM1.port, this.#serial)
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
   * Puts a virtio device into a slot of the PCI bus. One that is put there while the guest runs is found when the guest
   * looks: Linux does when it is told to (`/sys/bus/pci/rescan`). The device's memory is to be the machine's.
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
   * Puts a virtio device into the machine, over MMIO; before it starts. The device's memory is to be the machine's.
   * @throws {StateError} `ERR_ALREADY_ACTIVE`, `ERR_CLOSED`
   * @throws {InvalidOptionError} `ERR_OPTION_RANGE` where there is no interrupt left for it
   */
  attachMmio(device: VirtioDevice): VirtioMmioTransport {
    this.#assertOpen()
    if (this.#state !== 'created') throw new StateError('ERR_ALREADY_ACTIVE', 'the machine has been started')
    const index = this.#devices.length
    const gsi = checkInteger(FIRST_GSI + index, 'interrupt', FIRST_GSI, LAST_GSI)
    const address = MEMORY_MAP.virtioMmio + MMIO_WINDOW * index
    const interrupts = new KvmInterrupts(this.#vm, [gsi])
    const doorbells = new KvmDoorbells(this.#vm)
    const transport = this.#all.own(new VirtioMmioTransport(device, { interrupts, doorbells, address }))
    this.#bus.map('memory', address, transport)
    this.#devices.push({ address, size: MMIO_WINDOW, gsi })
    return transport
  }

  /** Begins at the kernel's entry. @throws {StateError} `ERR_ALREADY_ACTIVE`, `ERR_CLOSED` */
  start(): void {
    this.#assertOpen()
    if (this.#state !== 'created') throw new StateError('ERR_ALREADY_ACTIVE', 'the machine has been started')
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
      virtioMmio: this.#devices,
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
    if (this.#state !== 'running' && this.#state !== 'paused') return
    this.pause()
    this.#state = 'ended'
    this.#serial.flush()
    // Not within the guest's access.
    process.nextTick(() => this.emit('end', end))
  }

  /** Holds all processors: when it returns, none runs. */
  pause(): void {
    this.#assertOpen()
    for (const thread of this.#threads) thread.pause()
    if (this.#state === 'running') this.#state = 'paused'
  }

  /** Lets them run again. Does nothing where the machine has ended. */
  resume(): void {
    this.#assertOpen()
    if (this.#state !== 'paused') return
    this.#state = 'running'
    for (const thread of this.#threads) thread.resume()
  }

  /** Types at the guest's console. */
  write(bytes: Uint8Array | string): void {
    this.#assertOpen()
    this.#serial.write(typeof bytes === 'string' ? Buffer.from(bytes) : bytes)
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
      virtioMmio: this.#devices.map(({ address, gsi }) => ({ address, gsi })),
      pci: this.#pci.inspect(),
    }
  }

  #assertOpen(): void {
    if (this.#state === 'closed') throw new StateError('ERR_CLOSED', 'the machine is closed')
  }

  /** Stops it, whatever it is doing, and lets go of all it has; the devices are the caller's. Idempotent. */
  close(): void {
    if (this.#state === 'closed') return
    this.#state = 'closed'
    this.#all.run()
  }

  [Symbol.dispose](): void {
    this.close()
  }
}
