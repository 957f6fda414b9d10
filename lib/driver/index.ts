// The driver room's door.

export { Burst } from './burst.ts'
export { checkSendHeader } from './check-header.ts'
export { Driver, type DriverOptions, type DriverPair } from './driver.ts'
export type { Frame, ReceivedFrame } from './frame.ts'
export { FramePort } from './frame-port.ts'
export type { FrameReader } from './frame-reader.ts'
export { FrameStream, type FrameStreamOptions } from './frame-stream.ts'
export { MAX_FRAME_SIZE, type QueueLayout } from './layout.ts'
export { NetHeader } from './net-header.ts'
export { type Coalescing, DriverQueue, type QueueCounters, type RecycleOptions } from './queue.ts'
export { RxQueue } from './rx-queue.ts'
export { TxQueue } from './tx-queue.ts'
