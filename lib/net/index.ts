// The net room's door.

export type { CommandCounts } from './control-queue.ts'
export type { FeatureExplanation, Refusal } from './offer.ts'
export type { FeatureOptions, VirtioNetDeviceOptions, VirtioNetSettings } from './options.ts'
export type { PairState } from './queue-pairs.ts'
export type { RxModes } from './rx-filter.ts'
export { VirtioNetDevice, type VirtioNetState, type VirtioNetStats } from './virtio-net.ts'
