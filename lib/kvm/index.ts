// The kvm room's door.

export { KvmDoorbells } from './doorbells.ts'
export { GsiRoutes, type GsiRoutesOptions } from './gsi-routes.ts'
export { KvmInterrupts } from './interrupts.ts'
export { KvmMessageInterrupts } from './message-interrupts.ts'
export { KvmPins } from './pins.ts'
