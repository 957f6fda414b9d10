// A stock kernel of Debian on a machine of ours, with a shell on its console for commands to be typed into.

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { RtNetlink } from '../../lib/host/index.ts'
import { VirtioNet, type VirtioNetOptions } from '../../lib/nic.ts'
import { Teardown } from '../../lib/teardown.ts'
import { Vm, type VmEnd, type VmOptions } from '../../lib/vmm/index.ts'
import { type GuestKernelName, provideKernel } from '../lab/kernels.ts'
import { type CommandResult, ConsoleShell } from './console-shell.ts'
import { type GuestExtras, writeGuestInitramfs } from './initramfs.ts'

/**
 * Without `pci=noearly` a kernel that takes the lab's processor for an Opteron looks for its AGP bridge in every slot of 256
 * buses, twice (arch/x86/kernel/aperture_64.c): half of a boot.
 */
export const APPEND =
  'console=ttyS0 quiet panic=-1 mitigations=off no_timer_check tsc=reliable 8250.nr_uarts=1 i8042.noaux i8042.nokbd pci=noearly'
export const BOOT_SECONDS = 90

export type TransportName = 'pci' | 'mmio'

export interface GuestNicOptions extends Partial<Omit<VirtioNetOptions, 'memory' | 'backend'>> {
  ifname: string
  /** Of the tap, in the host. Default none. */
  address?: string
}

export interface StockGuestOptions extends Pick<VmOptions, 'smp' | 'memory'> {
  kernel: GuestKernelName
  /** Of that kernel. Default `'vmlinux'`: it need not unpack itself. */
  image?: 'vmlinux' | 'vmlinuz'
  /** With a queue pair for each processor, unless they say otherwise. */
  nics: readonly GuestNicOptions[]
  /** How its NICs are reached. Default PCI. */
  transport?: TransportName
  /** Further words for its kernel's command line. */
  append?: string
  extras?: GuestExtras
  /** How long it may take to boot. Default 90. */
  bootSeconds?: number
  /** How long a command may take of which nothing else is said. Default 60. */
  commandSeconds?: number
  /** Whether a report of failure has the state of the machine and its NICs. Default true. */
  explain?: boolean
  /** Hears what it writes to its console. */
  hear?: (bytes: Uint8Array) => void
  /** Whatever is awaited rejects with the reason of this one's abortion. */
  signal?: AbortSignal
}

/** The guest has eth0, eth1 … in the order of `nics`, without addresses, and down. */
export class StockGuest {
  readonly vm: Vm
  readonly nics: VirtioNet[]
  readonly netlink = RtNetlink.open()
  readonly #shell: ConsoleShell
  readonly #ended: Promise<VmEnd>
  readonly #plugged = new Teardown()

  private constructor(vm: Vm, { explain = true, signal, commandSeconds }: StockGuestOptions) {
    this.vm = vm
    this.nics = [...vm.nics]
    this.#ended = new Promise((resolve) => vm.once('end', resolve))
    const write = (text: string) => vm.console.write(text)
    this.#shell = new ConsoleShell({
      write,
      ended: this.#ended,
      ...(explain ? { explain: () => this.#explain() } : {}),
      ...(signal === undefined ? {} : { signal }),
      ...(commandSeconds === undefined ? {} : { seconds: commandSeconds }),
    })
    vm.console.on('data', (bytes: Buffer) => this.#shell.hear(bytes))
  }

  /** Everything it wrote to its console. */
  get console(): string {
    return this.#shell.text
  }

  static async boot(options: StockGuestOptions): Promise<StockGuest> {
    const { kernel: name, image = 'vmlinux', nics, transport = 'pci', smp = 1, memory = 512 << 20 } = options
    const { append = '', extras, bootSeconds = BOOT_SECONDS, hear } = options
    const kernel = await provideKernel(name)
    const directory = mkdtempSync(path.join(tmpdir(), 'guest-'))
    let guest: StockGuest | undefined
    try {
      const initrd = path.join(directory, 'initrd')
      writeGuestInitramfs(kernel, initrd, extras)
      const vm = await Vm.create({
        kernel: kernel[image],
        initrd,
        append: `${APPEND} ${append}`,
        smp,
        memory,
        nics: nics.map(({ ifname, address: _, ...settings }) => ({
          ...settings,
          transport,
          backend: { tap: { ifname } },
        })),
      })
      guest = new StockGuest(vm, options)
      if (hear !== undefined) vm.console.on('data', hear)
      for (const [i, nic] of nics.entries()) guest.#connect(nic, guest.nics[i] as VirtioNet)
      vm.start()
      await guest.#shell.ready(bootSeconds)
      return guest
    } catch (error) {
      guest?.close()
      throw error
    } finally {
      rmSync(directory, { recursive: true })
    }
  }

  /** Switches the tap on, with its address. */
  #connect({ address }: GuestNicOptions, { backend: { ifname } }: VirtioNet): void {
    const index = this.netlink.getLink({ ifname })?.index as number
    if (address !== undefined) this.netlink.addAddress(index, { address, prefixLength: 24 })
    this.netlink.setLink(index, { up: true })
  }

  /** One NIC more, for a slot of the running machine. It is closed with the guest. */
  async open(nic: GuestNicOptions): Promise<VirtioNet> {
    const { ifname, address: _, ...options } = nic
    const { memory } = this.vm
    const opened = this.#plugged.own(await VirtioNet.open({ ...options, memory, backend: { tap: { ifname } } }))
    this.nics.push(opened)
    this.#connect(nic, opened)
    return opened
  }

  /** Types a command. @returns what it printed, and its status */
  try(command: string, seconds?: number): Promise<CommandResult> {
    return this.#shell.try(command, seconds)
  }

  /** The same for a command that is to succeed. @returns what it printed */
  run(command: string, seconds?: number): Promise<string> {
    return this.#shell.run(command, seconds)
  }

  /** Types a line to a program that runs in the foreground. @returns what it printed up to the end of `pattern` */
  say(line: string, pattern: RegExp, seconds?: number): Promise<string> {
    return this.#shell.say(line, pattern, seconds)
  }

  /** What it prints of itself since its last answer, up to the end of `pattern`. */
  hears(pattern: RegExp, seconds?: number): Promise<string> {
    return this.#shell.hears(pattern, seconds)
  }

  /** How its machine ended, within so many seconds. */
  async end(seconds: number): Promise<VmEnd> {
    const abort = new AbortController()
    const late = setTimeout(seconds * 1000, undefined, { signal: abort.signal }).catch(() => undefined)
    const end = await Promise.race([this.#ended, late])
    abort.abort()
    if (end === undefined) throw new Error(`the guest runs on. ${this.#shell.report()}`)
    return end
  }

  /** Its processors are held for that. */
  #explain(): string {
    if (this.vm.inspect().state !== 'closed') this.vm.pause()
    return JSON.stringify([this.vm.inspect(), ...this.nics.map((nic) => nic.inspect())], null, 1)
  }

  /** Its devices are used by the machine's transports, which go first. */
  close(): void {
    const all = new Teardown()
    all.own(this.netlink)
    // They are used by the machine's transports, which go first.
    all.add(() => this.#plugged.run())
    all.own(this.vm)
    all.run()
  }
}
