// From a device that was found to one that works: what a driver of any type does, in this order (virtio 1.x section 3.1.1).

import { VIRTIO_CONFIG_S, VIRTIO_F } from '../abi/virtio.ts'
import { DeviceError, FeatureNegotiationError } from '../errors.ts'
import { Teardown } from '../teardown.ts'
import { consistentFeatures, type FeatureRule, featureNames, featureSet } from '../virtio/features.ts'
import type { ProbedDevice } from './probed-device.ts'

const VERSION_1 = featureSet(VIRTIO_F.VIRTIO_F_VERSION_1)

/** What is of one device type. */
export interface DriverType<T> {
  /** Features that the driver knows; all of them that are offered with what they need are accepted. */
  readonly known: bigint
  /** What its features need. */
  readonly rules: readonly FeatureRule[]
  /**
   * Sets up and enables queues, between FEATURES_OK and DRIVER_OK. What fails later undoes what was added to `undo`.
   * @param offered what the device offers, by which optional fields of configuration space are there.
   */
  setUp(device: ProbedDevice, offered: bigint, undo: Teardown): T
}

/**
 * The features to accept: offered, known, and each with what it needs; others are as if they were not there.
 * @throws {FeatureNegotiationError} `ERR_FEATURE_MISSING` without VERSION_1
 */
export function chooseFeatures(offered: bigint, known: bigint, rules: readonly FeatureRule[]): bigint {
  const chosen = consistentFeatures(offered & known, rules)
  if ((chosen & VERSION_1) !== 0n) return chosen
  throw new FeatureNegotiationError('ERR_FEATURE_MISSING', 'the device does not offer VIRTIO_F_VERSION_1 (32)', {
    hint: 'It is a legacy device, which this driver does not drive.',
  })
}

/**
 * Resets the device and starts it. Where that fails the device has FAILED set, and everything is undone.
 * @throws {FeatureNegotiationError} `ERR_FEATURE_MISSING`
 * @throws {DeviceError} `ERR_DEVICE_FEATURES`, `ERR_DEVICE_BROKEN`, `ERR_DEVICE_NEEDS_RESET`
 */
export async function initialise<T>(device: ProbedDevice, type: DriverType<T>, signal?: AbortSignal): Promise<T> {
  await device.reset(signal)
  device.addStatus(VIRTIO_CONFIG_S.VIRTIO_CONFIG_S_ACKNOWLEDGE)
  device.addStatus(VIRTIO_CONFIG_S.VIRTIO_CONFIG_S_DRIVER)
  const undo = new Teardown()
  try {
    const { offered } = device
    agree(device, chooseFeatures(offered, type.known | device.known, type.rules))
    const made = type.setUp(device, offered, undo)
    device.addStatus(VIRTIO_CONFIG_S.VIRTIO_CONFIG_S_DRIVER_OK)
    checkHealth(device)
    return made
  } catch (error) {
    const reason = undo.unwind(error)
    device.addStatus(VIRTIO_CONFIG_S.VIRTIO_CONFIG_S_FAILED)
    throw reason
  }
}

function agree(device: ProbedDevice, features: bigint): void {
  const { VIRTIO_CONFIG_S_FEATURES_OK: FEATURES_OK } = VIRTIO_CONFIG_S
  device.accept(features)
  device.addStatus(FEATURES_OK)
  if ((device.status & FEATURES_OK) !== 0) return
  const names = featureNames(features).join(', ')
  throw new DeviceError('ERR_DEVICE_FEATURES', `the device did not take these features: ${names}`)
}

/** @throws {DeviceError} `ERR_DEVICE_NEEDS_RESET` */
export function checkHealth(device: ProbedDevice): void {
  if ((device.status & VIRTIO_CONFIG_S.VIRTIO_CONFIG_S_NEEDS_RESET) === 0) return
  throw new DeviceError('ERR_DEVICE_NEEDS_RESET', 'the device needs a reset', {
    hint: 'What is in flight is lost. Close the driver, and start it again.',
  })
}
