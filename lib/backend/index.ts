// The backend room's door.

export type { NetBackend, NetBackendEvents, PairBases, PairConfig, RingFault } from './net-backend.ts'
export type { QueuePairState } from './vhost-net/queue-pair.ts'
export {
  VhostNetBackend,
  type VhostNetBackendOptions,
  type VhostNetBackendState,
} from './vhost-net/vhost-net-backend.ts'
