// All faults that `npm run mutants` plants.

import { BACKEND } from './backend.ts'
import { BASE } from './base.ts'
import { CLI } from './cli.ts'
import { DRIVER } from './driver.ts'
import type { Fault } from './fault.ts'
import { FRAMES } from './frames.ts'
import { FUZZ } from './fuzz.ts'
import { GUEST_NIC } from './guest-nic.ts'
import { HOST } from './host.ts'
import { MEMORY } from './memory.ts'
import { NATIVE_SYS } from './native-sys.ts'
import { NATIVE_WRAP } from './native-wrap.ts'
import { NET } from './net.ts'
import { PCI } from './pci.ts'
import { RING_LOOP } from './ring.ts'
import { VIRTIO } from './virtio.ts'

export const FAULTS: readonly Fault[] = [
  ...BASE,
  ...MEMORY,
  ...HOST,
  ...BACKEND,
  ...DRIVER,
  ...RING_LOOP,
  ...FRAMES,
  ...GUEST_NIC,
  ...VIRTIO,
  ...PCI,
  ...NET,
  ...CLI,
  ...FUZZ,
  ...NATIVE_SYS,
  ...NATIVE_WRAP,
]
