// The backend room's door.

export type { NetBackend, NetBackendEvents, PairBases, PairConfig, RingFault } from './net-backend.ts'
export { VhostNetBackend, type VhostNetBackendOptions } from './vhost-net/vhost-net-backend.ts'
