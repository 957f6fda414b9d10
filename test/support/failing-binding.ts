// A wrapper around the real addon that records the calls which reach the kernel, and makes the n-th fail.

import { constants } from 'node:os'
import { type Binding, interpose } from '../../lib/binding/index.ts'

type FunctionName = keyof Binding

type Kind =
  /** Makes or changes something in the kernel, or asks it; fails before it is done. */
  | 'step'
  /** Frees something. The kernel does so even where it reports an error (close(2)), so it fails after it is done. */
  | 'release'
  /** Needs no kernel, or moves packets; not recorded. */
  | 'other'

/** Every function of the addon, with the name that an error of it carries. */
const FUNCTIONS: Readonly<Record<FunctionName, readonly [kind: Kind, syscall: string]>> = {
  openDevice: ['step', 'open'],
  adoptFd: ['step', 'fcntl'],
  eventfdCreate: ['step', 'eventfd'],
  eventfdWrite: ['step', 'write'],
  eventfdRead: ['step', 'read'],
  memfdCreate: ['step', 'memfd_create'],
  ftruncate: ['step', 'ftruncate'],
  addSeals: ['step', 'F_ADD_SEALS'],
  getSeals: ['step', 'F_GET_SEALS'],
  fstatfs: ['step', 'fstatfs'],
  borrowRange: ['step', 'msync'],
  borrowShared: ['other', ''],
  mmapAnonymous: ['step', 'mmap'],
  mmapShared: ['step', 'mmap'],
  mappingAdvise: ['step', 'madvise'],
  kvmGetApiVersion: ['step', 'KVM_GET_API_VERSION'],
  kvmCheckExtension: ['step', 'KVM_CHECK_EXTENSION'],
  kvmCreateVm: ['step', 'KVM_CREATE_VM'],
  kvmGetVcpuMmapSize: ['step', 'KVM_GET_VCPU_MMAP_SIZE'],
  kvmGetSupportedCpuid: ['step', 'KVM_GET_SUPPORTED_CPUID'],
  kvmSetTssAddr: ['step', 'KVM_SET_TSS_ADDR'],
  kvmSetIdentityMapAddr: ['step', 'KVM_SET_IDENTITY_MAP_ADDR'],
  kvmCreateIrqchip: ['step', 'KVM_CREATE_IRQCHIP'],
  kvmCreatePit2: ['step', 'KVM_CREATE_PIT2'],
  kvmSetUserMemoryRegion: ['step', 'KVM_SET_USER_MEMORY_REGION'],
  kvmSetGsiRouting: ['step', 'KVM_SET_GSI_ROUTING'],
  kvmIrqLine: ['step', 'KVM_IRQ_LINE'],
  kvmIrqfd: ['step', 'KVM_IRQFD'],
  kvmIoeventfd: ['step', 'KVM_IOEVENTFD'],
  kvmCreateVcpu: ['step', 'KVM_CREATE_VCPU'],
  kvmSetCpuid2: ['step', 'KVM_SET_CPUID2'],
  kvmGetRegs: ['step', 'KVM_GET_REGS'],
  kvmSetRegs: ['step', 'KVM_SET_REGS'],
  kvmGetSregs: ['step', 'KVM_GET_SREGS'],
  kvmSetSregs: ['step', 'KVM_SET_SREGS'],
  kvmGetLapic: ['step', 'KVM_GET_LAPIC'],
  kvmSetLapic: ['step', 'KVM_SET_LAPIC'],
  busCreate: ['other', ''],
  busAdd: ['other', ''],
  busAddRegisters: ['other', ''],
  busRemove: ['other', ''],
  serialCreate: ['step', 'fcntl'],
  serialTake: ['other', ''],
  serialPut: ['other', ''],
  rtcCreate: ['other', ''],
  configAddressCreate: ['other', ''],
  interruptStatusCreate: ['other', ''],
  interruptStatusStarted: ['other', ''],
  interruptStatusBegin: ['other', ''],
  interruptStatusUsed: ['other', ''],
  interruptStatusEnd: ['other', ''],
  interruptStatusConfig: ['other', ''],
  interruptStatusReset: ['other', ''],
  registersRead: ['other', ''],
  registersWrite: ['other', ''],
  closeRegisters: ['release', 'close'],
  closeBus: ['other', ''],
  vcpuStart: ['step', 'mmap'],
  vcpuPause: ['other', ''],
  vcpuResume: ['other', ''],
  vcpuCounters: ['other', ''],
  closeVcpuThread: ['release', 'close'],
  vhostGetFeatures: ['step', 'VHOST_GET_FEATURES'],
  vhostSetFeatures: ['step', 'VHOST_SET_FEATURES'],
  vhostGetFeaturesArray: ['step', 'VHOST_GET_FEATURES_ARRAY'],
  vhostSetFeaturesArray: ['step', 'VHOST_SET_FEATURES_ARRAY'],
  vhostSetBackendFeatures: ['step', 'VHOST_SET_BACKEND_FEATURES'],
  vhostSetForkFromOwner: ['step', 'VHOST_SET_FORK_FROM_OWNER'],
  vhostGetForkFromOwner: ['step', 'VHOST_GET_FORK_FROM_OWNER'],
  vhostGetBackendFeatures: ['step', 'VHOST_GET_BACKEND_FEATURES'],
  vhostNewWorker: ['step', 'VHOST_NEW_WORKER'],
  vhostFreeWorker: ['step', 'VHOST_FREE_WORKER'],
  vhostAttachVringWorker: ['step', 'VHOST_ATTACH_VRING_WORKER'],
  vhostGetVringWorker: ['step', 'VHOST_GET_VRING_WORKER'],
  vhostSetOwner: ['step', 'VHOST_SET_OWNER'],
  vhostResetOwner: ['step', 'VHOST_RESET_OWNER'],
  vhostSetMemTable: ['step', 'VHOST_SET_MEM_TABLE'],
  vhostSetLogBase: ['step', 'VHOST_SET_LOG_BASE'],
  vhostSetLogFd: ['step', 'VHOST_SET_LOG_FD'],
  vhostSetVringNum: ['step', 'VHOST_SET_VRING_NUM'],
  vhostSetVringAddr: ['step', 'VHOST_SET_VRING_ADDR'],
  vhostSetVringBase: ['step', 'VHOST_SET_VRING_BASE'],
  vhostGetVringBase: ['step', 'VHOST_GET_VRING_BASE'],
  vhostSetVringEndian: ['step', 'VHOST_SET_VRING_ENDIAN'],
  vhostGetVringEndian: ['step', 'VHOST_GET_VRING_ENDIAN'],
  vhostSetVringBusyloopTimeout: ['step', 'VHOST_SET_VRING_BUSYLOOP_TIMEOUT'],
  vhostGetVringBusyloopTimeout: ['step', 'VHOST_GET_VRING_BUSYLOOP_TIMEOUT'],
  vhostSetVringKick: ['step', 'VHOST_SET_VRING_KICK'],
  vhostSetVringCall: ['step', 'VHOST_SET_VRING_CALL'],
  vhostSetVringErr: ['step', 'VHOST_SET_VRING_ERR'],
  vhostNetSetBackend: ['step', 'VHOST_NET_SET_BACKEND'],
  vhostSendIotlb: ['step', 'write'],
  vhostReceiveIotlb: ['step', 'read'],
  tunGetFeatures: ['step', 'TUNGETFEATURES'],
  tunSetIfindex: ['step', 'TUNSETIFINDEX'],
  tunSetIff: ['step', 'TUNSETIFF'],
  tunGetIff: ['step', 'TUNGETIFF'],
  tunSetQueue: ['step', 'TUNSETQUEUE'],
  tunSetOffload: ['step', 'TUNSETOFFLOAD'],
  tunSetVnetHdrSz: ['step', 'TUNSETVNETHDRSZ'],
  tunGetVnetHdrSz: ['step', 'TUNGETVNETHDRSZ'],
  tunSetVnetLe: ['step', 'TUNSETVNETLE'],
  tunGetVnetLe: ['step', 'TUNGETVNETLE'],
  tunSetVnetBe: ['step', 'TUNSETVNETBE'],
  tunGetVnetBe: ['step', 'TUNGETVNETBE'],
  tunSetSndbuf: ['step', 'TUNSETSNDBUF'],
  tunGetSndbuf: ['step', 'TUNGETSNDBUF'],
  tunSetPersist: ['step', 'TUNSETPERSIST'],
  tunSetOwner: ['step', 'TUNSETOWNER'],
  tunSetGroup: ['step', 'TUNSETGROUP'],
  tunSetCarrier: ['step', 'TUNSETCARRIER'],
  tunSetLink: ['step', 'TUNSETLINK'],
  tunSetDebug: ['step', 'TUNSETDEBUG'],
  tunSetNocsum: ['step', 'TUNSETNOCSUM'],
  tunSetTxFilter: ['step', 'TUNSETTXFILTER'],
  tunAttachFilter: ['step', 'TUNATTACHFILTER'],
  tunDetachFilter: ['step', 'TUNDETACHFILTER'],
  tunGetFilter: ['step', 'TUNGETFILTER'],
  tunSetSteeringEbpf: ['step', 'TUNSETSTEERINGEBPF'],
  tunSetFilterEbpf: ['step', 'TUNSETFILTEREBPF'],
  tunGetDevNetNs: ['step', 'TUNGETDEVNETNS'],
  ethtoolFeatures: ['step', 'ETHTOOL_GFEATURES'],
  netlinkSocket: ['step', 'socket'],
  netlinkSend: ['step', 'sendto'],
  netlinkReceive: ['step', 'recv'],
  pollerCreate: ['step', 'epoll_create1'],
  pollerAdd: ['step', 'epoll_ctl'],
  pollerRearm: ['step', 'epoll_ctl'],
  samplerCreate: ['step', 'eventfd'],
  samplerAdd: ['step', 'open'],
  schedSetaffinity: ['step', 'sched_setaffinity'],
  schedGetaffinity: ['step', 'sched_getaffinity'],
  threadCpuTime: ['step', 'open'],
  ringCreate: ['step', 'ring'],
  ringPost: ['step', 'write'],
  closeFd: ['release', 'close'],
  closeMapping: ['release', 'munmap'],
  closePoller: ['release', 'close'],
  closeRing: ['release', 'munmap'],
  closeSampler: ['release', 'close'],
  pollerRemove: ['release', 'epoll_ctl'],
  fdNumber: ['other', ''],
  fdClosed: ['other', ''],
  detachFd: ['other', ''],
  mappingAddress: ['other', ''],
  mappingView: ['other', ''],
  mappingRead: ['other', ''],
  mappingWrite: ['other', ''],
  pollerRef: ['other', ''],
  samplerBegin: ['other', ''],
  samplerEnd: ['other', ''],
  samplerRemove: ['other', ''],
  ringSetKick: ['other', ''],
  ringAllocate: ['other', ''],
  ringPrepare: ['other', ''],
  ringRelease: ['other', ''],
  ringSend: ['other', ''],
  ringReclaim: ['other', ''],
  ringReceive: ['other', ''],
  ringArm: ['other', ''],
  ringDisarm: ['other', ''],
  ringSpin: ['other', ''],
  ringInFlight: ['other', ''],
  ringStartLoop: ['other', ''],
  ringFinishLoop: ['other', ''],
  ringCounters: ['other', ''],
}

/** One call that reached the addon. */
export interface RecordedCall {
  name: FunctionName
  /** `'VHOST_SET_VRING_NUM'` */
  syscall: string
  /** Whether it is a release, not a step. */
  release: boolean
  /** Its arguments; handles are opaque. */
  args: readonly unknown[]
}

export interface FailOptions {
  /** Whether every call after it fails, too. Default false. */
  andAfter?: boolean
  /** Which calls count: `steps` leaves the releases out, so that cleaning up is not failed. Default `steps`. */
  of?: 'steps' | 'calls'
}

/** A record of calls, in force from when it is made until it is removed. */
export class Recording {
  readonly calls: RecordedCall[] = []
  #injected: (Error & { errno: number; syscall: string }) | undefined
  #countdown = 0
  #andAfter = false
  #of: 'steps' | 'calls' = 'steps'
  #predicate: ((call: RecordedCall) => boolean) | undefined
  #errno: number = constants.errno.EIO
  readonly #remove: () => void

  constructor() {
    this.#remove = interpose((real) => this.#wrap(real))
  }

  #wrap(real: Binding): Binding {
    const wrapped = { ...real } as unknown as Record<string, (...args: unknown[]) => unknown>
    for (const [name, [kind, syscall]] of Object.entries(FUNCTIONS) as [FunctionName, readonly [Kind, string]][]) {
      if (kind === 'other') continue
      const release = kind === 'release'
      const call = real[name] as (...args: unknown[]) => unknown
      wrapped[name] = (...args) => {
        const recorded: RecordedCall = { name, syscall, release, args }
        this.calls.push(recorded)
        const error = this.#failureOf(recorded)
        if (error === undefined) return call(...args)
        if (release) call(...args)
        throw error
      }
    }
    return wrapped as unknown as Binding
  }

  #failureOf(call: RecordedCall): Error | undefined {
    const { syscall } = call
    const after = this.#andAfter && this.#injected !== undefined
    if (!after && !this.#predicate?.(call) && !this.#isNth(call)) return undefined
    const error = Object.assign(new Error('injected failure'), { errno: this.#errno, syscall })
    this.#injected ??= error
    return error
  }

  #isNth({ release }: RecordedCall): boolean {
    if (this.#countdown === 0 || (release && this.#of === 'steps')) return false
    return --this.#countdown === 0
  }

  /** Makes each call fail that `predicate` chooses. */
  failWhen(predicate: (call: RecordedCall) => boolean, errno: number = constants.errno.EIO): void {
    this.#predicate = predicate
    this.#errno = errno
    this.#injected = undefined
  }

  /** Makes the n-th call from now on, counted from 1, fail with EIO: a step before, a release after it is done. */
  fail(n: number, { of = 'steps', andAfter = false }: FailOptions = {}): void {
    this.#countdown = n
    this.#of = of
    this.#andAfter = andAfter
    this.#errno = constants.errno.EIO
    this.#injected = undefined
  }

  /** The first failure, once it was injected. */
  get injected(): (Error & { errno: number; syscall: string }) | undefined {
    return this.#injected
  }

  /** The calls that count as steps. */
  get steps(): RecordedCall[] {
    return this.calls.filter(({ release }) => !release)
  }

  /** Puts the real addon back. Idempotent. */
  remove(): void {
    this.#remove()
  }
}

/** Runs `body` while calls are recorded. */
export async function recording<T>(body: (recording: Recording) => T | Promise<T>): Promise<T> {
  const started = new Recording()
  try {
    return await body(started)
  } finally {
    started.remove()
  }
}
