// The binding's door.

export type { Binding } from './contract.ts'
export { adoptFd, FdHandle } from './fd-handle.ts'
export { Handle } from './handle.ts'
export { binding, interpose } from './load.ts'
export type * from './natives.ts'
export { type CallSubject, errnoName, type Hints, systemCall } from './system-call.ts'
