// The kvm room's door.

export { KvmDoorbells } from './doorbells.ts'
export { GsiRoutes, type GsiRoutesOptions, type Message } from './gsi-routes.ts'
export { KvmInterrupts } from './interrupts.ts'
