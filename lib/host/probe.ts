// Which optional calls this kernel's vhost-net has.

import { SystemCallError } from '../errors.ts'
import { VhostNet } from './vhost-net.ts'

/** What a kernel's vhost-net can do besides what all of them can. */
export interface VhostNetAbilities {
  /** All feature bits: of VHOST_GET_FEATURES_ARRAY where there is such a call, else the low 64. */
  features: bigint
  /** VHOST_BACKEND_F_* bits. */
  backendFeatures: bigint
  /** Whether features from bit 64 on can be asked for and agreed on. */
  featuresArray: boolean
  /** Whether the worker can be chosen to be a thread of the kernel or of the owner's process. */
  forkFromOwner: boolean
  /** Whether a worker can poll before it sleeps. */
  busyloopTimeout: boolean
  /** Whether an fd can have several workers. */
  workers: boolean
  /** Whether a legacy ring can be of the other byte order. */
  vringEndian: boolean
}

// A number that vhost-net does not know is EPERM without an owner. With one it is ENOTTY, or ENOBUFS where the argument
// begins with what is no ring's index (drivers/vhost/vhost.c: vhost_vring_ioctl).
const absent = new Set(['EPERM', 'ENOTTY', 'ENOBUFS', 'EINVAL'])

function unlessAbsent<T>(call: () => T): T | undefined {
  try {
    return call()
  } catch (error) {
    if (error instanceof SystemCallError && absent.has(error.code)) return undefined
    throw error
  }
}

/**
 * All feature bits that an fd's kernel knows: of VHOST_GET_FEATURES_ARRAY where there is such a call, else the low 64.
 * @throws {SystemCallError} of VHOST_GET_FEATURES
 */
export function knownFeatures(vhost: VhostNet): bigint {
  const features = vhost.getFeatures()
  return unlessAbsent(() => vhost.getFeaturesArray()) ?? features
}

/**
 * Asks an fd of its own, which needs an owner, and so a worker, for a moment.
 * @param options.path another node than `/dev/vhost-net`.
 * @throws {SystemCallError} `ENOENT`, `EACCES`, `EMFILE`, `ENOMEM`
 */
export function probeVhostNet(options: { path?: string } = {}): VhostNetAbilities {
  const vhost = VhostNet.open(options)
  try {
    const features = vhost.getFeatures()
    const backendFeatures = vhost.getBackendFeatures()
    const featuresArray = unlessAbsent(() => vhost.getFeaturesArray())
    const forkFromOwner = unlessAbsent(() => vhost.getForkFromOwner())
    vhost.setOwner()
    return {
      features: featuresArray ?? features,
      backendFeatures,
      featuresArray: featuresArray !== undefined,
      forkFromOwner: forkFromOwner !== undefined,
      busyloopTimeout: unlessAbsent(() => vhost.getVringBusyloopTimeout(0)) !== undefined,
      workers: unlessAbsent(() => vhost.getVringWorker(0)) !== undefined,
      vringEndian: unlessAbsent(() => vhost.getVringEndian(0)) !== undefined,
    }
  } finally {
    vhost.close()
  }
}
