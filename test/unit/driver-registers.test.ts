// Every access that a driver makes to the registers of a network device over MMIO, from its probe to its end.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { VIRTIO_F } from '../../lib/abi/virtio.ts'
import { VIRTIO_MMIO } from '../../lib/abi/virtio-mmio.ts'
import { FramePort } from '../../lib/driver/index.ts'
import { featureSet } from '../../lib/virtio/index.ts'
import { NicOverMmio } from '../support/nic-over-mmio.ts'
import { TEST_NIC_FEATURES } from '../support/virtio-nic.ts'
import type { Access } from '../support/watched-registers.ts'

const offsets = (...names: readonly (keyof typeof VIRTIO_MMIO)[]): readonly number[] =>
  names.map((name) => VIRTIO_MMIO[name])

const READ_ONLY = offsets(
  'VIRTIO_MMIO_MAGIC_VALUE',
  'VIRTIO_MMIO_VERSION',
  'VIRTIO_MMIO_DEVICE_ID',
  'VIRTIO_MMIO_VENDOR_ID',
  'VIRTIO_MMIO_DEVICE_FEATURES',
  'VIRTIO_MMIO_QUEUE_NUM_MAX',
  'VIRTIO_MMIO_INTERRUPT_STATUS',
  'VIRTIO_MMIO_CONFIG_GENERATION',
)
const READ_WRITE = offsets('VIRTIO_MMIO_QUEUE_READY', 'VIRTIO_MMIO_STATUS', 'VIRTIO_MMIO_QUEUE_RESET')
const SHARED_MEMORY = offsets(
  'VIRTIO_MMIO_SHM_SEL',
  'VIRTIO_MMIO_SHM_LEN_LOW',
  'VIRTIO_MMIO_SHM_LEN_HIGH',
  'VIRTIO_MMIO_SHM_BASE_LOW',
  'VIRTIO_MMIO_SHM_BASE_HIGH',
)
const CONFIG = VIRTIO_MMIO.VIRTIO_MMIO_CONFIG
/** Fields of `virtio_net_config`: offset -> width, the address byte by byte. */
const FIELDS = new Map([...[0, 1, 2, 3, 4, 5].map((at) => [at, 1] as const), [6, 2], [8, 2], [10, 2], [12, 4], [16, 1]])

describe('the accesses of a driver to registers', () => {
  let log: readonly Access[]

  before(async () => {
    const rig = new NicOverMmio({ features: TEST_NIC_FEATURES | featureSet(VIRTIO_F.VIRTIO_F_RING_RESET) })
    const nic = await rig.start({ queuePairs: 3, mac: '52:54:00:aa:bb:cc' })
    await nic.setQueuePairs(3)
    const port = new FramePort(nic)
    const received = port.frames().next()
    await port.send(Buffer.alloc(100))
    await received
    port.close()
    rig.device.config.update(6, Uint8Array.of(0))
    await once(nic, 'config')
    await rig.close()
    log = rig.registers.log
    assert.ok(log.length > 100)
  })

  const control = (): Access[] => log.filter(({ offset }) => offset < CONFIG)
  const config = (): Access[] => log.filter(({ offset }) => offset >= CONFIG)

  it('[MMIO-D01] are to registers that there are', () => {
    const defined: readonly number[] = Object.values(VIRTIO_MMIO)
    assert.ok(control().every(({ offset }) => defined.includes(offset)))
  })

  it('[MMIO-D02] write none that is to be read only', () => {
    assert.ok(log.every(({ what, offset }) => what === 'read' || !READ_ONLY.includes(offset)))
  })

  it('[MMIO-D03] read none that is to be written only', () => {
    const readable = [...READ_ONLY, ...READ_WRITE]
    assert.ok(control().every(({ what, offset }) => what === 'write' || readable.includes(offset)))
  })

  it('[MMIO-D04] are of 32 bits, aligned, to control registers', () => {
    assert.ok(control().every(({ offset, width }) => width === 4 && offset % 4 === 0))
  })

  it('[MMIO-D05] are of a field’s own width to configuration space', () => {
    assert.ok(config().length > FIELDS.size)
    assert.ok(config().every(({ offset, width }) => FIELDS.get(offset - CONFIG) === width))
  })

  it('[NET-CFG-D01] write nothing to configuration space', () => {
    assert.ok(config().every(({ what }) => what === 'read'))
  })

  it('[MMIO-D23] leave shared memory alone, of which a NIC has none', () => {
    assert.ok(log.every(({ offset }) => !SHARED_MEMORY.includes(offset)))
  })
})
