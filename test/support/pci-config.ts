// A function's configuration space, as bytes that a guest read.

import {
  PCI_CAP_ID,
  PCI_CAP_LIST_ID,
  PCI_CAP_LIST_NEXT,
  PCI_HEADER,
  PCI_MSIX,
  PCI_MSIX_FLAGS,
} from '../../lib/abi/pci.ts'

/** Of its MSI-X capability; undefined where it has none. */
export function msixVectors(config: Buffer): number | undefined {
  let at = config.readUInt8(PCI_HEADER.PCI_CAPABILITY_LIST)
  while (at !== 0) {
    if (config.readUInt8(at + PCI_CAP_LIST_ID) === PCI_CAP_ID.PCI_CAP_ID_MSIX)
      return (config.readUInt16LE(at + PCI_MSIX.PCI_MSIX_FLAGS) & PCI_MSIX_FLAGS.PCI_MSIX_FLAGS_QSIZE) + 1
    at = config.readUInt8(at + PCI_CAP_LIST_NEXT)
  }
  return undefined
}
