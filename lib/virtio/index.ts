// The virtio room's door.

export { DescriptorChain } from './chain.ts'
export type { ConfigSpace } from './config-space.ts'
export {
  type DeviceTransport,
  VirtioDevice,
  type VirtioDeviceEvents,
  type VirtioDeviceOptions,
  type VirtioDeviceState,
} from './device.ts'
export type { DeviceFault } from './fault.ts'
export {
  consistentFeatures,
  type FeatureRule,
  featureBits,
  featureNames,
  featureSet,
  featureWord,
  hasFeature,
  unmetFeatures,
  withFeatureWord,
} from './features.ts'
export { QueueService, type QueueServiceOptions } from './queue-service.ts'
export { BrokenRing, type RingFaultCause } from './ring-fault.ts'
export { SplitRing, type SplitRingOptions, type SplitRingPlace } from './split-ring.ts'
export type { Virtqueue, VirtqueueState, VringPart } from './virtqueue.ts'
export type { Vring } from './vring.ts'
