// Every error this package throws: classes, codes, and what each code means.

const brand = Symbol.for('vhost-net.error')

/** What every code means; `docs/errors.md` and the tests are held to this table. */
export const ERROR_CODES = {
  ERR_OPTION_TYPE: 'an option has the wrong type',
  ERR_OPTION_UNKNOWN: 'an option does not exist',
  ERR_OPTION_RANGE: 'an option is out of its range',
  ERR_OPTION_CONFLICT: 'two options, or an option and an existing object, exclude each other',
  ERR_FEATURE_MISSING: 'a feature is needed that the kernel, or the device, does not offer',
  ERR_FEATURE_MISMATCH: 'queue pairs of one tap, or the tap itself, go by other features or another header',
  ERR_GPA_RANGE: 'a guest-physical range lies outside guest memory, or not within one region of it',
  ERR_GPA_ALIGN: 'a guest-physical address is not aligned as its use demands',
  ERR_GPA_OVERLAP: 'two guest-physical ranges overlap',
  ERR_GPA_TOO_MANY_REGIONS: 'guest memory has more regions than the vhost module takes',
  ERR_GPA_IN_USE: 'a region of guest memory cannot go: something that runs lies in it',
  ERR_GPA_NOT_LOGGED: 'the dirty log does not reach up to the end of guest memory',
  ERR_QUEUE_SIZE: 'a ring size is not a power of two between 1 and 32768',
  ERR_QUEUE_BROKEN: 'the other side of a ring broke its rules, or a buffer was used by who does not own it',
  ERR_QUEUE_BUSY: 'a queue of the driver is used in a way that excludes this one',
  ERR_QUEUE_EMPTY: 'a queue of the driver has nothing in flight',
  ERR_DEVICE_FEATURES: 'the device did not take the features that the driver chose',
  ERR_DEVICE_BROKEN: 'a device does not do what the specification demands of it',
  ERR_DEVICE_NEEDS_RESET: 'the device has set DEVICE_NEEDS_RESET',
  ERR_COMMAND_REFUSED: 'the device answered a command of the control queue with an error',
  ERR_HEADER_FEATURE: 'a virtio-net header asks for what no agreed feature bit allows',
  ERR_HEADER_FRAME: 'a virtio-net header does not fit the frame behind it, or contradicts itself',
  ERR_CLOSED: 'the object was closed',
  ERR_NOT_ACTIVE: 'the operation needs a running queue pair',
  ERR_ALREADY_ACTIVE: 'the queue pair is running already',
  ERR_NOT_DRAINED: 'the device did not return every buffer in time',
  ERR_KERNEL_IMAGE: 'a file is no kernel that this machine can boot',
  ERR_MEMORY_TOO_SMALL: 'a machine has too little memory for its kernel, or its initial RAM disk',
  ERR_PLUG: 'a change to the network failed, or could not be taken back, of what has no code of its own',
  ERR_LINK_ABSENT: 'there is no network link of that name',
  ERR_LINK_KIND: 'a network link is of another kind than is asked for',
  ERR_LINK_TAKEN: "a network link, or a place on it, is somebody else's",
  ERR_OVSDB_UNREACHABLE: 'no OVSDB server could be reached',
  ERR_OVSDB_TLS: 'an OVSDB server and this client do not trust each other, or a file for that cannot be read',
  ERR_OVSDB_PROTOCOL: 'what an OVSDB server sent is not OVSDB',
  ERR_OVSDB_LOST: 'the connection to an OVSDB server ended while an answer was owed',
  ERR_OVSDB_TIMEOUT: 'an OVSDB server did not answer in time',
  ERR_OVSDB_REFUSED: 'an OVSDB server refused a request, or an operation of a transaction',
  ERR_OVS_BRIDGE: 'the switch has no such bridge',
  ERR_OVS_TAKEN: 'the switch has a port, or a bridge, of that name, which is not to be touched',
  ERR_OVS_PORT: 'the switch could not make a port of the link',
  ERR_OVS_TIMEOUT: 'the switch did not take a change in time',
  ERR_OVN_UNBOUND: 'OVN did not bind a port in time',
  ERR_PLATFORM: 'this operating system or runtime cannot do it',
  ERR_NO_BINDING: 'the native addon could not be loaded',
} as const

export type ErrorCode = keyof typeof ERROR_CODES

/** Facts about a failure: which object, which value. JSON-safe. */
export type ErrorContext = Readonly<Record<string, string | number | boolean | null>>

export interface ErrorDetails {
  /** What the user should do. */
  hint?: string
  context?: ErrorContext
  cause?: unknown
}

/** The base of all errors of this package. `VhostNetError.is(e)` also recognises those of another copy of it. */
export class VhostNetError extends Error {
  /** An {@link ErrorCode}, or for a {@link SystemCallError} the errno's name. */
  readonly code: string
  readonly hint: string | undefined
  readonly context: ErrorContext

  constructor(code: string, message: string, { hint, context = {}, cause }: ErrorDetails = {}) {
    super(hint === undefined ? message : `${message}\n  ${hint}`, cause === undefined ? undefined : { cause })
    this.code = code
    this.hint = hint
    this.context = context
  }

  static is(value: unknown): value is VhostNetError {
    return typeof value === 'object' && value !== null && brand in value
  }
}

Object.defineProperty(VhostNetError.prototype, brand, { value: true })

/** A system call or ioctl failed. `code` is `'EBUSY'` and the like, as in Node's own system errors. */
export class SystemCallError extends VhostNetError {
  /** The errno, negative, as Node reports it. */
  readonly errno: number
  /** `'VHOST_SET_OWNER'`, `'TUNSETIFF'`, `'open'`, … */
  readonly syscall: string

  constructor(code: string, errno: number, syscall: string, message: string, details?: ErrorDetails) {
    super(code, message, details)
    this.errno = errno
    this.syscall = syscall
  }
}

/** An option was refused before anything was opened: `ERR_OPTION_*`. */
export class InvalidOptionError extends VhostNetError {
  /** Path of the option: `'tap.ifname'`. */
  readonly option: string

  constructor(code: ErrorCode, option: string, problem: string, details?: ErrorDetails) {
    super(code, `${option}: ${problem}`, details)
    this.option = option
  }
}

/** The kernel or a device lacks a feature, or two sides go by different ones: `ERR_FEATURE_*`. */
export class FeatureNegotiationError extends VhostNetError {}

/** A guest-physical range was refused: `ERR_GPA_*`. */
export class GuestMemoryError extends VhostNetError {}

/** A virtqueue was refused or broke: `ERR_QUEUE_*`. */
export class QueueError extends VhostNetError {}

/** A device broke the rules or said no, to a driver in this process: `ERR_DEVICE_*`, `ERR_COMMAND_REFUSED`. */
export class DeviceError extends VhostNetError {}

/** A virtio-net header was refused: `ERR_HEADER_*`. */
export class NetHeaderError extends VhostNetError {}

/** The object is in the wrong state for the call: `ERR_CLOSED`, `ERR_NOT_ACTIVE`, `ERR_ALREADY_ACTIVE`, … */
export class StateError extends VhostNetError {}

/** A machine cannot boot what it was given: `ERR_KERNEL_IMAGE`, `ERR_MEMORY_TOO_SMALL`. */
export class BootError extends VhostNetError {}

/** What a plan had changed, by the texts of its steps. */
export interface PlugOutcome {
  /** What was taken back, the newest first. */
  readonly undone: readonly string[]
  /** What could not be: it is as the plan left it. */
  readonly notUndone: readonly { readonly text: string; readonly error: unknown }[]
}

/** A NIC could not be plugged in, or out. `code` and `cause` are those of what failed; `ERR_PLUG` where that has no code. */
export class PlugError extends VhostNetError implements PlugOutcome {
  /** The step that failed. */
  readonly step: string
  readonly undone: PlugOutcome['undone']
  readonly notUndone: PlugOutcome['notUndone']

  constructor(step: string, cause: unknown, { undone, notUndone }: PlugOutcome) {
    const { code, message, hint, context } = describe(cause)
    const left = notUndone.map(({ text, error }) => `\n  not undone: ${text}: ${describe(error).message}`)
    super(code, `${step}: ${message}${left.join('')}`, { cause, context, ...(hint === undefined ? {} : { hint }) })
    this.step = step
    this.undone = undone
    this.notUndone = notUndone
  }
}

function describe(error: unknown): { code: string; message: string; hint?: string | undefined; context: ErrorContext } {
  if (VhostNetError.is(error)) {
    const { code, hint, context } = error
    // Its message ends with its hint.
    const message = hint === undefined ? error.message : error.message.slice(0, -`\n  ${hint}`.length)
    return { code, message, hint, context }
  }
  if (!(error instanceof Error)) return { code: 'ERR_PLUG', message: String(error), context: {} }
  return { code: 'code' in error ? String(error.code) : 'ERR_PLUG', message: error.message, context: {} }
}

/** A network link is not what a plan takes it for: `ERR_LINK_*`. */
export class LinkError extends VhostNetError {}

/** A database of Open vSwitch or OVN could not be asked, or refused: `ERR_OVSDB_*`. */
export class OvsdbError extends VhostNetError {}

/** Open vSwitch or OVN did not do what it was asked to: `ERR_OVS_*`, `ERR_OVN_UNBOUND`. */
export class OvsError extends VhostNetError {}

/** The platform or the installation cannot do it: `ERR_PLATFORM`, `ERR_NO_BINDING`. */
export class UnsupportedError extends VhostNetError {}

for (const type of [
  VhostNetError,
  SystemCallError,
  InvalidOptionError,
  FeatureNegotiationError,
  GuestMemoryError,
  QueueError,
  DeviceError,
  NetHeaderError,
  BootError,
  LinkError,
  PlugError,
  OvsdbError,
  OvsError,
  StateError,
  UnsupportedError,
]) {
  Object.defineProperty(type.prototype, 'name', { value: type.name, configurable: true, writable: true })
}
