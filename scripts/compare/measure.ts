// The features of NICs on both machines, each with its options of OPTION_SETS, as the same guest finds them.

import { spawnSync } from 'node:child_process'
import { release } from 'node:os'
import { QEMU, QemuGuest } from '../../test/support/qemu-guest.ts'
import { StockGuest } from '../guest/stock-guest.ts'
import { type KernelName, provideKernel } from '../lab/kernels.ts'
import { readGuestFeatures } from './guest-features.ts'
import { OPTION_SETS } from './option-sets.ts'
import { qemuNic } from './qemu-words.ts'

/** Feature sets are written as `'0x…'`. */
export interface NicFeatures {
  readonly offered: string
  readonly accepted: string
  readonly driven: boolean
}

export interface OurFeatures extends NicFeatures {
  /** The same as the device itself has it. */
  readonly device: { readonly offered: string; readonly accepted: string }
}

/** JSON-safe. */
export interface Measurement {
  /** What `uname -r` says, of the host and of the guest. */
  readonly host: string
  readonly guest: string
  /** `'7.2.22'` */
  readonly qemu: string
  /** In the order of OPTION_SETS. */
  readonly ours: readonly OurFeatures[]
  readonly theirs: readonly NicFeatures[]
}

const hex = (set: bigint): string => `0x${set.toString(16)}`

export async function measureOurs(kernel: KernelName): Promise<OurFeatures[]> {
  const nics = OPTION_SETS.map(({ options }, i) => ({ ...options, ifname: `ours${i}`, address: `10.6.${i}.1` }))
  const guest = await StockGuest.boot({ kernel, nics, transport: 'mmio' })
  try {
    // Before the guest lets go of them.
    const device = guest.nics.map(({ offered, accepted }) => ({ offered: hex(offered), accepted: hex(accepted) }))
    const found = await readGuestFeatures(guest)
    return found.map(({ offered, accepted, driven }, i) => ({
      offered: hex(offered),
      accepted: hex(accepted),
      driven,
      device: device[i]!,
    }))
  } finally {
    guest.close()
  }
}

export async function measureQemu(kernel: KernelName): Promise<NicFeatures[]> {
  const devices = OPTION_SETS.flatMap(({ options }, i) => qemuNic(i, `qemu${i}`, options))
  const guest = await QemuGuest.boot({ kernel, devices })
  try {
    const found = await readGuestFeatures(guest.shell)
    return found.map(({ offered, accepted, driven }) => ({ offered: hex(offered), accepted: hex(accepted), driven }))
  } finally {
    await guest.close()
  }
}

/** @returns what surrounds the figures */
export async function describeMachines(kernel: KernelName): Promise<Pick<Measurement, 'host' | 'guest' | 'qemu'>> {
  const { stdout, error } = spawnSync(QEMU, ['--version'], { encoding: 'utf8' })
  if (error !== undefined) throw error
  const [, qemu = 'unknown'] = /version (\d+\.\d+\.\d+)/.exec(stdout) ?? []
  return { host: release(), guest: (await provideKernel(kernel)).release, qemu }
}
