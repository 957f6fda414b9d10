// The kvm room's door.

export { KvmDoorbells } from './doorbells.ts'
export { KvmInterrupts } from './interrupts.ts'
