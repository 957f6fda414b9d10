// What a Linux guest knows of the features of its virtio devices over MMIO, told by its shell.

import { VIRTIO_MMIO } from '../../lib/abi/virtio-mmio.ts'
import { withFeatureWord } from '../../lib/virtio/index.ts'

export interface Shell {
  /** @returns what the command printed */
  run(command: string): Promise<string>
}

export interface GuestFeatures {
  /** Bits 0..63, read from the device's registers. */
  readonly offered: bigint
  /** As its sysfs has them. */
  readonly accepted: bigint
  /** Whether its driver took the device. */
  readonly driven: boolean
}

interface Found {
  /** The platform device below the virtio device: the window of registers. */
  readonly platform: string
  readonly address: number
  readonly accepted: bigint
  readonly driven: boolean
}

/** QEMU's virtio-mmio answers a selector of 2 and more with word 1 (hw/virtio/virtio-mmio.c). */
const WORDS = [0, 1]

/** Of all devices, by ascending address. Afterwards they have no driver any more. */
export async function readGuestFeatures(shell: Shell): Promise<GuestFeatures[]> {
  const devices = await findDevices(shell)
  // The kernel lets user space to a page of registers only while no driver has any of it (CONFIG_IO_STRICT_DEVMEM), and
  // QEMU's machine has several devices on a page.
  const unbind = devices.map(({ platform }) => `echo ${platform} > /sys/bus/platform/drivers/virtio-mmio/unbind`)
  await shell.run(unbind.join(' && '))
  const reads = devices.flatMap(({ address }) => WORDS.map((word) => readWord(address, word)))
  const words = (await shell.run(reads.join(' && '))).trim().split('\n').map(Number)
  return devices.map(({ accepted, driven }, device) => {
    const first = device * WORDS.length
    const offered = WORDS.reduce((set, word) => withFeatureWord(set, word, words[first + word]!), 0n)
    return { offered, accepted, driven }
  })
}

async function findDevices(shell: Shell): Promise<Found[]> {
  const resources = await shell.run('cat /proc/iomem')
  const each = 'read bits < $device/features; test -e $device/driver; echo $? $bits $(readlink -f $device)'
  const found = await shell.run(`for device in /sys/bus/virtio/devices/*; do ${each}; done`)
  return found
    .trim()
    .split('\n')
    .map((line) => {
      const [missing = '', bits = '', path = ''] = line.split(' ')
      const platform = path.split('/').at(-2) ?? ''
      const [, address] = new RegExp(`^ *([0-9a-f]+)-[0-9a-f]+ : ${platform}`, 'm').exec(resources) ?? []
      if (address === undefined) throw new Error(`the guest has no registers of ${path}:\n${resources}`)
      return {
        platform,
        address: Number.parseInt(address, 16),
        accepted: BigInt(`0b${[...bits].reverse().join('')}`),
        driven: missing === '0',
      }
    })
    .sort((a, b) => a.address - b.address)
}

function readWord(address: number, word: number): string {
  const select = `devmem ${address + VIRTIO_MMIO.VIRTIO_MMIO_DEVICE_FEATURES_SEL} 32 ${word}`
  return `${select} && devmem ${address + VIRTIO_MMIO.VIRTIO_MMIO_DEVICE_FEATURES} 32`
}
