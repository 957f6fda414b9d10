// What goes between JavaScript and the addon besides numbers and bytes: opaque handles, and structures.

declare const kind: unique symbol

/** An open file descriptor. */
export interface NativeFd {
  readonly [kind]: 'fd'
}

/** A range of memory shared with the kernel. */
export interface NativeMapping {
  readonly [kind]: 'mapping'
}

/** An epoll thread that reports readiness to the thread that made it. */
export interface NativePoller {
  readonly [kind]: 'poller'
}

/** A thread that looks at rings for the thread that made it. */
export interface NativeSampler {
  readonly [kind]: 'sampler'
}

/** The driver's end of one split virtqueue. */
export interface NativeRing {
  readonly [kind]: 'ring'
}

/** What lies at the addresses at which the guests of one VM leave their vCPUs. */
export interface NativeBus {
  readonly [kind]: 'bus'
}

/** Registers that are served on the thread of the vCPU. */
export interface NativeRegisters {
  readonly [kind]: 'registers'
}

/** A thread that runs a vCPU. */
export interface NativeVcpuThread {
  readonly [kind]: 'vCPU thread'
}

/** One entry of VHOST_SET_MEM_TABLE. */
export interface MemTableRegion {
  guest_phys_addr: number
  memory_size: number
  mapping: NativeMapping
  /** Where in the mapping the region begins, in bytes. */
  offset: number
}

/** The addresses of VHOST_SET_VRING_ADDR, host virtual. */
export interface VringAddresses {
  flags: number
  desc_user_addr: bigint
  used_user_addr: bigint
  avail_user_addr: bigint
  log_guest_addr: bigint
}

/** What VHOST_IOTLB_UPDATE and VHOST_IOTLB_INVALIDATE say. */
export interface IotlbRequest {
  /** VHOST_IOTLB_* */
  type: number
  iova: bigint
  size: bigint
  /** VHOST_ACCESS_* */
  perm: number
  /** Where the range lies, for an update: `size` bytes from `offset` of the mapping on. */
  mapping?: NativeMapping
  offset?: number
}

/** What the kernel asks of user space, VHOST_IOTLB_MISS. */
export interface IotlbMessage {
  type: number
  iova: bigint
  size: bigint
  perm: number
}

/** One instruction of classic BPF: struct sock_filter. */
export interface BpfInstruction {
  /** 16 bits: BPF_LD, BPF_RET, … */
  code: number
  /** 8 bits: instructions to skip where a jump's condition holds. */
  jt: number
  /** 8 bits: where it does not. */
  jf: number
  /** 32 bits, unsigned. */
  k: number
}

export interface TunInterface {
  name: string
  flags: number
}

/** Where a ring and its buffers lie; offsets are bytes into `mapping`. */
export interface RingConfig {
  mapping: NativeMapping
  /** Guest-physical address of the mapping's first byte. */
  guestAddress: number
  /** Entries: a power of two, 2..32768. */
  num: number
  desc: number
  avail: number
  used: number
  /** num × maxSegments descriptors of 16 bytes; used only with `indirect`. */
  indirectTables: number
  pool: number
  bufferSize: number
  bufferCount: number
  maxSegments: number
  /** Bytes of virtio-net header in front of each frame. */
  vnetHdrLen: number
  deviceWrites: boolean
  eventIdx: boolean
  indirect: boolean
  mrgRxbuf: boolean
  kick: NativeFd
}

/** A thread that keeps a ring in motion. */
export interface RingLoopConfig {
  call: NativeFd
  /** An eventfd, signalled when it has ended by itself. */
  done: NativeFd
  /** How many to make available again. */
  frames: number
  /** Frames at most between two looks at whether the device wants a kick. */
  batch: number
  /** Chains that must be used, less one, before the device is to call; 0..32767. */
  delay: number
}
