// KVM: numbers and byte layouts (linux/kvm.h, arch/x86/include/uapi/asm/kvm.h).

export const KVM_DEVICE = '/dev/kvm'

/** What every kernel's KVM_GET_API_VERSION answers. */
export const KVM_API_VERSION = 12

/** What KVM_CHECK_EXTENSION is asked for. */
export const KVM_CAP = {
  KVM_CAP_IRQCHIP: 0,
  KVM_CAP_USER_MEMORY: 3,
  KVM_CAP_EXT_CPUID: 7,
  KVM_CAP_NR_MEMSLOTS: 10,
  KVM_CAP_IRQ_ROUTING: 25,
  KVM_CAP_IRQFD: 32,
  KVM_CAP_PIT2: 33,
  KVM_CAP_IOEVENTFD: 36,
  KVM_CAP_MAX_VCPUS: 66,
  KVM_CAP_IOEVENTFD_ANY_LENGTH: 122,
  KVM_CAP_IMMEDIATE_EXIT: 136,
} as const

/** Why KVM_RUN returned, as far as a vCPU ends with it. */
export const KVM_EXIT = {
  KVM_EXIT_UNKNOWN: 0,
  KVM_EXIT_EXCEPTION: 1,
  KVM_EXIT_HYPERCALL: 3,
  KVM_EXIT_DEBUG: 4,
  KVM_EXIT_HLT: 5,
  KVM_EXIT_IRQ_WINDOW_OPEN: 7,
  KVM_EXIT_SHUTDOWN: 8,
  KVM_EXIT_FAIL_ENTRY: 9,
  KVM_EXIT_INTR: 10,
  KVM_EXIT_SET_TPR: 11,
  KVM_EXIT_TPR_ACCESS: 12,
  KVM_EXIT_NMI: 16,
  KVM_EXIT_INTERNAL_ERROR: 17,
  KVM_EXIT_SYSTEM_EVENT: 24,
  KVM_EXIT_IOAPIC_EOI: 26,
  KVM_EXIT_HYPERV: 27,
  KVM_EXIT_X86_RDMSR: 29,
  KVM_EXIT_X86_WRMSR: 30,
  KVM_EXIT_X86_BUS_LOCK: 33,
  KVM_EXIT_NOTIFY: 37,
  KVM_EXIT_MEMORY_FAULT: 39,
} as const

export const KVM_IRQFD_FLAG_DEASSIGN = 1

export const KVM_IOEVENTFD_FLAG = {
  KVM_IOEVENTFD_FLAG_DATAMATCH: 1,
  KVM_IOEVENTFD_FLAG_PIO: 2,
  KVM_IOEVENTFD_FLAG_DEASSIGN: 4,
} as const

/** Port 0x61 does not exit: KVM answers it. */
export const KVM_PIT_SPEAKER_DUMMY = 1

/** struct kvm_irq_routing_entry; 32-bit words, little-endian. */
export const KVM_IRQ_ROUTING_ENTRY = {
  size: 48,
  gsi: 0,
  type: 4,
  flags: 8,
  /** Of an irqchip's pin. */
  irqchip: { irqchip: 16, pin: 20 },
  /** Of a message. */
  msi: { address_lo: 16, address_hi: 20, data: 24 },
} as const

export const KVM_IRQ_ROUTING = {
  KVM_IRQ_ROUTING_IRQCHIP: 1,
  KVM_IRQ_ROUTING_MSI: 2,
} as const

export const KVM_IRQCHIP = {
  KVM_IRQCHIP_PIC_MASTER: 0,
  KVM_IRQCHIP_PIC_SLAVE: 1,
  KVM_IRQCHIP_IOAPIC: 2,
} as const

/** GSIs below this are pins of the I/O APIC (KVM_IOAPIC_NUM_PINS). */
export const KVM_IOAPIC_NUM_PINS = 24

/** struct kvm_cpuid_entry2: 32-bit words at these byte offsets. */
export const KVM_CPUID_ENTRY2 = {
  size: 40,
  function: 0,
  index: 4,
  flags: 8,
  eax: 12,
  ebx: 16,
  ecx: 20,
  edx: 24,
} as const

/** In `flags`: the leaf is one of several, told apart by ECX (spelt so there). */
export const KVM_CPUID_FLAG_SIGNIFCANT_INDEX = 1

/** struct kvm_regs: 64 bits each, in this order. */
export const KVM_REGS = [
  'rax',
  'rbx',
  'rcx',
  'rdx',
  'rsi',
  'rdi',
  'rsp',
  'rbp',
  'r8',
  'r9',
  'r10',
  'r11',
  'r12',
  'r13',
  'r14',
  'r15',
  'rip',
  'rflags',
] as const

/** struct kvm_sregs: byte offsets of segments, of descriptor tables, and of 64-bit registers. */
export const KVM_SREGS = {
  size: 312,
  segments: { cs: 0, ds: 24, es: 48, fs: 72, gs: 96, ss: 120, tr: 144, ldt: 168 },
  tables: { gdt: 192, idt: 208 },
  registers: { cr0: 224, cr2: 232, cr3: 240, cr4: 248, cr8: 256, efer: 264, apic_base: 272 },
} as const

/** struct kvm_segment: base 64 bits, limit 32, selector 16, and bytes. */
export const KVM_SEGMENT = {
  base: 0,
  limit: 8,
  selector: 12,
  type: 14,
  present: 15,
  dpl: 16,
  db: 17,
  s: 18,
  l: 19,
  g: 20,
  avl: 21,
  unusable: 22,
} as const

/**
 * struct kvm_lapic_state. The spurious interrupt vector register, whose bit 8 switches the APIC on; and the interrupt
 * request register, 8 words of 32 bits, 16 bytes apart (Intel SDM volume 3, chapter 12).
 */
export const KVM_LAPIC = { size: 1024, spiv: 0xf0, isr: 0x100, irr: 0x200 } as const
