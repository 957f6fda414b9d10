// The event room's door.

export { ConfigAddressRegister } from './config-address-register.ts'
export type { Doorbell, Doorbells } from './doorbells.ts'
export { EventFd } from './eventfd.ts'
export type { InterruptPin } from './interrupt-pin.ts'
export { InterruptStatus } from './interrupt-status.ts'
export type { Interrupts } from './interrupts.ts'
export type { MemorySpace } from './memory-space.ts'
export type { Message, MessageInterrupts } from './message-interrupts.ts'
export { type Watch, type WatchOptions, watchReadable } from './poller.ts'
export type { NativePart, Registers } from './registers.ts'
