// The binding's door.

export type * from './contract.ts'
export { adoptFd, FdHandle } from './fd-handle.ts'
export { Handle } from './handle.ts'
export { binding, interpose } from './load.ts'
export { type CallSubject, errnoName, type Hints, systemCall } from './system-call.ts'
