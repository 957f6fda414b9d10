// The device status: which bits a driver's write sets (virtio 1.x sections 2.1 and 3.1.1).

import { VIRTIO_CONFIG_S } from '../abi/virtio.ts'

const {
  VIRTIO_CONFIG_S_ACKNOWLEDGE: ACKNOWLEDGE,
  VIRTIO_CONFIG_S_DRIVER: DRIVER,
  VIRTIO_CONFIG_S_FEATURES_OK: FEATURES_OK,
  VIRTIO_CONFIG_S_DRIVER_OK: DRIVER_OK,
  VIRTIO_CONFIG_S_NEEDS_RESET: NEEDS_RESET,
  VIRTIO_CONFIG_S_FAILED: FAILED,
} = VIRTIO_CONFIG_S

/** In the order in which a driver gets ahead; each needs the one before. */
const STEPS = [ACKNOWLEDGE, DRIVER, FEATURES_OK, DRIVER_OK] as const

/**
 * The status after a driver wrote `written`, which is not 0. A bit that is set stays; one whose turn has not come, or
 * that is the device's own, is not set; behind FAILED there is nothing but a reset. A driver may take several steps in
 * one write.
 * @param acceptable whether the features that the driver chose are; asked only where it writes FEATURES_OK first.
 */
export function nextStatus(status: number, written: number, acceptable: () => boolean): number {
  if (status & FAILED) return status
  let next = status
  for (const step of STEPS) {
    const done = (next & step) !== 0
    if (!done && ((written & step) === 0 || (step === FEATURES_OK && !acceptable()))) break
    next |= step
  }
  return next | (written & FAILED)
}

/** `['ACKNOWLEDGE', 'DRIVER']` */
export function statusNames(status: number): string[] {
  return Object.entries(VIRTIO_CONFIG_S).flatMap(([name, bit]) =>
    status & bit ? [name.slice('VIRTIO_CONFIG_S_'.length)] : [],
  )
}

/** Whether the driver may choose features: it is there, and has not said that it is done. */
export function mayChooseFeatures(status: number): boolean {
  return (status & (DRIVER | FEATURES_OK | FAILED)) === DRIVER
}

/** Whether features are agreed on, so that the driver may set up queues and write configuration. */
export function maySetUp(status: number): boolean {
  return (status & (FEATURES_OK | FAILED)) === FEATURES_OK
}

/** Whether the device may touch queues. */
export function isLive(status: number): boolean {
  return (status & (DRIVER_OK | FAILED | NEEDS_RESET)) === DRIVER_OK
}
