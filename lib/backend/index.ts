// The backend room's door.

export type {
  NetBackend,
  NetBackendEvents,
  PairBases,
  PairConfig,
  RingFault,
  RingName,
  RxFilter,
} from './net-backend.ts'
export type { QueuePairState } from './vhost-net/queue-pair.ts'
export type { TapFilterState } from './vhost-net/tap-filter.ts'
export type { TapQueueState } from './vhost-net/tap-queue.ts'
export {
  type SwapTapOptions,
  VhostNetBackend,
  type VhostNetBackendOptions,
  type VhostNetBackendState,
} from './vhost-net/vhost-net-backend.ts'
