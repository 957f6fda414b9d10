// PCI: configuration space of a function with a header of type 0, its capabilities, MSI-X, and the two ways to reach them
// (PCI Local Bus Specification 3.0, chapter 6; linux/pci_regs.h).

/** Bytes of the configuration space of a conventional function (section 6.1), and of one reached by ECAM. */
export const PCI_CFG_SPACE_SIZE = 256
export const PCI_CFG_SPACE_EXP_SIZE = 4096

/** Offsets in the header (section 6.1, figure 6-1). */
export const PCI_HEADER = {
  PCI_VENDOR_ID: 0x00,
  PCI_DEVICE_ID: 0x02,
  PCI_COMMAND: 0x04,
  PCI_STATUS: 0x06,
  PCI_REVISION_ID: 0x08,
  PCI_CLASS_PROG: 0x09,
  PCI_CLASS_DEVICE: 0x0a,
  PCI_CACHE_LINE_SIZE: 0x0c,
  PCI_LATENCY_TIMER: 0x0d,
  PCI_HEADER_TYPE: 0x0e,
  PCI_BIST: 0x0f,
  PCI_BASE_ADDRESS_0: 0x10,
  PCI_SUBSYSTEM_VENDOR_ID: 0x2c,
  PCI_SUBSYSTEM_ID: 0x2e,
  PCI_ROM_ADDRESS: 0x30,
  PCI_CAPABILITY_LIST: 0x34,
  PCI_INTERRUPT_LINE: 0x3c,
  PCI_INTERRUPT_PIN: 0x3d,
} as const

/** Where the header ends and capabilities begin. */
export const PCI_STD_HEADER_SIZEOF = 64
/** Base address registers of a header of type 0. */
export const PCI_STD_NUM_BARS = 6

/** Bits of the command register (section 6.2.2). */
export const PCI_COMMAND = {
  PCI_COMMAND_IO: 0x1,
  PCI_COMMAND_MEMORY: 0x2,
  PCI_COMMAND_MASTER: 0x4,
  PCI_COMMAND_INTX_DISABLE: 0x400,
} as const

/** Bits of the status register (section 6.2.3). */
export const PCI_STATUS = { PCI_STATUS_INTERRUPT: 0x08, PCI_STATUS_CAP_LIST: 0x10 } as const

/** Low bits of a base address register (section 6.2.5.1). */
export const PCI_BASE_ADDRESS = {
  PCI_BASE_ADDRESS_SPACE_IO: 0x01,
  PCI_BASE_ADDRESS_MEM_TYPE_64: 0x04,
  PCI_BASE_ADDRESS_MEM_TYPE_MASK: 0x06,
  PCI_BASE_ADDRESS_MEM_PREFETCH: 0x08,
} as const
/** Its bits that are flags, where the register is of memory. */
export const PCI_BASE_ADDRESS_MEM_FLAGS = 0x0f

/** The interrupt pin register of a function that uses INTA# (section 6.2.4). */
export const PCI_INTERRUPT_PIN_INTA = 1

/** Capability ids (appendix H), and offsets in every capability. */
export const PCI_CAP_ID = { PCI_CAP_ID_VNDR: 0x09, PCI_CAP_ID_MSIX: 0x11 } as const
export const PCI_CAP_LIST_ID = 0
export const PCI_CAP_LIST_NEXT = 1

/** Offsets in the MSI-X capability, and its bytes (section 6.8.2). */
export const PCI_MSIX = { PCI_MSIX_FLAGS: 2, PCI_MSIX_TABLE: 4, PCI_MSIX_PBA: 8 } as const
export const PCI_CAP_MSIX_SIZEOF = 12
/** Bits of its message control: table size − 1, function mask, enable (section 6.8.2.3). */
export const PCI_MSIX_FLAGS = {
  PCI_MSIX_FLAGS_QSIZE: 0x07ff,
  PCI_MSIX_FLAGS_MASKALL: 0x4000,
  PCI_MSIX_FLAGS_ENABLE: 0x8000,
} as const
/** Which base address register table and pending bits lie behind; the other bits are the offset (section 6.8.2.4). */
export const PCI_MSIX_BIR = 0x7
/** Vectors that a function can have. */
export const PCI_MSIX_VECTORS_MAX = 2048
/** Offsets in an entry of the table, and its bytes (section 6.8.2.6). */
export const PCI_MSIX_ENTRY = {
  PCI_MSIX_ENTRY_LOWER_ADDR: 0,
  PCI_MSIX_ENTRY_UPPER_ADDR: 4,
  PCI_MSIX_ENTRY_DATA: 8,
  PCI_MSIX_ENTRY_VECTOR_CTRL: 12,
} as const
export const PCI_MSIX_ENTRY_SIZE = 16
/** The one bit of an entry's vector control (section 6.8.2.9). */
export const PCI_MSIX_ENTRY_CTRL_MASKBIT = 1

/** Ports of configuration mechanism #1, from the first one on, and their number (section 3.2.2.3.2). */
export const PCI_CONFIG_PORTS = { CONFIG_ADDRESS: 0, CONFIG_DATA: 4 } as const
/** The first of them: 0xcf8 (arch/x86/pci/direct.c). */
export const PCI_CONFIG_ADDRESS_PORT = 0xcf8
export const PCI_CONFIG_PORTS_SIZE = 8
/** CONFIG_ADDRESS: an access of CONFIG_DATA is one of configuration space. */
export const PCI_CONFIG_ENABLE = 0x8000_0000

/** Bytes of ECAM for each bus (PCI Express Base Specification, section 7.2.2; linux/pci-ecam.h). */
export const PCI_ECAM_BUS_SIZE = 1 << 20

/** Devices of a bus, and functions of a device. */
export const PCI_SLOTS = 32
export const PCI_FUNCTIONS = 8

/** Class codes: base class, sub-class, programming interface (appendix D; linux/pci_ids.h). */
export const PCI_CLASS = {
  PCI_CLASS_STORAGE_SCSI: 0x01_00_00,
  PCI_CLASS_NETWORK_ETHERNET: 0x02_00_00,
  PCI_CLASS_BRIDGE_HOST: 0x06_00_00,
  PCI_CLASS_COMMUNICATION_OTHER: 0x07_80_00,
  PCI_CLASS_OTHERS: 0xff_00_00,
} as const
