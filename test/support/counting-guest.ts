// A guest of a few instructions whose processors take interrupts and count them: in real mode, with x2APIC, asleep between
// one interrupt and the next.

import assert from 'node:assert/strict'
import { KVM_SEGMENT, KVM_SREGS } from '../../lib/abi/kvm.ts'
import { EventFd, type Message, watchReadable } from '../../lib/event/index.ts'
import { GuestBus, type KvmVcpu, KvmVm, type VcpuEnd } from '../../lib/host/index.ts'
import { GsiRoutes, KvmDoorbells } from '../../lib/kvm/index.ts'
import { GuestMemory, type NativeMemory } from '../../lib/memory/index.ts'
import { Teardown } from '../../lib/teardown.ts'

const VECTORS = 256
/** Where the processors begin, a page for each: a startup IPI names a page. */
const CODE = 0x1000
const HANDLERS = 0x4000
const HANDLER_SIZE = 16
/** Behind them: what all of them end with. */
const END = HANDLERS + HANDLER_SIZE * VECTORS
const STACKS = 0x7000
const STACK_SIZE = 0x400
/** For each processor a word for each vector. */
const COUNTERS = 0x8000
const COUNTERS_SIZE = 4 * VECTORS
/** No memory lies there: a write is a doorbell. */
const DOORBELL = 0xc_0000
/** Of the lowest priority class that a message can have, so that a local APIC delivers all others first. */
const SETTLING_VECTOR = 0x20
/** Of a machine that stands still, not of one that is slow. */
const DEADLINE_MS = 30_000

const IA32_APIC_BASE = 0x1b
const X2APIC_ENABLED = 0xc00
const X2APIC_EOI = 0x80b
const X2APIC_SIVR = 0x80f
const X2APIC_ICR = 0x830
const INIT = 0x4500
const STARTUP = 0x4600

const word = (value: number): number[] => [value & 0xff, value >> 8]
const long = (value: number): number[] => [...word(value & 0xffff), ...word(value >>> 16)]
const mov = {
  ax: (value: number): number[] => [0xb8, ...word(value)],
  sp: (value: number): number[] => [0xbc, ...word(value)],
  eax: (value: number): number[] => [0x66, 0xb8, ...long(value)],
  ecx: (value: number): number[] => [0x66, 0xb9, ...long(value)],
  edx: (value: number): number[] => [0x66, 0xba, ...long(value)],
  ssFromAx: [0x8e, 0xd0],
  dsFromAx: [0x8e, 0xd8],
  esFromAx: [0x8e, 0xc0],
}
const RDMSR = [0x0f, 0x32]
const WRMSR = [0x0f, 0x30]
const IRET = [0xcf]

const writeMsr = (msr: number, low: number, high = 0): number[] => [
  ...mov.ecx(msr),
  ...mov.eax(low),
  ...mov.edx(high),
  ...WRMSR,
]

/** Nobody needs the registers but handlers. */
const end = [...writeMsr(X2APIC_EOI, 0), ...IRET]

const count = (vector: number): number[] => [0x66, 0xff, 0x06, ...word(4 * vector)] // inc dword [4 * vector]
const ring = [0x26, 0xa2, ...word(0)] // mov es:[0], al

function handler(vector: number): number[] {
  const body = [...count(vector), ...(vector === SETTLING_VECTOR ? ring : []), 0xe9] // jmp
  const next = HANDLERS + HANDLER_SIZE * vector + body.length + 2
  return [...body, ...word(END - next)]
}

/** Where a processor begins: the first one starts the others. */
function beginning(cpu: number, cpus: number): number[] {
  const others = cpu === 0 ? Array.from({ length: cpus - 1 }, (_, i) => i + 1) : []
  return [
    ...[...mov.ax(0), ...mov.ssFromAx, ...mov.sp(STACKS + STACK_SIZE * (cpu + 1))],
    ...[...mov.ax((COUNTERS + COUNTERS_SIZE * cpu) >> 4), ...mov.dsFromAx],
    ...[...mov.ax(DOORBELL >> 4), ...mov.esFromAx],
    ...[...mov.ecx(IA32_APIC_BASE), ...RDMSR, 0x66, 0x0d, ...long(X2APIC_ENABLED), ...WRMSR], // or eax, X2APIC_ENABLED
    ...writeMsr(X2APIC_SIVR, 0x1ff),
    ...others.flatMap((id) => [
      ...writeMsr(X2APIC_ICR, INIT, id),
      ...writeMsr(X2APIC_ICR, STARTUP | (addressOf(id) >> 12), id),
    ]),
    ...count(SETTLING_VECTOR),
    ...ring,
    ...[0xfb, 0xf4, 0xeb, 0xfd], // sti; hlt; jmp to the hlt
  ]
}

function addressOf(cpu: number): number {
  return CODE + 0x1000 * cpu
}

function writeProgram(memory: NativeMemory, cpus: number): void {
  for (let cpu = 0; cpu < cpus; cpu++) memory.write(addressOf(cpu), Uint8Array.from(beginning(cpu, cpus)))
  for (let vector = 0; vector < VECTORS; vector++) {
    const at = HANDLERS + HANDLER_SIZE * vector
    memory.write(at, Uint8Array.from(handler(vector)))
    memory.write(4 * vector, Uint8Array.from([...word(at), ...word(0)]))
  }
  memory.write(END, Uint8Array.from(end))
}

/** One round of waiting for all processors. */
interface Round {
  readonly resolve: () => void
  readonly reject: (error: Error) => void
}

export class CountingGuest {
  readonly vm: KvmVm
  readonly routes: GsiRoutes
  /** How often each processor took each vector, modulo 2³²: at `256 * cpu + vector`. */
  readonly counts: Uint32Array
  /** By processor: what interrupts it for it to settle. */
  readonly #calls: readonly EventFd[]
  readonly #all = new Teardown()
  /** Rounds so far: the first one is that of the processors' start. */
  #rounds = 1
  #round: Round | undefined
  #end: VcpuEnd | undefined

  private constructor(cpus: number) {
    try {
      this.vm = this.#all.own(KvmVm.create())
      this.vm.createIrqchip()
      const memory = this.#all.own(GuestMemory.allocate({ size: 0x10000 }))
      this.vm.addMemory(memory)
      writeProgram(memory, cpus)
      this.counts = new Uint32Array(memory.window(COUNTERS, COUNTERS_SIZE * cpus).buffer)
      this.routes = new GsiRoutes(this.vm)
      const rung = this.#all.own(EventFd.create('the doorbell'))
      new KvmDoorbells(this.vm).assign({ address: DOORBELL }, rung)
      const watch = watchReadable(rung, () => {
        rung.read()
        this.#look()
      })
      this.#all.add(() => watch.stop())
      this.#calls = this.#connect(cpus)
      this.#run(cpus)
    } catch (error) {
      throw this.#all.unwind(error)
    }
  }

  /** With all processors asleep, ready for interrupts. */
  static async start(cpus: number): Promise<CountingGuest> {
    const guest = new CountingGuest(cpus)
    try {
      await guest.#untilSettled()
    } catch (error) {
      guest.close()
      throw error
    }
    return guest
  }

  #connect(cpus: number): EventFd[] {
    return Array.from({ length: cpus }, (_, cpu) => {
      const call = this.#all.own(EventFd.create(`settling ${cpu}`))
      const [gsi] = this.routes.allocate(1) as [number]
      this.routes.setMessage(gsi, messageTo(cpu, SETTLING_VECTOR))
      this.routes.commit()
      this.vm.assignIrqfd(call, gsi)
      this.#all.add(() => this.vm.deassignIrqfd(call, gsi))
      return call
    })
  }

  #run(cpus: number): void {
    const bus = this.#all.own(new GuestBus())
    const supported = KvmVm.supportedCpuid()
    const vcpus = Array.from({ length: cpus }, (_, id) => this.#all.own(this.vm.createVcpu(id)))
    for (const vcpu of vcpus) vcpu.setCpuid(supported)
    const [first] = vcpus as [KvmVcpu]
    const system = first.getSystemRegisters()
    const view = new DataView(system.buffer)
    view.setBigUint64(KVM_SREGS.segments.cs, 0n, true)
    view.setUint16(KVM_SREGS.segments.cs + KVM_SEGMENT.selector, 0, true)
    first.setSystemRegisters(system)
    first.setRegisters({ rip: BigInt(addressOf(0)), rflags: 2n })
    for (const vcpu of vcpus) {
      const thread = this.#all.own(vcpu.start(bus, (ended) => this.#ended(ended)))
      thread.resume()
    }
  }

  #ended(end: VcpuEnd): void {
    this.#end ??= end
    this.#round?.reject(new Error(`a processor ended: ${JSON.stringify(end)}`))
  }

  /**
   * Resolves once every processor has taken all interrupts that its local APIC had when this was called: with the lowest
   * priority of all, this one comes last. One call at a time.
   */
  async settled(): Promise<void> {
    this.#rounds++
    for (const call of this.#calls) call.signal()
    await this.#untilSettled()
  }

  async #untilSettled(): Promise<void> {
    assert.equal(this.#round, undefined)
    assert.equal(this.#end, undefined)
    let timer: NodeJS.Timeout | undefined
    try {
      await new Promise<void>((resolve, reject) => {
        this.#round = { resolve, reject }
        timer = setTimeout(() => reject(new Error(`the guest did not settle within ${DEADLINE_MS} ms`)), DEADLINE_MS)
        this.#look()
      })
    } finally {
      clearTimeout(timer)
      this.#round = undefined
    }
  }

  #look(): void {
    const settled = this.#calls.every((_, cpu) => this.counts[VECTORS * cpu + SETTLING_VECTOR] === this.#rounds >>> 0)
    if (settled) this.#round?.resolve()
  }

  close(): void {
    this.#all.run()
  }
}

/** A message to the local APIC of one processor (Intel SDM volume 3, section 12.11): fixed, edge-triggered. */
export function messageTo(cpu: number, vector: number): Message {
  return { address: BigInt(0xfee0_0000 + (cpu << 12)), data: vector }
}
