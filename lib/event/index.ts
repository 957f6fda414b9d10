// The event room's door.

export { EventFd } from './eventfd.ts'
export { type Watch, type WatchOptions, watchReadable } from './poller.ts'
