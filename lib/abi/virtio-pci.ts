// Virtio over PCI: ids, capabilities and the registers behind them (virtio 1.x section 4.1; linux/virtio_pci.h).

/** The PCI vendor of all virtio devices (section 4.1.2; linux/pci_ids.h). */
export const PCI_VENDOR_ID_REDHAT_QUMRANET = 0x1af4

/** Device ids of virtio: transitional ones, and from 0x1040 on 0x1040 + the type's number (section 4.1.2). */
export const VIRTIO_PCI_ID = { first: 0x1000, modern: 0x1040, last: 0x107f } as const

/** `cfg_type` of a capability: which structure it is about (section 4.1.4). */
export const VIRTIO_PCI_CAP = {
  VIRTIO_PCI_CAP_COMMON_CFG: 1,
  VIRTIO_PCI_CAP_NOTIFY_CFG: 2,
  VIRTIO_PCI_CAP_ISR_CFG: 3,
  VIRTIO_PCI_CAP_DEVICE_CFG: 4,
  VIRTIO_PCI_CAP_PCI_CFG: 5,
  VIRTIO_PCI_CAP_SHARED_MEMORY_CFG: 8,
  VIRTIO_PCI_CAP_VENDOR_CFG: 9,
} as const

/** struct virtio_pci_cap, in bytes (section 4.1.4), and what follows it in two of them. */
export const VIRTIO_PCI_CAP_LAYOUT = {
  cap_vndr: 0,
  cap_next: 1,
  cap_len: 2,
  cfg_type: 3,
  bar: 4,
  id: 5,
  offset: 8,
  length: 12,
  size: 16,
  /** struct virtio_pci_notify_cap (section 4.1.4.4) */
  notify_off_multiplier: 16,
  notify_size: 20,
  /** struct virtio_pci_cfg_cap (section 4.1.4.9) */
  pci_cfg_data: 16,
  pci_cfg_size: 20,
} as const

/** struct virtio_pci_common_cfg: offset and bytes of each field (section 4.1.4.3). */
export const VIRTIO_PCI_COMMON = {
  device_feature_select: { offset: 0, width: 4 },
  device_feature: { offset: 4, width: 4 },
  driver_feature_select: { offset: 8, width: 4 },
  driver_feature: { offset: 12, width: 4 },
  config_msix_vector: { offset: 16, width: 2 },
  num_queues: { offset: 18, width: 2 },
  device_status: { offset: 20, width: 1 },
  config_generation: { offset: 21, width: 1 },
  queue_select: { offset: 22, width: 2 },
  queue_size: { offset: 24, width: 2 },
  queue_msix_vector: { offset: 26, width: 2 },
  queue_enable: { offset: 28, width: 2 },
  queue_notify_off: { offset: 30, width: 2 },
  queue_desc_lo: { offset: 32, width: 4 },
  queue_desc_hi: { offset: 36, width: 4 },
  queue_driver_lo: { offset: 40, width: 4 },
  queue_driver_hi: { offset: 44, width: 4 },
  queue_device_lo: { offset: 48, width: 4 },
  queue_device_hi: { offset: 52, width: 4 },
  queue_notif_config_data: { offset: 56, width: 2 },
  queue_reset: { offset: 58, width: 2 },
  admin_queue_index: { offset: 60, width: 2 },
  admin_queue_num: { offset: 62, width: 2 },
} as const
export const VIRTIO_PCI_COMMON_SIZE = 64

/** Bits of the ISR status (section 4.1.4.5). */
export const VIRTIO_PCI_ISR = { VIRTIO_PCI_ISR_QUEUE: 1, VIRTIO_PCI_ISR_CONFIG: 2 } as const

/** The vector of an event that has none (section 4.1.5.1.2). */
export const VIRTIO_MSI_NO_VECTOR = 0xffff
