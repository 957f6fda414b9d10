// A stock kernel of Debian on QEMU's machine: NICs over virtio-mmio on vhost-net, and a shell on its console.

import { type ChildProcessByStdio, spawn } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import type { Readable, Writable } from 'node:stream'
import { text } from 'node:stream/consumers'
import { ConsoleShell } from '../../scripts/guest/console-shell.ts'
import { writeGuestInitramfs } from '../../scripts/guest/initramfs.ts'
import { type KernelName, provideKernel } from '../../scripts/lab/kernels.ts'

export const QEMU = 'qemu-system-x86_64'

const MACHINE = [
  ...['-M', 'microvm,pit=off,pic=off,rtc=off,ioapic2=off', '-accel', 'kvm', '-cpu', 'host', '-smp', '1', '-m', '512'],
  ...['-nodefaults', '-no-user-config', '-display', 'none', '-no-reboot', '-serial', 'stdio'],
  // Its virtio-mmio is of the first version by default.
  ...['-global', 'virtio-mmio.force-legacy=false'],
]
const APPEND = 'console=ttyS0 quiet panic=-1 mitigations=off tsc=reliable'
const BOOT_SECONDS = 120

export interface QemuGuestOptions {
  kernel: KernelName
  /** Arguments of QEMU that make its devices. */
  devices: readonly string[]
}

export class QemuGuest {
  readonly shell: ConsoleShell
  readonly #child: ChildProcessByStdio<Writable, Readable, Readable>
  readonly #ended: Promise<void>

  private constructor(args: readonly string[]) {
    const child = spawn(QEMU, args, { stdio: ['pipe', 'pipe', 'pipe'] })
    this.#child = child
    const complaint = text(child.stderr)
    this.#ended = new Promise((resolve) => {
      child.once('error', (error) => {
        this.shell.hear(Buffer.from(`${QEMU}: ${error.message}\n`))
        resolve()
      })
      child.once('close', async () => {
        this.shell.hear(Buffer.from(await complaint))
        resolve()
      })
    })
    this.shell = new ConsoleShell({ write: (typed) => child.stdin.write(typed), ended: this.#ended })
    child.stdout.on('data', (bytes: Buffer) => this.shell.hear(bytes))
  }

  static async boot({ kernel: name, devices }: QemuGuestOptions): Promise<QemuGuest> {
    const kernel = await provideKernel(name)
    const directory = mkdtempSync(path.join(tmpdir(), 'guest-'))
    let guest: QemuGuest | undefined
    try {
      const initrd = path.join(directory, 'initrd')
      writeGuestInitramfs(kernel, initrd)
      const boot = ['-kernel', kernel.vmlinux, '-initrd', initrd, '-append', APPEND]
      guest = new QemuGuest([...MACHINE, ...boot, ...devices])
      await guest.shell.ready(BOOT_SECONDS)
      return guest
    } catch (error) {
      await guest?.close()
      throw error
    } finally {
      rmSync(directory, { recursive: true })
    }
  }

  /** Ends QEMU, and with it the taps that it made. */
  async close(): Promise<void> {
    this.#child.kill('SIGKILL')
    await this.#ended
  }
}
