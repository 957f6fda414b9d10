// The driver room's door.

export { Burst } from './burst.ts'
export { Driver, type DriverOptions, type DriverPair } from './driver.ts'
export { MAX_FRAME_SIZE, type QueueLayout } from './layout.ts'
export { DriverQueue, type QueueCounters } from './queue.ts'
export { RxQueue } from './rx-queue.ts'
export { TxQueue } from './tx-queue.ts'
